"""What the model's Triton kernels compute; a program, for the interpreter on the CPU.

It computes the parts that its arguments name, and saves them in the file that the first argument
names. Triton decides when it is imported whether it compiles or interprets, so the interpreter
needs a process of its own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tessera.model import MambaMixer, MambaModel
from tessera.model import heads as heads_module
from tessera.model.convolution import triton_convolution
from tessera.model.scans.delta import triton_delta_rule
from tessera.model.scans.selective import triton_scan
from tessera.model.selective_mixing import triton_mixing
from tests.interpreting import quicken
from tests.model import delta_cases
from tests.model.mobius_cases import mobius_cases
from tests.model.scan_cases import (
    CONVOLUTIONS,
    LOSSES,
    MIXINGS,
    SCANS,
    Convolution,
    Losses,
    Mixing,
    Scan,
    Tensors,
    is_float,
    run,
)

NO_TOKENS = [1, 4, 7]


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
    heads_module.has_kernels = lambda device: scan == "triton"
    losses = model(tokens, tokens.roll(-1, 1))
    losses.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"losses": losses.detach(), **gradients}


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
            value.requires_grad_() if is_float(value) else value
            for value in case.inputs(device).values()
        )
        for test, result in torch.library.opcheck(operator, arguments).items():
            said[f"{name} {test}"] = str(result)
        with torch.no_grad():
            layouts = layouts_of(operator, arguments)
            results = operator(*arguments)
            y = results if isinstance(results, Tensor) else results[0]
            kept = results[2:] if name.startswith("mixing") else ()
            gradients = (y,) if name == "convolution" else (y, None)
            layouts += layouts_of(backward, (*arguments, *kept, *gradients))
        said[f"{name} layouts"] = "SUCCESS" if all(a == b for a, b in layouts) else str(layouts)
    logits, targets = Losses(3, 8).inputs(device).values()
    arguments = (logits.requires_grad_(), targets, 7, 5)
    for test, result in torch.library.opcheck(LOSSES.forward, arguments).items():
        said[f"losses {test}"] = str(result)
    with torch.no_grad():
        layouts = layouts_of(LOSSES.forward, arguments)
        losses, normalizers = LOSSES.forward(*arguments)
        layouts += layouts_of(LOSSES.backward, (*arguments, normalizers, losses))
    said["losses layouts"] = "SUCCESS" if all(a == b for a, b in layouts) else str(layouts)
    return said


def layouts_of(operator: Callable[..., Any], arguments: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Shape, strides and dtype of every result, and the same of what FakeTensor promises."""
    with FakeTensorMode() as mode:
        fakes = tuple(mode.from_tensor(a) if isinstance(a, Tensor) else a for a in arguments)
        promised = operator(*fakes)
    real = operator(*arguments)
    pairs = [(promised, real)] if isinstance(real, Tensor) else zip(promised, real, strict=True)
    return [tuple((t.shape, t.stride(), t.dtype) for t in pair) for pair in pairs]


def mobius_results() -> dict[str, Tensors]:
    """The hyperbolic recurrence and its gradients, and torch's check of the operator."""
    from tessera.model.kernels.mobius_operator import MOBIUS

    found = {name: run(MOBIUS.forward, case) for name, case in mobius_cases().items()}
    arguments = [x.requires_grad_() for x in mobius_cases()["width 3"].values()]
    said = torch.library.opcheck(MOBIUS.forward, tuple(arguments))
    assert set(said.values()) == {"SUCCESS"}, said
    return found


def losses_of_no_tokens() -> Tensors:
    """Losses and gradient where some targets, of which ``NO_TOKENS`` are the places, are none."""
    case = Losses(9, 7)
    inputs = case.inputs()
    inputs["targets_T"][NO_TOKENS] = torch.tensor([-1, 7, 2**40])
    return run(case.kernel, inputs)


def delta_operator() -> dict[str, str]:
    """What torch's own check says of the delta rule's operator, with and without a state."""
    from tessera.model.kernels.delta_launch import DELTA

    said = {}
    for with_state in (False, True):
        given = delta_cases.arguments(2, with_state, games=1, heads=1, key=3, value=2)
        arguments: tuple[Any, ...] = tuple(tensor.float().requires_grad_() for tensor in given)
        arguments += (None,) * (6 - len(arguments))
        for test, result in torch.library.opcheck(DELTA.forward, arguments).items():
            said[f"{with_state} {test}"] = str(result)
    with torch.no_grad():
        layouts = layouts_of(DELTA.forward, arguments)
        o, _, kept = DELTA.forward(*arguments)
        layouts += layouts_of(DELTA.backward, (*arguments, kept, o, None))
    said["layouts"] = "SUCCESS" if all(a == b for a, b in layouts) else str(layouts)
    return said


PARTS: dict[str, Callable[[], Any]] = {
    "scans": lambda: {name: run(triton_scan, case.inputs()) for name, case in SCANS.items()},
    "convolutions": lambda: {
        name: run(triton_convolution, case.inputs()) for name, case in CONVOLUTIONS.items()
    },
    "mixings": lambda: {name: run(triton_mixing, case.inputs()) for name, case in MIXINGS.items()},
    "losses": lambda: {name: run(case.kernel, case.inputs()) for name, case in LOSSES.items()},
    "losses of no tokens": losses_of_no_tokens,
    "mobius": mobius_results,
    "flops": lambda: counted_flops(triton_mixing),
    "model": lambda: model_losses("triton"),
    "mixer": lambda: mixer_outputs("triton"),
    "compiled mixer": lambda: mixer_outputs("triton", compiled=True),
    "operators": checked_operators,
}
DELTA_PARTS: dict[str, Callable[[], Any]] = {
    "deltas": lambda: {
        name: delta_cases.results(triton_delta_rule, case.inputs())
        for name, case in delta_cases.CASES.items()
    },
    "delta operator": delta_operator,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    quicken()
    # A gate's exponential may overflow on its way to 0, which numpy says and a GPU does not.
    warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
    torch.save({part: (PARTS | DELTA_PARTS)[part]() for part in sys.argv[2:]}, sys.argv[1])
