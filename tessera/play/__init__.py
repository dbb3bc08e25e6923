"""What stands on top of the engine and the model: pictures, SGF files, maps."""
