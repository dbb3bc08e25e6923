"""What ``tessera export`` says: sizes, errors of the weights, and the effect on the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tessera.commands.export.effect import Effect
from tessera.commands.table import Form, table
from tessera.training.export import WeightError

_OF_WEIGHTS: dict[str, Form] = {"weights": None}
_OF_WEIGHTS |= dict.fromkeys(("number", "bytes before", "bytes after"), ",d")
_OF_WEIGHTS |= dict.fromkeys(("largest error", "mean error"), ".3%")
_OF_THE_MODEL: dict[str, Form] = {"": None, "before": ".4f", "after": ".4f", "difference": "+.6f"}


@dataclass(frozen=True, slots=True)
class Report:
    """An export and what it cost.

    Attributes:
        ckpt_path: the model's file.
        step: optimizer steps that it has; None if it does not say.
        ckpt_bytes: size of that file.
        output: the exported file.
        output_bytes: its size.
        precision: that was asked for; None if the weights are as they were.
        precision_before: of the weights in the model's file, ``as trained`` or a type.
        precision_after: in the exported one, likewise.
        errors: of each kind of weight.
        effect: on the model; None if nothing was rounded.
        machine: where that was measured; None if nothing was.
    """

    ckpt_path: str
    step: int | None
    ckpt_bytes: int
    output: str
    output_bytes: int
    precision: str | None
    precision_before: str
    precision_after: str
    errors: list[WeightError]
    effect: Effect | None
    machine: str | None

    def lines(self) -> list[str]:
        """For a person."""
        how = f"weights in {self.precision_after}"
        if self.precision is None:
            how = "every weight as it was"
            if self.precision_after != "as trained":
                how = f"{how}, in {self.precision_after}"
        elif self.precision == self.precision_before:
            how = f"{how} as before"
        if self.precision_before not in ("as trained", self.precision_after):
            how = f"{how}, {self.precision_before} before"
        head = f"{self.output}: {self.output_bytes:,} bytes, {how} ({self.ckpt_path}: "
        head = f"{head}{self.ckpt_bytes:,} bytes)"
        if self.effect is None:
            return [head]
        rows = [
            (error.kind, error.weights, error.bytes_before, error.bytes_after, *_errors(error))
            for error in self.errors
        ]
        effect = self.effect
        change = effect.loss_after - effect.loss_before
        measured = [
            ("loss", effect.loss_before, effect.loss_after, change),
            ("KL divergence, mean", None, None, effect.kl),
            ("KL divergence, largest", None, None, effect.largest_kl),
        ]
        return [
            head,
            "",
            *table(rows, _OF_WEIGHTS),
            "Errors are over the largest weight of the output channel.",
            "",
            f"On {effect.games:,} games of the test, {effect.targets:,} predictions, "
            f"in nats ({self.machine}):",
            "",
            *table(measured, _OF_THE_MODEL),
        ]

    def as_json(self) -> dict[str, object]:
        """All of it, for a program."""
        return asdict(self)


def _errors(error: WeightError) -> tuple[float | None, float | None]:
    """None where there is none, because the weights are as they were."""
    return (error.largest, error.mean) if error.largest else (None, None)
