"""Training in several processes: each makes its own gradients, and they are averaged in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.overrides.distributed import _sync_module_states
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.distributed import ReduceOp
from torch.optim import Optimizer

from tessera.transfers import owned, to_host


class GradientAveraging(DDPStrategy):
    """Lightning's ``ddp`` without torch's DistributedDataParallel around the module.

    That one listens to every gradient while the backward pass makes it, so the pass cannot be a
    CUDA graph. Here a process makes its gradients as it would alone, and after the backward pass
    of a step's last batch they are averaged over the processes: one all-reduce for each dtype,
    before ``on_after_backward`` and before clipping. Nothing of it waits for the GPU.

    Weights and buffers are the first process's at the start; the weights stay the same bits, as all
    processes make the same updates. A parameter that has a gradient in some processes takes part
    with zeros in the others; one that has none in any of them stays without. Which ones those are
    is agreed at the first step, and again whenever a parameter is frozen or set free.

    Raises:
        RuntimeError: in training, if a parameter has its first gradient at a later step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_blocked = False
        self._weights: list[nn.Parameter] = []
        self._agreed: list[bool] = []  # of each weight, whether some process has its gradient
        self._agreed_for: list[bool] = []  # of each weight, whether it wanted one then

    def configure_ddp(self) -> None:
        """Wrap nothing; let the module be the first process's."""
        assert self.model is not None
        _sync_module_states(self.model)
        self._weights, self._agreed, self._agreed_for = list(self.model.parameters()), [], []

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Within it gradients stay this process's own, as more of them are to be added."""
        self._is_blocked = True
        try:
            yield
        finally:
            self._is_blocked = False

    def backward(
        self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """As Lightning's, with the average between the backward pass and the hooks after it."""
        module, precision = self.lightning_module, self.precision_plugin
        assert module is not None
        self.pre_backward(closure_loss)
        closure_loss = precision.pre_backward(closure_loss, module)
        precision.backward(closure_loss, module, optimizer, *args, **kwargs)
        if not self._is_blocked and self.world_size > 1:
            self._average_gradients()
        closure_loss = precision.post_backward(closure_loss, module)
        self.post_backward(closure_loss)
        return closure_loss

    def reduce(
        self, tensor: Tensor, group: Any = None, reduce_op: ReduceOp | str | None = "mean"
    ) -> Tensor:
        """As Lightning's; what lies on the host comes back to it, and the copies have an owner."""
        if not isinstance(tensor, Tensor) or tensor.device.type == self.root_device.type:
            return super().reduce(tensor, group, reduce_op)
        with owned("processes"):
            tensor = super().reduce(tensor.to(self.root_device), group, reduce_op)
            return to_host(tensor, "processes")

    def _average_gradients(self) -> None:
        wanting = [weight.requires_grad for weight in self._weights]
        if wanting != self._agreed_for:
            self._agreed, self._agreed_for = self._agree(), wanting
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for weight, is_agreed in zip(self._weights, self._agreed, strict=True):
            if is_agreed and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            elif weight.grad is not None and not is_agreed:
                raise RuntimeError(
                    f"a parameter {tuple(weight.shape)} that had no gradient in any process has "
                    "one now; use trainer.strategy ddp_find_unused_parameters_true."
                )
            if weight.grad is not None:
                by_dtype.setdefault(weight.grad.dtype, []).append(weight.grad)
        for gradients in by_dtype.values():
            _average(gradients)

    def _agree(self) -> list[bool]:
        has = [weight.grad is not None for weight in self._weights]
        with owned("gradients"):
            somewhere = torch.tensor(has, dtype=torch.int32, device=self.root_device)
            distributed.all_reduce(somewhere, ReduceOp.MAX)
        return to_host(somewhere, "gradients").bool().tolist()


def allows_graphs(strategy: Strategy) -> bool:
    """Whether a training step may be replayed: nothing listens to single gradients."""
    return isinstance(strategy, SingleDeviceStrategy | GradientAveraging)


def _average(tensors: list[Tensor]) -> None:
    """Let tensors of one dtype, where they are, be their average over the processes."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    if distributed.get_backend() == "nccl":
        distributed.all_reduce(flat, ReduceOp.AVG)
    else:
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
    pieces = flat.split([tensor.numel() for tensor in tensors])
    averages = [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]
    torch._foreach_copy_(tensors, averages)
