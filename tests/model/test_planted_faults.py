"""A part that breaks its contract is refused by the name of what broke."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model import Embedding, FeedForward, Head, Mixer
from tessera.model.embeddings import TokenEmbedding
from tessera.model.feed_forward import DenseFeedForward
from tessera.model.heads import LinearHead
from tessera.model.mixers.attention import AttentionMixer
from tessera.model.mixers.mamba import MambaMixer
from tessera.model.testing import (
    check_embedding,
    check_feed_forward,
    check_head,
    check_mixer,
)


class Remembered(NamedTuple):
    memory: Tensor


class Fading(Mixer):
    """A weighted mean of all moves up to each, of which older ones count for less."""

    keep = 0.7

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.enter = nn.Linear(d_model, d_model, bias=False)
        self.leave = nn.Linear(d_model, d_model, bias=False)

    def mix(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Any:
        return self.advance(hidden_BLH, is_pad_BL)[0], ()

    def advance(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None
    ) -> Any:
        (memory,) = state or self.init_state(len(hidden_BLH), 0, hidden_BLH.device)
        memories = []
        for position, entering in enumerate(self.enter(hidden_BLH).float().unbind(1)):
            new = self.keep * memory + entering
            if is_pad_BL is not None:
                new = torch.where(is_pad_BL[:, position, None], memory, new)
            memory = new
            memories.append(memory)
        return self.left(torch.stack(memories, 1), is_pad_BL), Remembered(memory)

    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        mixed_BLH = self.leave(mixed_BLH)
        return mixed_BLH if is_pad_BL is None else mixed_BLH.masked_fill(is_pad_BL[..., None], 0)

    def init_state(self, batch_size: int, max_moves: int = 0, device: Any = None) -> Any:
        width = self.leave.out_features
        return Remembered(self.leave.weight.new_zeros(batch_size, width, device=device))


class CentredConvolution(Fading):
    def mix(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Any:
        mixed_BLH, _ = super().mix(hidden_BLH, is_pad_BL)
        return mixed_BLH + 0.01 * F.avg_pool1d(mixed_BLH.mT, 3, 1, 1).mT, ()


class SeesPad(Fading):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.enter = nn.Linear(d_model, d_model)

    def mix(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Any:
        mixed_BLH, _ = self.advance(hidden_BLH, None)
        return mixed_BLH if is_pad_BL is None else mixed_BLH.masked_fill(
            is_pad_BL[..., None], 0
        ), ()


class SeesPadInAdvance(Fading):
    def advance(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None):
        mixed_BLH, _ = super().advance(hidden_BLH, is_pad_BL, state)
        return mixed_BLH, super().advance(hidden_BLH, None, state)[1]


class NotZeroAtPad(Fading):
    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        return self.leave(mixed_BLH)


class AnotherStep(Fading):
    def step_in_place(self, hidden_BH: Tensor, state: Any, is_new_B: Tensor) -> Tensor:
        return super().step_in_place(hidden_BH, state, is_new_B) + 0.01 * hidden_BH


class AnotherAdvance(Fading):
    def mix(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Any:
        mixed_BLH, _ = super().mix(hidden_BLH, is_pad_BL)
        return mixed_BLH * 1.01, ()


class ForgetsItsState(Fading):
    def advance(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None):
        return super().advance(hidden_BLH, is_pad_BL, None)


class NeverResets(Fading):
    def step_in_place(self, hidden_BH: Tensor, state: Any, is_new_B: Tensor) -> Tensor:
        return super().step_in_place(hidden_BH, state, torch.zeros_like(is_new_B))


class ResetsAll(Fading):
    def step_in_place(self, hidden_BH: Tensor, state: Any, is_new_B: Tensor) -> Tensor:
        return super().step_in_place(hidden_BH, state, is_new_B.any().expand_as(is_new_B))


class OfAllGames(Fading):
    def advance(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None):
        shared = None if state is None else Remembered(state.memory[:1].expand_as(state.memory))
        return super().advance(hidden_BLH, is_pad_BL, shared)


class Random(Fading):
    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        return F.dropout(super().left(mixed_BLH, is_pad_BL), 0.1, self.training)


class Counts(Fading):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.register_buffer("count", torch.zeros(()))

    def mix(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Any:
        self.count += 1
        return super().mix(hidden_BLH, is_pad_BL)


class HalfState(Fading):
    def advance(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None):
        mixed_BLH, after = super().advance(hidden_BLH, is_pad_BL, state)
        return mixed_BLH, Remembered(after.memory.bfloat16())


class RoundsItsState(Fading):
    def advance(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None):
        mixed_BLH, after = super().advance(hidden_BLH, is_pad_BL, state)
        return mixed_BLH, Remembered(after.memory.to(self.enter(hidden_BLH).dtype))


class StateOfOnes(Fading):
    def init_state(self, batch_size: int, max_moves: int = 0, device: Any = None) -> Any:
        return Remembered(super().init_state(batch_size, max_moves, device).memory + 1)


class StateOfAnotherLength(AttentionMixer):
    def init_state(self, batch_size: int, max_moves: int = 0, device: Any = None) -> Any:
        return super().init_state(batch_size, max_moves and max_moves + 3, device)


class StateElsewhere(Fading):
    def init_state(self, batch_size: int, max_moves: int = 0, device: Any = None) -> Any:
        return super().init_state(batch_size, max_moves, None)


class StateOfATuple(Fading):
    def init_state(self, batch_size: int, max_moves: int = 0, device: Any = None) -> Any:
        return tuple(super().init_state(batch_size, max_moves, device))


class GamesLast(Fading):
    def init_state(self, batch_size: int, max_moves: int = 0, device: Any = None) -> Any:
        return Remembered(super().init_state(batch_size, max_moves, device).memory.mT)


class OverflowsInBfloat16(Fading):
    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        mixed_BLH = super().left(mixed_BLH, is_pad_BL)
        return mixed_BLH if mixed_BLH.dtype == torch.float32 else mixed_BLH * 1.1


class LosesAWeight(Fading):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.scale = torch.rand(())  # neither a parameter nor a buffer

    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        return super().left(mixed_BLH, is_pad_BL) * self.scale


class Silent(Fading):
    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        return super().left(mixed_BLH, is_pad_BL) * 0


class NoSuchName(Fading):
    no_weight_decay = ("gate",)


class NaNGradient(Fading):
    def left(self, mixed_BLH: Tensor, is_pad_BL: Tensor | None) -> Tensor:
        # The slope of a root is infinite at zero, where PAD is.
        size_BL1 = self.leave(mixed_BLH).square().sum(-1, True).sqrt()
        return super().left(mixed_BLH, is_pad_BL) / (1 + size_BL1)


class EnlargesAtPad(Fading):
    def advance(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None, state: Any = None):
        # The norm of zero is zero, and its slope there large; the position behind PAD sees it.
        normed_BLH = F.rms_norm(hidden_BLH, hidden_BLH.shape[-1:], eps=1e-6)
        mixed_BLH, after = super().advance(normed_BLH, is_pad_BL, state)
        return mixed_BLH, after

    def mix(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Any:
        mixed_BLH, seen = super().mix(hidden_BLH, is_pad_BL)
        if is_pad_BL is None:
            return mixed_BLH, seen
        normed_BLH = F.rms_norm(hidden_BLH, hidden_BLH.shape[-1:], eps=1e-6)
        at_pad_BLH = F.pad(normed_BLH.masked_fill(~is_pad_BL[..., None], 0), (0, 0, 1, 0))[:, :-1]
        return mixed_BLH + at_pad_BLH.masked_fill(is_pad_BL[..., None], 0), seen


class ShowsOther(MambaMixer):
    def watched(self, state: Any) -> tuple[Tensor, ...]:
        return (state.ssm + 1,)


FAULTS: list[tuple[type[Mixer], str]] = [
    (CentredConvolution, "not causal: "),
    (SeesPad, "sees PAD: before the moves"),
    (SeesPadInAdvance, "sees PAD: in advance, by the state"),
    (NotZeroAtPad, "not zero at PAD: "),
    (AnotherStep, "step_in_place is not advance"),
    (AnotherAdvance, "advance is not mix: "),
    (ForgetsItsState, "advance is not mix: "),
    (NeverResets, "not reset: a game that begins at ply 0 "),
    (ResetsAll, "not reset: "),
    (OfAllGames, "advance is not mix: "),
    (Random, "not the same twice: random numbers are drawn"),
    (Counts, "not the same twice: count was changed by reading"),
    (HalfState, "state not of its form: "),
    (RoundsItsState, "state not of its form: torch.float32 becomes torch.bfloat16"),
    (StateOfOnes, "state not zero: "),
    (StateOfAnotherLength, "state not of its size: "),
    (StateElsewhere, "state not of its size: init_state on the device"),
    (StateOfATuple, "wrong form: init_state must return a NamedTuple"),
    (GamesLast, "wrong form: init_state must return a state whose first axis is the games"),
    (OverflowsInBfloat16, "far from float32 under autocast"),
    (LosesAWeight, "lost by state_dict: "),
    (Silent, "says nothing: "),
    (NoSuchName, "no_weight_decay names no parameter: gate"),
    (NaNGradient, "not finite: the gradient of leave.weight"),
    (EnlargesAtPad, "sees PAD: the gradient of the inputs, before the moves"),
    (ShowsOther, "watched is not what mix shows"),
]


def test_the_mixer_without_a_fault_passes() -> None:
    check_mixer(Fading, num_parameters=2 * 16**2)


@pytest.mark.parametrize(("mixer", "name"), FAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_a_mixer_is_refused_by_the_name_of_its_fault(mixer: type[Mixer], name: str) -> None:
    with pytest.raises(AssertionError, match=f"^({name})"):
        check_mixer(mixer)


def test_a_number_of_parameters_that_is_not_stated_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"^parameters not as stated: 511 stated, 512 found"):
        check_mixer(Fading, num_parameters=511)


def test_what_cannot_be_pickled_is_refused() -> None:
    class Local(Fading):
        pass

    with pytest.raises(AssertionError, match=r"^lost by pickle: "):
        check_mixer(Local)


def test_what_is_no_part_is_refused() -> None:
    for check, kind in (
        (check_mixer, "Mixer"),
        (check_feed_forward, "FeedForward"),
        (check_embedding, "Embedding"),
        (check_head, "Head"),
    ):
        with pytest.raises(AssertionError, match=f"^no {kind}: Identity"):
            check(lambda *sizes: nn.Identity())  # type: ignore[operator]


class Biased(DenseFeedForward):
    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) + 1


class Neighbours(DenseFeedForward):
    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden - hidden.mean(-2, keepdim=True))


class Narrow(DenseFeedForward):
    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden)[..., 1:]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Biased, "zero does not stay zero"),
        (Neighbours, "not position by position: "),
        (Narrow, "wrong form: forward must return a tensor"),
    ],
)
def test_a_feed_forward_layer_is_refused_by_its_fault(layer: type[FeedForward], name: str) -> None:
    with pytest.raises(AssertionError, match=f"^{name}"):
        check_feed_forward(layer)


class PadHasAVector(nn.Embedding, Embedding):
    def __init__(self, vocab_size: int, d_model: int, pad_token: int) -> None:
        super().__init__(vocab_size, d_model)

    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return super().forward(tokens).to(dtype or self.weight.dtype)


class PadLearns(PadHasAVector):
    def __init__(self, vocab_size: int, d_model: int, pad_token: int) -> None:
        super().__init__(vocab_size, d_model, pad_token)
        nn.init.zeros_(self.weight[pad_token].detach())


class AnyDtype(TokenEmbedding):
    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return super().forward(tokens)


@pytest.mark.parametrize(
    ("embedding", "name"),
    [
        (PadHasAVector, "not zero at PAD"),
        (PadLearns, "sees PAD: the gradient of weight"),
        (AnyDtype, "not of the dtype: "),
    ],
)
def test_an_embedding_is_refused_by_its_fault(embedding: type[Embedding], name: str) -> None:
    with pytest.raises(AssertionError, match=f"^{name}"):
        check_embedding(embedding)


class Smooth(LinearHead):
    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
        logits_TV = self(hidden_TH)
        return F.cross_entropy(
            logits_TV, targets_T, ignore_index=pad_token, reduction="none", label_smoothing=0.01
        )


class CountsPad(LinearHead):
    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
        return super().losses(hidden_TH, targets_T, -1)


class MeanLoss(LinearHead):
    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
        return super().losses(hidden_TH, targets_T, pad_token).mean()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (Smooth, "losses are not the cross-entropy of the logits: "),
        (CountsPad, "losses are not 0 at PAD"),
        (MeanLoss, "wrong form: losses must return a tensor"),
    ],
)
def test_a_head_is_refused_by_its_fault(head: type[Head], name: str) -> None:
    with pytest.raises(AssertionError, match=f"^{name}"):
        check_head(head)
