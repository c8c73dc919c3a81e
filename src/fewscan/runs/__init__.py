"""The folder of a run: its files, its lock, its state; training, scoring and the page within it."""
