"""``tessera compare``: models beside each other, and beside what others published of them."""
