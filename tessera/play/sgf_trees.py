"""The game trees of an SGF file, each whole or with what is wrong with it.

The parser is sgfmill's. It takes bytes, reads one game after the other and passes over what lies
between them; here is added what a user needs beside it: the declared charset, the line of a fault,
and that nothing which looks like moves is passed over.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from sgfmill import sgf_grammar

_START = re.compile(rb"\(\s*;")
# A node or a property outside of every game; a mail's header or signature has nothing like it.
_LOST = re.compile(rb"[;(]\s*[A-Za-z]{1,64}\[")
_CHARSET = re.compile(rb"\bCA\s*\[\s*([^\]\\\s]{1,40})\s*\]")

# Charsets where a byte that looks like ] or \ may be a part of a longer character, and of some the
# largest codec that contains them, because files often hold more than the charset they declare.
_AMBIGUOUS = (
    *("shift_jis", "cp932", "shift_jis_2004", "shift_jisx0213", "gb2312", "gbk", "gb18030"),
    *("big5", "big5hkscs", "cp950", "johab", "hz", "iso2022_jp", "iso2022_jp_1", "iso2022_jp_2"),
    *("iso2022_jp_3", "iso2022_jp_2004", "iso2022_jp_ext", "iso2022_kr"),
)
_WIDER = {
    "shift_jis": "cp932",
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    **dict.fromkeys(("big5", "cp950"), "big5hkscs"),
}

_MOST_SHOWN = 40  # characters of a file that a message repeats


def is_sgf(content: bytes) -> bool:
    """Whether a game of SGF begins somewhere in a file, text before it and BOM allowed."""
    # What follows a # is a remark of a text file. An SGF that lacks its ; is an SGF all the same.
    return content.lstrip()[:1] == b"(" or bool(re.search(rb"^[^#\r\n]*\(\s*;", content, re.M))


def shown(content: bytes) -> str:
    """Bytes of a file as a message may repeat them: printable, on one line, not too long."""
    text = content[: _MOST_SHOWN + 1].decode("ascii", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def sgf_trees(content: bytes) -> list[sgf_grammar.Coarse_game_tree | ValueError]:
    r"""The games of a file in order, or in a game's place what is wrong with it.

    In some charsets a byte of a longer character looks like ``\`` or ``]``. Some programs escape
    it, others do not, and no rule tells which did what: then the file is read both ways, and that
    is taken which finds more. A text that is read wrongly swallows what follows or ends too soon,
    and what is left is rarely SGF.

    Source: https://www.red-bean.com/sgf/sgf4.html for the grammar;
    https://homepages.cwi.nl/~aeb/go/misc/sgfnotes.html, "Character set", for what programs do.

    Args:
        content: bytes in any charset that contains ASCII.
    """
    try:
        readings = [list(_read(reading)) for reading in _readings(content)]
    except ValueError as error:
        return [error]
    best = max(readings, key=lambda games: sum(tokens for tokens, _ in games))
    return [game for _, game in best] or [ValueError("no game begins in it; one begins with (;.")]


def _readings(content: bytes) -> list[bytes]:
    """The file's bytes, and before them those with one meaning for each ASCII byte."""
    declared = _CHARSET.search(content)
    if declared is None:
        return [content]
    try:
        codec = codecs.lookup(declared[1].decode("ascii")).name
    except (LookupError, ValueError):
        if content.isascii():
            return [content]
        raise ValueError(
            f"CA[{shown(declared[1])}] is no charset that Python knows; save the file as UTF-8."
        ) from None
    if codec not in _AMBIGUOUS:
        return [content]
    return [content.decode(_WIDER.get(codec, codec), "replace").encode(), content]


def _read(content: bytes) -> Iterator[tuple[int, sgf_grammar.Coarse_game_tree | ValueError]]:
    """Each game with the number of its tokens; 0 with what is wrong with it."""
    position = 0
    while start := _START.search(content, position):
        if lost := _LOST.search(content, position, start.start()):
            yield 0, _outside(content, lost)
        tokens, end = sgf_grammar.tokenise(content, start.start())
        is_whole = tokens.count(("D", b"(")) == tokens.count(("D", b")"))
        if not is_whole:
            yield 0, _broken(content, end)
            return  # nobody knows where the next one begins
        try:
            yield len(tokens), sgf_grammar.parse_sgf_game(content[start.start() : end])
        except ValueError as error:
            yield 0, ValueError(f"line {_line(content, start.start())}: {error}.")
        position = end
    if lost := _LOST.search(content, position):
        yield 0, _outside(content, lost)


def _outside(content: bytes, lost: re.Match[bytes]) -> ValueError:
    text = shown(content[lost.start() : lost.end() + _MOST_SHOWN])
    return ValueError(f"line {_line(content, lost.start())}: {text} is outside of every game.")


def _broken(content: bytes, end: int) -> ValueError:
    """Why a game's tokens stop before the game does."""
    rest = content[end : end + 1000].lstrip()
    if not rest and not content[end:].strip():
        return ValueError("the file ends inside a game; a ) is missing.")
    at = _line(content, len(content) - len(content[end:].lstrip()))
    if rest.startswith(b"["):
        return ValueError(f"line {at}: {shown(rest)} has no ] at its end.")
    return ValueError(f"line {at}: {shown(rest)} is no SGF; a ] in a text is written \\].")


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
