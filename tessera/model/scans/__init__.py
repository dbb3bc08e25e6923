"""Scans of state-space models: each in plain torch, with the kernels behind its signature."""
