"""The engine at work: a few games of the monitor's own, one random ply at each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.bitboard import popcount
from tessera.go.randomness import MOVE, below, random_words
from tessera.stopwatch import Stopwatch
from tessera.transfers import HostCopy, begin_to_host, owned

_SEED = 0x7E55E2A  # of no training game


class GameProbe:
    """Plays one ply of its own games each time it is sampled, and measures the engine by it.

    Training games are played whole by one kernel, which has no separate legal mask and no separate
    ply. So these games are not those that the model trains on: they are played with the same
    engine on the same device under the same rules, each move drawn uniformly from the legal points
    (a pass where there is none). The draws are hashes of game and ply (``go.randomness``); torch's
    generators are not touched. Finished games begin anew.

    Args:
        board_size: n.
        rules: a preset's name or a Rules record.
        device: where to play.
        num_games: B.

    Attributes:
        metrics: the names of what is read.
        why_absent: empty; a game can always be played.
    """

    metrics = (
        "move_number",
        "stones_on_board",
        "legal_moves_count",
        "time_legal_mask",
        "time_play_move",
    )

    def __init__(
        self,
        board_size: int,
        rules: str | Rules,
        device: str | torch.device,
        num_games: int = 64,
    ) -> None:
        self.why_absent: dict[str, str] = {}
        self._engine = GPUGoEngine(num_games, device, board_size, rules)
        self._device = self._engine.device
        self._num_games = num_games
        # Which game stands in each place: a new game takes the next unused number of its place.
        self._numbers = torch.arange(num_games, device=self._device)
        self._copy: HostCopy | None = None
        self._watches: dict[str, Stopwatch] = {}

    def warm_up(self) -> None:
        """One ply unseen, because the first call of a kernel compiles it; then all games begin."""
        self.end()
        self._engine.reset()
        self._copy, self._watches = None, {}

    def begin(self) -> None:
        """Nothing: a sample is one ply, not a stretch of time."""

    @torch.no_grad()
    def end(self) -> None:
        """Play one ply; does not wait for the GPU."""
        # Under inference mode the engine's tensors would be of no use outside of it.
        with torch.inference_mode(False), owned("monitor"):
            self._watches = {}
            with self._watch("time_legal_mask"):
                legal = self._engine.get_legal_mask()
            moves = self._draw(legal)
            self._copy = begin_to_host(self._count(legal), "monitor")
            with self._watch("time_play_move"):
                self._engine.play_batch(moves)
            is_over = self._engine.is_game_over()
            self._engine.reset(is_over)
            self._numbers += is_over * self._num_games

    def read(self) -> dict[str, float]:
        """The last sample, as far as it has arrived; each figure is returned once."""
        values: dict[str, float] = {}
        for name, watch in list(self._watches.items()):
            if (ms := watch.ms()) is not None:
                values[name] = ms
                del self._watches[name]
        counts = None if self._copy is None else self._copy.result()
        if counts is not None:
            self._copy = None
            values |= dict(zip(self.metrics, counts.tolist(), strict=False))
        return values

    def close(self) -> None:
        """Nothing is held that would have to be given back."""

    def _watch(self, name: str) -> Stopwatch:
        watch = self._watches[name] = Stopwatch(self._device)
        return watch

    def _draw(self, legal: Tensor) -> Tensor:
        """(B,) int64, a uniformly drawn legal point of each game; pass where there is none."""
        points = legal[:, :-1]
        through = points.cumsum(1)
        total = through[:, -1]
        words = random_words(_SEED, self._numbers, self._engine.move_number, MOVE)
        # The (k + 1)-th legal point is the first one up to which there are k + 1.
        nth = below(words, total) + 1
        drawn = (through < nth.unsqueeze(1)).sum(1)
        return torch.where(total > 0, drawn, points.shape[1])

    def _count(self, legal: Tensor) -> Tensor:
        """(3,) float32, the means over the games in the order of ``metrics``."""
        engine = self._engine
        stones = popcount(engine.position.own | engine.position.opponent).sum(0)
        counts = (engine.move_number, stones, legal[:, :-1].sum(1))
        return torch.stack([count.float().mean() for count in counts])
