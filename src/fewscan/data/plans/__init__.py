"""Plans: how scans become input of a network and masks come back, one kind each."""
