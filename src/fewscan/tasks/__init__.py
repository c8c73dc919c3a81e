"""Tasks: what labels teach a network, what its probabilities mean, and how a mask is scored; one kind each."""
