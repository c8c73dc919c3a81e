"""Plans of slices: every scan is cut along one axis, and a network sees one slice at a time."""
