"""The kernels of attention, and the plain reference that each is held against."""
