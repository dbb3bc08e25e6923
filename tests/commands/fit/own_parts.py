"""Parts that a user might write: some that work, and some with a fault each."""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model import Embedding, FeedForward, Head, Mixer


class State(NamedTuple):
    memory: Tensor


class Fading(Mixer):
    def __init__(self, d_model: int, rank: int = 4) -> None:
        super().__init__()
        if rank > 8:
            raise ValueError(f"rank must be at most 8, got {rank}.")
        self.down = nn.Linear(d_model, rank, bias=False)
        self.up = nn.Linear(rank, d_model, bias=False)

    def mix(self, hidden, is_pad=None):
        return self.advance(hidden, is_pad)[0], ()

    def advance(self, hidden, is_pad=None, state=None):
        (memory,) = state or self.init_state(len(hidden), 0, hidden.device)
        memories = []
        for at, entering in enumerate(self.down(hidden).float().unbind(1)):
            new = 0.7 * memory + entering
            memory = new if is_pad is None else torch.where(is_pad[:, at, None], memory, new)
            memories.append(memory)
        mixed = self.up(torch.stack(memories, 1))
        if is_pad is not None:
            mixed = mixed.masked_fill(is_pad[..., None], 0)
        return mixed, State(memory)

    def init_state(self, batch_size, max_moves=0, device=None):
        return State(self.up.weight.new_zeros(batch_size, self.up.in_features, device=device))


class Gated(FeedForward):
    def __init__(self, d_model: int, width: int = 8) -> None:
        super().__init__()
        self.up, self.gate = (nn.Linear(d_model, width, bias=False) for _ in range(2))
        self.down = nn.Linear(width, d_model, bias=False)

    def forward(self, hidden):
        return self.down(F.silu(self.gate(hidden)) * self.up(hidden))


class LowRank(Embedding):
    def __init__(self, vocab_size: int, d_model: int, pad_token: int, rank: int = 4) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, rank, padding_idx=pad_token)
        self.up = nn.Linear(rank, d_model, bias=False)

    def forward(self, tokens, dtype=None):
        return self.up(self.table(tokens)).to(dtype or self.up.weight.dtype)


class Narrow(Head):
    def __init__(self, d_model: int, vocab_size: int, rank: int = 4) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(d_model, rank, bias=False), nn.Linear(rank, vocab_size)

    def forward(self, hidden):
        return self.up(self.down(hidden))

    def losses(self, hidden, targets, pad_token):
        logits = self(hidden).float()
        return F.cross_entropy(logits, targets, ignore_index=pad_token, reduction="none")


class ReadsItsWeights(Fading):
    def __init__(self, d_model: int) -> None:  # cannot be done without memory
        super().__init__(d_model)
        self.first = self.up.weight.flatten()[0].item()


class Huge(Fading):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.large = nn.Linear(d_model, 10**15)


class HugeInMix(Fading):
    def mix(self, hidden, is_pad=None):
        return hidden.new_zeros(10**15), ()


class Unfinished(Mixer):
    pass


class NoPart:
    pass


class FailsAtOnce(Fading):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        raise KeyError("nothing")  # here it fails


class Forgetful(Fading):
    def __init__(self, d_model: int) -> None:
        self.down = nn.Linear(d_model, 4)  # before the base was told


class FailsInMix(Fading):
    def mix(self, hidden, is_pad=None):
        raise RuntimeError  # without a word


class FailsInState(Fading):
    def init_state(self, batch_size, max_moves=0, device=None):
        return State(self.nothing)


class FailsInStep(Fading):
    def step_in_place(self, hidden, state, is_new):
        raise AssertionError("no steps")


class Leaves(Fading):
    def __init__(self, d_model: int) -> None:
        sys.exit("bye")


class MixesAlone(Fading):
    def mix(self, hidden, is_pad=None):
        return self.advance(hidden, is_pad)[0]


class MixesNarrowly(Fading):
    def mix(self, hidden, is_pad=None):
        return self.advance(hidden, is_pad)[0][..., 1:], ()


class StatesNothing(Fading):
    def advance(self, hidden, is_pad=None, state=None):
        return super().advance(hidden, is_pad, state)[0], None


class FailsOnLongGames(Fading):
    def mix(self, hidden, is_pad=None):
        if hidden.shape[1] > 3:
            raise ZeroDivisionError("too long")
        return super().mix(hidden, is_pad)


class WantsTwoGames(Fading):
    def init_state(self, batch_size, max_moves=0, device=None):
        if batch_size == 1:
            raise ValueError("one game is too few.\nPlay more.")
        return super().init_state(batch_size, max_moves, device)


def a_function(d_model):
    return Fading(d_model)
