"""``tessera check``: what is tried, what of it is judged, and the report."""
