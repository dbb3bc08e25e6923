"""``tessera fit``, ``validate``, ``test`` and ``predict``: Lightning's command line."""
