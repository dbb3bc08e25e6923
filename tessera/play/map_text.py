"""The map of possibilities in the words of Go programs: analysis lines, a heat map, GoGui's.

Leela Zero's and KataGo's words were made for a search. What is shown here is the model's own
distribution: ``visits`` are ten thousandths of probability and every move has the same win rate.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from torch import Tensor

from tessera.play.session import Outlook
from tessera.vocabulary import Vocabulary

_WHOLE = 10_000  # of visits: GUIs label a move with ten or more, which is a thousandth
_LABELLED = 0.005  # probability of a point that gets a number in GoGui


def moves_of(outlook: Outlook) -> list[tuple[int, float]]:
    """The legal moves as tokens, each with its probability, the likeliest first."""
    chances = outlook.probabilities.tolist()
    legal = [(token, chances[token]) for token in outlook.legal.nonzero().flatten().tolist()]
    return sorted(legal, key=lambda move: (-move[1], move[0]))


def analysis(
    outlook: Outlook,
    vocabulary: Vocabulary,
    is_kata: bool,
    allowed: Container[int] | None = None,
    most: int | None = None,
    ownership: Tensor | None = None,
) -> str:
    """All legal moves in one line, as ``lz-analyze`` or ``kata-analyze`` writes it.

    Source: KataGo's docs/GTP_Extensions.md; Sabaki's enginesyncer.js for what is read of it.

    Args:
        outlook: seen from the player to move.
        vocabulary: of the board.
        is_kata: numbers from 0 to 1 with a score, instead of 0 to 10,000.
        allowed: tokens to tell of; None for all.
        most: how many moves at most, the likeliest.
        ownership: (n, n), 1 a point of the player to move; None if it is not told.
    """
    win = 0.5 if outlook.win is None else outlook.win
    moves = [move for move in moves_of(outlook) if allowed is None or move[0] in allowed]
    parts = []
    for order, (token, chance) in enumerate(moves[:most]):
        vertex = vocabulary.vertex(token)
        rate, prior = f"{round(_WHOLE * win)}", f"{round(_WHOLE * chance)}"
        if is_kata:
            rate, prior = f"{win:.6f}", f"{chance:.6f}"
            if outlook.score is not None:
                rate += f" scoreMean {outlook.score:.3f} scoreLead {outlook.score:.3f}"
        parts.append(
            f"info move {vertex} visits {round(_WHOLE * chance)} winrate {rate} "
            f"prior {prior} order {order} pv {vertex}"
        )
    if ownership is not None and parts:
        parts += ["ownership", *map(_owner, ownership.flatten().tolist())]
    return " ".join(parts)


def raw_network(
    outlook: Outlook, vocabulary: Vocabulary, is_white: bool, ownership: Tensor | None = None
) -> list[str]:
    """The lines of ``kata-raw-nn``: NAN for what is illegal, and for what the model does not say.

    Args:
        outlook: seen from the player to move.
        vocabulary: of the board.
        is_white: whether white is to move; the figures are white's.
        ownership: (n, n), 1 a point of the player to move; None if it is not told.
    """
    win, lead = outlook.win, outlook.score
    if not is_white:
        win, lead = None if win is None else 1 - win, None if lead is None else -lead
    figures = {
        "whiteWin": win,
        "whiteLoss": None if win is None else 1 - win,
        "noResult": 0.0,
        "whiteLead": lead,
    }
    chances = [
        _number(chance if is_legal else None)
        for chance, is_legal in zip(
            outlook.probabilities.tolist(), outlook.legal.tolist(), strict=True
        )
    ]
    lines = [
        "symmetry 0",
        *(f"{name} {_number(figure)}" for name, figure in figures.items()),
        "policy",
        *(" ".join(row) for row in _rows(chances, vocabulary)),
        f"policyPass {chances[vocabulary.pass_token]}",
    ]
    if ownership is not None:
        owners = (ownership if is_white else -ownership).flatten().tolist()
        rows = _rows(list(map(_owner, owners)), vocabulary)
        lines += ["whiteOwnership", *(" ".join(row) for row in rows)]
    return lines


def heat_map(outlook: Outlook, vocabulary: Vocabulary) -> list[str]:
    """The map in thousandths, a line for each row of the board, as Leela Zero writes it."""
    parts = [f"{round(1000 * chance):4}" for chance in outlook.probabilities.tolist()]
    lines = [" ".join(row) for row in _rows(parts, vocabulary)]
    lines.append(f"pass: {parts[vocabulary.pass_token].strip()}")
    if outlook.win is not None:
        lines.append(f"winrate: {outlook.win:.6f}")
    return lines


# What GoGui's menu offers: the kind of the answer, the entry, the command.
GOGUI_COMMANDS = {
    "tessera-map": "dboard/Map of possibilities/tessera-map",
    "tessera-map_percent": "gfx/Map in percent/tessera-map_percent",
    "tessera-ownership": "dboard/Whose each point will be/tessera-ownership",
}


def gogui_board(outlook: Outlook, vocabulary: Vocabulary) -> list[str]:
    """Probabilities over the highest one's, a line for each row; 0 where nothing may be played."""
    parts = [f"{strength:.4f}" for strength in _strengths(outlook, vocabulary)]
    return [" ".join(row) for row in _rows(parts, vocabulary)]


def gogui_owners(ownership: Tensor, is_white: bool, vocabulary: Vocabulary) -> list[str]:
    """Whose each point will be, a line for each row of the board: 1 black's, -1 white's.

    Source: GoGui's documentation, chapter "Analyze Commands", ``dboard``.

    Args:
        ownership: (n, n), 1 a point of the player to move.
        is_white: whether white is to move.
        vocabulary: of the board.
    """
    owners = (-ownership if is_white else ownership).flatten().tolist()
    return [" ".join(row) for row in _rows(list(map(_owner, owners)), vocabulary)]


def gogui_graphics(outlook: Outlook, vocabulary: Vocabulary) -> list[str]:
    """Shades and percentages on the points, and in words what is on none of them."""
    shades, labels = [], []
    for point, strength in enumerate(_strengths(outlook, vocabulary)):
        chance, vertex = float(outlook.probabilities[point]), vocabulary.vertex(point)
        if outlook.legal[point]:
            shades.append(f"{vertex} {strength**0.5:.3f}")  # the root shows what is unlikely
        if chance >= _LABELLED:
            labels.append(f"{vertex} {100 * chance:.0f}")
    lines = [f"INFLUENCE {' '.join(shades)}"] if shades else []
    lines += [f"LABEL {' '.join(labels)}"] if labels else []
    words = [f"pass {100 * float(outlook.probabilities[vocabulary.pass_token]):.1f} %"]
    if outlook.win is not None:
        words.append(f"win {100 * outlook.win:.0f} %")
    if outlook.score is not None:
        words.append(f"score {outlook.score:+.1f}")
    return [*lines, f"TEXT {', '.join(words)}"]


def _strengths(outlook: Outlook, vocabulary: Vocabulary) -> list[float]:
    points = outlook.probabilities[: vocabulary.num_points].tolist()
    highest = max(max(points), 1e-30)
    return [chance / highest for chance in points]


def _rows(parts: list[str], vocabulary: Vocabulary) -> Iterator[list[str]]:
    """What belongs to each point, by rows from the top."""
    size = vocabulary.board_size
    for row in range(size):
        yield parts[row * size : (row + 1) * size]


def _owner(value: float) -> str:
    return f"{value + 0.0:.3f}"  # without a zero that is negative


def _number(value: float | None) -> str:
    return "NAN" if value is None else f"{value:.6f}"
