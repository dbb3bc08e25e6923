"""The size, spread and drift of the model's recurrent state.

Shape suffixes: B games, D channels, N states of a channel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tessera.model import MambaStateCapture
from tessera.transfers import HostCopy, begin_to_host

# Of a batch, its first; their mean is steady, and reading thousands would take time that shows.
_MOST_GAMES = 512


class StateProbe:
    """Measures the true final SSM state of single runs of a model; see ``METRICS`` for formulas.

    ``begin`` hooks the model, ``end`` takes the hooks off and reduces the states on the device to
    one number a layer and metric, ``read`` returns what they come to once they have arrived on the
    host. Between samples there is no hook on the model, and of a sample nothing is kept but the
    mean state (D, N) of each layer, from which the next sample's drift is taken.

    Args:
        model: a ``GameModel``, or a module that holds one.

    Attributes:
        metrics: the names of what is read.
        why_absent: for every metric that cannot be read, why.
    """

    metrics = (
        "ssm_state_norm",
        "ssm_state_entropy",
        "ssm_state_entropy_ratio",
        "ssm_state_delta_norm",
    )

    def __init__(self, model: nn.Module) -> None:
        self.why_absent: dict[str, str] = {}
        self._model = model
        self._capture: MambaStateCapture | None = None
        self._means: list[Tensor] = []
        self._copy: HostCopy | None = None
        try:
            MambaStateCapture(model).remove()
        except ValueError as error:
            self.why_absent = dict.fromkeys(self.metrics, str(error).rstrip("."))

    def begin(self) -> None:
        """Look at the model's next run."""
        if not self.why_absent and self._capture is None:
            self._capture = MambaStateCapture(self._model)

    def end(self) -> None:
        """Look no longer, and begin to measure what was seen; does not wait for the GPU."""
        if self._capture is None:
            return
        self._capture.remove()
        states, self._capture = self._capture.states, None
        if not states:
            return
        states = [state_BDN[:_MOST_GAMES] for state_BDN in states]
        with torch.no_grad():
            means = [state_BDN.mean(0) for state_BDN in states]
            drifts = [(now - then).norm() for now, then in zip(means, self._means, strict=False)]
            norms, entropies = zip(*map(_norm_and_entropy, states), strict=True)
            self._copy = begin_to_host(torch.stack([*norms, *entropies, *drifts]), "monitor")
            self._means = means

    def read(self) -> dict[str, float]:
        """The last sample, if it has arrived; each is returned once."""
        values = None if self._copy is None else self._copy.result()
        if values is None:
            return {}
        self._copy = None
        # The layers are compared here: on a GPU each of these small steps would be a kernel.
        norms, entropies, *drifts = values.split(len(self._means))
        most = torch.tensor([math.log(max(2, mean_DN.numel())) for mean_DN in self._means])
        found = [norms.amax(), entropies.amin(), (entropies / most).amin()]
        # The first sample has no drift, and is one value shorter.
        found += [drift.amax() for drift in drifts]
        return dict(zip(self.metrics, map(float, found), strict=False))

    def close(self) -> None:
        """Take the hooks off the model."""
        if self._capture is not None:
            self._capture.remove()
            self._capture = None


def _norm_and_entropy(state_BDN: Tensor) -> tuple[Tensor, Tensor]:
    """Norm, and entropy in nats, of one layer; means over the games."""
    squares = state_BDN.flatten(1).square()
    total = squares.sum(1, keepdim=True)
    # An empty state has no distribution; its entropy counts as 0.
    shares = squares / total.clamp(min=torch.finfo(total.dtype).tiny)
    return total.sqrt().mean(), torch.special.entr(shares).sum(1).mean()
