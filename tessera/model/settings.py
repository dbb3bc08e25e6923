"""What a model is made of, and the registry of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import cycle, islice
from typing import Any

import torch
from torch import nn

from tessera.model.contract import size
from tessera.model.embeddings import Embedding, TableSettings
from tessera.model.features.base import Features
from tessera.model.features.board import BoardSettings
from tessera.model.features.landmarks import LandmarkSettings
from tessera.model.feed_forward import DenseSettings, FeedForward
from tessera.model.heads import Head, LinearSettings
from tessera.model.kind_embedding import KindSettings
from tessera.model.low_rank_feed_forward import LowRankSettings
from tessera.model.low_rank_head import LowRankLinearSettings
from tessera.model.low_rank_table import LowRankTableSettings
from tessera.model.mixers.adaptive_rank import AdaptiveRankSettings
from tessera.model.mixers.attention import AttentionSettings
from tessera.model.mixers.base import Mixer
from tessera.model.mixers.bk_core import BKCoreSettings
from tessera.model.mixers.context_token import ContextTokenSettings
from tessera.model.mixers.gated_delta import GatedDeltaSettings
from tessera.model.mixers.hyperbolic_ssm import HyperbolicSSMSettings
from tessera.model.mixers.identity import IdentitySettings
from tessera.model.mixers.mamba import MambaSettings
from tessera.model.mixers.mamba2 import Mamba2Settings
from tessera.model.mixers.phase7_hybrid import Phase7HybridSettings
from tessera.model.mixers.poincare_attention import PoincareAttentionSettings
from tessera.model.mixers.rotating_mamba import RotatingMambaSettings
from tessera.model.mixers.tangent_attention import TangentAttentionSettings
from tessera.model.norm import NORMS
from tessera.model.outcome import OutcomeHead, OutcomeSettings
from tessera.model.own import OwnPart, is_class_path
from tessera.model.parts import PartSettings
from tessera.model.point_head import PointSettings
from tessera.model.tensor_train import TensorTrainSettings
from tessera.model.tied_head import TiedSettings
from tessera.setting_errors import Problem, SettingError, one_of, problems_of, under
from tessera.vocabulary import board_size_of, num_tokens

# Each choice, and the class of which every part of its kind has to be, a user's own too.
_KINDS: dict[str, type[nn.Module]] = {
    "features": Features,
    "embedding": Embedding,
    "mixer": Mixer,
    "feed_forward": FeedForward,
    "head": Head,
    "outcome": OutcomeHead,
}
_OPTIONAL = ("features", "feed_forward", "outcome")
_ALLOWED = {"vocab_size": size, "d_model": size, "n_layers": size, "norm": one_of(*NORMS)}
# Beside those of a part that are free: what a run that goes on may change.
_FREE = ("vocab_size", "checkpoint_activations")


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a ``GameModel``. A part is chosen by name; its own settings stand under its name.

    Args:
        vocab_size: tokens, n² + 3 for an n×n board.
        d_model: width of a position's vector.
        n_layers: 1 without feed_forward is a bare mixer; otherwise pre-norm residual blocks.
        features: what is read beside the moves: none, board or landmarks.
        embedding: table, tensor_train or low_rank_table, which have fewer parameters, or kinds,
            which leaves it to the features where a move was.
        mixer: mamba, mamba2, attention, gated_delta, rotating_mamba, adaptive_rank, bk_core,
            tangent_attention, poincare_attention, hyperbolic_ssm, phase7_hybrid, identity,
            context_token or the path of a class of yours, or a list of them that repeats over the
            layers and is no longer.
        feed_forward: none, dense or low_rank.
        head: linear, low_rank_linear, tied, which is the embedding once more, or points, which
            needs features with a map, as board and landmarks make one.
        outcome: what is learned of a game's end beside its moves: none, or win_and_score.
        norm: rms, or layer, which takes the mean off too and has a bias.
        shares_norm: let a block's mixer and its feed-forward layer have one norm together.
        checkpoint_activations: keep only the input of each of several blocks for the backward pass
            and compute the rest again: less memory, more time.
        own: arguments of your own classes, by their paths.
        board: of the features board.
        landmarks: of the features landmarks.
        mamba: of the mixer mamba.
        mamba2: of the mixer mamba2.
        attention: of the mixer attention.
        gated_delta: of the mixer gated_delta.
        rotating_mamba: of the mixer rotating_mamba.
        adaptive_rank: of the mixer adaptive_rank.
        bk_core: of the mixer bk_core.
        tangent_attention: of the mixer tangent_attention.
        poincare_attention: of the mixer poincare_attention.
        hyperbolic_ssm: of the mixer hyperbolic_ssm.
        phase7_hybrid: of the mixer phase7_hybrid.
        identity: of the mixer identity.
        context_token: of the mixer context_token.
        dense: of the feed-forward layer dense.
        low_rank: of the feed-forward layer low_rank.
        table: of the embedding table.
        tensor_train: of the embedding tensor_train.
        low_rank_table: of the embedding low_rank_table.
        kinds: of the embedding kinds.
        linear: of the head linear.
        low_rank_linear: of the head low_rank_linear.
        tied: of the head tied.
        points: of the head points.
        win_and_score: of the outcome win_and_score.
    """

    vocab_size: int = 364  # 19×19
    d_model: int = 256
    n_layers: int = 1
    features: str = "none"
    embedding: str = "table"
    mixer: list[str] | str = "mamba"
    feed_forward: str = "none"
    head: str = "linear"
    outcome: str = "none"
    norm: str = "rms"
    shares_norm: bool = False
    checkpoint_activations: bool = False
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    # The registry: a part's name, and its settings.
    board: BoardSettings = BoardSettings()
    landmarks: LandmarkSettings = LandmarkSettings()
    mamba: MambaSettings = MambaSettings()
    mamba2: Mamba2Settings = Mamba2Settings()
    attention: AttentionSettings = AttentionSettings()
    gated_delta: GatedDeltaSettings = GatedDeltaSettings()
    rotating_mamba: RotatingMambaSettings = RotatingMambaSettings()
    adaptive_rank: AdaptiveRankSettings = AdaptiveRankSettings()
    bk_core: BKCoreSettings = BKCoreSettings()
    tangent_attention: TangentAttentionSettings = TangentAttentionSettings()
    poincare_attention: PoincareAttentionSettings = PoincareAttentionSettings()
    hyperbolic_ssm: HyperbolicSSMSettings = HyperbolicSSMSettings()
    phase7_hybrid: Phase7HybridSettings = Phase7HybridSettings()
    identity: IdentitySettings = IdentitySettings()
    context_token: ContextTokenSettings = ContextTokenSettings()
    dense: DenseSettings = DenseSettings()
    low_rank: LowRankSettings = LowRankSettings()
    table: TableSettings = TableSettings()
    tensor_train: TensorTrainSettings = TensorTrainSettings()
    low_rank_table: LowRankTableSettings = LowRankTableSettings()
    kinds: KindSettings = KindSettings()
    linear: LinearSettings = LinearSettings()
    low_rank_linear: LowRankLinearSettings = LowRankLinearSettings()
    tied: TiedSettings = TiedSettings()
    points: PointSettings = PointSettings()
    win_and_score: OutcomeSettings = OutcomeSettings()

    def __post_init__(self) -> None:
        """Take a part's settings as a plain mapping too, as checkpoints and parsers bring them."""
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(part.default, PartSettings) and not isinstance(value, PartSettings):
                object.__setattr__(self, part.name, type(part.default)(**dict(value)))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ModelSettings:
        """Those among some settings that are a model's; the others are left out."""
        return cls(**{f.name: settings[f.name] for f in fields(cls) if f.name in settings})

    def check(self) -> None:
        """Look at what can be known before anything is built.

        Raises:
            SettingError: with every size that is out of range and every part there is none of.
        """
        problems = problems_of(self, _ALLOWED)
        if isinstance(self.mixer, list) and not self.mixer:
            problems.append(Problem("mixer", self.mixer, "name a mixer"))
        elif not problems and len(self.mixers()) > self.n_layers:
            told = f"{len(self.mixers())} for n_layers={self.n_layers}"
            problems.append(Problem("mixer", told, "name no more mixers than there are layers"))
        for kind, name in self._chosen():
            known = part_names(kind)
            if name not in known and not is_class_path(name):
                allowed = f"{', '.join(known)} or the path of a class such as my_package.MyPart"
                problems.append(Problem(kind, name, f"be {allowed}"))
        problems += [
            Problem("own", path, "hold arguments of a part that is chosen")
            for path in self.own
            if path not in self.own_parts()
        ]
        if not problems:
            problems += self._features_problems()
        if problems:
            raise SettingError(*problems)

    def _features_problems(self) -> list[Problem]:
        """What features and a head that reads their map ask of the rest."""
        board_size = board_size_of(self.vocab_size)
        if self.features == "none":
            must = "be linear where features make no map, as those named board do"
            return [Problem("head", self.head, must)] if self._reads_map() else []
        if board_size < 2 or num_tokens(board_size) != self.vocab_size:
            must = "be n² + 3 of an n×n board, which features are of"
            return [Problem("vocab_size", self.vocab_size, must)]
        if self.features == "board" and not self.board.adds and not self._reads_map():
            must = "be points, which alone reads the board where board.adds is false"
            return [Problem("head", self.head, must, "board.adds")]
        return []

    def _reads_map(self) -> bool:
        head = None if is_class_path(self.head) else getattr(self, self.head)
        return head is not None and head.part.reads_map

    def part(self, kind: str, name: str) -> Any:
        """The settings of a part: a ``PartSettings``, or an ``OwnPart``.

        Args:
            kind: such as ``mixer``, the setting that names the part.
            name: as in the setting of that name.
        """
        if is_class_path(name):
            return OwnPart(kind, name, _KINDS[kind], self.own.get(name, {}))
        return getattr(self, name)

    def parts(self) -> dict[str, PartSettings]:
        """The settings of all parts that are used and are not a user's own, by name."""
        chosen = (name for _, name in self._chosen())
        return {name: getattr(self, name) for name in chosen if not is_class_path(name)}

    def mixer_names(self) -> list[str]:
        """The mixer of every layer."""
        return list(islice(cycle(self.mixers()), self.n_layers))

    def own_parts(self) -> list[str]:
        """Class paths of the user's own parts."""
        return [name for _, name in self._chosen() if is_class_path(name)]

    def build(self, kind: str, name: str, *sizes: int) -> Any:
        """A part, see ``PartSettings.build``; None for the name none.

        Raises:
            SettingError: with a problem for every setting that is out of range.
        """
        if name == "none":
            return None
        part = self.part(kind, name)
        with nullcontext() if isinstance(part, OwnPart) else under(name):
            return part.build(*sizes)

    def try_own(self, device: torch.device) -> None:
        """Build one of each of the user's own parts, and ask it for all that a model asks.

        Raises:
            SettingError: see ``OwnPart.try_on``.
        """
        for kind, name in self._chosen():
            if is_class_path(name):
                self.part(kind, name).try_on(device, *self._sizes(kind))

    def num_parameters(self) -> int:
        """How many parameters the model has, by arithmetic, without a user's own parts."""
        n, names = self.n_layers, self.mixers()
        total = sum(
            self._count(kind, name)
            for kind, name in self._chosen()
            if kind not in ("mixer", "feed_forward")
        )
        # However many layers there are: full rounds of the list, and the beginning of one more.
        rounds, more = divmod(n, len(names))
        counts = [self._count("mixer", name) for name in names]
        total += rounds * sum(counts) + sum(counts[:more])
        num_norms = 0 if n == 1 and self.feed_forward == "none" else n + 1
        if self.feed_forward != "none":
            total += n * self._count("feed_forward", self.feed_forward)
            num_norms += 0 if self.shares_norm else n
        return total + num_norms * NORMS[self.norm][1] * self.d_model

    def is_of_any_board(self) -> bool:
        """Whether no weight depends on the size of the board, as far as its settings say."""
        other = replace(self, vocab_size=num_tokens(1 + board_size_of(self.vocab_size)))
        return not self.own_parts() and other.num_parameters() == self.num_parameters()

    def fixed(self) -> dict[str, Any]:
        """Settings by name, of used parts by ``part.name``, that the weights depend on."""
        names = [f.name for f in fields(self) if not isinstance(f.default, PartSettings)]
        found = {name: getattr(self, name) for name in names if name not in _FREE}
        for name, part in self.parts().items():
            values = asdict(part).items()
            found |= {f"{name}.{key}": value for key, value in values if key not in part.free}
        return found

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain dicts, lists and primitives; ``ModelSettings(**…)`` takes it back."""
        return asdict(self)

    def _count(self, kind: str, name: str) -> int:
        part = self.part(kind, name)
        return 0 if isinstance(part, OwnPart) else part.num_parameters(*self._sizes(kind))

    def _sizes(self, kind: str) -> tuple[int, ...]:
        """What a part of this kind is built of, with the usual PAD."""
        d, v = self.d_model, self.vocab_size
        features = None if is_class_path(self.features) else getattr(self, self.features, None)
        if kind in ("head", "outcome"):
            return self._end_sizes(kind, getattr(features, "channels", 0))
        return {"features": (d, v), "embedding": (v, d, v - 2)}.get(kind, (d,))

    def end_sizes(self, kind: str, features: Features | None) -> tuple[int, ...]:
        """What a model's ``head`` or ``outcome`` is built of.

        Args:
            kind: which of the two.
            features: of the model.
        """
        return self._end_sizes(kind, 0 if features is None else features.map_channels)

    def _end_sizes(self, kind: str, map_channels: int) -> tuple[int, ...]:
        sizes = (self.d_model, self.vocab_size)
        has_map = kind == "outcome" or self._reads_map()
        return (*sizes, map_channels) if has_map else sizes

    def mixers(self) -> list[str]:
        """The mixers that repeat over the layers."""
        return [self.mixer] if isinstance(self.mixer, str) else self.mixer

    def _chosen(self) -> Iterator[tuple[str, str]]:
        """Kind and name of every part that is used, each once."""
        if self.features != "none":
            yield "features", self.features
        yield "embedding", self.embedding
        yield from (("mixer", name) for name in dict.fromkeys(self.mixers()))
        if self.feed_forward != "none":
            yield "feed_forward", self.feed_forward
        yield "head", self.head
        if self.outcome != "none":
            yield "outcome", self.outcome


def part_names(kind: str) -> list[str]:
    """The names of all parts of a kind, see ``ModelSettings.part``."""
    names = [
        f.name
        for f in fields(ModelSettings)
        if isinstance(f.default, PartSettings) and issubclass(f.default.part, _KINDS[kind])
    ]
    return ["none", *names] if kind in _OPTIONAL else names
