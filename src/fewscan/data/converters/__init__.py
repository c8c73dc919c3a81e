"""Other layouts → the nnU-Net v2 raw layout. A new layout is one new file and one line in the registry."""
