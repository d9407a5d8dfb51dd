"""AP50 of weighted frames, fast enough for a bootstrap: matches are made once, only their weights change."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.metrics.matching import Bools, Floats, FrameMatches, FrameObjects, Ints

RECALLS = np.linspace(0.0, 1.0, 101)
CHUNK = 32
"""Resamples worked on at once: enough to amortise NumPy's calls, small enough for the processor's cache."""


@dataclass(frozen=True, slots=True)
class ClassEvidence:
    """The predictions of one class over all frames, best score first.

    Attributes:
        scores: [N].
        hit: [N] true positives at IoU 0.5.
        frames: [N] index of the frame.
        truths: [F] true boxes of the class in each frame.
    """

    scores: Floats
    hit: Bools
    frames: Ints
    truths: Ints

    def ap50(self, weights: Floats) -> Floats:
        """AP50 for each row of weights [R, F] -> [R]; NaN where no truth has weight. 101-point interpolation."""
        total = weights @ self.truths
        if not self.hit.any():
            return np.where(total > 0, 0.0, np.nan)
        spread = weights[:, self.frames]
        # precision rises only where a true positive is, so the curve is read there
        at = np.flatnonzero(self.hit)
        seen = np.cumsum(spread, 1)[:, at]
        found = np.cumsum(spread[:, at], 1)
        precision = found / np.maximum(seen, 1e-12)
        highest = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        reached = found / np.maximum(total, 1e-12)[:, None]
        result = np.full(len(weights), np.nan)
        for row in np.flatnonzero(total > 0):
            index = np.searchsorted(reached[row], RECALLS, side="left")
            result[row] = highest[row, index[index < len(at)]].sum() / len(RECALLS)
        return result


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """A precision-recall curve at IoU 0.5.

    Attributes:
        recall: [K] rising.
        precision: [K] highest precision at this recall or above.
        score: [K] the score at which this recall is reached.
    """

    recall: Floats
    precision: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class DetectionEvidence:
    """All that AP50 needs, by class, without boxes.

    Attributes:
        classes: names.
        by_class: evidence in the order of the classes; ignored predictions are left out.
        frames: how many frames there are, F.
    """

    classes: tuple[str, ...]
    by_class: tuple[ClassEvidence, ...]
    frames: int

    @classmethod
    def of(cls, frames: list[FrameObjects], matches: list[FrameMatches], classes: list[str]) -> "DetectionEvidence":
        """Gather the matches of frames; a frame's place in the list is its index in the weights."""
        scores = np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in frames)]).astype(np.float64)
        names = np.concatenate([np.zeros(0, np.int64), *(frame.classes for frame in frames)])
        hit = np.concatenate([np.zeros(0, np.bool_), *(found.hit for found in matches)])
        counted = ~np.concatenate([np.zeros(0, np.bool_), *(found.ignored for found in matches)])
        counts = [len(frame.scores) for frame in frames]
        owner = np.repeat(np.arange(len(frames)), counts)
        parts = []
        for index in range(len(classes)):
            chosen = np.flatnonzero((names == index) & counted)
            chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
            truths = np.array([np.count_nonzero(frame.true_classes == index) for frame in frames], np.int64)
            parts.append(ClassEvidence(scores[chosen], hit[chosen], owner[chosen], truths))
        return cls(tuple(classes), tuple(parts), len(frames))

    def ap50(self, weights: npt.ArrayLike | None = None, only: str | None = None) -> Floats:
        """AP50, the mean over classes that have truth, for each row of weights.

        Args:
            weights: [R, F] or [F] how often each frame counts; None counts each once.
            only: one class instead of the mean.

        Returns:
            [R]; NaN where no truth has weight.
        """
        rows = np.atleast_2d(np.ones(self.frames) if weights is None else np.asarray(weights, np.float64))
        chosen = [part for name, part in zip(self.classes, self.by_class, strict=True) if only in (None, name)]
        parts = []
        for start in range(0, len(rows), CHUNK):
            values = np.stack([part.ap50(rows[start : start + CHUNK]) for part in chosen])
            known = np.isfinite(values)
            count = known.sum(0)
            parts.append(np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan))
        return np.concatenate(parts)

    def curve(self, name: str) -> PrecisionRecall | None:
        """Precision over recall of one class; None where it has no truth."""
        part = self.by_class[self.classes.index(name)]
        total = int(part.truths.sum())
        if total == 0:
            return None
        found = np.cumsum(part.hit)
        precision = found / np.arange(1, len(found) + 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.flatnonzero(part.hit)
        return PrecisionRecall(found[at] / total, highest[at], part.scores[at])
