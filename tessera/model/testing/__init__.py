"""The contract of every part of a model, for tests of your own parts as of ours.

Each check builds a part, tries it, and raises AssertionError if it breaks the contract; the message
begins with what broke, such as "not causal: …". It needs no test framework, and leaves torch's
random numbers as they were.
"""

from tessera.model.testing.layers import (
    check_embedding,
    check_feed_forward,
    check_head,
    check_outcome,
)
from tessera.model.testing.sequences import check_mixer, check_model
from tessera.model.testing.tables import check_features

__all__ = [
    "check_embedding",
    "check_features",
    "check_feed_forward",
    "check_head",
    "check_mixer",
    "check_model",
    "check_outcome",
]
