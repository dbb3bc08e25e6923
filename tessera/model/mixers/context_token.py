"""A context that every token updates, and the token's vector made with it; see context_token.md.

Shape suffixes: B games, L positions, H ``d_model``, C ``d_context``, K ``inputs``, W ``K * H``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.context_blocks import ContextBlock, TokenBlock, num_parameters
from tessera.model.contract import check_sizes, size
from tessera.model.mixers.base import Mixer
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState
from tessera.setting_errors import Problem, SettingError, one_of, or_none, problems_of, whole

Plan: TypeAlias = Literal["A", "D", "E"]
_ALLOWED = {"d_context": or_none(size), "expand": whole(0), "sweeps": or_none(size)}


class ContextState(NamedTuple):
    """What the mixer remembers of every game.

    Attributes:
        context: (B, C) float32; zero is a new game.
        recent: (B, K − 1, H) float32, the last tokens' normalized vectors, the oldest first.
    """

    context: Tensor
    recent: Tensor


class ContextTokenMixer(Mixer):
    """``c_i = LN(c_{i−1} + FFN([c_{i−1}; e_i]))``, then ``t_i = LN(e_i + FFN([c_i; e_i]))``.

    e is the position's vector, normalized, or the last K of them side by side. Nothing but the
    context goes from one position to the next, and the token block reads all positions at once.

    Args:
        d_model: width of a position's vector.
        d_context: C; None means ``d_model``.
        context_layers: of the context block, at least 1.
        token_layers: of the token block, at least 1.
        inputs: K.
        plan: which context a token layer reads: the context block's last one (A), that one updated
            by the token's vector from layer to layer (D), or that of its own number's layer (E).
        expand: the inner width of the feed-forward nets over that of their input; 0 for one matrix.
        sweeps: None, or how often training computes all positions at once instead of one after the
            other, so that the first ``sweeps`` of them are exact.

    Raises:
        SettingError: with a problem for every setting that is out of range.
    """

    def __init__(
        self,
        d_model: int,
        d_context: int | None = None,
        context_layers: int = 1,
        token_layers: int = 1,
        inputs: int = 1,
        plan: Plan = "A",
        expand: int = 0,
        sweeps: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(
            d_model=d_model, context_layers=context_layers, token_layers=token_layers, inputs=inputs
        )
        self.d_model, self.d_context = d_model, d_context
        self.expand, self.sweeps = expand, sweeps
        problems = problems_of(self, _ALLOWED)
        if problems:
            raise SettingError(*problems)
        one_of(*get_args(Plan))("plan", plan)
        if plan == "E" and context_layers != token_layers:
            must = "be as many as context_layers with plan E"
            raise SettingError(Problem("token_layers", token_layers, must, "context_layers"))
        self.d_context = d_model if d_context is None else d_context
        self.inputs, self.plan = inputs, plan
        width = inputs * d_model
        self.context = ContextBlock(self.d_context, width, context_layers, expand)
        self.token = TokenBlock(
            d_model, width, self.d_context, token_layers, expand, updates=plan == "D"
        )

    def windows(self, hidden_BLH: Tensor, recent_BKH: Tensor | None = None) -> Tensor:
        """What is read at each position (B, L, W): the last K vectors, normalized, newest first.

        Args:
            hidden_BLH: zero at PAD, which stays zero.
            recent_BKH: normalized ones before the first position; None means none, which is zeros.
        """
        return _side_by_side(self._with_recent(hidden_BLH, recent_BKH), self.inputs)

    def contexts(
        self, windows_BLW: Tensor, is_pad_BL: Tensor | None = None, start_BC: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The context block's outputs (B, L, C), every layer's, position by position."""
        start = self._new_context(windows_BLW) if start_BC is None else start_BC
        return self.context.sequential(start, self.context.of_inputs(windows_BLW), is_pad_BL)

    def read(self, windows: Tensor, contexts: tuple[Tensor, ...]) -> Tensor:
        """The token block's vectors (…, H), of ``windows`` (…, W) and the contexts it reads."""
        return self.token(windows, contexts)

    def that_are_read(self, contexts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Those of the context block's outputs that the token block reads."""
        return contexts if self.plan == "E" else contexts[-1:]

    @property
    def num_read(self) -> int:
        """How many contexts of a position are read."""
        return len(self.context.layers) if self.plan == "E" else 1

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors, see ``Mixer.mix``; there is nothing that a watcher might see."""
        if is_pad_BL is not None:
            # Zero already; but the norm of zero enlarges a gradient that nobody needs.
            hidden_BLH = hidden_BLH.masked_fill(is_pad_BL[..., None], 0.0)
        windows_BLW = self.windows(hidden_BLH)
        if self.sweeps is None or not (self.training and torch.is_grad_enabled()):
            found = self.contexts(windows_BLW, is_pad_BL)
        else:
            of_inputs = self.context.of_inputs(windows_BLW)
            shape = (*windows_BLW.shape[:2], self.context.d_context)
            found = (self._new_context(windows_BLW)[:, None].expand(shape),)
            for _ in range(self.sweeps):
                found = self.context.sweep(found[-1], of_inputs, is_pad_BL)
        return self._mixed(windows_BLW, found, is_pad_BL), ()

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, ContextState]:
        """See ``Mixer.advance``."""
        before = self.init_state(len(hidden_BLH), 0, hidden_BLH.device) if state is None else state
        assert isinstance(before, ContextState)
        extended = self._with_recent(hidden_BLH, before.recent.to(hidden_BLH.dtype))
        windows_BLW = _side_by_side(extended, self.inputs)
        found = self.contexts(windows_BLW, is_pad_BL, before.context.to(self.context.dtype))
        mixed_BLH = self._mixed(windows_BLW, found, is_pad_BL)
        # PAD stands behind the moves, so these are the last ones before it.
        length, count = hidden_BLH.shape[1], self.inputs - 1
        if is_pad_BL is None:
            recent = extended[:, length:]
        else:
            places = torch.arange(count, device=hidden_BLH.device) + (~is_pad_BL).sum(1)[:, None]
            recent = extended.gather(1, places[..., None].expand(-1, -1, self.d_model))
        return mixed_BLH, ContextState(found[-1][:, -1].float(), recent.float())

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> ContextState:
        """The state of new games."""
        shapes = (batch_size, self.context.d_context), (batch_size, self.inputs - 1, self.d_model)
        place = next(self.parameters()).device if device is None else device
        return ContextState(*(torch.zeros(shape, device=place) for shape in shapes))

    def _with_recent(self, hidden_BLH: Tensor, recent_BKH: Tensor | None) -> Tensor:
        normed_BLH = F.layer_norm(hidden_BLH, (self.d_model,))
        if recent_BKH is None:
            return F.pad(normed_BLH, (0, 0, self.inputs - 1, 0))
        return torch.cat([recent_BKH.to(normed_BLH.dtype), normed_BLH], 1)

    def _new_context(self, windows_BLW: Tensor) -> Tensor:
        shape = len(windows_BLW), self.context.d_context
        return windows_BLW.new_zeros(shape, dtype=self.context.dtype)

    def _mixed(
        self, windows_BLW: Tensor, found: tuple[Tensor, ...], is_pad_BL: Tensor | None
    ) -> Tensor:
        mixed_BLH = self.read(windows_BLW, self.that_are_read(found))
        return mixed_BLH if is_pad_BL is None else mixed_BLH.masked_fill(is_pad_BL[..., None], 0.0)


def _side_by_side(extended: Tensor, inputs: int) -> Tensor:
    """The last ``inputs`` vectors at each position; they begin so many less one before it."""
    length = extended.shape[1] - inputs + 1
    firsts = range(inputs - 1, -1, -1)
    return torch.cat([extended[:, first : first + length] for first in firsts], -1)


@dataclass(frozen=True)
class ContextTokenSettings(PartSettings):
    """Settings of ``ContextTokenMixer``.

    Args:
        d_context: numbers of the context; null for as many as d_model.
        context_layers: of the block that makes the context.
        token_layers: of the block that makes a token's vector with it.
        inputs: tokens that are read at once, the last ones.
        plan: which context a token layer reads: the context block's last (A), that one updated from
            layer to layer (D), or that of the layer of its own number (E).
        expand: inner width of the feed-forward nets over that of their input; 0 for one matrix.
        sweeps: null, or how often training computes all positions at once in place of one after the
            other; positions after the first so many are then not exact.
    """

    d_context: int | None = None
    context_layers: int = 1
    token_layers: int = 1
    inputs: int = 1
    plan: Plan = "A"
    expand: int = 0
    sweeps: int | None = None

    part: ClassVar[type[nn.Module]] = ContextTokenMixer
    free: ClassVar[tuple[str, ...]] = ("sweeps",)

    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""
        context = d_model if self.d_context is None else self.d_context
        width, more = self.inputs * d_model, self.token_layers - 1
        total = self.context_layers * num_parameters(context, width, context, self.expand)
        total += num_parameters(width, context, d_model, self.expand)
        total += more * num_parameters(d_model, context, d_model, self.expand)
        if self.plan == "D":
            total += more * num_parameters(context, d_model, context, self.expand)
        return total
