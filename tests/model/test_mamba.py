"""MambaModel: causality, incremental inference, its first loss, precision, and its errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.model import MAX_CONTEXT, Mamba2Mixer, MambaMixer, MambaModel

MIXERS = ("mamba", "mamba2")  # what a lively model has in the tests below
VOCABULARIES = [7, 84, 364]  # 2×2, 9×9, 19×19


def random_tokens(*shape: int, vocab_size: int = 84) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, vocab_size - 2, shape, generator=generator)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_later_move_changes_no_earlier_bit(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(3, 40)
    before = model(tokens)
    for ply in (1, 17, 39):
        changed = tokens.clone()
        changed[:, ply:] = (changed[:, ply:] + 1) % 80
        after = model(changed)
        assert torch.equal(after[:, :ply], before[:, :ply])
        assert not torch.allclose(after[:, ply], before[:, ply], atol=1e-2)


def test_with_targets_the_result_is_their_cross_entropy_and_nothing_at_pad(lively) -> None:
    model, tokens = lively(), random_tokens(3, 9)
    targets = tokens.roll(-1, 1)
    targets[0, 5:] = model.pad_token
    losses = model(tokens, targets)
    log_probs = model(tokens).double().log_softmax(-1)
    expected = -log_probs.gather(2, targets[..., None]).squeeze(2)
    is_move = targets != model.pad_token
    assert losses.dtype == torch.float32 and not losses[~is_move].any()
    torch.testing.assert_close(losses[is_move].double(), expected[is_move])


@pytest.mark.parametrize("n_layers", [1, 3])
def test_every_earlier_move_reaches_the_last_logits(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(1, 12)
    for ply in range(12):
        changed = tokens.clone()
        changed[:, ply] = (changed[:, ply] + 1) % 80
        assert (model(changed) - model(tokens))[:, -1].abs().max() > 1e-4


@pytest.mark.parametrize("n_layers", [1, 2])
@torch.no_grad()
def test_step_equals_forward_at_every_ply_of_the_longest_game(lively, n_layers: int) -> None:
    model, tokens = lively(364, 16, n_layers), random_tokens(2, 722, vocab_size=364)
    whole, state, stepped = model(tokens), model.init_state(2), []
    assert whole.std() > 0.3
    for ply in range(722):
        logits, state = model.step(tokens[:, ply], state)
        stepped.append(logits)
    torch.testing.assert_close(torch.stack(stepped, 1), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_layers", [1, 3])
@torch.no_grad()
def test_any_prefix_can_be_prefilled_and_stepped_on(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(2, 9)
    whole = model(tokens)
    for cut in range(1, 9):
        logits, state = model.prefill(tokens[:, :cut])
        torch.testing.assert_close(logits, whole[:, :cut], rtol=0, atol=1e-4)
        middle = (cut + 9) // 2
        if middle > cut:
            logits, state = model.prefill(tokens[:, cut:middle], state)
            torch.testing.assert_close(logits, whole[:, cut:middle], rtol=0, atol=1e-4)
        for ply in range(middle, 9):
            logits, state = model.step(tokens[:, ply], state)
            torch.testing.assert_close(logits, whole[:, ply], rtol=0, atol=1e-4)


@pytest.mark.parametrize("d_conv", [1, 2, 5])
@torch.no_grad()
def test_a_mixer_carries_on_with_and_without_a_pad_mask(d_conv: int) -> None:
    torch.manual_seed(d_conv)
    mixer, hidden = MambaMixer(12, d_conv=d_conv), torch.randn(2, 9, 12)
    whole = mixer(hidden)
    for is_pad in (None, torch.zeros(2, 9, dtype=torch.bool)):
        first, second = (None, None) if is_pad is None else is_pad.split([6, 3], dim=1)
        head, state = mixer.advance(hidden[:, :6], first)
        tail, state = mixer.advance(hidden[:, 6:], second, state)
        torch.testing.assert_close(torch.cat((head, tail), 1), whole, rtol=0, atol=1e-6)
        inputs = mixer.in_proj(hidden)[..., : mixer.d_inner]
        torch.testing.assert_close(state.conv, inputs[:, 9 - (d_conv - 1) :])


@torch.no_grad()
def test_a_step_leaves_the_state_it_was_given(lively) -> None:
    model, state = lively(), lively().init_state(2)
    first, _ = model.step(torch.tensor([3, 4]), state)
    again, _ = model.step(torch.tensor([3, 4]), state)
    assert torch.equal(first, again)


@torch.no_grad()
def test_the_window_holds_the_last_moves_only(lively) -> None:
    model, tokens = lively(), random_tokens(2, 90)
    logits = model.predict_next(tokens)
    expected = model(tokens[:, -MAX_CONTEXT:])[:, -1]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    short = model.predict_next(tokens, context=5)
    torch.testing.assert_close(short, model(tokens[:, -5:])[:, -1], rtol=0, atol=1e-5)
    assert not torch.allclose(short, logits, atol=1e-3)
    padded = F.pad(tokens[:, :7], (0, 30), value=model.pad_token)
    expected = model(tokens[:, :7])[:, -1]
    torch.testing.assert_close(model.predict_next(padded), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2])
@torch.no_grad()
def test_windowed_and_incremental_predictions_agree_as_long_as_the_game_fits(
    lively, n_layers: int
) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(3, 14)
    state = model.init_state(3)
    for ply in range(14):
        stepped, state = model.step(tokens[:, ply], state)
        windowed = model.predict_next(tokens[:, : ply + 1], context=9)
        if ply < 9:
            torch.testing.assert_close(windowed, stepped, rtol=0, atol=1e-4)
        else:
            # The window has lost moves that the state remembers.
            assert not torch.allclose(windowed, stepped, atol=1e-3)


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize(("d_model", "n_layers"), [(8, 1), (8, 4), (64, 1), (64, 2), (256, 1)])
def test_a_new_model_starts_at_the_uniform_loss(
    vocab_size: int, d_model: int, n_layers: int
) -> None:
    torch.manual_seed(vocab_size + d_model + n_layers)
    model = MambaModel(vocab_size, d_model, n_layers=n_layers)
    tokens = random_tokens(4, 32, vocab_size=vocab_size)
    tokens[1] = 0
    tokens[2, 5:] = model.pad_token
    log_probs = model(tokens).log_softmax(-1)
    # Stronger than the mean loss: it holds for every token that could come next.
    assert (log_probs + math.log(vocab_size)).abs().max() < 0.05
    F.nll_loss(log_probs.flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


def test_training_learns_a_sequence_by_heart() -> None:
    torch.manual_seed(0)
    model, tokens = MambaModel(84, 32), random_tokens(4, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.0


@pytest.mark.parametrize("n_layers", [1, 3])
def test_bfloat16_autocast_stays_near_float32(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(2, 64)
    expected = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
        _, state = model.prefill(tokens)
        stepped, state = model.step(tokens[:, 0], state)
    assert logits.isfinite().all() and stepped.isfinite().all()
    assert (logits - expected).abs().mean() < 0.03 * expected.std()
    assert all(t.dtype == torch.float32 for layer in state.layers for t in (layer.conv, layer.ssm))
    F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_layer_is_head_of_mixer_of_embedding(lively, mixer: str) -> None:
    model, tokens = lively(), random_tokens(2, 6)
    assert isinstance(model.mamba, MambaMixer if mixer == "mamba" else Mamba2Mixer)
    expected = model.head(model.mamba(model.embedding(tokens)))
    torch.testing.assert_close(model(tokens), expected)


def test_all_wrong_sizes_are_named_in_one_message() -> None:
    with pytest.raises(ValueError) as error:
        MambaModel(84, 0, d_state=-1, n_layers=1.5)
    assert str(error.value).splitlines() == [
        "d_model must be a whole number of at least 1, got 0.",
        "n_layers must be a whole number of at least 1, got 1.5.",
        "d_state must be a whole number of at least 1, got -1.",
    ]
    with pytest.raises(ValueError, match=r"d_model must be .* got 0"):
        MambaMixer(0)


def test_a_pad_token_outside_the_vocabulary_is_refused() -> None:
    assert MambaModel(84, 8).pad_token == 82
    assert MambaModel(84, 8, pad_token=83).pad_token == 83
    with pytest.raises(ValueError, match=r"pad_token must be 0 to 83, got 84\."):
        MambaModel(84, 8, pad_token=84)


@pytest.mark.parametrize(
    ("tokens", "got"),
    [
        (torch.zeros(3, dtype=torch.int64), r"\(3,\) int64"),
        (torch.zeros(3, 0, dtype=torch.int64), r"\(3, 0\) int64"),
        (torch.zeros(3, 4), r"\(3, 4\) float32"),
    ],
)
def test_tokens_of_another_shape_or_dtype_are_refused(tokens: torch.Tensor, got: str) -> None:
    model = MambaModel(84, 8)
    for run in (model, model.prefill, model.predict_next):
        with pytest.raises(ValueError, match=rf"tokens must be \(batch, length\).* got {got}"):
            run(tokens)


def test_targets_of_another_shape_or_dtype_are_refused() -> None:
    model, tokens = MambaModel(84, 8), torch.zeros(2, 3, dtype=torch.int64)
    for targets, got in ((tokens[:, 1:], r"\(2, 2\) int64"), (tokens.int(), r"\(2, 3\) int32")):
        with pytest.raises(ValueError, match=rf"targets must be \(2, 3\) int64.* got {got}"):
            model(tokens, targets)


def test_a_step_refuses_other_shapes_and_other_games() -> None:
    model = MambaModel(84, 8)
    with pytest.raises(ValueError, match=r"tokens must be \(batch\).* got \(2, 1\)"):
        model.step(torch.zeros(2, 1, dtype=torch.int64), model.init_state(2))
    with pytest.raises(ValueError, match="state must hold the games of tokens, 2, got 3"):
        model.step(torch.zeros(2, dtype=torch.int64), model.init_state(3))
    with pytest.raises(ValueError, match=r"context must be .* got 0"):
        model.predict_next(torch.zeros(2, 2, dtype=torch.int64), context=0)


def test_checkpointed_activations_are_fewer_and_give_the_same_gradients(lively) -> None:
    tokens = F.pad(random_tokens(3, 20), (0, 4), value=82)

    def train(checkpointed: bool) -> tuple[int, list[torch.Tensor]]:
        model, kept = lively(n_layers=3), 0
        model.mamba.checkpoint_activations = checkpointed

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = model(tokens).square().mean()
        loss.backward()
        return kept, [weight.grad for weight in model.parameters()]

    kept, plain = train(checkpointed=False)
    kept_less, again = train(checkpointed=True)
    assert kept_less < kept / 3
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    model = MambaModel(84, 8, n_layers=2, checkpoint_activations=True)
    assert model.mamba.checkpoint_activations


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_run_that_nothing_follows_makes_no_state_and_the_same_vectors(
    lively, n_layers: int
) -> None:
    model, hidden = lively(n_layers=n_layers), torch.randn(2, 9, 24)
    is_pad = torch.zeros(2, 9, dtype=torch.bool)
    mixed, layers = model.blocks.advance(hidden, is_pad)
    assert len(layers) == n_layers
    operators: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            operators.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch():
        assert torch.equal(model.blocks(hidden, is_pad), mixed)
    assert "index" not in operators  # the last inputs of each game, which the state would hold
