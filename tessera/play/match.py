"""Matches: every opening is played twice, each side with either colour; the engine is the referee.

Shapes: B games that are played at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from tessera.go import Player, Rules, resolve_rules
from tessera.play.contestants import Contestant, contestant_of
from tessera.play.intervals import wilson
from tessera.play.match_table import Fixture, MatchTable, PlayedGame
from tessera.play.openings import LONGEST, SHORTEST, random_openings
from tessera.setting_errors import whole_number

KOMI = 7.0  # fair on 9×9 by area, and a draw is possible
PAIRS_AT_ONCE = 512
_POINTS = (0.0, 0.5, 1.0, 1.5, 2.0)  # that a side can have of a pair


@dataclass(frozen=True)
class MatchResult:
    """The games of two sides.

    Attributes:
        names: of the first side and of the second.
        games: in the order of their openings, the first side black before it is white.
    """

    names: tuple[str, str]
    games: tuple[PlayedGame, ...]

    @property
    def num_games(self) -> int:
        """How many there are, forfeits among them."""
        return len(self.games)

    @property
    def wins(self) -> int:
        """Games that the first side won."""
        return sum(game.points == 1 for game in self.games)

    @property
    def draws(self) -> int:
        """Games that nobody won."""
        return sum(game.points == 0.5 for game in self.games)

    @property
    def losses(self) -> int:
        """Games that the first side lost."""
        return sum(game.points == 0 for game in self.games)

    @property
    def win_rate(self) -> float | None:
        """The first side's share of the points, 0 to 1, a draw is half; None without a game."""
        return (self.wins + self.draws / 2) / self.num_games if self.games else None

    @property
    def win_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of ``win_rate``, after Wilson; None without a game.

        As if games did not depend on each other: those of one opening do, mostly so that the
        interval is rather too wide.
        """
        rate = self.win_rate
        return None if rate is None else wilson(rate, self.num_games)

    @cached_property
    def pairs(self) -> tuple[int, int, int, int, int]:
        """Of openings played with both colours: in how many the first side had 0, ½, … 2 points."""
        return pair_counts(self.games)

    @property
    def forfeits(self) -> tuple[int, int]:
        """Games that the first and the second side lost by what they did, not on the board."""
        lost = Counter(game.loser for game in self.games if game.forfeit is not None)
        return lost[0], lost[1]

    @property
    def num_duplicates(self) -> int:
        """Games whose moves are those of an earlier one, whoever had which colour."""
        return self.num_games - len({game.digest for game in self.games})

    @property
    def black_rate(self) -> float | None:
        """Black's share of the points, 0 to 1; None without a game."""
        if not self.games:
            return None
        return sum(game.black_points for game in self.games) / self.num_games

    @property
    def mean_length(self) -> float | None:
        """Plies of a game, those of its opening among them; None without a game."""
        if not self.games:
            return None
        return sum(len(game.moves) for game in self.games) / self.num_games

    @property
    def seconds_per_move(self) -> tuple[float | None, float | None]:
        """Seconds that each side took for a move; None if it made none, or nobody measured it.

        Of moves that were chosen together each has its share of the time.
        """
        rates = []
        for side in (0, 1):
            moves = sum(game.num_chosen[side] for game in self.games)
            seconds = sum(game.seconds[side] for game in self.games)
            rates.append(seconds / moves if moves else None)
        return rates[0], rates[1]


def pair_counts(games: Sequence[PlayedGame]) -> tuple[int, int, int, int, int]:
    """Openings by the points that the first side had of both games: 0, ½, 1, 1½, 2."""
    points: dict[int, list[float]] = {}
    for game in games:
        points.setdefault(game.fixture.number, []).append(game.points)
    counts = Counter(sum(both) for both in points.values() if len(both) == 2)
    none, half, one, more, two = (counts[each] for each in _POINTS)
    return none, half, one, more, two


def match_rules(komi: float = KOMI, max_moves: int | None = None) -> Rules:
    """What matches are played by: positional superko, no suicide, area.

    Args:
        komi: points for white.
        max_moves: plies after which a game is over and is counted as it stands; None for 2·n².
    """
    return replace(resolve_rules("full"), komi=komi, max_moves=max_moves)


def fixtures_of(
    numbers: Sequence[int],
    *,
    board_size: int,
    rules: Rules,
    seed: int,
    lengths: tuple[int, int] = (SHORTEST, LONGEST),
    player: str = "uniform",
) -> Iterator[Fixture]:
    """Two games for each of these openings, see ``random_openings``."""
    openings = random_openings(
        numbers, board_size=board_size, rules=rules, seed=seed, lengths=lengths, player=player
    )
    for number, opening in zip(numbers, openings, strict=True):
        for first_is_black in (True, False):
            yield Fixture(number, first_is_black, opening)


def play_match(
    first: Player | Contestant,
    second: Player | Contestant,
    num_pairs: int,
    *,
    board_size: int,
    rules: str | Rules | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    lengths: tuple[int, int] = (SHORTEST, LONGEST),
    opening_player: str = "uniform",
) -> MatchResult:
    """Play so many openings with both colours, all at once on the device.

    The games follow from the players, the seed and the openings' numbers, which begin with 0.

    Args:
        first, second: the sides; a ``Player`` that is none of a model without search must
            remember nothing.
        num_pairs: openings, at least 1; each is two games.
        board_size: n.
        rules: None for those of matches, see ``match_rules``.
        seed: any whole number.
        device: where the games are played; the sides must play there.
        lengths, opening_player: see ``random_openings``.

    Raises:
        SettingError: if an argument is out of range.
        MemoryError: if the device has less memory than the games take.
    """
    num_pairs = whole_number("num_pairs", num_pairs, 1)
    chosen = match_rules() if rules is None else resolve_rules(rules)
    sides = contestant_of(first), contestant_of(second)
    games: list[PlayedGame] = []
    for start in range(0, num_pairs, PAIRS_AT_ONCE):
        numbers = range(start, min(start + PAIRS_AT_ONCE, num_pairs))
        fixtures = fixtures_of(
            numbers,
            board_size=board_size,
            rules=chosen,
            seed=seed,
            lengths=lengths,
            player=opening_player,
        )
        table = MatchTable(
            sides, 2 * len(numbers), board_size=board_size, rules=chosen, seed=seed, device=device
        )
        games += table.play(fixtures)
    games.sort(key=lambda game: (game.fixture.number, not game.fixture.first_is_black))
    return MatchResult((sides[0].name, sides[1].name), tuple(games))
