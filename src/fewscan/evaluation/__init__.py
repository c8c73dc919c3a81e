"""Metrics, in named units and directions."""
