"""The pictures of a comparison: excess over compute, state, seconds, learning rate and captures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tessera.commands.compare.report_runs import SAME, Look, Run
from tessera.commands.compare.report_summary import Group
from tessera.play.axes import Axis
from tessera.play.chart import Chart, Mark, Series, front_of

_WIDE = 10.0  # an excess that spans this factor has a logarithmic axis
_EXCESS = "excess_nats"
_FRONT = "Grey steps: the front."


def charts_of(group: Group) -> Iterator[tuple[str, Chart]]:
    """Every picture of these games that there are figures for: its name and what is drawn."""
    on = f"On {group.words}.".replace("×", "x")
    makers: dict[str, Callable[[Group, str], Chart | None]] = {
        "excess_over_compute": _over_compute,
        "excess_over_state": _over_state,
        "excess_over_seconds": _over_seconds,
        "excess_over_lr": _over_rates,
        "excess_over_captures": _over_captures,
    }
    for name, make in makers.items():
        chart = make(group, on)
        if chart is not None:
            yield name + group.slug, chart


def _over_compute(group: Group, on: str) -> Chart | None:
    def flops(run: Run, look: Look) -> float | None:
        tokens, whole = run.figures.get("D"), run.figures.get("C")
        return whole * look.tokens / tokens if whole is not None and tokens else None

    return _over(group, on, "Excess over training compute", "training FLOPs, counted", "C", flops)


def _over_seconds(group: Group, on: str) -> Chart | None:
    def seconds(run: Run, look: Look) -> float | None:
        return look.seconds

    words = "seconds of training"
    return _over(group, on, "Excess over seconds of training", words, "seconds", seconds)


def _over_state(group: Group, on: str) -> Chart | None:
    return _over(
        group, on, "Excess over the state of a game", "bytes of state", "state_bytes", None
    )


def _over(
    group: Group,
    on: str,
    title: str,
    words: str,
    figure: str,
    along: Callable[[Run, Look], float | None] | None,
) -> Chart | None:
    """Each row where it ends, and if it is known how it came there, on the games of training."""
    series, ends = [], []
    for row in group.rows:
        x = row.figures.get(figure)
        if row.excess is None or not x or x <= 0 or row.excess.value <= 0:
            continue
        spread = row.excess.spread or 0.0
        low = max(row.excess.value - spread, row.excess.value / 10)
        bar = (low, row.excess.value + spread) if spread else None
        marks = [Mark(x, row.excess.value, bar)]
        if along is not None and group.tested_on == SAME:
            before = [mark for mark in _curve(row.runs, along) if mark.x < 0.999 * x]
            marks = [*before, *marks]
        series.append(Series(row.name, tuple(marks), row.style, line=len(marks) > 1))
        ends.append((x, row.excess.value))
    has_curves = any(each.line for each in series)
    note = f"{on} {_FRONT}"
    if has_curves:
        note = f"{on} Lines: validation games on the way. {_FRONT}"
    return _chart(title, note, words, series, front=front_of(ends))


def _curve(runs: Sequence[Run], along: Callable[[Run, Look], float | None]) -> list[Mark]:
    """The mean over runs at each look that all of them had; what has no logarithm is left out."""
    marks = []
    for looks in zip(*(run.curve for run in runs), strict=False):
        places = [along(run, look) for run, look in zip(runs, looks, strict=True)]
        if all(place is not None and place > 0 for place in places):
            x = sum(place or 0.0 for place in places) / len(places)
            marks.append(Mark(x, sum(look.excess_nats for look in looks) / len(looks)))
    return [mark for mark in marks if mark.y > 0]


def _over_rates(group: Group, on: str) -> Chart | None:
    series = []
    for row in group.rows:
        found: dict[float, list[float]] = {}
        for run in group.grids.get(row.name, ()):
            if run.is_done and run.lr and _EXCESS in run.figures:
                found.setdefault(run.lr, []).append(run.figures[_EXCESS])
        best = row.rates.lr if row.rates is not None else None
        marks = tuple(
            Mark(lr, sum(values) / len(values), is_ringed=lr == best)
            for lr, values in sorted(found.items())
        )
        series.append(Series(row.name, marks, row.style, line=True))
    note = "Validation games. A ring: the best of a row's grid, with which it was trained afresh."
    rates = sorted({mark.x for each in series for mark in each.marks})
    at = tuple((lr, f"{lr:g}") for lr in rates)
    return _chart("Excess over the learning rate", note, "learning rate", series, at)


def _over_captures(group: Group, on: str) -> Chart | None:
    names: list[str] = []
    series = []
    for row in group.rows:
        marks = []
        for each in row.captures():
            if each.words not in names:
                names.append(each.words)
            if each.excess_nats is not None:
                marks.append(Mark(float(names.index(each.words)), each.excess_nats))
        series.append(Series(row.name, tuple(marks), row.style, line=True))
    at = tuple((float(nth), name) for nth, name in enumerate(names))
    title = "Excess by captured stones"
    return _chart(title, on, "stones captured so far", series, at, is_log=False)


def _chart(
    title: str,
    note: str,
    words: str,
    series: Sequence[Series],
    at: tuple[tuple[float, str], ...] = (),
    is_log: bool = True,
    front: Sequence[tuple[float, float]] = (),
) -> Chart | None:
    """None if there is no mark, or none that has a place on a logarithmic axis."""
    marks: list[Mark] = [mark for each in series for mark in each.marks]
    if not marks:
        return None
    heights = [y for mark in marks for y in (mark.y, *(mark.spread or ()))]
    is_steep = min(heights) > 0 and max(heights) > _WIDE * min(heights)
    x = Axis.around([mark.x for mark in marks], is_log, at)
    y = Axis.around(heights, is_log=bool(front) or is_steep)
    return Chart(title, note, words, _EXCESS, x, y, series, front)


def rows_without_place(group: Group) -> list[str]:
    """Rows whose excess is not above 0, within noise: they have no place on a logarithmic axis."""
    return [row.name for row in group.rows if row.excess is not None and row.excess.value <= 0]
