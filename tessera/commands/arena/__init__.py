"""``tessera arena``: matches between players of every kind."""
