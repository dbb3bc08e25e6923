"""Launching the kernels of one ply, and of playouts, on an engine's tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.features import features_kernel
from tessera.go.kernels.games import KO_CODES, num_programs
from tessera.go.kernels.playouts import REGISTERS, playouts_kernel
from tessera.go.kernels.ply import legal_kernel, play_kernel, score_kernel
from tessera.go.randomness import MOVE, PLAYOUT, seed_word

if TYPE_CHECKING:
    from tessera.go.engine import GPUGoEngine
    from tessera.go.playouts import Playouts

_MOST_GAMES = 2**30  # of one launch, which counts them in 32 bits


@dataclass(frozen=True, slots=True)
class Plies:
    """An engine's games as the kernels see them: sets (n, B) that lie in memory as (B, n)."""

    engine: GPUGoEngine

    def play(self, moves: Tensor) -> None:
        """Play one move (B,) int64 in every game that is not over, in place."""
        engine = self.engine
        with current(engine.device):
            play_kernel[(engine.batch_size,)](
                moves.contiguous(),
                *self._sets,
                engine.turn,
                engine.move_number,
                engine.passes,
                engine.last_captures,
                engine.taken_sides,
                engine.captured,
                engine.history,
                engine.ko_point,
                *self._superko,
                engine.max_moves,
                **self._options,
            )

    def legal_rows(self) -> Tensor:
        """The legal points as row bitboards (n, B)."""
        rows = torch.empty_like(self.engine.position.own)
        self._legal(rows, rows, as_mask=False)
        return rows

    def legal_mask(self) -> Tensor:
        """The legal moves (B, n² + 1) bool, pass last."""
        own = self.engine.position.own
        mask = torch.empty(own.shape[1], own.shape[0] ** 2 + 1, dtype=torch.bool, device=own.device)
        self._legal(own, mask.view(torch.uint8), as_mask=True)
        return mask

    def features(self, num_sets: int, as_landmarks: bool) -> Tensor:
        """An entry of the table ``landmarks`` or ``board`` of every game, (B, R, n)."""
        engine = self.engine
        shape = engine.batch_size, num_sets, engine.board_size
        entries = torch.empty(shape, dtype=torch.int32, device=engine.device)
        options = self._options
        del options["KO"]  # which the legal points know
        with current(engine.device):
            features_kernel[(engine.batch_size,)](
                *self._sets,
                self.legal_rows(),
                engine.move_number,
                engine.passes,
                engine.taken_sides,
                engine.history,
                entries,
                engine.max_moves,
                SUICIDE=engine.rules.suicide,
                AS_LANDMARKS=as_landmarks,
                **options,
            )
        return entries

    def score(self) -> Tensor:
        """Black's area minus white's minus komi, (B,) float32."""
        turn = self.engine.turn
        scores = torch.empty_like(turn, dtype=torch.float32)
        self._score(scores, turn, self.engine.rules.komi, as_ownership=False)
        return scores

    def ownership(self) -> Tensor:
        """Who owns each point, (B, n, n) int64."""
        turn, size = self.engine.turn, self.engine.board_size
        owners = turn.new_empty(len(turn), size, size)
        self._score(turn, owners, 0.0, as_ownership=True)
        return owners

    def play_out(
        self, player: str, numbers: Tensor, seed: int, first: int, played: Playouts
    ) -> None:
        """Play ``played.num_games`` games from each position and add them to its counts.

        Args:
            player: "uniform" or "rules".
            numbers: (B,) int64, the positions' numbers.
            seed: any whole number.
            first: k of each position's first game.
            played: is added to.
        """
        engine, rules = self.engine, self.engine.rules
        batch_size, device, width = engine.batch_size, engine.device, engine.max_moves + 1
        done = 0
        while batch_size and done < played.num_games:
            each = min(played.num_games - done, max(1, _MOST_GAMES // batch_size))
            programs = num_programs(batch_size * each, device)
            copied = programs if engine.superko is not None else 0
            with current(device):
                playouts_kernel[(programs,)](
                    *self._sets,
                    engine.turn,
                    engine.move_number,
                    engine.passes,
                    engine.history,
                    engine.ko_point,
                    *self._superko,
                    numbers,
                    torch.zeros(1, dtype=torch.int32, device=device),
                    torch.empty(copied, width, dtype=torch.int64, device=device),
                    played.plies,
                    played.wins,
                    played.draws,
                    played.areas,
                    played.area_squares,
                    played.owners,
                    played.first_moves,
                    played.first_areas,
                    seed_word(seed, PLAYOUT),
                    seed_word(seed, MOVE),
                    first + done,
                    batch_size * each,
                    each,
                    engine.max_moves,
                    float(rules.komi),
                    RULES_PLAYER=player == "rules",
                    SUICIDE=rules.suicide,
                    PASS_ALIVE=rules.score == "pass_alive",
                    maxnreg=REGISTERS,
                    **self._options,
                )
            done += each

    @property
    def _sets(self) -> tuple[Tensor, Tensor, Tensor]:
        position = self.engine.position
        assert position.own.t().is_contiguous()
        return position.own, position.opponent, position.atari

    @property
    def _superko(self) -> tuple[Tensor, ...]:
        superko = self.engine.superko
        # Under simple ko nothing is read or written there.
        return (self.engine.turn,) * 8 if superko is None else superko.kernel_arguments()

    @property
    def _options(self) -> dict[str, int | bool]:
        """The launch options; the fusion of multiply and add is every version's default."""
        rules = self.engine.rules
        return {
            "SIZE": self.engine.board_size,
            "KO": KO_CODES[rules.ko],
            "SINGLE": rules.capture == "single",
            "num_warps": 1,
            "enable_fp_fusion": True,
        }

    def _legal(self, rows: Tensor, mask: Tensor, as_mask: bool) -> None:
        engine = self.engine
        lost, _, exposed, _, *others = self._superko
        with current(engine.device):
            legal_kernel[(engine.batch_size,)](
                *self._sets,
                engine.turn,
                engine.move_number,
                engine.ko_point,
                lost,
                exposed,
                *others,
                rows,
                mask,
                engine.max_moves,
                SUICIDE=engine.rules.suicide,
                AS_MASK=as_mask,
                **self._options,
            )

    def _score(self, scores: Tensor, owners: Tensor, komi: float, as_ownership: bool) -> None:
        (own, opponent, _), rules = self._sets, self.engine.rules
        with current(own.device):
            score_kernel[(self.engine.batch_size,)](
                own,
                opponent,
                self.engine.turn,
                scores,
                owners,
                komi,
                SIZE=self.engine.board_size,
                PASS_ALIVE=rules.score == "pass_alive",
                SUICIDE=rules.suicide,
                AS_OWNERSHIP=as_ownership,
                num_warps=1,
                enable_fp_fusion=True,
            )
