"""Attention against a softmax that is written out, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.model import GameModel, ModelSettings
from tessera.model.mixers.attention import AttentionMixer

D_MODEL = 12


def rotated(vector: torch.Tensor, place: int) -> torch.Tensor:
    """A head's vector (P,), whose halves are the pairs, each turned by its own wave length."""
    half = len(vector) // 2
    result = vector.clone()
    for pair in range(half):
        angle = place * 10_000.0 ** (-2 * pair / len(vector))
        one, other = float(vector[pair]), float(vector[half + pair])
        result[pair] = one * math.cos(angle) - other * math.sin(angle)
        result[half + pair] = other * math.cos(angle) + one * math.sin(angle)
    return result


def naive(mixer: AttentionMixer, moves: torch.Tensor) -> torch.Tensor:
    """The mixed vectors (L, H) of one game without PAD, move by move and head by head."""
    width = D_MODEL // mixer.num_heads
    queries, keys, values = (moves @ mixer.in_proj.weight.T).split(D_MODEL, dim=1)
    mixed = torch.zeros_like(moves)
    for head in range(mixer.num_heads):
        own = slice(head * width, (head + 1) * width)
        for at in range(len(moves)):
            query = rotated(queries[at, own], at)
            scores = [query @ rotated(keys[to, own], to) for to in range(at + 1)]
            weights = torch.tensor([float(score) / math.sqrt(width) for score in scores]).exp()
            weights = weights / weights.sum()
            mixed[at, own] = sum(w * values[to, own] for to, w in enumerate(weights))
    return mixed @ mixer.out_proj.weight.T


@pytest.mark.parametrize("num_heads", [1, 2, 3])
@torch.no_grad()
def test_attention_is_a_causal_softmax_over_rotated_queries_and_keys(num_heads: int) -> None:
    torch.manual_seed(num_heads)
    mixer = AttentionMixer(D_MODEL, num_heads)
    mixer.in_proj.weight *= 3
    hidden = torch.randn(2, 9, D_MODEL)
    expected = torch.stack([naive(mixer, moves) for moves in hidden])
    assert expected.std() > 0.1
    torch.testing.assert_close(mixer(hidden), expected, rtol=0, atol=1e-5)
    # PAD counts as no position: the second game begins three later.
    is_pad = torch.zeros(2, 12, dtype=torch.bool)
    is_pad[0, 9:], is_pad[1, :3] = True, True
    rows = torch.zeros(2, 12, D_MODEL)
    rows[0, :9], rows[1, 3:] = hidden[0], hidden[1]
    mixed = mixer(rows, is_pad)
    torch.testing.assert_close(mixed[0, :9], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[1, 3:], expected[1], rtol=0, atol=1e-5)
    state = mixer.init_state(2, 9)
    for at in range(9):
        step = mixer.step_in_place(hidden[:, at], state, torch.full((2,), at == 0))
        torch.testing.assert_close(step, expected[:, at], rtol=0, atol=1e-5)
    assert state.length.tolist() == [9, 9]


@pytest.mark.parametrize(
    ("d_model", "heads"),
    [(2, 1), (64, 1), (128, 2), (256, 4), (192, 3), (320, 5), (200, 2), (6, 1)],
)
def test_the_usual_heads_are_of_width_64_or_a_little_more(d_model: int, heads: int) -> None:
    assert AttentionMixer(d_model).num_heads == heads


@pytest.mark.parametrize(
    ("d_model", "num_heads", "line"),
    [
        (12, 5, "num_heads must divide d_model, 12, into even widths, got 5."),
        (12, 4, "num_heads must divide d_model, 12, into even widths, got 4."),
        (7, None, "num_heads must divide d_model, 7, into even widths, got 1."),
        (12, 0, "num_heads must be a whole number of at least 1, got 0."),
        (12, True, "num_heads must be a whole number of at least 1, got True."),
        (12, 1.5, "num_heads must be a whole number of at least 1, got 1.5."),
        (0, 1, "d_model must be a whole number of at least 1, got 0."),
    ],
)
def test_heads_that_do_not_divide_are_refused(d_model: int, num_heads: int, line: str) -> None:
    with pytest.raises(ValueError) as error:
        AttentionMixer(d_model, num_heads)
    assert str(error.value) == line


@pytest.mark.parametrize("room", [0, 2])
def test_a_state_without_room_for_the_next_move_is_refused(room: int) -> None:
    settings = ModelSettings(84, 8, mixer="attention")
    model, tokens = GameModel(settings), torch.tensor([3, 4])
    state = model.init_state(2, max_moves=room)
    going_on = torch.zeros(2, dtype=torch.bool)
    for _ in range(room):
        model.step_in_place(tokens, state, going_on)
    before = state.map(torch.clone)
    line = f"state must hold the longest game, got room for {room} moves"
    with pytest.raises(ValueError, match=line):
        model.step_in_place(tokens, state, going_on)
    pairs = zip(before.layers[0], state.layers[0], strict=True)
    assert all(torch.equal(own, other) for own, other in pairs)
    # A new game needs room too, and finds it where there is any.
    if room:
        model.step_in_place(tokens, state, ~going_on)
        assert state.layers[0].length.tolist() == [1, 1]


def test_a_state_is_as_large_as_its_games_are_long() -> None:
    model = GameModel(ModelSettings(84, 8, n_layers=2, mixer=["attention", "mamba"]))
    sizes = [model.init_state(1, max_moves=moves).bytes_per_game for moves in (0, 1, 100)]
    # Keys and values, of four bytes each.
    assert sizes[1] - sizes[0] == 2 * 8 * 4
    assert sizes[2] - sizes[0] == 100 * 2 * 8 * 4
    with pytest.raises(MemoryError, match=r"batch_size \(=10\) games need [\d,]+ GiB"):
        model.init_state(10, max_moves=10**12)


HYBRID = {"mixer": ["mamba", "attention", "mamba2"], "feed_forward": "dense", "n_layers": 3}


@pytest.mark.gpu
@pytest.mark.parametrize("own", [{"mixer": "attention"}, HYBRID], ids=["attention", "hybrid"])
@torch.no_grad()
def test_a_step_in_a_cuda_graph_is_the_step(untuned_kernels: None, own: dict) -> None:
    torch.manual_seed(0)
    model = GameModel(ModelSettings(84, 64, **own)).cuda()
    tokens = torch.randint(0, 82, (40, 9), generator=torch.Generator().manual_seed(1)).cuda()
    is_new = torch.rand(40, 9, generator=torch.Generator().manual_seed(2)).cuda() < 0.2
    is_new[0] = True
    state, captured = (model.init_state(9, max_moves=40) for _ in range(2))
    token, begins = tokens[0].clone(), is_new[0].clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        model.step_in_place(token, captured, begins)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = model.step_in_place(token, captured, begins)
    for ply in range(40):
        token.copy_(tokens[ply])
        begins.copy_(is_new[ply])
        graph.replay()
        expected = model.step_in_place(tokens[ply], state, is_new[ply])
        assert torch.equal(logits, expected), ply


@pytest.mark.gpu
@pytest.mark.parametrize("length", [64, 200])
def test_training_gives_the_same_bits_twice_on_a_gpu(untuned_kernels: None, length: int) -> None:
    torch.manual_seed(0)
    model = GameModel(ModelSettings(84, 64, **HYBRID)).cuda()
    tokens = torch.randint(0, 82, (32, length), generator=torch.Generator().manual_seed(1))
    tokens[::3, length // 2 :] = model.pad_token
    tokens[1::3, : length // 3] = model.pad_token
    results = []
    for _ in range(2):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            losses = model(tokens.cuda(), tokens.roll(-1, 1).cuda())
        losses.mean().backward()
        results.append([losses.detach(), *(weight.grad.clone() for weight in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
