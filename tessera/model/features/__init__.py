"""What a model is told of a position beside the move that led to it."""
