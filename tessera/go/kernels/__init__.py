"""The engine's Triton kernels, bit-identical to the plain torch code beside them."""
