"""The matches of ``tessera arena``: which games are still to be played, and where they go."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from tessera.commands.console import waiting_for
from tessera.commands.output_file import write_file
from tessera.go import Rules
from tessera.play.contestants import Contestant, Remote
from tessera.play.match import PAIRS_AT_ONCE, MatchResult, fixtures_of, pair_counts
from tessera.play.match_log import MatchLog, Pairing
from tessera.play.match_sgf import match_document, match_file
from tessera.play.match_table import Fixture, MatchTable, PlayedGame
from tessera.play.sprt import SequentialTest

_SHOW_S, _TELL_S = 0.5, 30.0  # between two tellings on a terminal, and elsewhere
_COUNTED_AT_ONCE = 64  # openings that are drawn together for engines


class Schedule:
    """Plays pairing after pairing, from where the log ends.

    Args:
        sides: the players.
        labels: what results call them.
        arguments: ``games``, ``seed``, ``opening_player``, ``processes``, ``log`` and ``sgf``.
        lengths: of the openings.
        board_size: n.
        rules: of all games.
        device: where the games are played.
        test: ends the match when it is decided; None plays all games.

    Attributes:
        num_played: games, without those that a log held.
        num_beyond: games that were over, of openings beyond the one that decided the test.
        num_processes: engines that play side by side.
        has_engine: whether there is one.
    """

    def __init__(
        self,
        sides: Sequence[Contestant],
        labels: Sequence[str],
        arguments: argparse.Namespace,
        lengths: tuple[int, int],
        *,
        board_size: int,
        rules: Rules,
        device: torch.device,
        test: SequentialTest | None,
    ) -> None:
        self._sides, self._labels = sides, labels
        self._arguments, self._lengths = arguments, lengths
        self._board_size, self._rules, self._device = board_size, rules, device
        self._test = test
        self.num_played = self.num_beyond = 0
        cores = len(os.sched_getaffinity(0))
        wanted = arguments.processes or cores
        self.num_processes = min(wanted, arguments.games)
        self.has_engine = any(isinstance(side, Remote) for side in sides)
        self._told_at, self._matched = time.monotonic(), ""
        # Of the test, which is of two players: what was counted so far, in the openings' order.
        self._counts = [0] * 5
        self._num_counted = self._num_written = 0
        self._decided_at: int | None = None

    def play(
        self, pairings: Sequence[Pairing], conditions: Mapping[str, Any]
    ) -> dict[Pairing, MatchResult]:
        """The results of these, each game once.

        Raises:
            SettingError: if the log is one of other conditions.
            OSError: if a file cannot be written.
        """
        with ExitStack() as stack:
            log = None
            if self._arguments.log is not None:
                log = MatchLog(self._arguments.log, conditions, self._board_size)
                stack.enter_context(log)
            if self._arguments.sgf is not None:
                os.makedirs(self._arguments.sgf, exist_ok=True)
            return {pairing: self._match(pairing, log) for pairing in pairings}

    def _match(self, pairing: Pairing, log: MatchLog | None) -> MatchResult:
        num_pairs = self._arguments.games // 2
        names = self._labels[pairing[0]], self._labels[pairing[1]]
        there = [] if log is None else log.games.get(pairing, [])
        games = {game.fixture.game: game for game in there if game.fixture.number < num_pairs}
        self._write_sgf(pairing, names, games, list(games.values()))
        if self._end(games) is None:
            self._note(names, games)
            waiting_for(self._matched)
            wanted = (number for number in range(num_pairs) if not _has_both(games, number))
            for game in self._games(pairing, list(wanted), games):
                games[game.fixture.game] = game
                self.num_played += 1
                if log is not None:
                    log.append(pairing, game)
                self._write_sgf(pairing, names, games, [game])
                self._note(names, games)
                if self._end(games) is not None:
                    break
        end = self._end(games)
        counted = [games[key] for key in sorted(games) if end is None or key < 2 * end]
        self.num_beyond += len(games) - len(counted)
        return MatchResult(names, tuple(counted))

    def _games(
        self, pairing: Pairing, wanted: Sequence[int], games: Mapping[int, PlayedGame]
    ) -> Iterator[PlayedGame]:
        """Play both games of these openings, but for those that are there."""
        sides = self._sides[pairing[0]], self._sides[pairing[1]]
        is_remote = any(isinstance(side, Remote) for side in sides)
        missing = (fixture for fixture in self._fixtures(wanted) if fixture.game not in games)
        if is_remote and wanted:
            # Each place takes the next game as soon as its own is over.
            places = min(self.num_processes, 2 * len(wanted))
            yield from self._table(sides, places).play(missing)
        # All together: of two games of an opening each side has the move in one.
        for start in range(0, 0 if is_remote else len(wanted), PAIRS_AT_ONCE):
            some = set(wanted[start : start + PAIRS_AT_ONCE])
            fixtures = [f for f in self._fixtures(sorted(some)) if f.game not in games]
            yield from self._table(sides, len(fixtures)).play(fixtures)

    def _table(self, sides: tuple[Contestant, Contestant], places: int) -> MatchTable:
        return MatchTable(
            sides,
            places,
            board_size=self._board_size,
            rules=self._rules,
            seed=self._arguments.seed,
            device=self._device,
            tell=self._tell,
        )

    def _fixtures(self, wanted: Sequence[int]) -> Iterator[Fixture]:
        for start in range(0, len(wanted), _COUNTED_AT_ONCE):
            yield from fixtures_of(
                wanted[start : start + _COUNTED_AT_ONCE],
                board_size=self._board_size,
                rules=self._rules,
                seed=self._arguments.seed,
                lengths=self._lengths,
                player=self._arguments.opening_player,
            )

    def _end(self, games: Mapping[int, PlayedGame]) -> int | None:
        """How many openings, in their order, decide the test; None if there is none or it goes on.

        An opening counts only when all before it are over, so that short games are not preferred.
        """
        if self._test is None or self._decided_at is not None:
            return self._decided_at
        while _has_both(games, self._num_counted):
            two = [games[2 * self._num_counted + nth] for nth in (0, 1)]
            self._num_counted += 1
            self._counts = [
                before + more for before, more in zip(self._counts, pair_counts(two), strict=True)
            ]
            if self._test.decision(self._counts) is not None:
                self._decided_at = self._num_counted
                break
        return self._decided_at

    def _write_sgf(
        self,
        pairing: Pairing,
        names: tuple[str, str],
        games: Mapping[int, PlayedGame],
        newest: Sequence[PlayedGame],
    ) -> None:
        """Write the newest of the games; with a test those that have come to count.

        Which others end before a test is decided is chance, and none of the files'.
        """
        if self._test is not None:
            self._end(games)
            numbers = range(2 * self._num_written, 2 * self._num_counted)
            newest = [games[number] for number in numbers]
            self._num_written = self._num_counted
        folder, seed = self._arguments.sgf, self._arguments.seed
        for game in newest if folder is not None else ():
            document = match_document(game, names, self._board_size, self._rules, seed)
            write_file(os.path.join(folder, match_file(pairing, game)), document.serialise())

    def _tell(self, num_plies: int) -> None:
        """Say how far a match is, now and then."""
        now = time.monotonic()
        if now - self._told_at < (_SHOW_S if sys.stderr.isatty() else _TELL_S):
            return
        self._told_at = now
        text = f"{self._matched}, {num_plies:,} moves"
        waiting_for(text)
        if not sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)

    def _note(self, names: tuple[str, str], games: Mapping[int, PlayedGame]) -> None:
        """What is said of a match while it goes on."""
        rate = MatchResult(names, tuple(games.values())).win_rate
        so_far = "" if rate is None else f", {rate:.1%}"
        number = self._arguments.games
        self._matched = f"{names[0]} – {names[1]}: {len(games):,} of {number:,} games{so_far}"


def _has_both(games: Mapping[int, PlayedGame], number: int) -> bool:
    """Whether both games of an opening are over."""
    return 2 * number in games and 2 * number + 1 in games
