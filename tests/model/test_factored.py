"""Embeddings and heads of few parameters stand for a dense matrix, exactly, and begin like one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.model import Embedding, GameModel, ModelSettings
from tessera.model.embeddings import TokenEmbedding
from tessera.model.heads import LinearHead
from tessera.model.low_rank_head import LowRankHead
from tessera.model.low_rank_table import LowRankEmbedding
from tessera.model.tensor_train import TensorTrainEmbedding
from tessera.model.tied_head import TiedHead
from tessera.setting_errors import SettingError

VOCAB_SIZE, D_MODEL, PAD = 28, 12, 26  # 5×5
EMBEDDINGS: dict[str, Any] = {
    "table": lambda: TokenEmbedding(VOCAB_SIZE, D_MODEL, padding_idx=PAD),
    "board": lambda: TensorTrainEmbedding(VOCAB_SIZE, D_MODEL, PAD, rank=3),
    "square": lambda: TensorTrainEmbedding(VOCAB_SIZE, D_MODEL, PAD, 2, "square", phase=True),
    "columns first": lambda: TensorTrainEmbedding(VOCAB_SIZE, 8, PAD, 2, "square"),
    "low rank": lambda: LowRankEmbedding(VOCAB_SIZE, D_MODEL, PAD, rank=5),
}
EACH = pytest.mark.parametrize("build", EMBEDDINGS.values(), ids=list(EMBEDDINGS))


def count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


@pytest.mark.parametrize(
    ("vocab_size", "d_model", "rank", "expected"),
    [
        (10_000, 512, 4, 18_404),
        (10_000, 512, 16, 73_616),
        (364, 256, 4, 2_500),
        (364, 256, 8, 5_000),
        (50_000, 1024, 4, 57_348),
    ],
)
def test_a_published_tensor_train_has_the_published_parameters(
    vocab_size: int, d_model: int, rank: int, expected: int
) -> None:
    with torch.device("meta"):
        built = TensorTrainEmbedding(
            vocab_size, d_model, vocab_size - 2, rank, "square", phase=True
        )
    assert count(built) == expected


def test_other_parts_have_the_parameters_of_their_formulas() -> None:
    with torch.device("meta"):
        assert count(LowRankHead(512, 10_000, rank=4)) == 52_052
        assert count(LowRankEmbedding(50_257, 4096, 0)) == 50_257 * 1024 + 1024 * 4096
        board = TensorTrainEmbedding(84, 256, 82, rank=4)
        assert count(board) == 4 * (9 * 16 + 9 * 16) + 2 * 256
        assert count(TiedHead(512, 10_000)) == 512 + 10_000


@pytest.mark.parametrize("num_tokens", [1, 5, 100])  # alone, or by a table
@pytest.mark.parametrize("factors", ["board", "square"])
def test_a_vector_is_the_sum_over_ranks_of_its_row_s_times_its_column_s(
    factors: str, num_tokens: int
) -> None:
    torch.manual_seed(num_tokens)
    own = TensorTrainEmbedding(VOCAB_SIZE, D_MODEL, PAD, 3, factors, phase=True).double()
    tokens = torch.randint(0, VOCAB_SIZE, (num_tokens,))
    if num_tokens > 1:
        tokens[:4] = torch.tensor([PAD, 24, 25, 27])
    for token, vector in zip(tokens.tolist(), own(tokens), strict=True):
        if token == PAD:
            expected = torch.zeros(D_MODEL, dtype=torch.float64)
        elif factors == "board" and token >= 25:
            assert own.others is not None
            expected = own.others.weight[0 if token == 25 else 1]
        else:
            columns = 5  # of either: ⌈28 / ⌈√28⌉⌉ is 5 too, of 6 rows
            matrix = sum(
                own.phase[k].cos()
                * torch.outer(own.rows[token // columns, k], own.columns[token % columns, k])
                for k in range(3)
            )
            expected = matrix.flatten()[:D_MODEL]
        torch.testing.assert_close(vector, expected)


def test_points_share_what_their_row_and_their_column_know() -> None:
    own = TensorTrainEmbedding(VOCAB_SIZE, D_MODEL, PAD, rank=1)
    before = own(torch.arange(VOCAB_SIZE))
    with torch.no_grad():
        own.rows[2] += 1
    changed = (own(torch.arange(VOCAB_SIZE)) != before).any(1)
    assert changed.nonzero().flatten().tolist() == [10, 11, 12, 13, 14]
    matrices = before[:25].unflatten(1, own.sides)
    assert torch.linalg.matrix_rank(matrices, rtol=1e-4).eq(1).all()


@EACH
def test_products_are_those_with_the_vectors(build: Any) -> None:
    torch.manual_seed(0)
    own: Embedding = build().double()
    vectors = own(torch.arange(VOCAB_SIZE).repeat(2))[:VOCAB_SIZE]
    hidden = torch.randn(2, 3, vectors.shape[1], dtype=torch.float64)
    torch.testing.assert_close(own.products(hidden), hidden @ vectors.mT)
    assert not own.products(hidden)[..., PAD].any()


@EACH
def test_gradients_are_those_of_the_dense_matrix(build: Any) -> None:
    torch.manual_seed(1)
    own: Embedding = build().double()
    names, weights = zip(*own.named_parameters(), strict=True)
    width = own(torch.tensor([0])).shape[1]
    tokens = torch.tensor([0, 3, 24, 25, 27, 3])  # fewer than the vocabulary
    hidden = torch.randn(2, width, dtype=torch.float64, requires_grad=True)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = own

        def forward(self, hidden: Tensor) -> tuple[Tensor, ...]:
            return own(tokens), own(tokens.repeat(5)), own.products(hidden)

    def answers(hidden: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = {f"own.{name}": value for name, value in zip(names, values, strict=True)}
        return functional_call(both, given, (hidden,))

    both = Both()
    assert torch.autograd.gradcheck(answers, (hidden, *weights))


class Largest(TorchDispatchMode):
    """The largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.size = max(self.size, made.numel() if isinstance(made, Tensor) else 0)
        return made


@pytest.mark.parametrize("factors", ["board", "square"])
def test_a_tied_tensor_train_never_makes_a_table(factors: str) -> None:
    head, embedding = TiedHead(256, 364), TensorTrainEmbedding(364, 256, 362, 4, factors)
    head.tie(embedding, "tensor_train")
    targets, hidden = torch.tensor([3]), torch.randn(1, 256, requires_grad=True)
    with Largest() as largest:
        embedding(targets).sum().backward()
        head.losses(hidden, targets, 362).sum().backward()
    assert 364 <= largest.size < 364 * 256 / 10


@pytest.mark.parametrize("d_model", [16, 250])
@pytest.mark.parametrize("name", ["tensor_train", "low_rank_table"])
def test_new_vectors_have_a_table_s_variance(name: str, d_model: int) -> None:
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = [{}]
    if name == "tensor_train":
        rows += [{"factors": "square", "phase": True}, {"rank": 2}]
    for row in rows:
        part = ModelSettings(364, d_model, **{name: row}).part("embedding", name)
        found = torch.stack([part.build(364, d_model, 362)(torch.arange(361)) for _ in range(40)])
        assert found.square().mean().item() == pytest.approx(1, abs=0.1), row


HEADS = ["low_rank_linear", "table", "tensor_train", "low_rank_table"]


@pytest.mark.parametrize("name", HEADS)
def test_new_logits_have_a_linear_head_s_variance(name: str) -> None:
    torch.manual_seed(0)
    hidden, found, expected = torch.randn(50, 64), [], []
    for _ in range(30):
        settings = {"head": name} if "linear" in name else {"head": "tied", "embedding": name}
        own = GameModel(ModelSettings(364, 64, **settings)).head
        found.append(torch.cat([own(hidden)[:, :362], own(hidden)[:, 363:]], 1))
        expected.append(LinearHead(64, 364)(hidden))
    one, other = (torch.stack(each).std().item() for each in (found, expected))
    assert one == pytest.approx(other, rel=0.1)
    targets = torch.arange(50)
    assert own.losses(hidden, targets, 362).mean().item() == pytest.approx(math.log(364), abs=0.05)


def test_a_low_rank_head_has_logits_in_a_space_of_its_rank() -> None:
    head = LowRankHead(64, 84, rank=3)
    logits = head(torch.randn(200, 64))
    assert torch.linalg.matrix_rank(logits - logits[:1], rtol=1e-4) == 3


def test_a_tied_head_has_a_gain_for_each_number_of_a_vector() -> None:
    model = GameModel(ModelSettings(28, 8, head="tied", embedding="tensor_train"))
    assert isinstance(model.head, TiedHead)
    with torch.no_grad():
        model.head.gain.copy_(torch.arange(8.0))
        model.head.bias.copy_(torch.arange(28.0))
        hidden, table = torch.randn(3, 8), model.embedding(torch.arange(28))
        expected = (hidden * torch.arange(8.0)) @ table.T + torch.arange(28.0)
        torch.testing.assert_close(model.head(hidden), expected)


def test_a_tied_head_learns_with_the_embedding_whose_weights_are_there_once() -> None:
    model = GameModel(ModelSettings(28, 8, n_layers=2, head="tied", embedding="tensor_train"))
    names = list(model.state_dict())
    assert [name for name in names if name.startswith("head.")] == ["head.gain", "head.bias"]
    assert len({id(weight) for weight in model.parameters()}) == len(names)
    hidden = torch.randn(3, 8)
    model.head.losses(hidden, torch.tensor([1, 2, 3]), 26).sum().backward()
    assert all(weight.grad is not None for weight in model.embedding.parameters())


@pytest.mark.parametrize("embedding", ["table", "tensor_train", "low_rank_table"])
def test_other_weights_given_to_a_call_are_those_of_both_ends(embedding: str) -> None:
    # As a captured training step is given its own, see ``TrainingGraphs``.
    settings = ModelSettings(28, 8, n_layers=2, head="tied", embedding=embedding)
    model, other = GameModel(settings), GameModel(settings)
    tokens = torch.tensor([[27, 3, 24]])
    expected = other(tokens)
    assert torch.equal(functional_call(model, dict(other.named_parameters()), (tokens,)), expected)
    assert not torch.equal(model(tokens), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"head": "tied", "embedding": "kinds"},
            "head must be another with embedding kinds, which has no vector for each token, got t",
        ),
        (
            {"vocab_size": 100, "embedding": "tensor_train"},
            "tensor_train.factors must be square where there is no board, of 100 tokens, got boar",
        ),
        (
            {"embedding": "tensor_train", "tensor_train": {"rank": 0}},
            "tensor_train.rank must be a whole number of at least 1, got 0.",
        ),
        (
            {"embedding": "tensor_train", "tensor_train": {"factors": "round"}},
            "tensor_train.factors must be one of board, square, got round.",
        ),
        (
            {"embedding": "low_rank_table", "low_rank_table": {"rank": -1}},
            "low_rank_table.rank must be at least 0, got -1.",
        ),
        (
            {"head": "low_rank_linear", "low_rank_linear": {"rank": 0.5}},
            "low_rank_linear.rank must be a whole number, got 0.5.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as refused:
        GameModel(ModelSettings(**{"vocab_size": 28, "d_model": 8, **settings}))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("head", ["tied", "points", "low_rank_linear"])
@pytest.mark.parametrize("embedding", ["tensor_train", "low_rank_table"])
def test_they_go_with_the_board(embedding: str, head: str) -> None:
    settings = {"features": "board", "board": {"channels": 4, "squeeze": 2}, "n_layers": 2}
    model = GameModel(ModelSettings(28, 16, embedding=embedding, head=head, **settings))
    tokens, sets = torch.tensor([[27, 3, 9]]), torch.zeros(1, 3, 5, 5, dtype=torch.int32)
    features = model.features.begun(sets)
    losses = model(tokens, torch.tensor([[3, 9, 25]]), features)
    assert losses.shape == (1, 3) and losses.isfinite().all()
