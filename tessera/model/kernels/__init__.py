"""Triton kernels of the model, each beside its plain form in ``tessera.model``."""
