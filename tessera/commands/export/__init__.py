"""``tessera export``: a trained model as one file of safetensors, and what rounding it costs."""
