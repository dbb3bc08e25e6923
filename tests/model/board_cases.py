"""What the Triton kernels over boards and the plain code both compute; also a program.

As a program it computes everything in Triton's interpreter on the CPU, as ``scan_cases`` does, and
saves it in the file that its argument names.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings, board_tower
from tests.interpreting import quicken
from tests.model.scan_cases import Tensors, run

_BFLOAT16 = torch.bfloat16


@dataclass(frozen=True)
class Case:
    """Sizes of boards and what is done to them.

    Args:
        kind: ``tower``, ``meet`` or ``read_points``, of a ``BoardCode``.
        boards: T.
        size: N.
        channels: C.
        depth: residual convolutions of a tower, or convolutions before the points are read.
        squeezed: S.
        reads: which of two results have a gradient.
        casts: whether it runs under bfloat16 autocast.
    """

    kind: str
    boards: int = 3
    size: int = 3
    channels: int = 5
    depth: int = 1
    squeezed: int = 3
    reads: tuple[int, ...] = (0, 1)
    casts: bool = False

    def inputs(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """What goes in, in the dtypes that a model has it in; every fourth board is zeros."""
        generator = torch.Generator().manual_seed(self.boards + self.size + self.channels)

        def draw(*shape: int, scale: float = 1.0) -> Tensor:
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
            return drawn.float().to(device)

        dtype = _BFLOAT16 if self.casts else torch.float32
        is_tower = self.kind == "tower"
        width = 9 if is_tower else self.channels
        boards = draw(self.boards, self.size, self.size, width)
        boards[1::4] = 0
        found: dict[str, Tensor | None] = {"boards": boards.to(dtype)}
        if self.kind == "meet":
            return {**found, "added": draw(self.boards, self.channels).to(dtype)}
        for index in range(self.depth + is_tower):
            scale = (2 / 9 / width) ** 0.5
            found[f"weight_{index}"] = draw(self.channels, width, 3, 3, scale=scale)
            found[f"bias_{index}"] = draw(self.channels, scale=0.3)
            width = self.channels
        end = self.squeezed if is_tower else 1
        found["end_weight"] = draw(end, width, scale=width**-0.5)
        return {**found, "end_bias": draw(end)}

    def computed(
        self, code: board_tower.BoardCode, inputs: dict[str, Tensor | None], more: int = 0
    ) -> Tensors:
        """The results and the gradients in every argument; of planes, ``more`` that are zeros."""

        def function(boards: Tensor, *others: Tensor) -> Any:
            if self.kind == "meet":
                return code.meet(boards, *others)
            *layers, end = zip(others[::2], others[1::2], strict=True)
            if self.kind == "tower":
                wider = torch.nn.functional.pad(boards, (0, more))
                results = code.tower(wider, layers, end)
            else:
                results = code.read_points(boards, layers, end)
            # What the others would be multiplied by is nothing.
            return tuple(r if k in self.reads else r.detach() for k, r in enumerate(results))

        boards = inputs["boards"]
        assert boards is not None
        enabled = self.casts and boards.dtype != torch.float64
        with torch.autocast(boards.device.type, _BFLOAT16, enabled=enabled):
            return run(lambda **leaves: function(*leaves.values()), inputs)


CASES = {
    "tower": Case("tower"),
    "tower-deep": Case("tower", depth=3, channels=17),
    "tower-map": Case("tower", reads=(0,)),
    "tower-squeezed": Case("tower", depth=2, reads=(1,)),
    "tower-9x9": Case("tower", 2, 9, 64, squeezed=8),
    "tower-bfloat16": Case("tower", 5, casts=True),
    "tower-9x9-bfloat16": Case("tower", 2, 9, 64, depth=2, squeezed=8, casts=True),
    "tower-one-channel": Case("tower", 2, 2, 1, squeezed=1),
    "tower-many-squeezed": Case("tower", 2, 4, 3, squeezed=18),
    "tower-too-many-squeezed": Case("tower", 2, 2, 3, squeezed=65),
    "tower-too-many-bfloat16": Case("tower", 2, 2, 3, squeezed=65, reads=(1,), casts=True),
    "meet": Case("meet"),
    "meet-9x9": Case("meet", 5, 9, 64),
    "meet-bfloat16": Case("meet", 5, 4, 33, casts=True),
    "points": Case("read_points"),
    "points-deep": Case("read_points", depth=3, channels=17),
    "points-logits": Case("read_points", reads=(0,)),
    "points-mean": Case("read_points", reads=(1,)),
    "points-9x9": Case("read_points", 5, 9, 64),
    "points-bfloat16": Case("read_points", casts=True),
    "points-9x9-bfloat16": Case("read_points", 2, 9, 64, casts=True),
}

MODELS: dict[str, dict[str, Any]] = {
    "model": {},
    "decoded": {"points": {"decoded": 2, "channels": 4, "depth": 2}},
}
PLANES = [(2, 4), (3, 5), (9, 3), (19, 2)]  # N and T


def positions(size: int, boards: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Random sets of points, which no game would give, and tokens of all kinds."""
    generator = torch.Generator().manual_seed(size)
    shape, top = (boards, 5, size), 1 << size
    sets = torch.randint(top, shape, generator=generator, dtype=torch.int32)
    # Fewer stones, so that some are nearer than others.
    sets &= torch.randint(top, shape, generator=generator, dtype=torch.int32)
    tokens = torch.randint(size**2, (boards,), generator=generator)
    tokens[0] = size**2 + 1
    return sets.to(device), tokens.to(device)


def trained(kernels: bool, device: str = "cpu", **settings: Any) -> Tensors:
    """Losses, gradients and logits of a model that sees the board, by the kernels over boards."""
    torch.manual_seed(0)
    board_tower.has_kernels = lambda device: kernels
    settings = {"mamba": {"scan": "torch"}, "board": {"channels": 5, "depth": 2}, **settings}
    model = GameModel(
        ModelSettings(
            12, 6, n_layers=2, features="board", head="points", outcome="win_and_score", **settings
        )
    ).to(device)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("head", "features")):
                weight += 0.1 * torch.randn(weight.shape, device="cpu").to(device)
    tokens = torch.tensor([[11, 3, 4, 10], [11, 0, 8, 7]], device=device)
    rows = torch.randint(8, (2, 4, 5, 3), dtype=torch.int32).to(device)
    scores = torch.tensor([[3.0, -3, 3, -3], [1, -1, 1, -1]], device=device)
    found = {}
    for cast in (False, True):
        model.train().zero_grad()
        with torch.autocast(device, _BFLOAT16, enabled=cast):
            losses = model(tokens, tokens.roll(-1, 1), (rows,), scores)
        losses.sum().backward()
        kind = "cast " if cast else ""
        found[f"{kind}losses"] = losses.detach()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            found[kind + name] = weight.grad.clone()
    with torch.no_grad():
        found["logits"] = model(tokens, None, (rows,))
    return found


def frozen() -> list[str]:
    """Names of the inputs that get a gradient where only the last bias of a tower needs one."""
    inputs = CASES["tower"].inputs()
    leaves = [value for value in inputs.values() if value is not None]
    leaves[4].requires_grad_()
    pairs = list(zip(leaves[1::2], leaves[2::2], strict=True))
    board_map, _ = board_tower.triton_tower(leaves[0], pairs[:-1], pairs[-1])
    board_map.sum().backward()
    return [name for name, value in inputs.items() if value is not None and value.grad is not None]


def interpreted() -> dict[str, Any]:
    """Everything, by the kernels."""
    code = board_tower.KERNELS
    empty = CASES["tower"].inputs()
    assert empty["boards"] is not None
    empty["boards"] = empty["boards"][:0]
    planes = {
        (size, dtype): code.planes(*positions(size, boards), dtype)
        for size, boards in PLANES
        for dtype in (torch.float32, _BFLOAT16)
    }
    return {
        "cases": {name: case.computed(code, case.inputs(), 7) for name, case in CASES.items()},
        "again": {name: case.computed(code, case.inputs(), 7) for name, case in CASES.items()},
        "planes": planes,
        "empty": CASES["tower"].computed(code, empty),
        "frozen": frozen(),
        **{name: trained(True, **settings) for name, settings in MODELS.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    quicken()
    torch.save(interpreted(), sys.argv[1])
