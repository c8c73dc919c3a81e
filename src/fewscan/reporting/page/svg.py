"""Charts as inline SVG: colours come from the page's style sheet, so that they suit light and dark.

Not matplotlib's: the four charts of a training of ACTION on ACDC take 318 ms and 92 KB there, 5 ms and 40 KB here, of
which 18 KB let the page tell the values under the pointer, and its colours are fixed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fewscan.reporting.lines import Line

WIDTH, HEIGHT = 420, 240
WIDE = 880
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 12, 34
COLOURS = 8


@dataclass(frozen=True)
class Axis:
    """Values to positions."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low or 1) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values in the range."""
        return _decades(self.low, self.high) if self.log else _round_steps(self.low, self.high)


def line_chart(
    lines: Sequence[Line],
    label: str,
    x_label: str,
    log: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[float] = (),
    wide: bool = False,
) -> Markup:
    """Lines over a common x, with a legend.

    Args:
        lines: Lines to draw; a log chart leaves out values that are not positive.
        label: Name of the quantity along y, which a screen reader also says.
        x_label: Name of the quantity along x.
        log: Whether y is logarithmic.
        y_range: Lowest and highest y of the chart; None: those of the values.
        marks: Positions along x of dotted vertical lines.
        wide: Whether the chart is as wide as two.
    """
    kept = [_positive(line) if log else line for line in lines]
    kept = [line for line in kept if len(line.xs)]
    if not kept:
        return Markup('<p class="none">Nothing to draw: {}.</p>').format(label)
    ys = [y for line in kept for y in line.ys]
    xs = [x for line in kept for x in line.xs]
    low, high = y_range or _widened(min(ys), max(ys), log)
    width = WIDE if wide else WIDTH
    x, y = Axis(min(0, *xs), max(xs), LEFT, width - RIGHT), Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    body = [_grid(x, y, x_label)]
    body += [
        Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(_p(x(m)), TOP, HEIGHT - BOTTOM)
        for m in marks
    ]
    body += [_draw_line(line, x, y) for line in kept]
    body.append(Markup('<line class="guide" y1="{}" y2="{}" visibility="hidden"/>').format(TOP, HEIGHT - BOTTOM))
    return _chart(body, label, _legend(kept), width=width, values=_pointer_values(kept, x, width))


def scatter(
    points: Sequence[tuple[float, float, int, str]],
    label: str,
    x_label: str,
    diagonal: bool = False,
    names: Sequence[tuple[str, int]] = (),
    crosses: Sequence[tuple[float, float, int, str]] = (),
) -> Markup:
    """Points (x, y, colour, title).

    Args:
        points: Points to draw, small where there are more than 100.
        label: Name of the quantity along y, which a screen reader also says.
        x_label: Name of the quantity along x.
        diagonal: Whether both axes go from 0 to 1, with the line where they agree; else axes have no unit and one
            scale.
        names: Names and numbers of the colours, for the legend.
        crosses: Points that are drawn as large marks on top, with a title each.
    """
    everything = [*points, *crosses]
    if not everything:
        return Markup('<p class="none">Nothing to draw: {}.</p>').format(label)
    if diagonal:
        x, y = Axis(0, 1, LEFT, WIDTH - RIGHT), Axis(0, 1, HEIGHT - BOTTOM, TOP)
    else:
        x, y = _equal_axes(everything)
    body = [_grid(x, y, x_label) if diagonal else _frame(x_label)]
    if diagonal:
        body.append(
            Markup('<line class="mark" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(*map(_p, (x(0), y(0), x(1), y(1))))
        )
    radius = 2 if len(points) > 100 else 4
    body += [_dot(x(a), y(b), radius, colour, title) for a, b, colour, title in points]
    body += [_cross(x(a), y(b), colour, title) for a, b, colour, title in crosses]
    return _chart(body, label, _named_legend(names))


def strips(rows: Sequence[tuple[str, int, Sequence[float]]], label: str, x_label: str) -> Markup:
    """A row per class: every case's value between 0 and 1 as a dot, the mean as a bar.

    Args:
        rows: Name, number of the colour and values, 0 to 1, of each row.
        label: Title of the chart, which a screen reader says.
        x_label: Name of the quantity that the values are.
    """
    left, step = 110, 34
    height = step * len(rows) + BOTTOM
    x = Axis(0, 1, left, WIDTH - RIGHT)
    body = [_x_grid(x, 4, height - BOTTOM, x_label)]
    for number, (name, colour, values) in enumerate(rows):
        middle = step * (number + 0.5) + 2
        body.append(Markup('<text x="{}" y="{}" class="end">{}</text>').format(left - 10, _p(middle + 4), name))
        # Equal values would hide each other: they are spread over three heights.
        body += [_dot(x(v), middle + 5 * (i % 3 - 1), 3, colour, f"{v:.3f}") for i, v in enumerate(values)]
        if len(values):
            mean = _p(x(sum(values) / len(values)))
            body.append(
                Markup('<line class="mean" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                    mean, _p(middle - 13), _p(middle + 13)
                )
            )
    return _chart(body, label, Markup(""), height)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    label: str,
    *,
    span: tuple[float, float] = (0.0, 1.0),
    places: int = 2,
    framed: Sequence[tuple[int, int]] = (),
    left: int = 96,
) -> Markup:
    """A table as coloured cells, each with its number.

    Args:
        rows: Names of the rows, each cut where it is too long; the whole one is told under the pointer.
        columns: Names of the columns, likewise.
        values: Value of each cell, row by row; None: there is none.
        label: Name of the quantity, which a screen reader also says.
        span: Values of no colour and of full colour; those beyond are drawn as these.
        places: Number of digits after the point.
        framed: Rows and columns, each from 0, of the cells that have a frame.
        left: Room for the names of the rows.
    """
    top = 8
    cell = min(64, (WIDTH - left - RIGHT) / len(columns))
    body = []
    for row, (name, numbers) in enumerate(zip(rows, values, strict=True)):
        y = top + row * cell
        body.append(
            Markup('<text x="{}" y="{}" class="end">{}</text>').format(
                left - 8, _p(y + cell / 2 + 4), _shortened(name, left - 8)
            )
        )
        for column, value in enumerate(numbers):
            strength = 0.0 if value is None else min(1.0, max(0.0, (value - span[0]) / ((span[1] - span[0]) or 1)))
            text = "–" if value is None else f"{value:.{places}f}"
            body.append(
                Markup(
                    '<g><title>{} and {}: {}</title><rect class="cell{}" x="{}" y="{}" width="{}" height="{}" rx="4" '
                    'style="--s:{}%"/><text x="{}" y="{}" class="middle{}">{}</text></g>'
                ).format(
                    name, columns[column], text, " framed" if (row, column) in framed else "",
                    _p(left + column * cell), _p(y), _p(cell - 3), _p(cell - 3),
                    round(100 * strength), _p(left + (column + 0.5) * cell - 1.5), _p(y + cell / 2 + 3),
                    " strong" if strength > 0.55 else "", text,
                )
            )  # fmt: skip
    for column, name in enumerate(columns):
        body.append(
            Markup('<text x="{}" y="{}" class="middle">{}</text>').format(
                _p(left + (column + 0.5) * cell), _p(top + len(rows) * cell + 14), _shortened(name, cell)
            )
        )
    return _chart(body, label, Markup(""), top + len(rows) * cell + 24)


def _draw_line(line: Line, x: Axis, y: Axis) -> Markup:
    path = "M" + "L".join(f"{_p(x(a))} {_p(y(b))}" for a, b in zip(line.xs, line.ys, strict=True))
    drawn = Markup('<path class="line c{}{}" d="{}"><title>{}</title></path>').format(
        _colour(line.colour), " dashed" if line.dashed else "", path, line.name
    )
    if not line.dots and len(line.xs) > 1:
        return drawn
    dots = [
        _dot(x(a), y(b), 3, line.colour, f"{line.name}, {a:g}: {b:.3f}") for a, b in zip(line.xs, line.ys, strict=True)
    ]
    return drawn + Markup("").join(dots)


def _dot(x: float, y: float, radius: float, colour: int, title: str) -> Markup:
    return Markup('<circle class="dot c{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        _colour(colour), _p(x), _p(y), radius, title
    )


def _cross(x: float, y: float, colour: int, title: str) -> Markup:
    return Markup('<path class="cross c{}" d="M{} {}l7 7l-7 7l-7 -7z"><title>{}</title></path>').format(
        _colour(colour), _p(x), _p(y - 7), title
    )


def _grid(x: Axis, y: Axis, x_label: str) -> Markup:
    rows = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" class="end">{}</text>').format(
            LEFT, _p(x.end), _p(y(t)), _p(y(t)), LEFT - 6, _p(y(t) + 4), _short(t)
        )
        for t in y.ticks()
    ]
    return Markup("").join(rows) + _x_grid(x, TOP, HEIGHT - BOTTOM, x_label, lines=False)


def _x_grid(x: Axis, top: float, bottom: float, label: str, lines: bool = True) -> Markup:
    parts = []
    for tick in x.ticks():
        if lines:
            parts.append(
                Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(_p(x(tick)), top, bottom)
            )
        parts.append(
            Markup('<text x="{}" y="{}" class="middle">{}</text>').format(_p(x(tick)), bottom + 15, _short(tick))
        )
    parts.append(
        Markup('<text x="{}" y="{}" class="middle label">{}</text>').format(
            _p((x.start + x.end) / 2), bottom + 30, label
        )
    )
    return Markup("").join(parts)


def _frame(x_label: str) -> Markup:
    return Markup(
        '<rect class="frame" x="{}" y="{}" width="{}" height="{}" rx="6"/><text x="{}" y="{}" class="middle label">{}'
        "</text>"
    ).format(8, TOP, WIDTH - 16, HEIGHT - TOP - BOTTOM + 8, WIDTH / 2, HEIGHT - 6, x_label)


def _pointer_values(lines: Sequence[Line], x: Axis, width: float) -> str:
    """What the page's script needs to tell the values under the pointer, as JSON."""
    axis = {"low": x.low, "high": x.high, "start": x.start, "end": x.end, "width": width}
    return json.dumps({**axis, "lines": [[list(line.xs), [float(f"{v:.4g}") for v in line.ys]] for line in lines]})


def _chart(
    body: Sequence[Markup],
    label: str,
    legend: Markup,
    height: float = HEIGHT,
    width: float = WIDTH,
    values: str | None = None,
) -> Markup:
    """A chart with its caption and legend; values: see `_pointer_values`, None for charts without lines."""
    return Markup(
        '<figure class="chart{}><figcaption>{} <b class="at"></b></figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}"{}>{}</svg>{}</figure>'
    ).format(
        Markup(' wide" tabindex="0"') if width == WIDE else Markup('"'),
        label,
        width,
        _p(height),
        label,
        Markup(' data-lines="{}"').format(values) if values is not None else "",
        Markup("").join(body),
        legend,
    )


def _legend(lines: Sequence[Line]) -> Markup:
    if len(lines) < 2:
        return Markup("")
    return _named_legend([(line.name, line.colour) for line in lines], {line.name for line in lines if line.dashed})


def _named_legend(names: Sequence[tuple[str, int]], dashed: set[str] | None = None) -> Markup:
    if not names:
        return Markup("")
    items = [
        Markup('<li><i class="c{}{}"></i>{} <b></b></li>').format(
            _colour(colour), " dashed" if name in (dashed or ()) else "", name
        )
        for name, colour in names
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _colour(number: int) -> int:
    return 0 if number <= 0 else (number - 1) % COLOURS + 1


def _positive(line: Line) -> Line:
    pairs = [(a, b) for a, b in zip(line.xs, line.ys, strict=True) if b > 0]
    return Line(line.name, [a for a, _ in pairs], [b for _, b in pairs], line.colour, line.dashed, line.dots)


def _equal_axes(points: Sequence[tuple[float, float, int, str]]) -> tuple[Axis, Axis]:
    """Axes of one scale around the points."""
    ranges = [(min(values), max(values)) for values in ([p[0] for p in points], [p[1] for p in points])]
    width, height = WIDTH - 60, HEIGHT - BOTTOM - TOP - 16
    scale = max((ranges[0][1] - ranges[0][0]) / width, (ranges[1][1] - ranges[1][0]) / height) or 1.0
    middles = [(low + high) / 2 for low, high in ranges]
    x, y = WIDTH / 2, TOP + 8 + height / 2
    reach = scale * width / 2
    return (
        Axis(middles[0] - reach, middles[0] + reach, x - width / 2, x + width / 2),
        Axis(middles[1] - reach, middles[1] + reach, y + width / 2, y - width / 2),
    )


def _widened(low: float, high: float, log: bool) -> tuple[float, float]:
    """A range with some room around the values; a linear one that begins near 0 begins there."""
    if log:
        return low / 1.2, high * 1.2
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    start = 0.0 if 0 <= low < 0.5 * high else low - room
    return start, high + room


def _round_steps(low: float, high: float) -> list[float]:
    raw = (high - low) / 5 or 1.0
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    factors: Sequence[int] = (1,) if high / low > 200 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def _short(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _shortened(name: str, width: float) -> str:
    most = max(3, int(width / 7))
    return name if len(name) <= most else name[: most - 1] + "…"


def _p(position: float) -> str:
    return f"{position:.1f}".removesuffix(".0")
