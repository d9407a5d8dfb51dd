"""A predictor over the frames of a dataset: KPI evidence, and the predictions of some frames for pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from avexp.core.progress import bar
from avexp.loader.loader import Loader
from avexp.metrics.constant import ConstantPredictor
from avexp.metrics.kpi import KpiAccumulator
from avexp.records.batch import Batch
from avexp.records.dataset import Dataset
from avexp.records.prediction import Prediction
from avexp.train.predictor import image_size_of
from avexp.train.truth import DatasetTruth

CONSTANT = "constant"
"""Name of the image-blind predictor in tables."""
CONSTANT_FRAMES = 512
"""Training frames at most, evenly spread, that the constant predictor is fitted on: more would not move a constant."""


class Predictor(Protocol):
    """Anything that turns a batch of full-size frames into Predictions: a network, a plan."""

    @property
    def name(self) -> str:
        """For tables."""

    def __call__(self, batch: Batch) -> list[Prediction]:
        """One Prediction a frame."""


@dataclass
class Judged:
    """What a predictor did on some frames.

    Attributes:
        name: of the predictor.
        evidence: for KPIs.
        kept: predictions by frame key, of the frames that pictures are made of.
        images: uint8 [H, W, 3] by frame key, of the same frames.
    """

    name: str
    evidence: KpiAccumulator
    kept: dict[str, Prediction] = field(default_factory=dict)
    images: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


def judge(
    predictors: Sequence[Predictor], loader: Loader, truth: DatasetTruth, keep: Sequence[str] = ()
) -> list[Judged]:
    """All predictors over the same frames, each frame read once.

    Args:
        predictors: to judge.
        loader: of evaluation frames.
        truth: their labels.
        keep: keys of the frames whose predictions and images are kept.
    """
    classes = loader.dataset.manifest.object_classes
    judged = [Judged(predictor.name, KpiAccumulator(classes)) for predictor in predictors]
    kept = set(keep)
    with bar("judge frames") as advance:
        done = 0
        for batch in loader:
            for predictor, result in zip(predictors, judged, strict=True):
                _add(result, predictor(batch), batch, truth, kept)
            done += len(batch)
            advance(min(done, len(loader.rows)), len(loader.rows))
    return judged


def _add(result: Judged, predictions: Sequence[Prediction], batch: Batch, truth: DatasetTruth, kept: set[str]) -> None:
    size = image_size_of(batch)
    for index, (key, prediction) in enumerate(zip(batch.keys, predictions, strict=True)):
        if not key:
            continue
        labels, sensor = truth(key)
        result.evidence.update(key, prediction, labels, sensor, size)
        if key in kept:
            result.kept[key] = prediction
            result.images[key] = batch.images[index].numpy()


def judge_constant(dataset: Dataset, rows: npt.NDArray[np.int64], train_rows: npt.NDArray[np.int64]) -> Judged:
    """The image-blind constant predictor, fitted on training labels, judged on others."""
    step = -(-len(train_rows) // CONSTANT_FRAMES)
    train_rows = train_rows[::step]
    train, truth = DatasetTruth(dataset, train_rows), DatasetTruth(dataset, rows)
    sensor = dataset.sensor(int(train_rows[0]))
    size = dataset.manifest.image_sizes_px[0]
    labels = [train(dataset.key(int(row)))[0] for row in train_rows]
    constant = ConstantPredictor.fit(labels, sensor, size, dataset.manifest.object_classes).predict()
    evidence = KpiAccumulator(dataset.manifest.object_classes)
    for row in rows:
        key = dataset.key(int(row))
        evidence.update(key, constant, *truth(key), size)
    return Judged(CONSTANT, evidence)


def picture_keys(dataset: Dataset, rows: npt.NDArray[np.int64], count: int) -> list[str]:
    """Frames to draw: spread over conditions (light and weather), then over time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        entry = dataset.rows[int(row)]
        groups.setdefault((int(entry["light"]), int(entry["weather"])), []).append(int(row))
    chosen: list[int] = []
    rounds = 0
    while len(chosen) < min(count, len(rows)):
        for members in groups.values():
            spots = np.linspace(0, len(members) - 1, -(-count // len(groups)) + 2).round().astype(int)[1:-1]
            if rounds < len(spots) and members[spots[rounds]] not in chosen:
                chosen.append(members[spots[rounds]])
        rounds += 1
        if rounds > count + 2:
            break
    return [dataset.key(row) for row in chosen[:count]]


Judge = Callable[[Sequence[Predictor]], list[Judged]]
