"""``tessera scaling``: how the loss falls with tokens and parameters, against a known floor."""
