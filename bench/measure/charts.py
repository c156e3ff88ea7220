"""Charts as SVG, written by hand: panels of lines, readable on a light and on a dark page, without fonts of their own.

May touch: the file that it writes. Knows nothing of what is measured.
"""

import dataclasses
import html
import math

PANEL_WIDTH, PANEL_HEIGHT = 430, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 44
LEGEND_HEIGHT, TITLE_HEIGHT = 26, 34
# One after the other for the series of a chart; the second is for dark pages.
COLOURS = [
    ("#0969da", "#58a6ff"), ("#bc4c00", "#f0883e"), ("#1a7f37", "#3fb950"), ("#8250df", "#bc8cff"),
    ("#6e7781", "#8b949e"), ("#bf3989", "#f778ba"),
]


@dataclasses.dataclass
class Series:
    """A line. A point is (x, y) or (x, y, low, high); low and high are drawn as a bar through it."""

    name: str
    points: list


@dataclasses.dataclass
class Panel:
    title: str
    series: list
    x_label: str = ""
    # The values of x that stand beside each other at equal distances; without them x is a scale.
    categories: list = None
    log_x: bool = False
    log_y: bool = False
    # Stretches of x with a name: [(from, to, name)].
    phases: list = ()
    markers: bool = True
    # Where x begins and ends, though no point may be there.
    x_values: list = ()


def draw(path, title, panels, columns=2):
    """Writes the chart. The legend names each series once; a line that is alone in its panel has the panel's title."""
    names = list(dict.fromkeys(series.name for panel in panels if len(panel.series) > 1 for series in panel.series))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend = LEGEND_HEIGHT if names else 0
    width, height = columns * PANEL_WIDTH, TITLE_HEIGHT + legend + rows * PANEL_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{html.escape(title)}">',
        _style(max(1, len(names))),
        f'<text class="title" x="12" y="22">{html.escape(title)}</text>',
    ]
    if legend:
        parts += _legend(names)
    for index, panel in enumerate(panels):
        x, y = index % columns * PANEL_WIDTH, TITLE_HEIGHT + legend + index // columns * PANEL_HEIGHT
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel, names), "</g>"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _style(count):
    def colours(dark):
        return "".join(
            f".l{index}{{stroke:{pair[dark]}}}.f{index}{{fill:{pair[dark]}}}"
            for index, pair in enumerate(COLOURS[number % len(COLOURS)] for number in range(count))
        )

    return (
        "<style>text{font:11px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}"
        ".name{font-weight:600}.soft{fill:#59636e}.grid{stroke:#d1d9e0;stroke-width:1}.phase{fill:#818b98;opacity:.12}"
        f"path{{fill:none;stroke-width:1.8}}.bar{{stroke-width:1.2;opacity:.65}}{colours(0)}"
        "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.soft{fill:#9198a1}.grid{stroke:#3d444d}"
        f"{colours(1)}}}</style>"
    )


def _legend(names):
    x = 12
    for index, name in enumerate(names):
        yield f'<rect class="f{index}" x="{x}" y="{TITLE_HEIGHT + 3}" width="12" height="4"/>'
        yield f'<text x="{x + 17}" y="{TITLE_HEIGHT + 9}">{html.escape(name)}</text>'
        x += 34 + 6.3 * len(name)


def _panel(panel, names):
    points = [point for series in panel.series for point in series.points]
    yield f'<text class="name" x="{LEFT}" y="18">{html.escape(panel.title)}</text>'
    if not points:
        yield f'<text class="soft" x="{LEFT}" y="{TOP + 20}">nothing was measured</text>'
        return
    values = [value for point in points for value in point[1:] if value is not None]
    scale_y, ticks_y = _scale(values, panel.log_y, PANEL_HEIGHT - BOTTOM, TOP)
    if panel.categories:
        step = (PANEL_WIDTH - LEFT - RIGHT) / len(panel.categories)
        places = {category: LEFT + (index + 0.5) * step for index, category in enumerate(panel.categories)}
        scale_x, ticks_x = places.get, panel.categories
    else:
        values = [*panel.x_values, *(point[0] for point in points)]
        scale_x, ticks_x = _scale(values, panel.log_x, LEFT, PANEL_WIDTH - RIGHT)
    bottom, height = PANEL_HEIGHT - BOTTOM, PANEL_HEIGHT - BOTTOM - TOP
    for start, end, name in panel.phases:
        left, right = scale_x(start), scale_x(end)
        yield f'<rect class="phase" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>'
        yield f'<text class="soft" x="{left + 4:.1f}" y="{TOP + 11}">{html.escape(name)}</text>'
    for tick in ticks_y:
        y = scale_y(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{PANEL_WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="soft" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label(tick)}</text>'
    for tick in ticks_x:
        yield f'<text class="soft" x="{scale_x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{label(tick)}</text>'
    middle, x_label = (LEFT + PANEL_WIDTH - RIGHT) / 2, html.escape(panel.x_label)
    yield f'<text class="soft" x="{middle}" y="{PANEL_HEIGHT - 10}" text-anchor="middle">{x_label}</text>'
    for index, series in enumerate(panel.series):
        # Bars of several series at one place stand beside each other.
        aside = (index - (len(panel.series) - 1) / 2) * 5 if panel.categories else 0
        colour = names.index(series.name) if len(panel.series) > 1 else 0
        yield from _line(series, colour, scale_x, scale_y, aside, panel.markers)


def _line(series, colour, scale_x, scale_y, aside, markers):
    places = []
    for x, y, *bar in series.points:
        x, y = scale_x(x) + aside, scale_y(y)
        places.append(f"{x:.1f},{y:.1f}")
        if bar and None not in bar:
            yield f'<path class="bar l{colour}" d="M{x:.1f},{scale_y(bar[0]):.1f}V{scale_y(bar[1]):.1f}"/>'
        if markers:
            yield f'<circle class="f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if len(places) > 1:
        yield f'<path class="l{colour}" d="M{"L".join(places)}"/>'


def _scale(values, is_log, start, end):
    """A function from a value to a place, and the values to write beside the axis."""
    if is_log:
        low = min(value for value in values if value > 0) if any(value > 0 for value in values) else 1
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(max(max(values), low * 1.01)))
        # A whole decade that holds next to nothing would only push the lines together.
        bounds = [decade + math.log10(step) for decade in range(first, last + 1) for step in (1, 2, 5)]
        bottom = max(bound for bound in bounds if bound <= math.log10(low) + 1e-9)
        top = min(bound for bound in [*bounds, last] if bound >= math.log10(max(max(values), low * 1.01)) - 1e-9)
        steps = (1, 2, 5) if top - bottom < 1.8 else (1,)
        ticks = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
        ticks = [tick for tick in ticks if bottom - 1e-9 <= math.log10(tick) <= top + 1e-9]
        return lambda value: start + (end - start) * (math.log10(max(value, low)) - bottom) / (top - bottom), ticks
    # From zero, so that what is flat looks flat.
    high = max([*values, 0]) or 1
    step = 10 ** math.floor(math.log10(high / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if high / (step * factor) <= 5)
    count = math.ceil(high / step - 1e-9)
    return lambda value: start + (end - start) * value / (step * count), [step * index for index in range(count + 1)]


def label(value):
    """A number as short as it can be read: 0.25, 40, 1,200, 30k, 5M."""
    if isinstance(value, str):
        return value
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / min(unit, 1e3) if name == 'k' else value / unit:g}{name}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
