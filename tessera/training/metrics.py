"""How far a model's distribution is from the player's, and from the rules.

Shapes: B sequences, L positions, V tokens.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from tessera.data import GameBatch
from tessera.transfers import to_host

# Lower bounds of the groups of targets in which some metrics are also reported.
GROUPS = {"ply": (0, 32, 64, 128, 256), "captures": (0, 1, 5, 20)}

_OVERALL = ("loss", "floor_nats", "excess_nats", "top1", "top5")
_LEGALITY = ("legal_mass", "legal_top1")
_GROUPED = ("excess_nats", *_LEGALITY)


class NextMoveMetrics(Metric):
    """Means over all targets of the batches seen; PAD never counts.

    ====================  ==========================================================================
    ``loss``              -log q(target) in nats, q the model's distribution
    ``floor_nats``        entropy of the player's distribution p: the least mean loss there can be
    ``excess_nats``       log p(target) - log q(target): the distance from p in nats. Its mean is
                          that of loss - floor_nats; the luck of the draw, which is in the loss, is
                          not in it, so it is exactly 0 for a model that is the player
    ``top1``, ``top5``    whether the target is the likeliest token, or among the five likeliest
    ``legal_mass``        probability that q gives to legal tokens
    ``legal_top1``        whether the likeliest token is legal
    ====================  ==========================================================================

    ``excess_nats`` and the two legality metrics are also given by groups of targets,
    ``legal_top1_by_ply/32-63`` and ``legal_top1_by_captures/5-19`` (stones captured in the game so
    far). What could not be measured is absent. Nothing waits for the GPU before ``compute``, and
    the same batches give the same bits. Healthy: ``excess_nats`` falls towards 0, ``legal_mass``
    rises towards 1, the groups with many captures come last.

    Args:
        kwargs: those of every ``torchmetrics.Metric``, such as ``sync_on_compute``.

    Attributes:
        games: whoever wants the sums of each row sets it to an empty list, to which every batch
            then adds (2, B) float64: excess_nats, and the number of targets. None keeps nothing.

    Example:
        >>> from tessera.data import GameStream, StreamSettings
        >>> settings = StreamSettings(board_size=5, batch_size=2, games_per_chunk=2)
        >>> batch = GameStream(settings).batch(0)
        >>> metrics = NextMoveMetrics()
        >>> metrics.update(torch.zeros(2, 64, 28), batch)
        >>> round(metrics.compute()["loss"].item(), 4)  # ln 28
        3.3322
    """

    full_state_update = False
    needs = ("legal",)  # of the optional tables, so that legality can be measured
    count: Tensor
    sums: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.games: list[Tensor] | None = None
        self._add_sums("count", 1)
        self._add_sums("sums", len(_OVERALL))
        for name, bounds in GROUPS.items():
            # Here once, because making them where they are needed would copy them to the GPU.
            self.register_buffer(f"bounds_by_{name}", torch.tensor(bounds), persistent=False)
            for what in ("count", "sums"):
                self._add_sums(f"{what}_by_{name}", len(bounds) * len(_GROUPED))

    def _add_sums(self, name: str, size: int) -> None:
        # Double precision: a sum of millions of targets still has its sixth digit.
        zeros = torch.zeros(size, dtype=torch.float64)
        self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, logits: Tensor, batch: GameBatch) -> None:
        """Add a batch.

        Args:
            logits: (B, L, V).
            batch: with or without legal points; without them legality is not measured.
        """
        vocab_size = logits.shape[-1]
        counted = batch.targets != vocab_size - 2
        log_q = F.log_softmax(logits.float(), -1)
        loss = -log_q.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
        best = logits.topk(min(5, vocab_size), -1).indices
        hits = best == batch.targets.unsqueeze(-1)
        excess = loss + batch.log_probs
        values = (loss, batch.entropies, excess, hits[..., 0], hits.any(-1))
        self.count += counted.sum()
        # Not a product: at PAD a value may be infinite.
        sums = [torch.where(counted, value.double(), 0.0).sum() for value in values]
        self.sums += torch.stack(sums)
        if self.games is not None:
            own = torch.where(counted, excess.double(), 0.0).sum(1)
            self.games.append(torch.stack([own, counted.sum(1).double()]))
        legality = self._legality(log_q, best[..., :1], batch)
        for name, by in (("ply", batch.plies), ("captures", batch.captures)):
            self._add_groups(name, by, counted, (excess, *legality))

    def _legality(self, log_q: Tensor, best: Tensor, batch: GameBatch) -> tuple[Tensor, ...]:
        """The legality metrics of every target, (B, L) each; none without legal points."""
        if batch.legal is None:
            return ()
        legal = batch.legal_tokens()
        return (log_q.exp() * legal).sum(-1), legal.gather(-1, best).squeeze(-1)

    def _add_groups(
        self, name: str, by: Tensor, counted: Tensor, values: tuple[Tensor, ...]
    ) -> None:
        """Add the first of the metrics in ``_GROUPED`` to the sums of each target's group."""
        bounds = getattr(self, f"bounds_by_{name}")
        group = torch.bucketize(by, bounds[1:], right=True)
        # A sum of every group over all targets: scattering would add them in any order.
        places = torch.arange(len(bounds), device=by.device)[:, None, None]
        member = (group == places) & counted
        for nth, value in enumerate(values):
            added = torch.where(member, value.double(), 0.0).sum((1, 2))
            getattr(self, f"sums_by_{name}")[nth :: len(_GROUPED)] += added
            getattr(self, f"count_by_{name}")[nth :: len(_GROUPED)] += member.sum((1, 2))

    def compute(self) -> dict[str, Tensor]:
        """The metrics that could be measured, by name; float32 scalars on the host."""
        sums = self._on_host()
        results: dict[str, Tensor] = {}
        if sums["count"] > 0:
            means = (sums["sums"] / sums["count"]).float()
            results |= dict(zip(_OVERALL, means, strict=True))
        for name, bounds in GROUPS.items():
            total, count = (sums[f"{what}_by_{name}"] for what in ("sums", "count"))
            for nth, what in enumerate(_GROUPED):
                own = slice(nth, None, len(_GROUPED))
                if what in _LEGALITY and count[own].sum() > 0:
                    results[what] = (total[own].sum() / count[own].sum()).float()
                for group, part, size in zip(
                    group_names(bounds), total[own], count[own], strict=True
                ):
                    if size > 0:
                        results[f"{what}_by_{name}/{group}"] = (part / size).float()
        return results

    def group_sizes(self, name: str) -> dict[str, int]:
        """How many targets were in each group of ``GROUPS[name]``, by the group's name."""
        counts = self._on_host()[f"count_by_{name}"][:: len(_GROUPED)]
        return dict(zip(group_names(GROUPS[name]), map(int, counts), strict=True))

    def _on_host(self) -> dict[str, Tensor]:
        """All sums by name, in one copy."""
        sums: dict[str, Tensor] = {name: getattr(self, name) for name in self._defaults}
        together = to_host(torch.cat(list(sums.values())), "validation")
        parts = together.split([len(part) for part in sums.values()])
        return dict(zip(sums, parts, strict=True))


def metric_names() -> list[str]:
    """The names of all metrics that there can be, those of the groups last."""
    return [
        *_OVERALL,
        *_LEGALITY,
        *(
            f"{what}_by_{name}/{group}"
            for name, bounds in GROUPS.items()
            for what in _GROUPED
            for group in group_names(bounds)
        ),
    ]


def group_names(bounds: tuple[int, ...]) -> list[str]:
    """The names of the groups with these lower bounds: "0", "1-4", "5-19", "20_or_more"."""
    names = []
    for low, following in itertools.pairwise(bounds):
        names.append(str(low) if following == low + 1 else f"{low}-{following - 1}")
    return [*names, f"{bounds[-1]}_or_more"]
