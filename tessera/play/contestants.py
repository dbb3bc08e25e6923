"""Who plays in a match: a side of many games at once, which chooses moves where it is to move.

Shapes: B games, P = n² points.
"""

from __future__ import annotations

import threading
from copy import copy
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tessera.go import FEATURES, GPUGoEngine, Player
from tessera.go.bitboard import unpack
from tessera.go.branching import copies
from tessera.model import GameModel, ModelState
from tessera.play.model_player import ModelPlayer, draw_choice
from tessera.play.reading import reader_of
from tessera.setting_errors import number

_TEMPERATURE = number("0 to 1000", lambda x: 0 <= x <= 1000)


@runtime_checkable
class Contestant(Protocol):
    """One side of the games of a match.

    Attributes:
        name: what results call it.
    """

    @property
    def name(self) -> str: ...

    def begin(self, engine: GPUGoEngine) -> None:
        """Forget everything; no game has begun yet."""
        ...

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        """Take note of what happened in the engine's games.

        Args:
            engine: the games after it.
            tokens: (B,) int64: the move that was played, EOS where a new game stands, PAD where
                nothing happened.
        """
        ...

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        """Choose a legal move in these games.

        Args:
            engine: the games, of which nothing is changed.
            is_mine: (B,) bool, True where this side is to move.
            words: (B,) int64, 64 random bits for each game.

        Returns:
            (B,) int64 tokens; anything where ``is_mine`` is False.
        """
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a side lost a game otherwise than on the board.

    Attributes:
        reason: in words.
        resigned: whether it gave up, which is no forfeit.
    """

    reason: str
    resigned: bool = False


@runtime_checkable
class Remote(Contestant, Protocol):
    """A side whose answers come later: its ``moves`` are PAD where there is none yet."""

    def take_losses(self) -> dict[int, Loss]:
        """The places whose games it has lost since this was asked."""
        ...

    def take_seconds(self) -> dict[int, float]:
        """How long the moves took that ``moves`` returned last, by place."""
        ...

    def ring(self, bell: threading.Event) -> None:
        """Set this from now on, on any thread, whenever ``moves`` has something new."""
        ...


class Seated:
    """A player that remembers nothing, such as a built-in one or a search, as a contestant.

    Args:
        player: chooses by the position alone.
        name: what results call it; None for the player's own name.
        is_rounded: whether a model says what it plays, whose last bits depend on the batch.

    Attributes:
        is_rounded: as given.
    """

    _is_whole = False

    def __init__(self, player: Player, name: str | None = None, is_rounded: bool = False) -> None:
        self._player, self.name, self.is_rounded = player, name or player.name, is_rounded

    def whole(self) -> Seated:
        """The same, asked of all games at once, whoever is to move: every batch has one shape."""
        other = copy(self)
        other._is_whole = True
        return other

    def begin(self, engine: GPUGoEngine) -> None:
        """See ``Contestant``."""
        room = torch.arange(self._room(engine), device=engine.device)
        self._player.begin(engine if len(room) == engine.batch_size else copies(engine, room))

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        """Nothing is remembered."""

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        """See ``Contestant``."""
        games, room = is_mine.nonzero().squeeze(1), self._room(engine)
        if self._is_whole or len(games) > room:
            return self._player.choose(engine, words).moves
        asked = games
        if engine.device.type != "cpu":  # batches of one shape, which a graph can hold
            asked = torch.cat([games, games[:1].expand(room - len(games))])
        chosen = self._player.choose(copies(engine, asked), words[asked]).moves
        return torch.zeros_like(words).index_copy_(0, games, chosen[: len(games)])

    def _room(self, engine: GPUGoEngine) -> int:
        """Games that are asked about at once, at most: of two of an opening it is one's turn."""
        return engine.batch_size if self._is_whole else -(-engine.batch_size // 2)


class ModelContestant:
    """A model without search: it reads each game move by move, its own and the other's.

    Args:
        model: on the device where it plays, in evaluation.
        name: what results call it.
        temperature: the logits of the moves are divided by it; 0 plays the likeliest legal move,
            the first of several in the order of the tokens.
        context: tokens that the model reads at once, EOS included; None for whole games.
        skip_settled: whether it was trained on games that leave settled points alone, of which it
            has learned nothing.

    Raises:
        SettingError: if ``temperature`` is out of range.
        ValueError: if the model's features read a table that there is not.
    """

    _state: ModelState

    def __init__(
        self,
        model: GameModel,
        name: str = "model",
        temperature: float = 0.0,
        context: int | None = None,
        skip_settled: bool = False,
    ) -> None:
        _TEMPERATURE("temperature", temperature)
        self.name, self._model, self._temperature = name, model, temperature
        self._context, self._skips_settled = context, skip_settled
        self._reader = reader_of(model)

    @torch.no_grad()
    def begin(self, engine: GPUGoEngine) -> None:
        """See ``Contestant``."""
        batch, length = engine.batch_size, engine.max_moves + 1
        vocabulary, device = engine.vocabulary, engine.device
        self._logits = torch.zeros(batch, vocabulary.size, device=device)
        self._vocabulary = vocabulary
        if self._context is None:
            self._state = self._model.init_state(batch, max_moves=length)
            return
        # A window is read anew each time: the last tokens, and what the features read beside them.
        pad = vocabulary.pad_token
        self._tokens = torch.full((batch, length + 1), pad, dtype=torch.int64, device=device)
        self._count = torch.zeros(batch, dtype=torch.int64, device=device)
        if (features := self._model.features) is not None:
            rows = FEATURES[features.table].read(engine)
            self._rows = rows.new_zeros(batch, length + 1, *rows.shape[1:])

    @torch.no_grad()
    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        """Read what was played; see ``Contestant``."""
        pad = self._vocabulary.pad_token
        is_new, has_read = tokens == self._vocabulary.eos_token, tokens != pad
        if self._context is None:
            self._step(engine, tokens, is_new, has_read)
            return
        self._tokens.masked_fill_(is_new.unsqueeze(1), pad)
        self._count.masked_fill_(is_new, 0)
        # What did not happen goes into the last column, which nobody reads.
        games = torch.arange(len(tokens), device=tokens.device)
        at = self._count.masked_fill(~has_read, self._tokens.shape[1] - 1)
        self._tokens[games, at] = tokens
        if (features := self._model.features) is not None:
            self._rows[games, at] = FEATURES[features.table].read(engine)
        self._count += has_read

    def _step(self, engine: GPUGoEngine, tokens: Tensor, is_new: Tensor, has_read: Tensor) -> None:
        """Read a token in the games where ``has_read``; the state never grows with the match."""
        before = self._state.map(torch.clone)
        # The others begin a game that is forgotten at once: so there is room for it.
        fed = torch.where(has_read, tokens, self._vocabulary.eos_token)
        tables = self._reader(engine)
        logits = self._model.step_in_place(fed, self._state, is_new | ~has_read, tables)
        for old, new in zip(before.layers, self._state.layers, strict=True):
            for one, other in zip(old, new, strict=True):
                other.copy_(torch.where(_beside(has_read, other), other, one))
        self._logits = torch.where(has_read.unsqueeze(1), logits.float(), self._logits)

    @torch.no_grad()
    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        """See ``Contestant``."""
        legal = engine.get_legal_mask()
        if self._skips_settled:
            legal[:, :-1] &= ~unpack(engine.settled_points().both).flatten(1)
        if self._context is not None:
            features = self._model.features
            beside = () if features is None else features.begun(self._rows[:, :-1])
            read = self._tokens[:, :-1]
            self._logits = self._model.predict_next(read, self._context, beside).float()
        scores = self._logits[:, : legal.shape[1]].masked_fill(~legal, -torch.inf)
        if self._temperature == 0:
            return scores.argmax(1)
        return draw_choice(scores / max(self._temperature, 1e-30), legal, words).moves


def _beside(mask: Tensor, tensor: Tensor) -> Tensor:
    """The mask (B,) beside a tensor (B, …)."""
    return mask.view(-1, *(1,) * (tensor.dim() - 1))


def contestant_of(player: Player | Contestant) -> Contestant:
    """The player as a contestant; a contestant as it is."""
    if isinstance(player, ModelPlayer):
        return ModelContestant(player.model, player.name, player.temperature)
    return player if isinstance(player, Contestant) else Seated(player)
