"""Sequence mixers, one to a file; ``base.Mixer`` is what each of them is."""
