"""What ``tessera arena`` says of matches: the conditions, a line for each two players, ratings."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.commands.table import Cell, Form, table
from tessera.play.match import MatchResult
from tessera.play.ratings import Game, Ratings, rate
from tessera.play.sprt import SequentialTest

_MOST_REASONS = 5
_GAMES: dict[str, Form] = {"first": None, "second": None}
_GAMES |= {"games": ",d", "won": ",d", "drawn": ",d", "lost": ",d", "points": ".1%"}
_GAMES |= {"95 % interval": None, "pairs 0-½-1-1½-2": None, "black": ".1%", "plies": ".1f"}
_GAMES |= {"s/move": None, "forfeits": None, "same": ",d"}
_ELO: dict[str, Form] = {"player": None, "Elo": "+d", "±": ".0f"}


@dataclass(frozen=True, slots=True)
class Report:
    """Matches between some players.

    Attributes:
        conditions: under which they were played, by name.
        machine: where.
        labels: of the players.
        results: of each two, by their numbers.
        test: that was to be decided; None if none was.
        num_beyond: games that were over beyond the pair that decided it, and do not count.
        seconds: from the first game's beginning to the last one's end; None if all were in a log.
    """

    conditions: Mapping[str, Any]
    machine: str
    labels: Sequence[str]
    results: Mapping[tuple[int, int], MatchResult]
    test: SequentialTest | None
    num_beyond: int
    seconds: float | None

    def ratings(self) -> Ratings | None:
        """Of all players; None as long as one has not played."""
        games = [
            Game(*(sides if game.fixture.first_is_black else sides[::-1]), game.black_points)
            for sides, result in self.results.items()
            for game in result.games
        ]
        met = set(itertools.chain.from_iterable((game.black, game.white) for game in games))
        return rate(len(self.labels), games) if len(met) == len(self.labels) else None

    def lines(self) -> list[str]:
        """For a person."""
        lines = [*_said(self.conditions), f"machine: {self.machine}", ""]
        lines += table([self._row(result) for result in self.results.values()], _GAMES)
        for result in self.results.values():
            lines += _reasons(result)
        if (found := self.ratings()) is not None:
            lines += ["", *self._rated(found)]
        if self.test is not None:
            (result,) = self.results.values()
            lines += ["", self._decided(self.test, result)]
        return lines

    def _row(self, result: MatchResult) -> Sequence[Cell]:
        interval = result.win_interval
        seconds = [f"{each:.3g}" if each is not None else "–" for each in result.seconds_per_move]
        return (
            *result.names,
            *(result.num_games, result.wins, result.draws, result.losses, result.win_rate),
            None if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}",
            "-".join(map(str, result.pairs)),
            result.black_rate,
            result.mean_length,
            " / ".join(seconds),
            " / ".join(map(str, result.forfeits)),
            result.num_duplicates,
        )

    def _rated(self, found: Ratings) -> list[str]:
        order = sorted(range(len(self.labels)), key=lambda nth: -found.elo[nth])
        rows = [(self.labels[n], _rounded(found.elo[n]), found.error(n)) for n in order]
        lines = table(rows, _ELO)
        if len(order) == 2:
            more, error = found.difference(0, 1)
            lines.append(
                f"{self.labels[0]} is {_rounded(more):+d} ± {error:.0f} Elo from {self.labels[1]}"
            )
        black = f"black's advantage: {_rounded(found.black_elo):+d} ± {found.black_error:.0f} Elo"
        lines.append(f"{black}; ± is half of a 95 % interval, the mean of all players is 0")
        if not found.is_bounded:
            lines.append(
                "somebody won or lost all games: one drawn game was added to those of each two, "
                "and differences are at least these"
            )
        return lines

    def _decided(self, test: SequentialTest, result: MatchResult) -> str:
        ratio, (low, high) = test.ratio(result.pairs), test.bounds
        decision = test.decision(result.pairs)
        verdict = {
            None: "not decided",
            "H0": f"H0 accepted: {test.elo0:g} Elo rather than {test.elo1:g}",
            "H1": f"H1 accepted: {test.elo1:g} Elo rather than {test.elo0:g}",
        }[decision]
        more = f"; {self.num_beyond} games beyond are left out" if self.num_beyond else ""
        said = f"log-likelihood ratio {ratio:.2f} ({low:.2f} to {high:.2f})"
        return f"{verdict} after {sum(result.pairs):,} pairs, {said}{more}"

    def as_json(self) -> dict[str, Any]:
        """Everything by name."""
        found = self.ratings()
        return {
            "conditions": dict(self.conditions),
            "machine": self.machine,
            "seconds": self.seconds,
            "matches": [_as_json(sides, result) for sides, result in self.results.items()],
            "ratings": None if found is None else self._ratings_as_json(found),
            "sequential_test": None if self.test is None else self._test_as_json(self.test),
        }

    def _ratings_as_json(self, found: Ratings) -> dict[str, Any]:
        players = [
            {"player": label, "elo": found.elo[nth], "error": found.error(nth)}
            for nth, label in enumerate(self.labels)
        ]
        return {
            "players": players,
            "covariance": [list(row) for row in found.covariance],
            "black_elo": found.black_elo,
            "black_error": found.black_error,
            "is_bounded": found.is_bounded,
        }

    def _test_as_json(self, test: SequentialTest) -> dict[str, Any]:
        (result,) = self.results.values()
        return {
            "elo0": test.elo0,
            "elo1": test.elo1,
            "alpha": test.alpha,
            "beta": test.beta,
            "log_likelihood_ratio": test.ratio(result.pairs),
            "bounds": list(test.bounds),
            "decision": test.decision(result.pairs),
            "num_beyond": self.num_beyond,
        }


def _as_json(sides: tuple[int, int], result: MatchResult) -> dict[str, Any]:
    return {
        "players": list(result.names),
        "numbers": list(sides),
        "num_games": result.num_games,
        "wins": result.wins,
        "draws": result.draws,
        "losses": result.losses,
        "win_rate": result.win_rate,
        "win_interval": None if result.win_interval is None else list(result.win_interval),
        "pairs": list(result.pairs),
        "black_rate": result.black_rate,
        "mean_length": result.mean_length,
        "seconds_per_move": list(result.seconds_per_move),
        "forfeits": list(result.forfeits),
        "num_duplicates": result.num_duplicates,
        "endings": dict(Counter(game.ended for game in result.games)),
        "games": [
            {
                "opening": game.fixture.number,
                "black": result.names[not game.fixture.first_is_black],
                "points": game.points,
                "score": game.score,
                "plies": len(game.moves),
                "ended": game.ended,
                "forfeit": game.forfeit,
                "digest": game.digest,
            }
            for game in result.games
        ],
    }


def _reasons(result: MatchResult) -> list[str]:
    """The forfeits in words, those that are most frequent first."""
    counted = Counter(
        f"{result.names[game.loser]}: {game.forfeit}"
        for game in result.games
        if game.forfeit is not None and game.loser is not None
    )
    lines = [f"forfeit × {number}: {text}" for text, number in counted.most_common(_MOST_REASONS)]
    rest = sum(counted.values()) - sum(n for _, n in counted.most_common(_MOST_REASONS))
    return [*lines, *([f"forfeit × {rest}: other reasons, see --json"] if rest else [])]


def _said(conditions: Mapping[str, Any]) -> list[str]:
    """The conditions, a line each; of those inside one the parts."""
    lines = []
    for name, value in conditions.items():
        if name == "players":
            for nth, each in enumerate(value, 1):
                more = [each[key] for key in ("engine", "file") if key in each]
                more += [f"sha256 {each['sha256'][:12]}"] if "sha256" in each else []
                lines.append(f"player {nth}: {each['player']}{_in_brackets(more)}")
        elif isinstance(value, Mapping):
            lines.append(f"{name}: {', '.join(f'{key} {each}' for key, each in value.items())}")
        else:
            lines.append(f"{name}: {value}")
    return lines


def _rounded(elo: float) -> int:
    return round(elo)  # no -0


def _in_brackets(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""
