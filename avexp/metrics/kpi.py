"""The numbers that a release is judged by: what they are called, and how they are gathered over frames and conditions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from avexp.core.errors import DataError, did_you_mean
from avexp.metrics.calibration import LEAST_SCORE, Reliability, reliability
from avexp.metrics.detection import average_precision
from avexp.metrics.detection_evidence import DetectionEvidence, PrecisionRecall
from avexp.metrics.frame_evidence import FrameEvidence, gather
from avexp.metrics.matching import FrameMatches, FrameObjects, Ints, confusion, match
from avexp.records.labels import OBJECT_CLASSES, Conditions, Labels, Task
from avexp.records.prediction import Prediction

STATE_FORMAT = 2
CONDITION_NAMES = tuple(Conditions.model_fields)


@dataclass(frozen=True, slots=True)
class Kpi:
    """One number that is judged.

    Attributes:
        name: ``<task>/<measure>``, with ``/<class>`` where it is of one class.
        task: which head it judges.
        title: for tables.
        unit: "" for shares.
        higher_is_better: a score in 0..1, else an error with 0 as its best.
        headline: the one that stands for its task.
    """

    name: str
    task: Task
    title: str
    unit: str = ""
    higher_is_better: bool = True
    headline: bool = False


def kpi_table(classes: Iterable[str] = OBJECT_CLASSES) -> dict[str, Kpi]:
    """All KPIs by name, in the order of tables; one headline a task."""
    per_class = [Kpi(f"objects/ap50/{name}", "objects", f"AP50 {name}") for name in classes]
    kpis = [
        Kpi("objects/ap50", "objects", "AP50", headline=True),
        Kpi("objects/ap50_95", "objects", "AP50-95"),
        *per_class,
        Kpi("objects/ap50_all", "objects", "AP50 of all labelled"),
        Kpi("objects/distance_error_m", "objects", "distance error", "m", False),
        Kpi("objects/light_state_accuracy", "objects", "light state accuracy"),
        Kpi("objects/ece", "objects", "calibration error", "", False),
        Kpi("lanes/f1", "lanes", "F1 (CULane)", headline=True),
        Kpi("lanes/precision", "lanes", "precision"),
        Kpi("lanes/recall", "lanes", "recall"),
        Kpi("lanes/tusimple_accuracy", "lanes", "TuSimple accuracy"),
        Kpi("lanes/tusimple_fp", "lanes", "TuSimple false lanes", "", False),
        Kpi("lanes/tusimple_fn", "lanes", "TuSimple missed lanes", "", False),
        Kpi("drivable/iou", "drivable", "IoU", headline=True),
        Kpi("path/error_1s_m", "path", "path error at 1 s", "m", False),
        Kpi("path/error_2s_m", "path", "path error at 2 s", "m", False, True),
        Kpi("path/error_3s_m", "path", "path error at 3 s", "m", False),
        Kpi("path/curvature_mae_1pm", "path", "curvature error", "1/m", False),
    ]
    return {kpi.name: kpi for kpi in kpis}


KPIS = kpi_table()
HEADLINES: dict[Task, str] = {kpi.task: kpi.name for kpi in KPIS.values() if kpi.headline}
"""Task -> the KPI that stands for it."""


def find_kpi(name: str) -> Kpi:
    """The KPI of a name, also for classes that are not avexp's own.

    Raises:
        DataError: there is none.
    """
    if name in KPIS:
        return KPIS[name]
    if name.startswith("objects/ap50/"):
        return Kpi(name, "objects", f"AP50 {name.rsplit('/', 1)[1]}")
    raise DataError(f"kpi {name}", "no such KPI", "known: " + ", ".join(KPIS) + did_you_mean(name, list(KPIS)))


def error_of(kpi: Kpi, value: float) -> float:
    """How far a value is from perfect: 1 - score, or the error itself ("cuts the constant predictor's error by half")."""
    return 1.0 - value if kpi.higher_is_better else value


class KpiAccumulator:
    """Gathers the evidence of frames; computes KPIs over all of them or over a condition.

    Each frame counts once, however often it is given. Results do not depend on the order in which frames came.

    Args:
        classes: object class names that the predictions' indices refer to.
    """

    def __init__(self, classes: Iterable[str] = OBJECT_CLASSES) -> None:
        self.classes = list(classes)
        self.frames: dict[str, FrameEvidence] = {}
        self._known: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def update(self, key: str, prediction: Prediction, truth: Labels, sensor: str, image_size: tuple[int, int]) -> None:
        """Add one frame; a key that was seen before is ignored.

        Args:
            key: ``<session>/<timestamp_ns>.<sensor>``.
            prediction: in camera pixels and metres.
            truth: the frame's labels.
            sensor: the camera's name.
            image_size: width, height [px] of the camera image.
        """
        if key not in self.frames:
            self.frames[key] = gather(prediction, truth, sensor, image_size, self.classes)
            self._known.clear()

    def merge(self, other: Self) -> None:
        """Take in the frames of another rank.

        Raises:
            DataError: it counts other classes.
        """
        if other.classes != self.classes:
            raise DataError("kpi merge", f"classes {other.classes} and {self.classes} differ", "evaluate one dataset")
        self.frames = other.frames | self.frames
        self._known.clear()

    def state(self) -> dict[str, Any]:
        """Picklable state for another process or file."""
        return {"format": STATE_FORMAT, "classes": self.classes, "frames": dict(self.frames)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The accumulator of a state."""
        accumulator = cls(state["classes"])
        accumulator.frames = dict(state["frames"])
        return accumulator

    def keys(self, where: dict[str, str] | None = None) -> list[str]:
        """Sorted keys of the frames that meet all conditions, such as ``{"light": "night"}``.

        Raises:
            DataError: an unknown condition.
        """
        for name in where or {}:
            if name not in CONDITION_NAMES:
                remedy = f"known: {', '.join(CONDITION_NAMES)}{did_you_mean(name, CONDITION_NAMES)}"
                raise DataError(f"slice {name}", "no such condition", remedy)
        wanted = (where or {}).items()
        return sorted(key for key, frame in self.frames.items() if wanted <= frame.conditions.items())

    def conditions(self) -> list[dict[str, str]]:
        """The single conditions that frames have, for a table: light first, unknown ones left out."""
        found = {(name, frame.conditions[name]) for frame in self.frames.values() for name in CONDITION_NAMES}
        ordered = sorted(found, key=lambda pair: (CONDITION_NAMES.index(pair[0]), pair[1]))
        return [{name: value} for name, value in ordered if value != "unknown"]

    def compute(self, where: dict[str, str] | None = None) -> dict[str, float]:
        """All KPIs that there is evidence for, in the order of kpi_table.

        Args:
            where: conditions that frames must meet.

        Raises:
            DataError: an unknown condition.
        """
        wanted = tuple(sorted((where or {}).items()))
        if wanted not in self._known:
            self._known[wanted] = self._compute(where)
        return dict(self._known[wanted])

    def _compute(self, where: dict[str, str] | None) -> dict[str, float]:
        chosen = [self.frames[key] for key in self.keys(where)]
        values: dict[str, float] = {}
        names = {name for frame in chosen for name in frame.sums}
        for name in names:
            sums = [frame.sums[name] for frame in chosen if name in frame.sums]
            below = sum(pair[1] for pair in sums)
            if below > 0:
                values[name] = sum(pair[0] for pair in sums) / below
        frames = [frame.objects for frame in chosen if frame.objects is not None]
        precision = average_precision(frames, self.classes)
        values |= {"objects/ap50": precision.ap50, "objects/ap50_95": precision.ap50_95}
        values |= {f"objects/ap50/{name}": value for name, value in precision.ap50_of.items()}
        values["objects/ap50_all"] = self._ap50_of_all(where)
        values["objects/ece"] = self.reliability(where).ece
        return {name: values[name] for name in kpi_table(self.classes) if np.isfinite(values.get(name, np.nan))}

    def _ap50_of_all(self, where: dict[str, str] | None) -> float:
        chosen = [self.frames[key] for key in self.keys(where)]
        frames, matches = [frame.every or _NOTHING for frame in chosen], [f.every_match or _NO_MATCH for f in chosen]
        return float(DetectionEvidence.of(frames, matches, self.classes).ap50()[0])

    def compute_by_condition(self) -> dict[str, dict[str, float]]:
        """KPIs of each single condition, by its name such as ``light=night``."""
        return {"=".join(*where.items()): self.compute(where) for where in self.conditions()}

    def detection_evidence(self, keys: Iterable[str] | None = None) -> DetectionEvidence:
        """Objects of frames for curves and the bootstrap; frames without that task keep their place, empty."""
        frames: list[FrameObjects] = []
        matches: list[FrameMatches] = []
        for key in self.keys() if keys is None else keys:
            frame = self.frames[key]
            frames.append(frame.objects or _NOTHING)
            matches.append(frame.matches or _NO_MATCH)
        return DetectionEvidence.of(frames, matches, self.classes)

    def curves(self, where: dict[str, str] | None = None) -> dict[str, PrecisionRecall]:
        """Precision-recall curve at IoU 0.5 of each class that has truth."""
        evidence = self.detection_evidence(self.keys(where))
        curves = {name: evidence.curve(name) for name in self.classes}
        return {name: curve for name, curve in curves.items() if curve is not None}

    def confusion(self, where: dict[str, str] | None = None, min_score: float = 0.3) -> Ints:
        """[C + 1, C + 1] counts, row = truth, column = prediction, last = background."""
        chosen = (self.frames[key].objects for key in self.keys(where))
        return confusion([frame for frame in chosen if frame is not None], self.classes, min_score=min_score)

    def reliability(self, where: dict[str, str] | None = None) -> Reliability:
        """Do object scores mean what they say?"""
        evidence = self.detection_evidence(self.keys(where))
        scores = [part.scores for part in evidence.by_class] or [np.zeros(0)]
        hits = [part.hit for part in evidence.by_class] or [np.zeros(0, np.bool_)]
        return reliability(np.concatenate(scores), np.concatenate(hits), least_score=LEAST_SCORE)


_NOTHING = FrameObjects.none()
_NO_MATCH = match(_NOTHING)
