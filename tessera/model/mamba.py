"""MambaModel: reads a game as a sequence of tokens and predicts the next one.

Shape suffixes: B games, L positions, H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tessera.model.contract import (
    check_batch_size,
    check_mask,
    check_state,
    check_targets,
    check_tokens,
    shapes_of,
    size_problems,
)
from tessera.model.embedding import TokenEmbedding
from tessera.model.losses import head_losses
from tessera.model.mamba2 import Mamba2Mixer
from tessera.model.mixer import MambaMixer, Mixer
from tessera.model.scan import ScanName, SelectiveScan
from tessera.model.state import LayerState, MambaState
from tessera.vocabulary import MAX_CONTEXT

MixerName = Literal["mamba", "mamba2"]

# Times d_model ** -0.5: logits of about a hundredth, so a new model predicts nearly uniformly.
_HEAD_SCALE = 0.01


def new_mixer(
    mixer: MixerName, d_model: int, d_state: int, d_conv: int, expand: int, scan: ScanName
) -> Mixer:
    """One mixer of the kind that was asked for, see ``MambaMixer`` and ``Mamba2Mixer``.

    Raises:
        ValueError: if ``mixer`` is unknown; those of the two.
    """
    if mixer not in get_args(MixerName):
        raise ValueError(f"mixer must be {' or '.join(get_args(MixerName))}, got {mixer}.")
    kind = MambaMixer if mixer == "mamba" else Mamba2Mixer
    return kind(d_model, d_state, d_conv, expand, scan)


class MambaStack(nn.Module):
    """Pre-norm residual Mamba blocks and a final norm, with the interface of one ``Mixer``.

    Arguments and errors are those of ``MambaMixer``, with ``n_layers`` blocks of one kind of mixer.

    Attributes:
        checkpoint_activations: whether training keeps a block's input only and computes the rest
            again in the backward pass.
    """

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        scan: ScanName = "auto",
        mixer: MixerName = "mamba",
    ) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(
            new_mixer(mixer, d_model, d_state, d_conv, expand, scan) for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.RMSNorm(d_model, eps=1e-5) for _ in range(n_layers))
        self.final_norm = nn.RMSNorm(d_model, eps=1e-5)
        self.checkpoint_activations = False

    def forward(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Tensor:
        """The mixed vectors, see ``Mixer.forward``."""
        mixed_BLH, states = self.mix(hidden_BLH, is_pad_BL)
        self.show(states)
        return mixed_BLH

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors and every block's last SSM state, see ``Mixer.mix``."""
        states: tuple[Tensor, ...] = ()
        saves_memory = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        for index in range(len(self.mixers)):
            arguments = (index, hidden_BLH, is_pad_BL)
            if saves_memory:
                # A block draws no random numbers, so no generator's state has to be kept.
                hidden_BLH, own = checkpoint(
                    self._mix_block, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                hidden_BLH, own = self._mix_block(*arguments)
            states += own
        return self.final_norm(hidden_BLH), states

    def _mix_block(
        self, index: int, hidden_BLH: Tensor, is_pad_BL: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        # Zero at PAD stays zero: so does its norm, and so does what a mixer makes of it.
        mixed_BLH, own = self._mixer(index).mix(self.norms[index](hidden_BLH), is_pad_BL)
        return hidden_BLH + mixed_BLH, own

    def _mixer(self, index: int) -> Mixer:
        mixer = self.mixers[index]
        assert isinstance(mixer, Mixer)
        return mixer

    def show(self, states: tuple[Tensor, ...]) -> None:
        """Pass every block's last SSM state on to the hooks of ``MambaStateCapture``."""
        for index, state_BDN in enumerate(states):
            self._mixer(index).show((state_BDN,))

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        layers: tuple[LayerState, ...] | None = None,
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """The mixed vectors and the state after them, see ``Mixer.advance``."""
        new: tuple[LayerState, ...] = ()
        for index, norm in enumerate(self.norms):
            own = layers[index : index + 1] if layers else None
            mixed_BLH, after = self._mixer(index).advance(norm(hidden_BLH), is_pad_BL, own)
            hidden_BLH = hidden_BLH + mixed_BLH
            new += after
        return self.final_norm(hidden_BLH), new

    def step_in_place(
        self, hidden_BH: Tensor, layers: tuple[LayerState, ...], is_new_B: Tensor
    ) -> Tensor:
        """The mixed vectors of one more token, see ``Mixer.step_in_place``."""
        for index, norm in enumerate(self.norms):
            own = layers[index : index + 1]
            mixed_BH = self._mixer(index).step_in_place(norm(hidden_BH), own, is_new_B)
            hidden_BH = hidden_BH + mixed_BH
        return self.final_norm(hidden_BH)

    def init_layers(
        self, batch_size: int, device: torch.device | str | None = None
    ) -> tuple[LayerState, ...]:
        """The states of new games, first layer first."""
        mixers = [self._mixer(index) for index in range(len(self.mixers))]
        return tuple(layer for mixer in mixers for layer in mixer.init_layers(batch_size, device))


class MambaModel(nn.Module):
    """Logits of the next token at every position of a game, as a map of possibilities.

    ``head(mamba(embedding(tokens)))``. A new model starts within 0.05 nats of ln(vocab_size).
    PAD is invisible: it changes no logit and no state, and its own logits are the head's bias.

    Args:
        vocab_size: tokens, n² + 3 for an n×n board.
        d_model: width of a position's vector.
        d_state: states of each channel; Mamba-2 is usually run with 64 or 128.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of ``d_model``.
        n_layers: 1 is a bare mixer; more are pre-norm residual blocks and a final norm.
        scan: ``auto``, ``triton``, ``mamba_ssm`` or ``torch``, see ``SelectiveScan``; of Mamba-2
            without ``triton``, see ``DualScan``.
        pad_token: the token to leave out; None means ``vocab_size - 2``, as in ``Vocabulary``.
        checkpoint_activations: whether training keeps only the input of each of several blocks and
            computes the rest again in the backward pass: less memory, more time.
        mixer: ``mamba`` or ``mamba2``, whose channels share their step sizes and decay by heads.

    Raises:
        ValueError: naming every argument that is out of range, its value and what is allowed.
    """

    def __init__(
        self,
        vocab_size: int = 364,  # 19×19
        d_model: int = 256,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        n_layers: int = 1,
        scan: ScanName = "auto",
        pad_token: int | None = None,
        checkpoint_activations: bool = False,
        mixer: MixerName = "mamba",
    ) -> None:
        super().__init__()
        problems = size_problems(
            vocab_size=vocab_size,
            d_model=d_model,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            n_layers=n_layers,
        )
        if problems:
            raise ValueError("\n".join(problems))
        pad = vocab_size - 2 if pad_token is None else pad_token
        if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < vocab_size:
            raise ValueError(f"pad_token must be 0 to {vocab_size - 1}, got {pad}.")
        self.vocab_size = vocab_size
        self.d_model = d_model
        self.n_layers = n_layers
        self.pad_token = pad
        self.embedding = TokenEmbedding(vocab_size, d_model, padding_idx=pad)
        self.mamba: Mixer | MambaStack
        if n_layers == 1:
            self.mamba = new_mixer(mixer, d_model, d_state, d_conv, expand, scan)
        else:
            self.mamba = MambaStack(n_layers, d_model, d_state, d_conv, expand, scan, mixer)
            self.mamba.checkpoint_activations = checkpoint_activations
        self.head = nn.Linear(d_model, vocab_size)
        self._state_shapes = shapes_of(MambaState(self.mamba.init_layers(1, "cpu")))
        self._compiled: Callable[..., tuple[Tensor, tuple[Tensor, ...]]] | None = None
        nn.init.normal_(self.head.weight, std=_HEAD_SCALE * d_model**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (B, L, V) of the token after each position, from the start of each game.

        Args:
            tokens: (B, L) int64, L at least 1. PAD may stand at either end of a row.
            targets: (B, L) int64, what came after each position. If they are given, the result is
                the cross-entropy of each, (B, L) float32 in nats, 0 where the target is PAD. The
                logits then need not be kept, and compiled training makes one pass over them.

        Raises:
            ValueError: if ``tokens`` or ``targets`` have another shape, dtype or device, or, on a
                CPU, one is outside the vocabulary.
        """
        self._check_tokens(tokens, "batch", "length")
        is_pad = tokens == self.pad_token
        # A lone mixer begins with a product, which rounds to autocast's dtype anyway.
        rounds = self.n_layers == 1 and tokens.is_cuda and torch.is_autocast_enabled("cuda")
        # Compiled, the gradient of a lookup would be added with atomics, in any order.
        hidden_BLH = self.embedding(tokens, torch.get_autocast_dtype("cuda") if rounds else None)
        if targets is None:
            result, states = self._predict(hidden_BLH, is_pad)
        else:
            check_targets(targets, tokens, self.vocab_size)
            losses = self._compiled if self.training and self._compiled else self._losses
            result, states = losses(hidden_BLH, is_pad, targets)
        self.mamba.show(states)
        return result

    def _predict(self, hidden_BLH: Tensor, is_pad_BL: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits and every block's last SSM state, without a side effect."""
        hidden_BLH, states = self.mamba.mix(hidden_BLH, is_pad_BL)
        return self.head(hidden_BLH), states

    def _losses(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor, targets: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Cross-entropies and every block's last SSM state, without a side effect."""
        hidden_BLH, states = self.mamba.mix(hidden_BLH, is_pad_BL)
        losses = head_losses(
            hidden_BLH.flatten(0, 1),
            self.head.weight,
            self.head.bias,
            targets.flatten(),
            self.pad_token,
        )
        return losses.view_as(targets), states

    def can_be_compiled(self) -> bool:
        """Whether the parameters are on a GPU, and every scan there is Triton's."""
        weight = self.head.weight
        scans = [module for module in self.modules() if isinstance(module, SelectiveScan)]
        return (
            weight.is_cuda
            and bool(scans)
            and all(scan.choose(weight) == "triton" for scan in scans)
        )

    def compile_training(self, same_length: bool) -> None:
        """Let torch.compile fuse what lies between the kernels where losses are asked in training.

        The parameters, the state_dict and what hooks see stay as they are. The first batch waits
        for the compiler, some seconds.

        Args:
            same_length: every batch of training has the same shape, as windows have.
        """
        # The compiler looks at the gradients of what goes in, and embedded tokens are no leaves.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        self._compiled = torch.compile(self._losses, fullgraph=True, dynamic=not same_length)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> MambaState:
        """The state of ``batch_size`` new games; ``device`` None means that of the parameters.

        Raises:
            ValueError: if ``batch_size`` is not a whole number of at least 1.
            MemoryError: if the device has less memory than so many games take.
        """
        check_batch_size(batch_size, self._state_shapes, device or self.head.weight.device)
        return MambaState(self.mamba.init_layers(batch_size, device))

    def step(self, tokens: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Logits (B, V) after one more token in each game, and the new state.

        Equal to ``forward`` on the whole game, at a cost that does not grow with the game.

        Args:
            tokens: (B,) int64. PAD leaves the state of its game as it was.
            state: of the same B games.

        Raises:
            ValueError: as ``forward``; if ``state`` is of other games or another model.
        """
        self._check_tokens(tokens, "batch")
        logits, state = self._advance(tokens[:, None], state)
        return logits[:, 0], state

    @torch.no_grad()
    def step_in_place(self, tokens: Tensor, state: MambaState, is_new: Tensor) -> Tensor:
        """Logits (B, V) after one more token in each game; ``state`` is moved on in place.

        ``step`` for thousands of games at once, without gradients: nothing is allocated for the
        new state, nothing waits for the GPU, and it may be captured in a CUDA graph.

        Args:
            tokens: (B,) int64, none of them PAD.
            state: of the same B games, changed in place.
            is_new: (B,) bool, True where a game begins with this token, whatever state its slot
                holds from the game before.

        Raises:
            ValueError: as ``step``; if ``is_new`` has another shape, dtype or device.
        """
        self._check_tokens(tokens, "batch")
        check_state(state, tokens, self._state_shapes)
        check_mask("is_new", is_new, len(tokens), tokens.device)
        hidden_BH = self.embedding(tokens)
        return self.head(self.mamba.step_in_place(hidden_BH, state.layers, is_new))

    def prefill(self, tokens: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """Logits (B, L, V) of the token after each position, and the state after the last move.

        With a state mamba_ssm's kernel, which cannot start from one, leaves it to the plain scan.

        Args:
            tokens: (B, L) int64, L at least 1. PAD may stand anywhere.
            state: of the same B games, before the first of the tokens; None means new games.

        Raises:
            ValueError: as ``step``.
        """
        self._check_tokens(tokens, "batch", "length")
        order = torch.argsort(tokens == self.pad_token, dim=1, stable=True)
        logits, state = self._advance(tokens.gather(1, order), state)
        places = order.argsort(dim=1)[..., None].expand_as(logits)
        return logits.gather(1, places), state

    def predict_next(self, tokens: Tensor, context: int = MAX_CONTEXT) -> Tensor:
        """Logits (B, V) of the token after each game's last move, read through a sliding window.

        Args:
            tokens: (B, L) int64, L at least 1. PAD may stand anywhere.
            context: tokens of each game in the window, its last ones; at least 1.

        Raises:
            ValueError: as ``forward``; if ``context`` is not a whole number of at least 1.
        """
        self._check_tokens(tokens, "batch", "length")
        if problems := size_problems(context=context):
            raise ValueError(problems[0])
        order = torch.argsort(tokens != self.pad_token, dim=1, stable=True)
        window = tokens.gather(1, order)[:, -context:]
        hidden_BLH = self.mamba(self.embedding(window), window == self.pad_token)
        return self.head(hidden_BLH[:, -1])

    def _advance(self, tokens: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        """Logits and new state of rows in which PAD stands only after the moves."""
        if state is not None:
            check_state(state, tokens, self._state_shapes)
        hidden_BLH, layers = self.mamba.advance(
            self.embedding(tokens), tokens == self.pad_token, state.layers if state else None
        )
        return self.head(hidden_BLH), MambaState(layers)

    def _check_tokens(self, tokens: Tensor, *axes: str) -> None:
        check_tokens(tokens, axes, self.vocab_size, self.head.weight.device)
