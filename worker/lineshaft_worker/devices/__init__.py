"""The machine's devices: what there is, how busy it is, and whether a GPU may be given away."""
