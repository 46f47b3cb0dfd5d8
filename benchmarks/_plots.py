"""Pictures of what was measured, as PNG."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import attrs

from . import calls, imports, streams, threads
from ._measure import Bench, Figure
from ._peers import CALL_PEERS, CLAUDE, OURS
from ._stream_peers import STREAM_PEERS

__all__ = ["draw"]

_OURS_COLOUR, _OTHER, _VARIANT = "#d1495b", "#8d99ae", "#e9a6ae"
_LINES = ("#444444", "#8d99ae", "#5fa8d3", "#2a6f97", "#c9ada7", "#52b788", "#b08968", "#9d4edd")


@attrs.frozen
class _Bars:
    """A picture with a bar for each.

    Attributes:
        file: Its name.
        what: What was measured.
        title: What stands above it.
        unit: What stands below it.
        names: Whose bars there may be.
        scale: From what was measured to the unit.
    """

    file: str
    what: str
    title: str
    unit: str
    names: Collection[str]
    scale: float


_EVENT = "CPU of one streamed event, at full speed"
_BARS = [
    _Bars("cpu_plain", f"{calls.CPU}, plain", "CPU of one call, plain", "µs", CALL_PEERS, 1e6),
    _Bars("cpu_tls", f"{calls.CPU}, over TLS", "CPU of one call, TLS", "µs", CALL_PEERS, 1e6),
    *(
        _Bars(
            f"stream_{api.lower()}",
            f"{api}, {streams.AT_ONCE}",
            f"{_EVENT}, {api}",
            "µs",
            STREAM_PEERS,
            1e6,
        )
        for api in ("chat", "Claude")
    ),
    _Bars("imports", imports.IMPORT, "Import, beyond bare Python", "ms", imports.STATEMENTS, 1e3),
    _Bars(
        "memory",
        f"{threads.CELLS[1000, True].name}: peak",
        "Peak memory, 1,000 threads, 50 ms",
        "MB",
        CALL_PEERS,
        1,
    ),
]


def _colour(name: str) -> str:
    return _OURS_COLOUR if name == OURS else _VARIANT if name.startswith(OURS) else _OTHER


def _draw_bars(plt: Any, path: Path, bars: _Bars, found: dict[str, Figure]) -> None:
    """Draw a bar for each, the least at the top."""
    order = sorted(found, key=lambda name: -found[name].median)
    medians = [found[name].median for name in order]
    spreads = [found[name].spread or 0 for name in order]
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.36 * len(order)))
    colours = [_colour(name) for name in order]
    error = {"ecolor": "#333333", "elinewidth": 1}
    axes.barh(order, medians, xerr=spreads, color=colours, error_kw=error)
    reach = max(median + spread for median, spread in zip(medians, spreads, strict=True))
    for place, (median, spread) in enumerate(zip(medians, spreads, strict=True)):
        text = f"{median:,.0f}" if median >= 20 else f"{median:,.1f}"
        axes.text(median + spread + reach * 0.01, place, text, va="center", fontsize=8)
    axes.set_xlim(0, reach * 1.12)
    _finish(plt, figure, axes, path, bars.title, bars.unit)


def _finish(plt: Any, figure: Any, axes: Any, path: Path, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(unit, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _figures(bench: Bench, bars: _Bars) -> dict[str, Figure]:
    # A call that opens a connection first is no bar beside those that do not.
    hidden = (CLAUDE, "requests.post a call") if bars.file == "cpu_tls" else (CLAUDE,)
    names = [name for name in bars.names if name not in hidden]
    found = {name: bench.figure(bars.what, name) for name in names}
    return {
        name: Figure(figure.median * bars.scale, (figure.spread or 0) * bars.scale)
        for name, figure in found.items()
        if figure is not None
    }


def _by_threads(plt: Any, path: Path, bench: Bench, what: str, title: str, scale: float) -> None:
    """Draw a line for each client over the number of threads, with a 50 ms answer."""
    cells = [cell for cell in threads.CELLS.values() if cell.late]
    figure, axes = plt.subplots(figsize=(7.5, 4.4))
    colours = iter(_LINES)
    for name in CALL_PEERS:
        points = [
            (cell.threads, found.median * scale)
            for cell in cells
            if (found := bench.figure(f"{cell.name}: {what}", name)) is not None
        ]
        if points:
            ours = name == OURS
            colour = _OURS_COLOUR if ours else next(colours)
            style = {"color": colour, "linewidth": 2.6 if ours else 1.3, "zorder": 3 if ours else 2}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, **style)
    if what == "rate":
        ideal = [(cell.threads, cell.ideal()) for cell in cells]
        axes.plot(*zip(*ideal, strict=True), linestyle=":", color="#bbbbbb", label="ideal")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([cell.threads for cell in cells], [f"{cell.threads:,}" for cell in cells])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _finish(plt, figure, axes, path, title, "threads that share one client")


def draw(folder: Path, bench: Bench) -> list[Path]:
    """Draw everything into a folder; returns the files.

    Args:
        folder: Where to.
        bench: What was measured.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for bars in _BARS:
        found = _figures(bench, bars)
        if found:
            _draw_bars(plt, folder / f"{bars.file}.png", bars, found)
    if any(what.endswith(": rate") for what, _ in bench.found):
        rate = "Calls a second, the answer takes 50 ms"
        _by_threads(plt, folder / "calls_a_second.png", bench, "rate", rate, 1)
        wait = "99th percentile of a call in ms, the answer takes 50 ms"
        _by_threads(plt, folder / "p99.png", bench, "p99", wait, 1e3)
    return sorted(folder.glob("*.png"))
