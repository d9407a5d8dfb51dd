"""Whether a score means what it says: expected calibration error and the reliability curve.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks". For objects a prediction is correct if it is a true
positive at IoU 0.5, over the predictions above a least score (Kueppers et al. 2020): a network utters many guesses near 0.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS = 10
LEAST_SCORE = 0.05


@dataclass(frozen=True, slots=True)
class Reliability:
    """Scores in bins of equal width.

    Attributes:
        edges: [K + 1] of the bins.
        confidence: [K] mean score of a bin, NaN where it is empty.
        accuracy: [K] share that is correct, NaN where it is empty.
        count: [K] entries of a bin.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    count: npt.NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap between score and accuracy, weighted by count; NaN without entries."""
        total = self.count.sum()
        if total == 0:
            return float("nan")
        gap = np.abs(np.nan_to_num(self.confidence) - np.nan_to_num(self.accuracy))
        return float((gap * self.count).sum() / total)


def reliability(
    scores: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS, least_score: float = 0.0
) -> Reliability:
    """Bin (score, correct) pairs of anything: objects, or the probabilities of drivable cells.

    Args:
        scores: [N] in 0..1.
        correct: [N] whether each was right.
        bins: how many.
        least_score: pairs below it are left out.
    """
    said, right = np.asarray(scores, np.float64).ravel(), np.asarray(correct, np.float64).ravel()
    said, right = said[said >= least_score], right[said >= least_score]
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, said, bins) / count
        accuracy = np.bincount(place, right, bins) / count
    return Reliability(np.linspace(0, 1, bins + 1), confidence, accuracy, count)
