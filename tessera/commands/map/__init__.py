"""``tessera map``: what a model expects next in a position that a person names."""
