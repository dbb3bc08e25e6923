"""What the Triton kernels of the model and the plain code both compute; also a program.

As a program it computes the parts that its arguments name in Triton's interpreter on the CPU, and
saves them in the file that the first argument names. Triton decides when it is imported whether it
compiles or interprets, so the interpreter needs a process of its own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tessera.model import MambaMixer, MambaModel
from tessera.model import heads as heads_module
from tessera.model.convolution import triton_convolution
from tessera.model.heads import plain_losses
from tessera.model.scans.selective import triton_scan
from tessera.model.selective_mixing import triton_mixing

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Scan:
    """Sizes of one selective scan; ``pads`` positions at each game's end are frozen."""

    games: int
    length: int
    channels: int
    states: int
    with_state: bool = True
    pads: int = 0
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``selective_scan``; x and z are halves of one tensor, as in the mixer."""
        draw = _drawing(self.length + self.channels, device)
        rows = (self.games, self.length)
        both = draw(*rows, 2 * self.channels).to(self.dtype)
        projected = draw(*rows, 3 + 2 * self.states).to(self.dtype)
        dt = draw(*rows, self.channels).to(self.dtype)
        is_pad = torch.zeros(rows, dtype=torch.bool, device=device)
        is_pad[:, self.length - self.pads :] = True
        state = draw(self.games, self.channels, self.states).float()
        return {
            "x_BLD": both[..., : self.channels],
            "dt_BLD": dt,
            "A_DN": -torch.exp(draw(self.channels, self.states)).float(),
            "B_BLN": projected[..., 3 : 3 + self.states],
            "C_BLN": projected[..., 3 + self.states :],
            "D_D": draw(self.channels).float(),
            "z_BLD": both[..., self.channels :],
            "dt_bias_D": draw(self.channels).float() - 1,
            "state_BDN": state if self.with_state else None,
            "is_pad_BL": is_pad if self.pads else None,
        }


@dataclass(frozen=True)
class Convolution:
    """Sizes of one short convolution."""

    games: int
    length: int
    channels: int
    taps: int
    with_before: bool = True
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``causal_convolution``; x is half of a tensor, as in the mixer."""
        draw = _drawing(self.length + self.channels, device)
        both = draw(self.games, self.length, 2 * self.channels).to(self.dtype)
        before = draw(self.games, self.taps - 1, self.channels).to(self.dtype).float()
        return {
            "x_BLD": both[..., : self.channels],
            "taps_DK": draw(self.channels, self.taps).float(),
            "bias_D": draw(self.channels).float(),
            "before_BWD": before if self.with_before else None,
        }


@dataclass(frozen=True)
class Mixing:
    """Sizes of all that lies between a mixer's two large projections."""

    games: int
    length: int
    channels: int
    states: int
    rank: int
    taps: int = 4
    carried: bool = True
    pads: int = 0
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``mix_channels``."""
        draw = _drawing(self.length + self.channels, device)
        rows, selected = (self.games, self.length), self.rank + 2 * self.states
        is_pad = torch.zeros(rows, dtype=torch.bool, device=device)
        is_pad[:, self.length - self.pads :] = True
        before = draw(self.games, self.taps - 1, self.channels).to(self.dtype).float()
        state = draw(self.games, self.channels, self.states).float()
        # The operator rounds these two as autocast would; a float64 reference cannot.
        select, dt = (
            (draw(*shape) * shape[1] ** -0.5).to(self.dtype).float()
            for shape in ((selected, self.channels), (self.channels, self.rank))
        )
        return {
            "xz_BLE": draw(*rows, 2 * self.channels).to(self.dtype),
            "taps_DK": draw(self.channels, self.taps).float(),
            "taps_bias_D": draw(self.channels).float(),
            "select_MD": select,
            "dt_DR": dt,
            "A_DN": -torch.exp(draw(self.channels, self.states)).float(),
            "D_D": draw(self.channels).float(),
            "dt_bias_D": draw(self.channels).float() - 1,
            "before_BWD": before if self.carried else None,
            "state_BDN": state if self.carried else None,
            "is_pad_BL": is_pad if self.pads else None,
        }


@dataclass(frozen=True)
class Losses:
    """Sizes of rows of logits; every third target is PAD, the last but one token."""

    positions: int
    tokens: int
    scale: float = 3.0
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """Arguments of ``plain_losses`` without PAD's number."""
        draw = _drawing(self.positions, device)
        targets = torch.arange(self.positions, device=device) * 5 % self.tokens
        targets[::3] = self.tokens - 2
        logits = self.scale * draw(self.positions, self.tokens).to(self.dtype)
        return {"logits_TV": logits, "targets_T": targets}

    def plain(self, logits_TV: Tensor, targets_T: Tensor) -> Tensor:
        """The losses in plain torch."""
        return plain_losses(logits_TV, targets_T, self.tokens - 2)

    def kernel(self, logits_TV: Tensor, targets_T: Tensor) -> Tensor:
        """The losses by the kernel, of rows with more elements than there are tokens."""
        from tessera.model.kernels.losses_operator import LOSSES

        wider = F.pad(logits_TV, (0, -self.tokens % 16), value=50.0)
        return LOSSES.forward(wider, targets_T, self.tokens, self.tokens - 2)[0]


NO_TOKENS = [1, 4, 7]

# Lengths around the chunks; channels and states that fill their blocks and that do not.
SCANS = {
    "one-position": Scan(2, 1, 3, 3),
    "two-positions": Scan(1, 2, 5, 4, with_state=False),
    "three-positions": Scan(3, 3, 2, 5),
    "63-positions": Scan(1, 63, 2, 3),
    "64-positions": Scan(1, 64, 2, 2, with_state=False),
    "65-positions": Scan(1, 65, 3, 2),
    "whole-blocks": Scan(3, 4, 64, 2),
    "sixteen-states": Scan(2, 4, 64, 16, with_state=False),
    "many-states": Scan(1, 3, 9, 33),
    "frozen": Scan(1, 7, 33, 3, pads=3),
    "bfloat16": Scan(1, 5, 34, 4, dtype=torch.bfloat16),
    "float16": Scan(1, 4, 6, 4, dtype=torch.float16),
}
CONVOLUTIONS = {
    "one-position": Convolution(2, 1, 3, 4),
    "two-taps": Convolution(1, 3, 5, 2, with_before=False),
    "one-tap": Convolution(2, 9, 64, 1),
    "whole-blocks": Convolution(3, 16, 64, 4, with_before=False),
    "whole-blocks-carried": Convolution(1, 16, 128, 4),
    "eight-taps": Convolution(1, 9, 6, 8),
    "bfloat16": Convolution(1, 18, 6, 4, dtype=torch.bfloat16),
}

MIXINGS = {
    "one-position": Mixing(2, 1, 3, 2, 1),
    "new-games": Mixing(3, 5, 6, 3, 2, carried=False),
    "carried-with-pad": Mixing(2, 7, 5, 2, 3, pads=2),
    "whole-blocks": Mixing(1, 8, 64, 4, 16, carried=False),
    "bfloat16": Mixing(1, 5, 8, 4, 2, dtype=torch.bfloat16),
}

LOSSES = {
    "one-position": Losses(1, 7),
    "aligned": Losses(5, 16),
    "bfloat16": Losses(4, 12, dtype=torch.bfloat16),
    "whole-board": Losses(7, 364),
    "beyond-exp": Losses(6, 12, scale=200.0),
}


def run(function: Callable[..., Any], inputs: dict[str, Tensor | None]) -> Tensors:
    """The results of a function and the gradient of a random function of them in every argument."""
    leaves = {
        name: None if value is None else value.detach().requires_grad_(value.is_floating_point())
        for name, value in inputs.items()
    }
    results = function(**leaves)
    results = results if isinstance(results, tuple) else (results,)
    draw = _drawing(0, str(results[0].device))
    total = sum((result * draw(*result.shape).to(result.dtype)).sum() for result in results)
    total.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if _is_float(leaf)}
    named = zip(("output", "last"), results, strict=False)
    return {**{name: result.detach() for name, result in named}, **gradients}


def as_float64(inputs: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """The same numbers, for the plain form to compute with exactly."""
    return {
        name: value.double() if value is not None and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of what is expected."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def lost_digits(actual: Tensors, rounded: Tensors, expected: Tensors) -> dict[str, float]:
    """Where ``actual`` is further from ``expected`` than the plain form in the same dtype."""
    assert actual.keys() == expected.keys()
    errors = {name: relative_error(actual[name], value) for name, value in expected.items()}
    return {
        name: error
        for name, error in errors.items()
        if error > 1.3 * relative_error(rounded[name], expected[name]) + 5e-3
    }


def _is_float(value: Tensor | None) -> bool:
    return value is not None and value.is_floating_point()


def mixer_outputs(scan: str, compiled: bool = False) -> Tensors:
    """Output and gradients of a mixer with PAD, in float32 and under autocast.

    ``compiled`` lets torch.compile see the whole of it, in one graph.
    """
    torch.manual_seed(0)
    mixer = MambaMixer(4, d_state=2, scan=scan)
    hidden = torch.randn(2, 3, 4)
    is_pad = torch.tensor([[0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    function: Any = mixer
    if compiled:
        function = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    output = function(hidden, is_pad)
    output.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in mixer.named_parameters()}
    with torch.autocast("cpu", torch.bfloat16):
        cast = function(hidden, is_pad)
    return {"output": output.detach(), "autocast": cast.detach(), **gradients}


def model_losses(scan: str) -> Tensors:
    """Losses and gradients of a model whose tokens fill no row of 16; by kernels, if asked."""
    torch.manual_seed(0)
    model = MambaModel(12, 4, d_state=2, scan=scan)
    tokens = torch.tensor([[11, 3, 4, 10], [11, 0, 8, 7]])
    heads_module._has_kernel = lambda device: scan == "triton"
    losses = model(tokens, tokens.roll(-1, 1))
    losses.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"losses": losses.detach(), **gradients}


def losses_by_length(scan: str, compiled: bool = False) -> Tensors:
    """Losses and gradients of a model at three lengths; ``compiled`` once, for all of them."""
    torch.manual_seed(0)
    model = MambaModel(12, 4, d_state=2, scan=scan).train()
    heads_module._has_kernel = torch.compiler.assume_constant_result(lambda _: scan == "triton")
    if compiled:
        model._compiled = torch.compile(
            model._losses, fullgraph=True, dynamic=True, backend="aot_eager"
        )
    found = {}
    for length in (5, 9, 6):
        tokens = torch.arange(2 * length).view(2, length) % 9
        model.zero_grad()
        losses = model(tokens, tokens)
        losses.sum().backward()
        found[f"losses {length}"] = losses.detach()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            found[f"{name} {length}"] = parameter.grad.clone()
        if compiled:
            torch.compiler.set_stance("fail_on_recompile")
    torch.compiler.set_stance("default")
    return found


def counted_flops(mixing: Callable[..., Any]) -> int:
    """Floating-point operations of a mixing's products, forward and backward, as torch counts."""
    with FlopCounterMode(display=False) as counter:
        run(mixing, MIXINGS["new-games"].inputs())
    return counter.get_total_flops()


def checked_operators(device: str = "cpu") -> dict[str, str]:
    """What torch's own check says of each operator: schema, autograd, FakeTensor, tracing.

    Inductor relies on the strides, too, which that check leaves out.
    """
    from tessera.model.kernels.convolution_launch import CONVOLUTION
    from tessera.model.kernels.losses_operator import LOSSES
    from tessera.model.kernels.mixing_operator import MIXING
    from tessera.model.kernels.scan_launch import SCAN

    said = {}
    for name, (operator, backward), case in (
        ("scan", SCAN, Scan(2, 2, 3, 2)),
        ("scan-without-state", SCAN, Scan(1, 2, 2, 2, with_state=False, pads=1)),
        ("convolution", CONVOLUTION, Convolution(2, 2, 3, 2)),
        ("mixing", MIXING, Mixing(2, 2, 3, 2, 2)),
        ("mixing-of-new-games", MIXING, Mixing(1, 2, 2, 2, 1, carried=False, pads=1)),
    ):
        arguments = tuple(
            value.requires_grad_() if _is_float(value) else value
            for value in case.inputs(device).values()
        )
        for test, result in torch.library.opcheck(operator, arguments).items():
            said[f"{name} {test}"] = str(result)
        with torch.no_grad():
            layouts = _layouts(operator, arguments)
            results = operator(*arguments)
            y = results if isinstance(results, Tensor) else results[0]
            kept = results[2:] if name.startswith("mixing") else ()
            gradients = (y,) if name == "convolution" else (y, None)
            layouts += _layouts(backward, (*arguments, *kept, *gradients))
        said[f"{name} layouts"] = "SUCCESS" if all(a == b for a, b in layouts) else str(layouts)
    logits, targets = Losses(3, 8).inputs(device).values()
    arguments = (logits.requires_grad_(), targets, 7, 5)
    for test, result in torch.library.opcheck(LOSSES.forward, arguments).items():
        said[f"losses {test}"] = str(result)
    with torch.no_grad():
        layouts = _layouts(LOSSES.forward, arguments)
        losses, normalizers = LOSSES.forward(*arguments)
        layouts += _layouts(LOSSES.backward, (*arguments, normalizers, losses))
    said["losses layouts"] = "SUCCESS" if all(a == b for a, b in layouts) else str(layouts)
    return said


def _layouts(operator: Callable[..., Any], arguments: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Shape, strides and dtype of every result, and the same of what FakeTensor promises."""
    with FakeTensorMode() as mode:
        fakes = tuple(mode.from_tensor(a) if isinstance(a, Tensor) else a for a in arguments)
        promised = operator(*fakes)
    real = operator(*arguments)
    pairs = [(promised, real)] if isinstance(real, Tensor) else zip(promised, real, strict=True)
    return [tuple((t.shape, t.stride(), t.dtype) for t in pair) for pair in pairs]


def _drawing(seed: int, device: str) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    return draw


def losses_of_no_tokens() -> Tensors:
    """Losses and gradient where some targets, of which ``NO_TOKENS`` are the places, are none."""
    case = Losses(9, 7)
    inputs = case.inputs()
    inputs["targets_T"][NO_TOKENS] = torch.tensor([-1, 7, 2**40])
    return run(case.kernel, inputs)


PARTS: dict[str, Callable[[], Any]] = {
    "scans": lambda: {name: run(triton_scan, case.inputs()) for name, case in SCANS.items()},
    "convolutions": lambda: {
        name: run(triton_convolution, case.inputs()) for name, case in CONVOLUTIONS.items()
    },
    "mixings": lambda: {name: run(triton_mixing, case.inputs()) for name, case in MIXINGS.items()},
    "losses": lambda: {name: run(case.kernel, case.inputs()) for name, case in LOSSES.items()},
    "losses of no tokens": losses_of_no_tokens,
    "flops": lambda: counted_flops(triton_mixing),
    "model": lambda: model_losses("triton"),
    "mixer": lambda: mixer_outputs("triton"),
    "compiled mixer": lambda: mixer_outputs("triton", compiled=True),
    "lengths": lambda: losses_by_length("triton"),
    "compiled lengths": lambda: losses_by_length("triton", compiled=True),
    "operators": checked_operators,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    # A gate's exponential may overflow on its way to 0, which numpy says and a GPU does not.
    warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
    torch.save({part: PARTS[part]() for part in sys.argv[2:]}, sys.argv[1])
