"""``tessera board``: a model's map in the browser."""
