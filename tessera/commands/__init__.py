"""The commands of ``tessera`` that are not Lightning's; each module has a ``main(argv)``."""
