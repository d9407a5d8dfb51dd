"""Plots as PNG: one calm style, transparent ground and grey text, so that they sit on a light and on a dark page.

Matplotlib's object interface on the Agg canvas: no global state, no display. It is imported when the first plot is drawn.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#eab308", "#06b6d4", "#ef4444", "#94a3b8")
INK, GRID = "#808a98", "#808a98"
DPI = 160

Series = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]
"""Name -> x, y."""


def plot_axes(width: float = 5.6, height: float = 3.5) -> tuple[Any, Any]:
    """A figure and its axes in the one style of all plots; inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.grid(True, color=GRID, alpha=0.22, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8.5, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_alpha(0.5)
    return figure, axes


def plot_png(figure: Any, axes: Any, title: str, x: str, y: str, legend: int = 0) -> bytes:
    """Finish a plot; ``legend`` is the number of its columns, 0 for none."""
    axes.set_title(title, color=INK, fontsize=10.5, fontweight="bold", loc="left")
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8.5, frameon=False, labelcolor=INK, ncols=legend)
    stream = io.BytesIO()
    # no software or date in the file: the same data give the same bytes
    figure.savefig(stream, format="png", dpi=DPI, transparent=True, metadata={"Software": None})
    return stream.getvalue()


def line_plot(series: Series, title: str, x: str, y: str, log_y: bool = False) -> bytes:
    """Lines over a common axis, such as a KPI over epochs."""
    figure, axes = plot_axes()
    for index, (name, (xs, ys)) in enumerate(series.items()):
        marker = "o" if np.size(xs) <= 12 else None
        axes.plot(xs, ys, color=COLOURS[index % len(COLOURS)], linewidth=1.8, marker=marker, markersize=3.5, label=name)
    if log_y:
        axes.set_yscale("log")
    return plot_png(figure, axes, title, x, y, legend=1)


def loss_curves(series: Series, title: str = "Loss", smooth: int = 1) -> bytes:
    """Losses over steps on a logarithmic axis.

    Args:
        series: name -> steps, losses.
        title: of the plot.
        smooth: width of a running mean [steps]; the raw line stays visible behind it.
    """
    figure, axes = plot_axes()
    for index, (name, (steps, losses)) in enumerate(series.items()):
        xs, ys, colour = np.asarray(steps, float), np.asarray(losses, float), COLOURS[index % len(COLOURS)]
        width = min(smooth, len(ys))
        if width > 1:
            axes.plot(xs, ys, color=colour, alpha=0.2, linewidth=0.8)
            ys, xs = np.convolve(ys, np.full(width, 1 / width), "valid"), xs[width - 1 :]
        axes.plot(xs, ys, color=colour, linewidth=1.7, label=name)
    if all((np.asarray(losses, float) > 0).all() for _steps, losses in series.values()):
        axes.set_yscale("log")
    return plot_png(figure, axes, title, "step", "loss", legend=1)


def pr_curves(
    series: Series, ap: Mapping[str, float] | None = None, title: str = "Precision and recall at IoU 0.5"
) -> bytes:
    """Precision over recall of each class.

    Args:
        series: class -> recall, precision.
        ap: class -> AP50, for the legend.
        title: of the plot.
    """
    figure, axes = plot_axes()
    for index, (name, (recall, precision)) in enumerate(series.items()):
        xs, ys = np.asarray(recall, float), np.asarray(precision, float)
        label = f"{name}  {ap[name]:.2f}" if ap and name in ap else name
        if len(xs):
            # a curve begins at recall 0 and falls to 0 where no truth is found any more
            xs, ys = np.concatenate([[0], xs, xs[-1:]]), np.concatenate([ys[:1], ys, [0]])
        axes.plot(xs, ys, color=COLOURS[index % len(COLOURS)], linewidth=1.8, label=label)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    return plot_png(figure, axes, title, "recall", "precision", legend=1)


def confusion_matrix(
    counts: npt.NDArray[np.int64], names: Sequence[str], title: str = "Confusion between classes"
) -> bytes:
    """Row-normalised confusion with counts.

    Args:
        counts: [C, C] or [C + 1, C + 1] with background last; row = truth, column = prediction.
        names: C class names.
        title: of the plot.
    """
    labels = [*names, *(["background"] if len(counts) > len(names) else [])]
    figure, axes = plot_axes(max(5.6, 0.7 * len(labels)), max(3.5, 0.36 * len(labels) + 1.2))
    total = counts.sum(1, keepdims=True)
    share = counts / np.maximum(total, 1)
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("calm", ["#3b82f600", "#3b82f6ff"])
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            ink = "white" if share[row, column] > 0.55 else INK
            text = f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    return plot_png(figure, axes, title, "predicted", "true")


def reliability_curve(
    confidence: npt.NDArray[np.float64],
    accuracy: npt.NDArray[np.float64],
    count: npt.NDArray[np.int64],
    ece: float,
    title: str = "Does a score mean what it says?",
) -> bytes:
    """Share of right predictions over their score, with the number of predictions behind it.

    Args:
        confidence: [K] mean score of each bin, NaN where empty.
        accuracy: [K] share that is right.
        count: [K] predictions.
        ece: expected calibration error.
        title: of the plot.
    """
    figure, axes = plot_axes()
    edges = np.linspace(0, 1, len(count) + 1)
    heights = count / max(int(count.max(initial=0)), 1)
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=INK, alpha=0.16, label="predictions (relative)")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect")
    seen = np.isfinite(confidence) & np.isfinite(accuracy)
    line = {"color": COLOURS[0], "linewidth": 1.8, "marker": "o", "markersize": 4}
    axes.plot(confidence[seen], accuracy[seen], **line, label=f"observed, ECE {ece:.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return plot_png(figure, axes, title, "score", "share that is right", legend=1)


def condition_bars(
    values: Mapping[str, Mapping[str, float]], title: str = "KPIs by condition", y: str = "score"
) -> bytes:
    """Grouped bars: a group a KPI, a bar a condition.

    Args:
        values: KPI -> condition -> value; missing ones are left out.
        title: of the plot.
        y: what the bars measure.
    """
    conditions = list(dict.fromkeys(name for group in values.values() for name in group))
    figure, axes = plot_axes(max(5.6, 0.34 * len(conditions) * len(values) + 1.5))
    width = 0.8 / max(len(conditions), 1)
    for index, condition in enumerate(conditions):
        places = [place for place, group in enumerate(values.values()) if condition in group]
        heights = [group[condition] for group in values.values() if condition in group]
        at = np.array(places) - 0.4 + width * (index + 0.5)
        bars = axes.bar(at, heights, width * 0.86, color=COLOURS[index % len(COLOURS)], label=condition)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, color=INK, padding=1.5)
    axes.set_xticks(range(len(values)), list(values))
    axes.grid(False, axis="x")
    axes.margins(y=0.28)
    return plot_png(figure, axes, title, "", y, legend=min(len(conditions), 6) if len(conditions) > 1 else 0)


def latency_histogram(series: Mapping[str, npt.ArrayLike], title: str = "Latency of one frame") -> bytes:
    """How long frames took, warm-up excluded by the caller.

    Args:
        series: name of a plan -> latencies [ms].
        title: of the plot.
    """
    figure, axes = plot_axes()
    samples = {name: np.asarray(values, float) for name, values in series.items()}
    everything = np.concatenate([np.zeros(0), *samples.values()])
    # the slowest percent would stretch the axis until nothing else is seen; its figure stands in the legend
    top = float(np.quantile(everything, 0.99)) * 1.15 if len(everything) else 1.0
    bins = np.linspace(float(everything.min(initial=top)) * 0.95, top, 40)
    for index, (name, values) in enumerate(samples.items()):
        colour = COLOURS[index % len(COLOURS)]
        p50, p99 = np.quantile(values, [0.5, 0.99]) if len(values) else (np.nan, np.nan)
        label = f"{name}  p50 {p50:.1f}  p99 {p99:.1f}  max {values.max(initial=0):.1f} ms"
        axes.hist(values, bins, color=colour, alpha=0.55, label=label)
        axes.axvline(p50, ymax=0.68, color=colour, linewidth=1.4)
        axes.axvline(p99, ymax=0.68, color=colour, linewidth=1.4, linestyle=(0, (4, 3)))
    axes.margins(y=0.45)
    return plot_png(figure, axes, title, "ms", "frames", legend=1)
