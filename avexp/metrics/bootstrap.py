"""Is one evaluation worse than another? A paired bootstrap over frames, with an interval for the relative loss.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap" (percentile interval). Both sides are weighted by the same
draw, so what is hard in a frame is hard for both and cancels. Frames of one drive resemble each other: the interval is that
of these drives, and too narrow for drives on other roads.
"""

from dataclasses import dataclass

import numpy as np

from avexp.core.counter_random import generator
from avexp.core.errors import DataError
from avexp.metrics.kpi import Kpi, KpiAccumulator, find_kpi
from avexp.metrics.matching import Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """Relative loss of the second side against the first; positive is worse.

    Attributes:
        loss: over all frames; NaN without evidence.
        low: lower end of the interval.
        high: upper end.
    """

    loss: float
    low: float
    high: float


def paired_bootstrap(
    a: KpiAccumulator,
    b: KpiAccumulator,
    kpi: str | Kpi,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Relative loss of ``b`` against ``a`` in one KPI.

    Args:
        a: the reference, such as the checkpoint.
        b: the candidate, such as an int8 plan, on the same frames.
        kpi: any KPI but objects/ap50_95 and objects/ece.
        resamples: draws of as many frames as there are, with replacement.
        seed: of the draws; the same for all KPIs.
        confidence: share of the draws inside the interval.

    Raises:
        DataError: the two hold different frames, or the KPI is unknown or cannot be resampled.
    """
    judged = find_kpi(kpi) if isinstance(kpi, str) else kpi
    keys = a.keys()
    if keys != b.keys():
        common = len(set(keys) & set(b.keys()))
        what = f"{len(a)} and {len(b)} frames, of which {common} are the same"
        raise DataError("paired bootstrap", what, "evaluate both on the same dataset version and slice")
    if not keys:
        return Interval(float("nan"), float("nan"), float("nan"))
    draws = generator(seed, "bootstrap").multinomial(len(keys), np.full(len(keys), 1 / len(keys)), resamples)
    weights = np.concatenate([np.ones((1, len(keys))), draws.astype(np.float64)])
    loss = relative_loss(judged, weighted_values(a, judged, weights), weighted_values(b, judged, weights))
    drawn = loss[1:][np.isfinite(loss[1:])]
    if not len(drawn):
        return Interval(float(loss[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(loss[0]), float(low), float(high))


def relative_loss(kpi: Kpi, reference: Floats, candidate: Floats) -> Floats:
    """(reference - candidate) / reference for scores, (candidate - reference) / reference for errors."""
    worse_by = reference - candidate if kpi.higher_is_better else candidate - reference
    # where the reference is 0, any change is beyond measure, and none is none
    return np.where(worse_by == 0, 0.0, worse_by / np.maximum(np.abs(reference), 1e-12))


def weighted_values(accumulator: KpiAccumulator, kpi: Kpi, weights: Floats) -> Floats:
    """A KPI for each row of frame weights.

    Args:
        accumulator: F frames.
        kpi: which.
        weights: [R, F], in the order of the accumulator's sorted keys.

    Returns:
        [R]; NaN without evidence.

    Raises:
        DataError: the KPI is neither AP50 nor a ratio of sums.
    """
    keys = accumulator.keys()
    if kpi.name == "objects/ap50":
        return accumulator.detection_evidence(keys).ap50(weights)
    if kpi.name.startswith("objects/ap50/"):
        only = kpi.name.rsplit("/", 1)[1]
        if only not in accumulator.classes:
            raise DataError(f"kpi {kpi.name}", "no such class", "known: " + ", ".join(accumulator.classes))
        return accumulator.detection_evidence(keys).ap50(weights, only)
    if kpi.name in ("objects/ap50_95", "objects/ece"):
        raise DataError(f"kpi {kpi.name}", "cannot be resampled", "use objects/ap50")
    sums = np.array([accumulator.frames[key].sums.get(kpi.name, (0.0, 0.0)) for key in keys])
    above, below = (weights @ sums).T
    return np.where(below > 0, above / np.maximum(below, 1e-12), np.nan)
