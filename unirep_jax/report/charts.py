"""Line charts as SVG: a colour and a dash for every line, whose name stands at its end.

Colours are classes c0 … c7 of the page's style sheet, so that they follow its light or dark theme.
No script: where the pointer is, the browser shows the values of that step.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from unirep_jax.report.series import Point

COLOURS = 8
DASHES = ("none", "7 3", "2 2.5", "9 3 2 3", "4 2", "1 3", "12 4")
POINTS = 160  # of a line, at most
WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 34
LETTER, LABEL_HEIGHT, LONGEST = 6.4, 14, 18  # of the labels beside the lines
GAP = 6  # between an axis and the labels of its ticks


class Curve(NamedTuple):
    """A mean over seeds with the least and the greatest of them, step by step.

    style: number of its colour and dash, so that what has one name looks alike in all charts.
    """

    name: str
    style: int
    steps: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curve(name: str, style: int, series: Iterable[Sequence[Point]]) -> Curve | None:
    """A logged quantity over the seeds that have it; None where none has.

    Long ones are thinned to means of consecutive points, under the last of their steps.
    """
    by_step: dict[int, list[Point]] = {}
    for point in itertools.chain.from_iterable(series):
        by_step.setdefault(point.step, []).append(point)
    if not by_step:
        return None
    steps = sorted(by_step)
    size = -(-len(steps) // POINTS)
    pieces = [steps[i : i + size] for i in range(0, len(steps), size)]
    points = [[point for step in piece for point in by_step[step]] for piece in pieces]
    return Curve(
        name,
        style,
        steps=[piece[-1] for piece in pieces],
        mean=[math.fsum(point.mean for point in p) / len(p) for p in points],
        low=[min(point.low for point in p) for p in points],
        high=[max(point.high for point in p) for p in points],
    )


def line_chart(title: str, curves: Sequence[Curve]) -> str:
    """One panel; names beside the lines unless one says what the title does."""
    named = [c.name for c in curves] != [title]
    longest = min(LONGEST, max(len(c.name) for c in curves))
    steps = _range(s for c in curves for s in c.steps)
    last = max((len(_step_text(t)) for t in ticks(*steps, 4)), default=1)
    right = WIDTH - max(RIGHT, LETTER * last / 2) - (named * (longest * LETTER + 18))
    bottom = max(HEIGHT - BOTTOM, TOP + LABEL_HEIGHT * len(curves) * named)
    y = _Scale(_padded(_range(v for c in curves for v in (*c.low, *c.high))), bottom, TOP)
    left = max(LEFT, GAP + LETTER * max(len(_value_text(t)) for t in ticks(*y.span)))
    x = _Scale(steps, left, right)
    parts = [*_axes(x, y)]
    for c in curves:
        parts += _line(c, x, y)
    parts += _labels(curves, y, right) if named else []
    parts += _readings(curves, x, y)
    about = escape(f"{title} over training steps: {', '.join(c.name for c in curves)}", quote=True)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {bottom + BOTTOM:.0f}" role="img" aria-label="{about}">'
        f"{''.join(parts)}</svg></figure>"
    )


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


class _Scale(NamedTuple):
    """Numbers `span` to places start … end on the page."""

    span: tuple[float, float]
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high = self.span
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def _range(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _padded(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return (0.0 if 0 <= low < room else low - room), high + room


def _axes(x: _Scale, y: _Scale) -> Iterable[str]:
    for value in ticks(*y.span):
        at = y(value)
        yield f'<path class="grid" d="M{x.start:.1f} {at:.1f}H{x.end:.1f}"/>'
        place = f'x="{x.start - GAP:.1f}" y="{at + 4:.1f}" class="end"'
        yield f"<text {place}>{_value_text(value)}</text>"
    for value in ticks(*x.span, 4):
        place = f'x="{x(value):.1f}" y="{y.start + 15:.1f}" class="middle"'
        yield f"<text {place}>{_step_text(value)}</text>"
    yield (
        f'<text x="{(x.start + x.end) / 2:.1f}" y="{y.start + 30:.1f}" class="middle">step</text>'
    )


def _value_text(value: float) -> str:
    return f"{value:.4g}"


def _step_text(value: float) -> str:
    return f"{value:.10g}"


def _line(c: Curve, x: _Scale, y: _Scale) -> Iterable[str]:
    points = [(x(s), y(m)) for s, m in zip(c.steps, c.mean, strict=True)]
    if c.low != c.high:
        upper = [f"{x(s):.1f} {y(v):.1f}" for s, v in zip(c.steps, c.high, strict=True)]
        lower = [f"{x(s):.1f} {y(v):.1f}" for s, v in zip(c.steps, c.low, strict=True)]
        outline = "L".join(upper + lower[::-1])
        yield f'<path class="band c{c.style % COLOURS}" d="M{outline}Z"/>'
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    yield f'<path class="line c{c.style % COLOURS}" {_dash(c.style)} d="M{path}"/>'
    if len(points) == 1:
        a, b = points[0]
        yield f'<circle class="dot c{c.style % COLOURS}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>'


def _dash(style: int) -> str:
    """Lines of one colour have different dashes, since there are no 8 of these."""
    return f'stroke-dasharray="{DASHES[style % len(DASHES)]}"'


def _labels(curves: Sequence[Curve], y: _Scale, right: float) -> Iterable[str]:
    """Names at the ends of the lines, moved apart where they would overlap."""
    order = sorted(range(len(curves)), key=lambda i: y(curves[i].mean[-1]))
    heights = spread_apart([y(curves[i].mean[-1]) for i in order], LABEL_HEIGHT, y.end, y.start)
    for i, height in zip(order, heights, strict=True):
        name, style, end = curves[i].name, curves[i].style, y(curves[i].mean[-1])
        shown = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
        yield (
            f'<path class="line c{style % COLOURS}" {_dash(style)} '
            f'd="M{right + 1:.1f} {end:.1f}L{right + 14:.1f} {height:.1f}"/>'
            f'<text x="{right + 17:.1f}" y="{height + 4:.1f}">{escape(shown)}</text>'
        )


def spread_apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted places, moved as little as a sweep down and one up need, at least `gap` apart."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap if moved else low))
    limit = high
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


def _readings(curves: Sequence[Curve], x: _Scale, y: _Scale) -> Iterable[str]:
    """An invisible column per step, which shows a rule and all values under the pointer."""
    values: dict[float, list[str]] = {}
    for c in curves:
        for step, mean in zip(c.steps, c.mean, strict=True):
            values.setdefault(step, []).append(f"{c.name}: {mean:.4g}")
    steps = sorted(values)
    places = [x(step) for step in steps]
    borders = [places[0], *((a + b) / 2 for a, b in itertools.pairwise(places))]
    for step, at, left, end in zip(steps, places, borders, [*borders[1:], x.end], strict=True):
        text = escape("\n".join([f"step {step}", *values[step]]))
        yield (
            f'<g class="reading"><path class="rule" d="M{at:.1f} {y.end:.1f}V{y.start:.1f}"/>'
            f'<rect x="{left:.1f}" y="{y.end:.1f}" width="{max(end - left, 2):.1f}" '
            f'height="{y.start - y.end:.1f}"/><title>{text}</title></g>'
        )
