"""GameModel: reads a game as a sequence of tokens and predicts the next one; assembled of parts.

Shape suffixes: B games, L positions, S sets of points, N rows of the board, H ``d_model``, V
``vocab_size``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessera.model.beside import Beside
from tessera.model.block import Blocks, Seen
from tessera.model.contract import (
    check_batch_size,
    check_mask,
    check_sizes,
    check_state,
    check_targets,
    check_tokens,
)
from tessera.model.embeddings import Embedding
from tessera.model.features.base import Features, FeatureTables, at_once, ordered
from tessera.model.graphs import TrainingGraphs
from tessera.model.heads import Head, without
from tessera.model.launching import launch_step
from tessera.model.mixers.base import Penalties
from tessera.model.outcome import Outcome, OutcomeHead
from tessera.model.scoring import position_losses
from tessera.model.settings import ModelSettings
from tessera.model.state import LayerState, ModelState, StateTemplate, Watched, emptied
from tessera.model.tied_head import tied
from tessera.setting_errors import Problem, SettingError
from tessera.vocabulary import MAX_CONTEXT


class GameModel(nn.Module):
    """Logits of the next token at every position of a game, as a map of possibilities.

    ``head(blocks(embedding(tokens) + features))``. PAD is invisible: it changes no logit and no
    state, and its own logits are those of a vector of zeros, and of the features of an empty board.

    A model with features is given their tables with the tokens, see ``Features``: of the positions
    after the tokens, seen from the player to move. In ``GameBatch.features`` they are as wanted.

    Args:
        settings: what it is made of.
        pad_token: the token to leave out; None means ``vocab_size - 2``, as in ``Vocabulary``.

    Attributes:
        settings: what it is made of.
        watched: where what a watcher may see passes, see ``MambaStateCapture``.

    Raises:
        SettingError: with a problem for every setting that is out of range.
    """

    def __init__(self, settings: ModelSettings, pad_token: int | None = None) -> None:
        super().__init__()
        settings.check()
        vocab_size, d_model = settings.vocab_size, settings.d_model
        pad = vocab_size - 2 if pad_token is None else pad_token
        if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < vocab_size:
            raise SettingError(Problem("pad_token", pad, f"be 0 to {vocab_size - 1}"))
        self.settings = settings
        self.vocab_size, self.d_model, self.pad_token = vocab_size, d_model, pad
        build = settings.build
        self.features: Features | None = build("features", settings.features, d_model, vocab_size)
        self.embedding: Embedding = build("embedding", settings.embedding, vocab_size, d_model, pad)
        feed_forward = settings.feed_forward
        self.blocks = Blocks(
            d_model,
            [build("mixer", name, d_model) for name in settings.mixer_names()],
            [build("feed_forward", feed_forward, d_model) for _ in range(settings.n_layers)]
            if feed_forward != "none"
            else (),
            *(settings.checkpoint_activations, settings.norm, settings.shares_norm),
        )
        head = build("head", settings.head, *settings.end_sizes("head", self.features))
        self.head: Head = tied(head, self.embedding, settings.embedding)
        sizes = settings.end_sizes("outcome", self.features)
        self.outcome: OutcomeHead | None = build("outcome", settings.outcome, *sizes)
        self._template = StateTemplate(self._new_layers)
        seen = self.blocks.watched(self._template.layers[: settings.n_layers])
        self.watched = Watched(sum(len(states) for states in seen))
        self._graphs: TrainingGraphs | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        features: FeatureTables = (),
        scores: Tensor | None = None,
        excluded: Tensor | None = None,
        penalized: bool = False,
    ) -> Tensor:
        """Logits (B, L, V) of the token after each position, from the start of each game.

        Args:
            tokens: (B, L) int64, L at least 1. PAD may stand at either end of a row.
            targets: (B, L) int64, what came after each position. If they are given, the result is
                the cross-entropy of each, (B, L) float32 in nats, 0 where the target is PAD. The
                logits then need not be kept.
            features: the tables of the model's features, such as (B, L, S, N) int32 of the board;
                none for a model without.
            scores: (B, L) float32, by how many points the player to move at each position wins. If
                they are given beside targets, to a model with an outcome, the result is (3, B, L):
                the losses of the moves, of the win probability and of the score.
            excluded: (B, L, N) int32 row bitboards, the points whose logits are minus infinity.
            penalized: whether the losses have rows more, one of each of ``blocks.penalty_names``.

        Raises:
            ValueError: if a tensor has another shape, dtype or device, or, on a CPU, a token is
                outside the vocabulary; if there are scores, and no outcome or no targets.
        """
        beside = Beside(features, scores, excluded, penalized)
        self._check(tokens, beside)
        if targets is None:
            if scores is not None:
                raise ValueError("scores must come with targets, got targets None.")
            hidden_BLH, maps, seen, _ = self._read(tokens, features)
            result = without(self.head(hidden_BLH, *self._of_head(maps)), excluded)
        else:
            check_targets(targets, tokens, self.vocab_size)
            is_training = self.training and torch.is_grad_enabled()
            run = self._graphs if self._graphs is not None and is_training else self._score
            result, seen = run(beside.names, tokens, targets, *beside.tensors)
        self.watched(seen)
        return result

    def outlook(
        self, tokens: Tensor, features: FeatureTables = (), excluded: Tensor | None = None
    ) -> tuple[Tensor, Outcome]:
        """Logits (B, L, V), as ``forward``, and what is expected of each game's end, (B, L).

        Args:
            tokens, features, excluded: as for ``forward``.

        Raises:
            ValueError: as ``forward``; if the model has no outcome.
        """
        if self.outcome is None:
            raise ValueError("outlook needs a model with an outcome, got none.")
        self._check(tokens, Beside(features, None, excluded))
        hidden_BLH, maps, seen, _ = self._read(tokens, features)
        self.watched(seen)
        logits_BLV = without(self.head(hidden_BLH, *self._of_head(maps)), excluded)
        return logits_BLV, self.outcome(hidden_BLH, *maps)

    def _score(
        self, names: tuple[str, ...], tokens: Tensor, targets: Tensor, *others: Tensor
    ) -> tuple[Tensor, Seen]:
        """Losses, and what a watcher may see, without a side effect.

        Args:
            names: of the others, see ``Beside``.
            tokens, targets: as for ``forward``.
            others: what there is beside them.
        """
        features, scores, excluded, penalized = Beside.of(names, others)
        hidden_BLH, maps, seen, penalties = self._read(tokens, features)
        targets_T = targets.flatten()
        losses_T, *more = position_losses(
            *(self.head, self.outcome, hidden_BLH.flatten(0, 1), maps, targets_T, self.pad_token),
            None if scores is None else scores.flatten(),
            None if excluded is None else excluded.flatten(0, 1),
        )
        if penalized:
            more += self.blocks.penalty_rows(penalties)
        if not more:
            return losses_T.view_as(targets), seen
        is_pad_T = targets_T == self.pad_token
        rows = torch.stack([losses_T, *(each.masked_fill(is_pad_T, 0) for each in more)])
        return rows.view(-1, *targets.shape), seen

    def _read(
        self, tokens: Tensor, features: FeatureTables
    ) -> tuple[Tensor, tuple[Tensor, ...], Seen, Penalties]:
        """The last vectors, the map if there is one, what a watcher may see, and penalties."""
        is_pad = tokens == self.pad_token
        hidden_BLH, maps, _ = self._embedded(tokens, features, is_pad)
        hidden_BLH, seen, penalties = self.blocks.mix(hidden_BLH, is_pad)
        return hidden_BLH, maps, seen, penalties

    def _embedded(
        self,
        tokens: Tensor,
        features: FeatureTables,
        is_pad: Tensor,
        state: LayerState | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...], LayerState]:
        """The first vectors, the map if there is one, and what the features remember."""
        hidden_BLH = self.token_vectors(tokens)
        if self.features is None:
            return hidden_BLH, (), ()
        (added_BLH, board_map), after = self.features.encode(features, tokens, is_pad, state)
        return hidden_BLH + added_BLH, () if board_map is None else (board_map,), after

    def token_vectors(self, tokens: Tensor) -> Tensor:
        """The embedding of tokens (…), (…, H); in autocast's dtype, if all is rounded to it."""
        # A lone mixer begins with a product, which rounds to autocast's dtype anyway.
        rounds = self.blocks.is_bare and tokens.is_cuda and torch.is_autocast_enabled("cuda")
        return self.embedding(tokens, torch.get_autocast_dtype("cuda") if rounds else None)

    def _of_head(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return maps if self.head.reads_map else ()

    def graph_training(self) -> None:
        """Let losses that are asked in training be CUDA graphs, see ``TrainingGraphs``.

        The parameters, the state_dict, what hooks see and every bit of a loss and a gradient stay
        as they are. On a CUDA device only; the model's memory is needed once more.
        """
        self._graphs = TrainingGraphs(self, self._score)

    def launch_training(
        self,
        tokens: Tensor,
        targets: Tensor,
        features: FeatureTables = (),
        scores: Tensor | None = None,
        excluded: Tensor | None = None,
    ) -> None:
        """Launch what one step of training launches and keep nothing of it, see ``launch_step``.

        Args:
            tokens, targets, features, scores, excluded: as for ``forward``.
        """
        beside = Beside(features, scores, excluded)
        launch_step(self, lambda: self._score(beside.names, tokens, targets, *beside.tensors))

    def init_state(
        self, batch_size: int, device: torch.device | str | None = None, max_moves: int = 0
    ) -> ModelState:
        """The state of ``batch_size`` new games.

        Args:
            batch_size: B.
            device: None means that of the parameters.
            max_moves: tokens that ``step_in_place`` will be given in the longest game; of a mixer
                whose state grows with the game, such as attention, no more than these fit in.

        Raises:
            ValueError: if ``batch_size`` is not a whole number of at least 1.
            MemoryError: if the device has less memory than so many games take.
        """
        device = device or self.device
        of_one = ModelState(self._new_layers(1, max_moves, "meta")).bytes_per_game
        check_batch_size(batch_size, of_one, device)
        return ModelState(self._new_layers(batch_size, max_moves, device))

    def _new_layers(
        self, batch_size: int, max_moves: int, device: torch.device | str
    ) -> tuple[LayerState, ...]:
        """What new games are remembered by: of every mixer, and last of the features."""
        layers = self.blocks.init_state(batch_size, max_moves, device)
        own = None if self.features is None else self.features.init_state(batch_size, device)
        return layers if own is None else (*layers, own)

    def step(
        self, tokens: Tensor, state: ModelState, features: FeatureTables = ()
    ) -> tuple[Tensor, ModelState]:
        """Logits (B, V) after one more token in each game, and the new state.

        Equal to ``forward`` on the whole game, at the cost of one token: with attention it grows
        with the game, with state spaces it does not.

        Args:
            tokens: (B,) int64. PAD leaves the state of its game as it was.
            state: of the same B games.
            features: as for ``forward``, without the axis L.

        Raises:
            ValueError: as ``forward``; if ``state`` is of other games or another model.
        """
        self._check_inputs(tokens, features, "batch")
        logits, state = self._advance(tokens[:, None], state, at_once(features))
        return logits[:, 0], state

    @torch.no_grad()
    def step_in_place(
        self, tokens: Tensor, state: ModelState, is_new: Tensor, features: FeatureTables = ()
    ) -> Tensor:
        """Logits (B, V) after one more token in each game; ``state`` is moved on in place.

        ``step`` for thousands of games at once, without gradients: nothing is allocated for the
        new state, nothing waits for the GPU, and it may be captured in a CUDA graph.

        Args:
            tokens: (B,) int64, none of them PAD.
            state: of the same B games, changed in place.
            is_new: (B,) bool, True where a game begins with this token, whatever state its slot
                holds from the game before.
            features: as for ``step``.

        Raises:
            ValueError: as ``step``; if ``is_new`` has another shape, dtype or device.
        """
        self._check_inputs(tokens, features, "batch")
        layers, own = self._parted(state, tokens)
        check_mask("is_new", is_new, len(tokens), tokens.device)
        before = None if own is None else type(own)(*(emptied(each, is_new) for each in own))
        hidden_B1H, maps, after = self._embedded(
            tokens[:, None], at_once(features), torch.zeros_like(is_new)[:, None], before
        )
        for old, new in zip(own or (), after, strict=True):
            old.copy_(new)
        hidden_BH = self.blocks.step_in_place(hidden_B1H[:, 0], layers, is_new)
        self.watched(self.blocks.watched(layers))
        return self.head(hidden_BH, *self._of_head(maps))

    def prefill(
        self, tokens: Tensor, state: ModelState | None = None, features: FeatureTables = ()
    ) -> tuple[Tensor, ModelState]:
        """Logits (B, L, V) of the token after each position, and the state after the last move.

        With a state mamba_ssm's kernel, which cannot start from one, leaves it to the plain scan.

        Args:
            tokens: (B, L) int64, L at least 1. PAD may stand anywhere.
            state: of the same B games, before the first of the tokens; None means new games.
            features: as for ``forward``.

        Raises:
            ValueError: as ``step``.
        """
        self._check_inputs(tokens, features, "batch", "length")
        order = torch.argsort(tokens == self.pad_token, dim=1, stable=True)
        logits, state = self._advance(tokens.gather(1, order), state, ordered(features, order))
        places = order.argsort(dim=1)[..., None].expand_as(logits)
        return logits.gather(1, places), state

    def predict_next(
        self, tokens: Tensor, context: int = MAX_CONTEXT, features: FeatureTables = ()
    ) -> Tensor:
        """Logits (B, V) of the token after each game's last move, read through a sliding window.

        Args:
            tokens: (B, L) int64, L at least 1. PAD may stand anywhere.
            context: tokens of each game in the window, its last ones; at least 1.
            features: as for ``forward``.

        Raises:
            ValueError: as ``forward``; a SettingError if ``context`` is not at least 1.
        """
        self._check_inputs(tokens, features, "batch", "length")
        check_sizes(context=context)
        order = torch.argsort(tokens != self.pad_token, dim=1, stable=True)
        window, features = tokens.gather(1, order)[:, -context:], ordered(features, order)
        if self.features is not None:
            features = self.features.last(features, window.shape[1])
        hidden_BLH, maps, seen, _ = self._read(window, features)
        self.watched(seen)
        last = tuple(each.unflatten(0, window.shape)[:, -1] for each in maps)
        return self.head(hidden_BLH[:, -1], *self._of_head(last))

    def _advance(
        self, tokens: Tensor, state: ModelState | None, features: FeatureTables
    ) -> tuple[Tensor, ModelState]:
        """Logits and new state of rows in which PAD stands only after the moves."""
        hidden_BLH, maps, state = self.read_on(tokens, state, features)
        return self.head(hidden_BLH, *self._of_head(maps)), state

    def read_on(
        self, tokens: Tensor, state: ModelState | None, features: FeatureTables = ()
    ) -> tuple[Tensor, tuple[Tensor, ...], ModelState]:
        """What heads read, vectors (B, L, H) and map if any, and new state; see ``prefill``."""
        layers, own = (None, None) if state is None else self._parted(state, tokens)
        is_pad = tokens == self.pad_token
        hidden_BLH, maps, remembered = self._embedded(tokens, features, is_pad, own)
        hidden_BLH, layers = self.blocks.advance(hidden_BLH, is_pad, layers)
        self.watched(self.blocks.watched(layers))
        return hidden_BLH, maps, ModelState((*layers, remembered) if remembered else layers)

    def _parted(
        self, state: ModelState, tokens: Tensor
    ) -> tuple[tuple[LayerState, ...], LayerState | None]:
        """What the mixers remember of these games, and what the features do, if they do."""
        check_state(state, tokens, self._template)
        layers, count = state.layers, self.settings.n_layers
        return layers[:count], layers[count] if len(layers) > count else None

    def _check(self, tokens: Tensor, beside: Beside) -> None:
        self._check_inputs(tokens, beside.features, "batch", "length")
        beside.check(tokens, self.outcome is not None, self.vocab_size)

    def _check_inputs(self, tokens: Tensor, features: FeatureTables, *axes: str) -> None:
        check_tokens(tokens, axes, self.vocab_size, self.device)
        if self.features is not None:
            self.features.check(features, tokens)
        elif len(features):
            raise ValueError("features must be none: the model reads moves only.")
