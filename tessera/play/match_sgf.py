"""Games of a match as SGF: the same bytes each time, because nothing in them is of the hour."""

from __future__ import annotations

from sgfmill import sgf

from tessera.go import Rules
from tessera.play.match_table import PlayedGame
from tessera.play.sgf import result_text, sgf_document


def match_document(
    game: PlayedGame, names: tuple[str, str], board_size: int, rules: Rules, seed: int
) -> sgf.Sgf_game:
    """A game of a match.

    Args:
        game: played.
        names: of the first side and of the second.
        board_size: n.
        rules: of the game.
        seed: of the match.
    """
    document = sgf_document(board_size, rules, game.moves)
    root = document.get_root()
    root.set("AP", ("tessera", "arena"))
    black, white = names if game.fixture.first_is_black else names[::-1]
    root.set("PB", black)
    root.set("PW", white)
    root.set("GN", f"seed {seed}, opening {game.fixture.number}")
    root.set("RE", _result(game))
    end = f"lost by what it did: {game.forfeit}" if game.forfeit is not None else game.ended
    root.set("C", f"{len(game.fixture.opening)} random plies; ended by {end}")
    return document


def match_file(pairing: tuple[int, int], game: PlayedGame) -> str:
    """The file's name: the players' numbers, the opening's, and who has black there."""
    one, other = (number + 1 for number in pairing)
    black = one if game.fixture.first_is_black else other
    return f"{one}-{other}_{game.fixture.number:06}_black_{black}.sgf"


def _result(game: PlayedGame) -> str:
    winner = "B" if game.black_points == 1 else "W"
    if game.ended == "forfeit":
        return f"{winner}+F"
    return f"{winner}+R" if game.ended == "resignation" else result_text(game.score)
