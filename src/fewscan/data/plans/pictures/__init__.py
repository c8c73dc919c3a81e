"""Plans of pictures: windows at full resolution, or whole pictures scaled down, for a network in 2D."""
