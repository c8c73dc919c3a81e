"""Data sets: layouts, checks, splits, plans, the cache."""
