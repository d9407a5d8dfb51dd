"""Pictures of a sweep: how the best value grew, which parameters matter, which values went where, what can be had for what."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from avexp.core.overrides import short_key
from avexp.report.plots import COLOURS, INK, plot_axes, plot_png

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def history(values: Sequence[float | None], pruned: Mapping[int, float], title: str, maximize: bool = True) -> bytes:
    """Each trial's value, and the best so far.

    Args:
        values: by trial in the order of their end; None where there is none.
        pruned: place and last value of trials that were ended early.
        title: the objective.
        maximize: whether more is better.
    """
    figure, axes = plot_axes()
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    xs, ys = [place for place, _ in known], [value for _, value in known]
    axes.scatter(xs, ys, s=16, color=COLOURS[0], alpha=0.75, label="trial", linewidths=0)
    if pruned:
        axes.scatter(list(pruned), list(pruned.values()), s=16, marker="x", color=COLOURS[7], label="pruned")
    if ys:
        best = np.maximum.accumulate(ys) if maximize else np.minimum.accumulate(ys)
        axes.step(xs, best, where="post", color=COLOURS[1], linewidth=1.8, label="best so far")
    return plot_png(figure, axes, f"History of {title}", "trial, as they ended", title, legend=1)


def importances(shares: Mapping[str, float]) -> bytes:
    """Importances that sum to 1, as bars."""
    names = sorted(shares, key=lambda name: shares[name])
    figure, axes = plot_axes(5.6, max(2.2, 0.32 * len(names) + 1.0))
    axes.barh([short_key(name) for name in names], [shares[name] for name in names], color=COLOURS[0], height=0.6)
    return plot_png(figure, axes, "Importance of parameters", "share of the variance (fANOVA)", "")


def parallel(rows: Sequence[Mapping[str, str]], values: Sequence[float], title: str, maximize: bool = True) -> bytes:
    """A line a trial through its values, the better the stronger.

    Args:
        rows: parameter -> value as typed, by trial.
        values: of the objective.
        title: of the objective.
        maximize: whether more is better.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba_array

    names = list(dict.fromkeys(name for row in rows for name in row))
    figure, axes = plot_axes(max(5.6, 1.1 * len(names) + 1.5), 3.8)
    scaled = np.array([_scaled([row.get(name) for row in rows]) for name in names] + [_scaled(list(map(str, values)))])
    rank = np.argsort(np.argsort(values if maximize else -np.asarray(values))) / max(1, len(values) - 1)
    order = np.argsort(rank)  # the best on top
    strong = rank[order] >= 0.9
    lines = np.stack([np.broadcast_to(np.arange(len(scaled)), scaled.T.shape), scaled.T], axis=-1)[order]
    colours = [COLOURS[1] if one else COLOURS[0] for one in strong]
    alphas = np.where(strong, 0.9, 0.12 + 0.3 * rank[order])
    axes.add_collection(LineCollection(list(lines), colors=to_rgba_array(colours, alphas), linewidths=1.4))
    axes.autoscale()
    ends = [_ends([row.get(name) for row in rows]) for name in names] + [_ends(list(map(str, values)))]
    labels = [short_key(name) for name in names] + [title]
    axes.set_xticks(
        range(len(labels)), [f"{low}\n{label}" for label, (low, _) in zip(labels, ends, strict=True)], fontsize=8
    )
    axes.set_yticks([])
    for place, (_, high) in enumerate(ends):
        axes.text(place, 1.03, high, ha="center", fontsize=8, color=INK, in_layout=False)
    return plot_png(figure, axes, f"Trials that finished (the best tenth in colour), {title}", "", "")


def pareto(points: Sequence[tuple[float, float]], front: Sequence[int], names: tuple[str, str]) -> bytes:
    """Two objectives against each other; trials that no other beats in both are joined."""
    figure, axes = plot_axes()
    xy = np.asarray(points, float).reshape(-1, 2)
    axes.scatter(xy[:, 0], xy[:, 1], s=16, color=COLOURS[0], alpha=0.6, label="trial", linewidths=0)
    best = xy[list(front)]
    best = best[np.argsort(best[:, 0])]
    axes.plot(best[:, 0], best[:, 1], color=COLOURS[1], marker="o", markersize=4, linewidth=1.4, label="Pareto front")
    return plot_png(figure, axes, "Pareto front", names[0], names[1], legend=1)


def _in_order(texts: Iterable[str]) -> list[str]:
    """Words by the numbers in them, so that ``[8,16]`` comes before ``[16,32]``."""
    return sorted(set(texts), key=lambda text: ([float(number) for number in NUMBER.findall(text)], text))


def _scaled(texts: Sequence[str | None]) -> npt.NDArray[np.float64]:
    """Into 0..1: numbers by size (by magnitude where they span decades), words in order; NaN where there is none."""
    try:
        numbers = np.array([np.nan if text is None else float(text) for text in texts])
    except ValueError:
        order = _in_order(text for text in texts if text is not None)
        return np.array([np.nan if text is None else order.index(text) / max(1, len(order) - 1) for text in texts])
    known = numbers[np.isfinite(numbers)]
    if len(known) and known.min() > 0 and known.max() / known.min() > 50:
        numbers, known = np.log(numbers), np.log(known)
    spread = float(known.max() - known.min()) if len(known) else 0.0
    return (numbers - known.min()) / spread if spread else np.where(np.isfinite(numbers), 0.5, np.nan)


def _ends(texts: Sequence[str | None]) -> tuple[str, str]:
    known = [text for text in texts if text is not None]
    try:
        numbers = [float(text) for text in known]
    except ValueError:
        order = _in_order(known)
        return order[0][:14], order[-1][:14]
    return f"{min(numbers):.3g}", f"{max(numbers):.3g}"
