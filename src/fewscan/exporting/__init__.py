"""Finished runs for other programs: one target, one file, and one line in the registry."""
