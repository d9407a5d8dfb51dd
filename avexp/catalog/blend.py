"""Several dataset versions as one, each with a weight: a version like any other, so that all that takes one takes a blend."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avexp.catalog.versions import publish
from avexp.core.errors import DataError
from avexp.records.dataset import Dataset, DatasetManifest, Source
from avexp.records.index import SPLITS, Rows


def blend(root: Path, name: str, weights: Mapping[str, float]) -> Dataset:
    """Make the next version of a blend, or return the newest one if its content is the same.

    Args:
        root: storage root.
        name: of the blend.
        weights: share of a training epoch's positions by dataset reference, relative to each other. Validation and test
            splits are joined without weights: each frame once.

    Raises:
        DataError: no such version, a weight that is not positive, a session in several of them, or renditions that differ.
    """
    if not weights or min(weights.values()) <= 0:
        raise DataError(f"blend {name}", "every part needs a weight above 0", "write data.parts={roads@1: 0.7, ...}")
    parts = [Dataset.open(root, reference) for reference in weights]
    manifests = [part.manifest for part in parts]
    _check(name, manifests)
    classes = list(dict.fromkeys(word for manifest in manifests for word in manifest.object_classes))
    sensors = list(dict.fromkeys(word for manifest in manifests for word in manifest.sensors))
    rows = np.concatenate([_moved(parts, number, sensors, classes) for number in range(len(parts))])
    index = rows[np.argsort(rows["split"], kind="stable")].tobytes()
    return publish(root, name, _content(manifests, list(weights.values()), classes, sensors, index), index)


def _check(name: str, manifests: Sequence[DatasetManifest]) -> None:
    sessions = Counter(session for manifest in manifests for session in manifest.sessions)
    twice = [session for session, count in sessions.items() if count > 1]
    if twice:
        what = f"session {twice[0]} is in several parts: frames would straddle splits"
        raise DataError(f"blend {name}", what, "blend versions of different sessions")
    if len({manifest.rendition for manifest in manifests}) > 1:
        raise DataError(f"blend {name}", "its parts store their images differently", "use one rendition for all")


def _moved(parts: Sequence[Dataset], number: int, sensors: list[str], classes: list[str]) -> Rows:
    """Rows of one part with the blend's numbers of sessions, shards, sensors and classes."""
    part, before = parts[number], parts[:number]
    rows = np.array(part.rows)
    for field in ("shard", "labels_shard", "ego_shard"):
        rows[field] += sum(len(one.manifest.shards) for one in before)
    rows["session"] += sum(len(one.manifest.sessions) for one in before)
    places = np.array([sensors.index(sensor) for sensor in part.manifest.sensors], np.uint32)
    rows["sensor"] = places[rows["sensor"]]
    bits = np.array(rows["classes"])
    rows["classes"] = 0
    for code, word in enumerate(part.manifest.object_classes[:64]):
        has: npt.NDArray[Any] = (bits >> np.uint64(code)) & np.uint64(1)
        if (place := classes.index(word)) < 64:
            rows["classes"] |= has << np.uint64(place)
    return rows


def _content(
    manifests: Sequence[DatasetManifest], weights: Sequence[float], classes: list[str], sensors: list[str], index: bytes
) -> dict[str, Any]:
    first = np.concatenate([[0], np.cumsum([len(manifest.sessions) for manifest in manifests])])
    sources = [
        Source(
            reference=manifest.reference,
            digest=manifest.digest,
            weight=weight,
            sessions=(int(first[place]), int(first[place + 1])),
        )
        for place, (manifest, weight) in enumerate(zip(manifests, weights, strict=True))
    ]
    annotators = list(dict.fromkeys(word for one in manifests for word in one.recipe.get("annotators") or []))
    splits = _added([manifest.splits for manifest in manifests])
    return {
        "sensors": sensors,
        "image_sizes_px": sorted({size for manifest in manifests for size in manifest.image_sizes_px}),
        "splits": {split: splits[split] for split in sorted(SPLITS) if split in splits},
        "sessions": [session for manifest in manifests for session in manifest.sessions],
        "session_splits": {key: value for manifest in manifests for key, value in manifest.session_splits.items()},
        "object_classes": classes,
        "class_counts": _added([manifest.class_counts for manifest in manifests]),
        "condition_counts": _added([manifest.condition_counts for manifest in manifests]),
        "task_counts": _added([manifest.task_counts for manifest in manifests]),
        "annotators": sorted({word for manifest in manifests for word in manifest.annotators}),
        "skipped": sum(manifest.skipped for manifest in manifests),
        "rendition": manifests[0].rendition.model_dump() if manifests[0].rendition else None,
        "sources": [source.model_dump() for source in sources],
        "recipe": {"blend": {source.reference: source.weight for source in sources}, "annotators": annotators},
        "shards": [shard.model_dump() for manifest in manifests for shard in manifest.shards],
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "rows": sum(manifest.rows for manifest in manifests),
    }


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
