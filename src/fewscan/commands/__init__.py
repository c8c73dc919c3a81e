"""The commands, as Python functions of the same names."""
