"""``tessera bench``: the engine, self-play and training, beside what others reach."""
