"""Plans of volumes: scans for a network in 3D."""
