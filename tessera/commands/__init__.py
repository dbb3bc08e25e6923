"""The commands of ``tessera``; each module has a ``main(argv)``."""
