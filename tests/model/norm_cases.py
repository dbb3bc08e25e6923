"""What the norm's Triton kernels and the plain code both compute; also a program.

As a program it computes everything in Triton's interpreter on the CPU, as ``scan_cases`` does, and
saves it in the file that its argument names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings
from tessera.model import norm as norm_module
from tessera.model.norm import triton_add_and_normalize
from tests.interpreting import quicken
from tests.model.kernel_results import layouts_of
from tests.model.scan_cases import Tensors, run

Norm = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """Sizes of two tensors of vectors and what adds and normalizes them.

    Args:
        shape: of the vectors.
        dtype: of ``hidden``.
        added: dtype of what is added; None adds nothing.
        normed: dtype of the norm; None is that of the sum.
        reads_sum: whether the sum has a gradient of its own, as before all but the last norm.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    added: torch.dtype | None = torch.float32
    normed: torch.dtype | None = None
    reads_sum: bool = True

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """The tensors; every fifth vector is zeros, as at PAD."""
        generator = torch.Generator().manual_seed(sum(self.shape))

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

        hidden = 3 * draw(*self.shape).to(self.dtype)
        hidden.view(-1, self.shape[-1])[1::5] = 0
        added = None
        if self.added is not None:
            added = draw(*self.shape).to(self.added)
            added.view(-1, self.shape[-1])[1::5] = 0
        weight = draw(self.shape[-1]).to(torch.promote_types(self.dtype, self.added or self.dtype))
        return {"hidden": hidden, "added": added, "weight_H": weight}

    def computed(self, norm: Norm, inputs: dict[str, Tensor | None]) -> Tensors:
        """The results and the gradients in every argument."""

        def function(hidden: Tensor, added: Tensor | None, weight_H: Tensor) -> Any:
            is_exact = hidden.dtype == torch.float64
            dtype = None if is_exact else self.normed
            total, normed = norm(hidden, added, weight_H, 1e-5, dtype)
            return (normed, total) if self.reads_sum else normed

        return run(function, inputs)

    @property
    def rounded(self) -> list[torch.dtype]:
        """All dtypes that something is rounded to."""
        return [self.dtype, self.added or self.dtype, self.normed or self.dtype]


_BFLOAT16 = torch.bfloat16
CASES = {
    "autocast": Case((3, 5, 24), added=_BFLOAT16, normed=_BFLOAT16),
    "autocast-end": Case((3, 5, 24), added=_BFLOAT16, normed=_BFLOAT16, reads_sum=False),
    "autocast-beginning": Case((3, 5, 24), added=None, normed=_BFLOAT16),
    "autocast-float16": Case((7, 32), added=torch.float16, normed=torch.float16),
    "float32": Case((2, 3, 40)),
    "float32-end": Case((2, 3, 40), reads_sum=False),
    "float32-beginning": Case((4, 40), added=None, reads_sum=False),
    "bfloat16": Case((2, 3, 17), _BFLOAT16, _BFLOAT16),
    "float16": Case((2, 3, 17), torch.float16, torch.float16),
    "wider-added": Case((5, 6), _BFLOAT16, torch.float32),
    "one-element": Case((70, 1)),
    "one-vector": Case((1, 3)),
    "whole-blocks": Case((8, 256), added=_BFLOAT16, normed=_BFLOAT16),
    "many-rounds": Case((23, 256), added=_BFLOAT16, normed=_BFLOAT16),
    "wide": Case((3, 700)),
    "two-warps": Case((3, 1024), added=_BFLOAT16, normed=_BFLOAT16),
    "widest": Case((2, 5000)),
}

# Of the largest element, by the coarsest dtype that something is rounded to.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def tolerance(case: Case) -> float:
    """How far off a kernel may be from float64."""
    return max(TOLERANCES[dtype] for dtype in case.rounded)


def trained(kernels: bool, compiled: bool = False, **settings: Any) -> Tensors:
    """Losses, gradients, logits and a step of a model of several blocks, by the norm's kernels.

    ``compiled`` lets torch.compile see the whole of it, in one graph; losses and gradients only.
    """
    torch.manual_seed(0)
    norm_module.has_kernels = torch.compiler.assume_constant_result(lambda device: kernels)
    settings = {"n_layers": 2, "feed_forward": "dense", "mamba": {"scan": "torch"}, **settings}
    model = GameModel(ModelSettings(vocab_size=12, d_model=6, **settings)).train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn(weight.shape)
            if name.startswith("head"):
                weight += torch.randn(weight.shape)
    if compiled:
        model._score = torch.compile(model._score, fullgraph=True, backend="aot_eager")
    tokens = torch.tensor([[11, 3, 4, 10], [11, 0, 8, 7]])
    found = {}
    for cast in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", _BFLOAT16, enabled=cast):
            losses = model(tokens, tokens.roll(-1, 1))
        losses.sum().backward()
        kind = "cast " if cast else ""
        found[f"{kind}losses"] = losses.detach()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            found[kind + name] = weight.grad.clone()
    if compiled:
        return found
    with torch.no_grad():
        found["logits"] = model(tokens[:, :3])
        prefilled, state = model.prefill(tokens[:, :2])
        found["prefilled"] = prefilled
        found["step"], _ = model.step(tokens[:, 2], state)
        held = model.init_state(2, max_moves=4)
        for ply in range(3):
            is_new = torch.tensor([ply == 0] * 2)
            found["step in place"] = model.step_in_place(tokens[:, ply], held, is_new)
    return found


def checked_operators(device: str = "cpu") -> dict[str, str]:
    """What torch's own check says of each operator, and whether the layouts are as promised."""
    from tessera.model.kernels.norm_operator import ADDED_NORM, NORM

    said = {}
    case = Case((2, 3, 5), added=_BFLOAT16)
    hidden, added, weight = case.inputs(device).values()
    assert hidden is not None and added is not None and weight is not None
    leaves = tuple(leaf.requires_grad_() for leaf in (hidden, added, weight))
    numbers = (1e-5, _BFLOAT16)
    for name, (operator, backward), tensors in (
        ("norm", NORM, (leaves[0], leaves[2])),
        ("added norm", ADDED_NORM, leaves),
    ):
        for test, result in torch.library.opcheck(operator, (*tensors, *numbers)).items():
            said[f"{name} {test}"] = str(result)
        with torch.no_grad():
            pairs = layouts_of(operator, (*tensors, *numbers))
            results = operator(*tensors, *numbers)
            more = (results,) if isinstance(results, Tensor) else (results[0], *results)
            pairs += layouts_of(backward, (*tensors, *numbers, *more))
        said[f"{name} layouts"] = "SUCCESS" if all(a == b for a, b in pairs) else str(pairs)
    return said


def kept_bytes(norm: Norm, device: str = "cpu") -> int:
    """Bytes that are kept for the backward of a sum and its norm, but for the sum itself."""
    inputs = CASES["whole-blocks"].inputs(device)
    leaves = {name: leaf.requires_grad_() for name, leaf in inputs.items() if leaf is not None}
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        total, _ = norm(**leaves, eps=1e-5, dtype=_BFLOAT16)
    places = {total.untyped_storage().data_ptr(), leaves["weight_H"].untyped_storage().data_ptr()}
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in kept}
    return sum(size.nbytes() for place, size in storages.items() if place not in places)


def without_some_gradients() -> Tensors:
    """Gradients where only the sum, or nothing but the norm, has one."""
    found = {}
    for which, name in enumerate(("sum", "norm")):
        leaves = Case((3, 5), added=_BFLOAT16, normed=_BFLOAT16).inputs()
        for leaf in leaves.values():
            assert leaf is not None
            leaf.requires_grad_()
        triton_add_and_normalize(**leaves, eps=1e-5, dtype=_BFLOAT16)[which].sum().backward()
        for key, leaf in leaves.items():
            assert leaf is not None and leaf.grad is not None
            found[f"{name} {key}"] = leaf.grad
    return found


def interpreted() -> dict[str, Any]:
    """Everything, by the kernels."""
    kernel = triton_add_and_normalize
    return {
        "cases": {name: case.computed(kernel, case.inputs()) for name, case in CASES.items()},
        "again": {name: case.computed(kernel, case.inputs()) for name, case in CASES.items()},
        "operators": checked_operators(),
        "kept": kept_bytes(kernel),
        "gradients": without_some_gradients(),
        "empty": CASES["float32"].computed(
            kernel, {**Case((0, 3)).inputs(), "weight_H": torch.ones(3)}
        ),
        "model": trained(True),
        "compiled model": trained(True, compiled=True),
        "checkpointed model": trained(True, checkpoint_activations=True),
        "attention": trained(True, mixer="attention"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    quicken()
    torch.save(interpreted(), sys.argv[1])
