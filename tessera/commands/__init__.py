"""The commands of ``tessera``: a room or a file for each, with a ``main(argv)``."""
