"""What is asked of every part alike: its form, its parameters, its bits, its copies, autocast."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from tessera.model.trial import try_part

_AUTOCAST_ERROR = 0.05  # of bfloat16's eight bits, through a few products

Module = TypeVar("Module", bound=nn.Module)
Run = Callable[[Module], tuple[Tensor, ...]]  # what a module answers to inputs of the test's own


def require(is_fine: bool, what: str) -> None:
    """Raise AssertionError with ``what`` unless it is fine, under ``python -O`` too."""
    if not is_fine:
        raise AssertionError(what)


def require_near(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raise AssertionError unless two tensors differ by little, for the size of the second."""
    error = _error(actual, expected)
    require(error <= tolerance, f"{what} (differs by {error:.1e} of its size)")


@contextmanager
def trying(
    build: Callable[[], Module], kind: type[nn.Module], device: torch.device, *sizes: int
) -> Iterator[Module]:
    """A new part of a kind; what its methods return has the form that a model asks for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        part = build()
        require(isinstance(part, kind), f"no {kind.__name__}: {type(part).__name__}")
        try:
            try_part(part, device, *sizes)
        except ValueError as error:
            raise AssertionError(f"wrong form: {error}") from error
        yield part


def check_any(
    part: Module,
    build: Callable[[], Module],
    run: Run[Module],
    num_parameters: int | None,
    device: torch.device,
) -> None:
    """What is asked of a part whatever it does."""
    check_parameters(part, num_parameters)
    check_bits(part, run)
    check_autocast(part, run, device)
    check_copies(part, build, run)


def check_parameters(module: nn.Module, num_parameters: int | None) -> None:
    """As many as stated, and those without weight decay are there."""
    found = sum(parameter.numel() for parameter in module.parameters())
    is_stated = num_parameters in (None, found)
    require(is_stated, f"parameters not as stated: {num_parameters} stated, {found} found")
    for owner in module.modules():
        for name in getattr(owner, "no_weight_decay", ()):
            is_there = isinstance(getattr(owner, name, None), nn.Parameter)
            require(is_there, f"no_weight_decay names no parameter: {name}")


def check_bits(module: Module, run: Run[Module]) -> None:
    """The same bits twice, outputs and gradients; no random numbers, no side effects."""
    module.train()
    drawn = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first, second = answers_and_gradients(module, run), answers_and_gradients(module, run)
    has_drawn = not torch.equal(drawn, torch.get_rng_state())
    require(not has_drawn, "not the same twice: random numbers are drawn")
    for name, tensor in module.state_dict().items():
        require(_same(tensor, before[name]), f"not the same twice: {name} was changed by reading")
    for name, value in first.items():
        require(bool(value.isfinite().all()), f"not finite: {name}")
        require(_same(value, second[name]), f"not the same twice: {name}")


def check_autocast(module: Module, run: Run[Module], device: torch.device) -> None:
    """What bfloat16 products give is near what float32 gives."""
    with torch.no_grad():
        expected = run(module)
        with torch.autocast(device.type, torch.bfloat16):
            actual = run(module)
    for answer, wanted in zip(actual, expected, strict=True):
        what = "far from float32 under autocast"
        require_near(answer.to(wanted.dtype), wanted, _AUTOCAST_ERROR, what)


def check_copies(module: Module, build: Callable[[], Module], run: Run[Module]) -> None:
    """Copies of every kind answer with the same bits.

    Args:
        module: the original.
        build: another one, with weights of its own.
        run: as everywhere.
    """
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    loaded = build()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    try:
        pickled = pickle.loads(pickle.dumps(module))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"lost by pickle: {error}") from error
    copies = {"deepcopy": copy.deepcopy(module), "pickle": pickled, "state_dict": loaded}
    expected = answers_and_gradients(module, run)
    for kind, other in copies.items():
        for name, value in answers_and_gradients(other, run).items():
            require(_same(value, expected[name]), f"lost by {kind}: {name} is another")


def answers_and_gradients(module: Module, run: Run[Module]) -> dict[str, Tensor]:
    """What a module answers, and the gradient of all its parameters, by name."""
    module.zero_grad(set_to_none=True)
    answers = run(module)
    # Each answer by weights of its own, so that no two gradients cancel.
    total = sum((answer * answer.detach().cos()).sum() for answer in answers)
    assert isinstance(total, Tensor)
    if total.requires_grad:  # a part without parameters has no gradients
        total.backward()
    found = {f"answer {number}": answer.detach() for number, answer in enumerate(answers)}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            require(parameter.grad is not None, f"without a gradient: {name}")
            found[f"the gradient of {name}"] = parameter.grad  # type: ignore[assignment]
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value; no number counts as infinitely far."""
    if not actual.numel():
        return 0.0
    size = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    error = float((actual - expected).abs().max() / size)
    return error if error == error else torch.inf
