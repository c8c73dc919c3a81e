"""Networks, heads, the memory bank and the averaged teacher."""
