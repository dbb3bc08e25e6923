"""What a person typed, fit to be said again in one line."""

from __future__ import annotations

_MAX_LENGTH = 400
_KEPT_AT_THE_END = 80


def one_line(message: str) -> str:
    """The message on one line of about 400 characters at most, all of which can be printed.

    A line end, an escape that would move the terminal's cursor and half a surrogate pair are
    written as Python writes them; of a long message the middle is left out.
    """
    if len(message) > _MAX_LENGTH:
        begin = _MAX_LENGTH - _KEPT_AT_THE_END
        message = f"{message[:begin]} … {message[-_KEPT_AT_THE_END:]}"
    # repr escapes exactly what cannot be printed; quotes and backslashes stay what they are.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
