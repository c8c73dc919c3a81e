"""What a terminal shows: lines, bars, and the board of a training."""
