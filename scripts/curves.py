"""Small plots of training metrics as one SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Points = Sequence[Sequence[float]]

COLOURS = ("#1f6feb", "#d9730d", "#2da44e", "#8250df", "#57606a", "#bf3989", "#9a6700", "#1b7c83")
"""Of the series, unlike in lightness too where there are few."""


def smooth(points: Points, most: int = 20) -> list[tuple[float, float]]:
    """At most so many points, each the mean of its neighbours."""
    share = -(-len(points) // most) or 1
    parts = [points[i : i + share] for i in range(0, len(points), share)]
    return [(sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)) for part in parts]


def draw_curves(plots: Mapping[str, Mapping[str, Points]], across: int = 3) -> str:
    """An SVG with one small plot a metric.

    Args:
        plots: title -> name of a series -> its points (step, value), raw; plots without points are left out.
        across: plots side by side.
    """
    width, height = 300, 150
    drawn = {title: {n: smooth(p) for n, p in series.items() if p} for title, series in plots.items()}
    drawn = {title: series for title, series in drawn.items() if series}
    names = list(dict.fromkeys(name for series in plots.values() for name in series))
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    whole, down = across * width, -(-len(drawn) // across)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {down * height + 24}" '
        f'font-family="sans-serif" font-size="11" fill="#24292f">',
        f'<rect width="{whole}" height="{down * height + 24}" fill="#fff"/>',
    ]
    left = 12
    for name in names:
        parts.append(f'<rect x="{left}" y="6" width="12" height="12" fill="{colours[name]}"/>')
        parts.append(f'<text x="{left + 18}" y="16">{name}</text>')
        left += 40 + 6 * len(name)
    for number, (title, series) in enumerate(drawn.items()):
        parts += _plot(title, series, colours, number % across * width, number // across * height + 24)
    return "\n".join([*parts, "</svg>", ""])


def _plot(title: str, series: Mapping[str, Points], colours: Mapping[str, str], x: int, y: int) -> list[str]:
    left, top, wide, tall = x + 44, y + 24, 240, 94
    xs, ys = ([point[axis] for points in series.values() for point in points] for axis in (0, 1))
    room = 0.05 * (max(ys) - min(ys)) or 0.05
    low, high, last = min(ys) - room, max(ys) + room, max(max(xs), 1)
    parts = [f'<text x="{left - 34}" y="{top - 8}" font-weight="bold">{title}</text>']
    for value in (low, high):
        at = top + tall * (high - value) / (high - low)
        parts.append(f'<path d="M{left} {at:.1f}h{wide}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{left - 4}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{left + wide}" y="{top + tall + 14}" text-anchor="end">step {last:g}</text>')
    for name, points in series.items():
        path = "L".join(
            f"{left + wide * step / last:.1f} {top + tall * (high - value) / (high - low):.1f}"
            for step, value in points
        )
        parts.append(f'<path d="M{path}" fill="none" stroke="{colours[name]}" stroke-width="1.6"/>')
    return parts
