"""The fits as Markdown, which a terminal shows as well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tessera.commands.scaling.fits import Fits, Group
from tessera.commands.scaling.laws import FREE, Interval, Law
from tessera.commands.scaling.line import WINDOW, Trend
from tessera.commands.scaling.runs_file import Run
from tessera.commands.table import ABSENT


def report(all_fits: Sequence[Fits]) -> str:
    """The whole page."""
    return "\n".join(line for fits in all_fits for line in _of_row(fits))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, its columns aligned."""
    cells = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[nth]) for row in cells) for nth in range(len(heads))]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in cells
    ]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:], ""]


def _of_row(fits: Fits) -> Iterator[str]:
    row = fits.row
    yield from (f"## {row.name}: {row.games}", "")
    yield from (f"The player's own loss on these games, the known floor: {row.truth:.4f} nats.", "")
    yield from _points(fits)
    yield from ("### ln L = alpha · ln n + ln A, n tokens, no floor", "")
    yield from _lines(fits)
    yield from (_law_heading(fits), "")
    yield from _laws(fits)
    if any(len(group.sizes) == 1 for group in fits.groups) and any(
        law.floor == FREE for group in fits.groups for law in group.laws
    ):
        yield "At one size a free floor also holds what a model of this size never learns."
        yield ""


def _points(fits: Fits) -> list[str]:
    laws = [law.floor for law in fits.groups[0].laws]
    rows = []
    for group in fits.groups:
        for rung in (rung for size in group.sizes for rung in fits.row.sizes[size]):
            tokens, loss = _mean(rung, "tokens"), _mean(rung, "loss")
            size, excess = rung[0].parameters, _mean(rung, "excess_nats")
            said = [law.loss_at(size, tokens) - fits.row.truth for law in group.laws]
            cells = [f"{size:,}", f"{tokens:,.0f}", str(len(rung)), f"{loss:.4f}", f"{excess:.4f}"]
            rows.append([*cells, *(f"{each:.4f}" for each in said)])
    heads = ["parameters", "tokens", "runs", "loss", "excess_nats"]
    return markdown([*heads, *(f"floor {floor} says" for floor in laws)], rows)


def _lines(fits: Fits) -> list[str]:
    rows = []
    for size, trends in fits.trends.items():
        for name, trend in trends.items():
            line = trend.line
            cells = [f"{size:,}", name, f"{line.alpha:.4f}", _number(line.standard_error, ".4f")]
            cells += [f"{line.log_a:.3f}", _number(line.r_squared, ".4f"), _number(line.p, ".1e")]
            rows.append([*cells, *_windows(trend)])
    heads = ["parameters", "L", "alpha", "standard error", "ln A", "R²", "p"]
    return markdown([*heads, f"alpha in windows of {WINDOW}", "Δalpha", "trend"], rows)


def _windows(trend: Trend) -> list[str]:
    alphas = ", ".join(f"{line.alpha:.3f}" for _, _, line in trend.windows)
    return [alphas, _number(trend.delta_alpha, "+.4f"), trend.verdict or ABSENT]


def _law_heading(fits: Fits) -> str:
    of_size = " + A/N^α" if any(len(group.sizes) > 1 for group in fits.groups) else ""
    return f"### loss = L∞{of_size} + B/D^β, D tokens, with 95 % of the bootstrap in brackets"


def _laws(fits: Fits) -> list[str]:
    has_sizes = any(len(group.sizes) > 1 for group in fits.groups)
    heads = ["parameters", "floor", "L∞", "β", "ln B", *(["α", "ln A"] if has_sizes else [])]
    heads += ["rms", "largest rung", "predicted", "off by", "floor's grade"]
    rows = [
        [*_law(group, law, has_sizes), *_held_out(law), _grade(law)]
        for group in fits.groups
        for law in group.laws
    ]
    return markdown(heads, rows)


def _law(group: Group, law: Law, has_sizes: bool) -> list[str]:
    sizes = group.sizes
    found = law.intervals
    several = f"{len(sizes)} sizes"
    cells = [several if len(sizes) > 1 else f"{sizes[0]:,}", law.floor]
    cells.append(_with(f"{law.l_infinity:.4f}", found.get("l_infinity"), ".4f"))
    cells += [_with(f"{law.beta:.3f}", found.get("beta"), ".3f"), _log(law.b, "B")]
    if has_sizes:
        cells += [_with(f"{law.alpha:.3f}", found.get("alpha"), ".3f"), _log(law.a, "A")]
    return [*cells, ABSENT if law.rms is None else f"{100 * law.rms:.1f} %"]


def _held_out(law: Law) -> list[str]:
    """Of several sizes the worst."""
    worst = max(law.held_out, key=lambda each: abs(each.error))
    predicted = _with(f"{worst.predicted:.4f}", worst.interval, ".4f")
    return [f"{worst.measured:.4f}", predicted, f"{100 * worst.error:+.1f} %"]


def _grade(law: Law) -> str:
    return f"{law.grade}; exponent at the edge" if law.is_at_edge else law.grade


def _log(value: float, name: str) -> str:
    return f"{math.log(value):.2f}" if value > 0 else f"{name} = 0"


def _mean(rung: Sequence[Run], name: str) -> float:
    return float(sum(getattr(run, name) for run in rung) / len(rung))


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def _with(text: str, interval: Interval | None, form: str) -> str:
    if interval is None:
        return text
    return f"{text} [{format(interval[0], form)}, {format(interval[1], form)}]"
