"""AdamW whose update, the clipping of gradients included, is one CUDA graph on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tessera.accelerator import current
from tessera.model.graphs import Capture, cause

_logger = logging.getLogger(__name__)
_MOST_CAPTURES = 8  # gradients that change their places again and again are not worth it


class GraphedAdamW(torch.optim.AdamW):
    """AdamW that captures its update on a CUDA device once the gradients stay where they are.

    Captured or not, the same kernels run on the same numbers. The learning rate is a tensor on such
    a device, which a captured update reads, and a number in ``state_dict``.

    Args:
        groups: of parameters, all on one device.
        lr: learning rate of all groups.
        is_captured: whether to; a gradient that is in a new place each time never is.

    Attributes:
        clip: what gradients are clipped to before an update, and how: ``norm`` or ``value``; None
            for not at all.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, is_captured: bool = True
    ) -> None:
        groups = list(groups)
        self._weights: list[nn.Parameter] = [w for group in groups for w in group["params"]]
        device = self._weights[0].device
        self._is_gpu = device.type == "cuda"
        self._lr = lr
        self._lr_there = torch.tensor(lr, dtype=torch.float32, device=device)
        self.clip: tuple[float, str] | None = None
        self._constants: tuple[Any, ...] = ()  # of the newest update
        # The captured one, and what it was captured with.
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captured: tuple[Any, ...] = ()
        self._captures_left = _MOST_CAPTURES if is_captured and self._is_gpu else 0
        # One kernel for all weights.
        super().__init__(groups, lr=self._lr_there if self._is_gpu else lr, fused=self._is_gpu)
        # It could unscale gradients itself, and Lightning would then refuse to clip them first.
        self._step_supports_amp_scaling = False

    def set_lr(self, lr: float) -> None:
        """Let this be the learning rate of the updates to come."""
        if self._is_gpu and lr != self._lr:
            self._lr_there.fill_(lr)
        self._lr = lr
        for group in self.param_groups:
            group["lr"] = self._lr_there if self._is_gpu else lr

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Clip the gradients and update the weights; returns what ``closure`` does, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._is_captured_now():
            self._update()
        else:
            assert self._graph is not None
            self._graph.replay()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with the learning rate as a number."""
        state = super().state_dict()
        return {**state, "param_groups": [{**g, "lr": self._lr} for g in state["param_groups"]]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; what depends on the device is as it was made here."""
        super().load_state_dict(state_dict)
        self._constants, self._captured, self._graph = (), (), None
        for group in self.param_groups:
            group["fused"], group["capturable"] = self._is_gpu, False
        # torch and Lightning leave the count of steps where the file had it.
        for weight, state in self.state.items():
            state["step"] = state["step"].to(weight.device, torch.float32)
        self.set_lr(self.param_groups[0]["lr"])

    def _update(self) -> None:
        if self.clip is not None:
            most, kind = self.clip
            clip = clip_grad_value_ if kind == "value" else clip_grad_norm_
            clip(self._weights, most)
        super().step()

    def _read_constants(self) -> tuple[Any, ...]:
        """What an update has in it that is no tensor's content."""
        settings = [(g["weight_decay"], g["betas"], g["eps"]) for g in self.param_groups]
        places = [
            (weight.data_ptr(), None if weight.grad is None else weight.grad.data_ptr())
            for weight in self._weights
        ]
        return self.clip, settings, places

    def _is_captured_now(self) -> bool:
        """Whether the update is captured; captures it the second time that it is the same."""
        if not self._captures_left and self._graph is None:
            return False
        before, self._constants = self._constants, self._read_constants()
        if self._constants == self._captured:
            return self._graph is not None
        if self._constants != before or not self._captures_left:
            return False
        self._captures_left -= 1
        self._graph, self._captured = self._capture(), self._constants
        return self._graph is not None

    def _capture(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            for group in self.param_groups:
                group["capturable"] = True
            with current(self._weights[0].device), Capture(graph):
                self._update()
        except RuntimeError as error:
            self._captures_left = 0
            _logger.warning("the optimizer's kernels are launched one at a time: %s", cause(error))
            return None
        finally:
            for group in self.param_groups:
                group["capturable"] = False
        return graph
