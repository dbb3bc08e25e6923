"""``tessera scaling``: a ladder of token budgets, and the laws that it obeys."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tessera.commands.scaling import fit_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera scaling`` with these arguments (those of the process if None).

    Returns:
        0; 2 for a mistake in what was asked for.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    return fit_command.main(given[1:])
