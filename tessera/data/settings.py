"""What determines a stream of batches, as one checked record."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tessera.data.batch import BATCH_TABLES, BYTES_PER_POSITION
from tessera.go import PLAYERS, Rules
from tessera.go.record import BYTES_PER_PLY, TABLES
from tessera.go.rules import check_skip_settled
from tessera.setting_errors import (
    Problem,
    SettingError,
    fits,
    noted,
    one_of,
    or_none,
    problems_of,
    whole,
)
from tessera.vocabulary import MAX_CONTEXT, check_board_size

# Mean length of the built-in players' games over n²: 1.33 on 9×9, 1.22 on 19×19.
_PLIES_PER_POINT = 1.25

# Bytes: of a ply in a record and in the tables made of it; of a position in a window, with the
# number that says where it is cut from.
_PER_PLY, _PER_POSITION = BYTES_PER_PLY + BYTES_PER_POSITION, BYTES_PER_POSITION + 8

_ALLOWED = {
    "board_size": check_board_size,
    "rules": fits("a Rules record", lambda rules: isinstance(rules, Rules)),
    "player": one_of(*PLAYERS),
    "backend": one_of("auto", "torch", "triton", words="auto, torch or triton"),
    "batch_size": whole(1),
    "games_per_chunk": whole(1),
    "context": or_none(whole(1)),
    "windows_per_game": or_none(whole(1)),
    "seed": whole(),
}


def usual_windows(board_size: int, context: int | None) -> int:
    """Windows cut from a game where nobody says how many: about one per ``context`` plies."""
    return 1 if context is None else max(1, round(_PLIES_PER_POINT * board_size**2 / context))


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Which games are played and how batches are cut from them.

    Args:
        board_size: n, 2 to 19.
        rules: the rules of every game.
        player: the built-in player of both colours.
        skip_settled: whether players leave settled points alone; needs rules that capture chains.
        batch_size: sequences in a batch.
        context: tokens in a window, cut anywhere in a game; None for whole games, one a sequence.
        games_per_chunk: games that are played at once, in one call.
        windows_per_game: windows cut from each game; None for about one per ``context`` plies.
        seed: any whole number; another seed gives other games.
        backend: as for GPUGoEngine.

    Raises:
        SettingError: with a problem for every argument that is out of range.
    """

    board_size: int = 19
    rules: Rules = Rules()  # noqa: RUF009 (frozen, so it can be shared)
    player: str = "rules"
    skip_settled: bool = False
    batch_size: int = 64
    context: int | None = MAX_CONTEXT
    games_per_chunk: int = 1024
    windows_per_game: int | None = None
    seed: int = 0
    backend: str = "auto"

    def __post_init__(self) -> None:
        problems = problems_of(self, _ALLOWED)
        if isinstance(self.rules, Rules):
            with noted(problems):
                check_skip_settled(self.skip_settled, self.rules)
        if self.context is None and self.windows_per_game not in (None, 1):
            must = "be null or 1 where context is null (whole games)"
            problems.append(Problem("windows_per_game", self.windows_per_game, must, "context"))
        if not problems and self.rows_per_chunk % self.batch_size:
            rows = f"games_per_chunk (={self.games_per_chunk}) times the windows of a game "
            rows += f"(={self.num_windows})"
            must = "be a multiple of batch_size"
            problems.append(Problem(rows, self.batch_size, must, "batch_size"))
        if problems:
            raise SettingError(*problems)

    @property
    def num_windows(self) -> int:
        """Sequences cut from each game."""
        if self.windows_per_game is not None:
            return self.windows_per_game
        return usual_windows(self.board_size, self.context)

    def bytes_per_game(self, needs: Collection[str] = ()) -> int:
        """About the bytes that a game takes in a record, in its tables and in its windows.

        Args:
            needs: the optional tables that are kept, as for ``play_games``.
        """
        size, windows = self.board_size, self.num_windows if self.context is not None else 0
        plies = max(self.rules.move_limit(size), self.context or 0)
        in_batch = sum(BATCH_TABLES[name].bytes_per_ply(size) for name in needs)
        per_ply = _PER_PLY + in_batch + sum(TABLES[name].bytes_per_ply(size) for name in needs)
        per_window = (_PER_POSITION + in_batch) * (self.context or 0)
        if "landmarks" in needs:
            per_window += BATCH_TABLES["landmarks_before"].entry_bytes(size)
        return per_ply * plies + per_window * windows

    @property
    def rows_per_chunk(self) -> int:
        """Sequences cut from the games that are played at once."""
        return self.games_per_chunk * self.num_windows

    @property
    def batches_per_chunk(self) -> int:
        """Batches cut from the games that are played at once."""
        return self.rows_per_chunk // self.batch_size
