"""Labels of validation frames by key, and the one number that runs are compared by."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from avexp.loader.sample import read_labels
from avexp.records.dataset import Dataset
from avexp.records.index import conditions_of
from avexp.records.labels import Annotator, Labels

TruthSource = Callable[[str], tuple[Labels, str]]
"""Frame key -> labels and sensor."""
NOTHING = Labels(annotator=Annotator(name="none"), tasks=[])


class DatasetTruth:
    """Labels of some rows of a dataset, read once and kept.

    Args:
        dataset: opened dataset version.
        rows: index rows.
    """

    def __init__(self, dataset: Dataset, rows: npt.NDArray[np.int64]) -> None:
        self.dataset = dataset
        self._row = {dataset.key(int(row)): int(row) for row in rows}
        self._kept: dict[str, Labels] = {}

    def row(self, key: str) -> int:
        """Index row of a key."""
        return self._row[key]

    def __call__(self, key: str) -> tuple[Labels, str]:
        """Labels (without tasks where the frame has none) and sensor."""
        row = self._row[key]
        if key not in self._kept:
            conditions = conditions_of(self.dataset.entry(row))
            nothing = NOTHING.model_copy(update={"conditions": conditions})
            self._kept[key] = read_labels(self.dataset, row, key) or nothing
        return self._kept[key], self.dataset.sensor(row)


def score_of(kpis: Mapping[str, float], heads: Sequence[str]) -> float:
    """Mean over the heads of their headline KPI in 0..1; an error of e metres counts 1 / (1 + e)."""
    parts = {
        "objects": kpis.get("objects/ap50"),
        "lanes": kpis.get("lanes/f1"),
        "drivable": kpis.get("drivable/iou"),
        "path": None if kpis.get("path/error_2s_m") is None else 1.0 / (1.0 + kpis["path/error_2s_m"]),
    }
    known = [value for head, value in parts.items() if head in heads and value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else 0.0
