"""Charts as SVG: pure functions from numbers to markup. Colours are classes of ``app.css``, for light and dark alike.

The caption beside a chart says what it shows; ``alt`` says it for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 32
COLOURS = 6
TICKS = 4
CHARACTER, APART = 6.2, 16
"""Width of a character of a label below the axis, and the room between two labels."""
FEW = 40
"""Up to so many points each one gets a dot; of more only those between two gaps."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: a value at each place, None where there is none. ``intervals`` are drawn as a band or as whiskers."""

    name: str
    values: Sequence[float | None]
    intervals: Sequence[Interval | None] = ()


def line_chart(
    series: Sequence[Series],
    labels: Sequence[str],
    alt: str,
    *,
    floor_at: float | None = None,
    ceiling: float | None = None,
    whiskers: bool = False,
    shown: Callable[[float], str] | None = None,
) -> Markup:
    """Lines over the same places, whose names are ``labels``. Empty markup where there is no value at all.

    The axis reaches at least from ``floor_at`` to ``ceiling``. ``shown`` writes the numbers of the axis.
    """
    low, high = _span(series, floor_at, ceiling)
    if not isfinite(low):
        return Markup("")
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    place = _across(len(labels))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    parts = [_grid(ticks, y, shown or _plain), _below(labels, place)]
    for number, one in enumerate(series):
        colour = number % COLOURS + 1
        parts.append(_intervals(one, place, y, colour, whiskers=whiskers))
        parts.append(_path(one.values, place, y, colour))
        everywhere = len(labels) <= FEW or whiskers
        parts.append(_dots(one.values if everywhere else _alone(one.values), place, y, colour))
    return _svg("chart", WIDTH, HEIGHT, alt, parts)


def bar_chart(values: Sequence[float], labels: Sequence[str], alt: str, colour: int = 1) -> Markup:
    """One bar for each label, from zero. Empty markup where all are zero."""
    if not any(values):
        return Markup("")
    ticks = _ticks(0.0, max(values))
    high = max(ticks[-1], *values)
    place, width = _across(len(labels), inside=True), max((WIDTH - LEFT - RIGHT) / max(len(labels), 1) - 2, 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / high)

    bars = [
        f'<rect class="fill-{colour}" x="{place(at) - width / 2:.1f}" y="{y(value):.1f}" width="{width:.1f}" '
        f'height="{HEIGHT - BOTTOM - y(value):.1f}"/>'
        for at, value in enumerate(values)
        if value > 0
    ]
    return _svg("chart", WIDTH, HEIGHT, alt, [_grid(ticks, y, _plain), *bars, _below(labels, place)])


def sparkline(values: Sequence[float | None], alt: str) -> Markup:
    """A line without axes, as high as a line of text."""
    known = [value for value in values if value is not None and isfinite(value)]
    if not known:
        return Markup("")
    low, high = min(known), max(known)
    step = 96 / max(len(values) - 1, 1)

    def y(value: float) -> float:
        return 12.0 if high == low else 22 - 20 * (value - low) / (high - low)

    path = _path(values, lambda at: 2 + at * step, y, 1)
    return _svg("spark", 100, 24, alt, [path, _dots([*[None] * (len(values) - 1), values[-1]], lambda _: 98, y, 1)])


def stacked_bar(parts: Sequence[tuple[str, float]], alt: str) -> Markup:
    """One bar across, each part as wide as its share of the whole, in the order of the colours."""
    whole = sum(value for _, value in parts)
    if whole <= 0:
        return Markup("")
    found, left = [], 0.0
    for number, (name, value) in enumerate(parts):
        width = 100 * value / whole
        title = f"<title>{escape(name)}: {_plain(value)}</title>"
        found.append(
            f'<rect class="fill-{number % COLOURS + 1}" x="{left:.3f}" y="0" width="{width:.3f}" height="4">'
            f"{title}</rect>"
        )
        left += width
    return _svg("bar", 100, 4, alt, found, 'preserveAspectRatio="none"')


def legend(names: Iterable[str]) -> Markup:
    """Which colour is which, for a chart of these series or parts."""
    items = "".join(
        f'<li><span class="key-{n % COLOURS + 1}"></span>{escape(name)}</li>' for n, name in enumerate(names)
    )
    return Markup(f'<ul class="legend">{items}</ul>')  # noqa: S704 - names are escaped


def _svg(kind: str, width: float, height: float, alt: str, parts: Iterable[str], more: str = "") -> Markup:
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}" {more}>'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 - every word in it was escaped


def _span(series: Sequence[Series], low: float | None, high: float | None) -> Interval:
    known = [value for one in series for value in one.values if value is not None and isfinite(value)]
    if not known:
        return float("nan"), float("nan")
    known += [edge for one in series for pair in one.intervals if pair for edge in pair if isfinite(edge)]
    known += [edge for edge in (low, high) if edge is not None]
    found = min(known), max(known)
    around = abs(found[0]) / 2 or 0.5
    return found if found[1] - found[0] > 1e-9 * around else (found[0] - around, found[1] + around)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that cover ``low`` to ``high``."""
    raw = (high - low) / TICKS
    size = 10.0 ** floor(log10(raw))
    step = next(one * size for one in (1, 2, 2.5, 5, 10) if one * size >= raw * 0.999)
    first = floor(low / step + 1e-9)
    return [step * (first + n) for n in range(ceil(high / step - 1e-9) - first + 1)]


def _across(count: int, *, inside: bool = False) -> Callable[[int], float]:
    room = WIDTH - LEFT - RIGHT
    if inside or count == 1:
        return lambda at: LEFT + room * (at + 0.5) / max(count, 1)
    return lambda at: LEFT + room * at / (count - 1)


def _grid(ticks: Sequence[float], y: Callable[[float], float], shown: Callable[[float], str]) -> str:
    lines = "".join(
        f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{escape(shown(tick))}</text>'
        for tick in ticks
    )
    return lines + f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'


def _below(labels: Sequence[str], place: Callable[[int], float]) -> str:
    widest = CHARACTER * max(map(len, labels), default=0) + APART
    every = max(1, ceil(len(labels) * widest / (WIDTH - LEFT - RIGHT)))
    found = []
    for number, at in enumerate(range(0, len(labels), every)):
        half = len(labels[at]) * 4.2
        x = min(max(place(at), half), WIDTH - half)
        rare = ' class="rare"' if number % 2 else ""
        found.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle"{rare}>{escape(labels[at])}</text>')
    return "".join(found)


def _runs(values: Sequence[float | None]) -> Iterable[list[tuple[int, float]]]:
    """Stretches without a gap."""
    run: list[tuple[int, float]] = []
    for at, value in enumerate(values):
        if value is not None and isfinite(value):
            run.append((at, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _alone(values: Sequence[float | None]) -> list[float | None]:
    """The values between two gaps, which no line shows."""
    alone = dict(run[0] for run in _runs(values) if len(run) == 1)
    return [alone.get(at) for at in range(len(values))]


def _path(
    values: Sequence[float | None], place: Callable[[int], float], y: Callable[[float], float], colour: int
) -> str:
    moves = ["M" + "L".join(f"{place(at):.1f} {y(value):.1f}" for at, value in run) for run in _runs(values)]
    return f'<path class="series-{colour}" d="{"".join(moves)}"/>'


def _dots(
    values: Sequence[float | None], place: Callable[[int], float], y: Callable[[float], float], colour: int
) -> str:
    known = [(at, value) for run in _runs(values) for at, value in run]
    return "".join(
        f'<circle class="dot-{colour}" cx="{place(at):.1f}" cy="{y(value):.1f}" r="3"/>' for at, value in known
    )


def _intervals(
    one: Series, place: Callable[[int], float], y: Callable[[float], float], colour: int, *, whiskers: bool
) -> str:
    known = [(at, pair) for at, pair in enumerate(one.intervals) if pair is not None]
    if whiskers:
        return "".join(
            f'<path class="whisker-{colour}" d="M{place(at):.1f} {y(low):.1f}V{y(high):.1f}'
            f'M{place(at) - 4:.1f} {y(low):.1f}h8M{place(at) - 4:.1f} {y(high):.1f}h8"/>'
            for at, (low, high) in known
        )
    if not known:
        return ""
    upper = "L".join(f"{place(at):.1f} {y(high):.1f}" for at, (_, high) in known)
    lower = "L".join(f"{place(at):.1f} {y(low):.1f}" for at, (low, _) in reversed(known))
    return f'<path class="band-{colour}" d="M{upper}L{lower}Z"/>'


def _plain(value: float) -> str:
    """``1200``, ``0.25``, ``2e-06``: as short as it is exact."""
    return f"{value:,.0f}" if abs(value) >= 1000 and value == int(value) else f"{value:.4g}"
