"""``avexp predict``: a bundle on recorded frames: predictions as JSON lines, an overlay, latency and frames a second."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from avexp.core.config import PredictConfig
from avexp.core.errors import DataError
from avexp.core.files import digest_file, write_json, written_aside
from avexp.core.lock import add_to_lock
from avexp.core.progress import bar, console
from avexp.core.run_folder import RunFolder
from avexp.evaluate.inputs import FrameStream, open_input
from avexp.evaluate.plan_predictor import BundlePlan, fit_frame, open_bundle
from avexp.evaluate.video_writer import VideoWriter
from avexp.records.prediction import Prediction
from avexp.records.session import Skipped
from avexp.report import draw
from avexp.report.tables import Table, show

Image = npt.NDArray[np.uint8]
OVERLAY_WIDTH_PX = 1280


def run_predict(config: PredictConfig, run: RunFolder) -> None:
    """Predict every frame of an input.

    Raises:
        DataError: the input is nothing that can be predicted on, or holds no readable frame.
        ExportError: the bundle is damaged, or none of its plans runs here.
    """
    plan = open_bundle(
        Path(config.bundle),
        config.plan,
        config.threads,
        score_min=config.score_min,
        allow_refused=config.allow_refused,
    )
    stream = open_input(Path(config.input))
    console.print(f"plan {plan.name}: {plan.reason}", markup=False)
    latencies, skipped = _predict_all(config, run, plan, stream)
    if not latencies:
        raise DataError(
            config.input, "no readable frame in it", f"{len(skipped)} were skipped, see {run.path}/skipped.json"
        )
    write_json(run.path / "skipped.json", [item.model_dump() for item in skipped])
    add_to_lock(
        run,
        inputs={"kind": "bundle", "path": config.bundle, "digest": digest_file(Path(config.bundle) / "manifest.json")},
    )
    write_json(run.kpis, speed(latencies[config.warmup :] or latencies))
    _tell(config, run, plan, latencies, skipped)


def _predict_all(
    config: PredictConfig, run: RunFolder, plan: BundlePlan, stream: FrameStream
) -> tuple[list[float], list[Skipped]]:
    """Latencies [ms] of all frames in order, and what was skipped."""
    latencies: list[float] = []
    skipped: list[Skipped] = []
    with (
        written_aside(run.predictions) as lines,
        VideoWriter(run.video, stream.rate_hz) as video,
        bar("predict") as advance,
    ):
        for item in stream.frames:
            if isinstance(item, Skipped):
                skipped.append(item)
                continue
            key, stamp, image = item
            frame = fit_frame(image, plan.input_size)
            began = time.perf_counter()
            prediction = plan.predict(frame[None])[0]
            latencies.append((time.perf_counter() - began) * 1e3)
            lines.write((json.dumps(as_json(prediction, key, stamp, plan.classes)) + "\n").encode())
            drawn = draw.draw_frame(
                _shown(image),
                prediction,
                camera_size=plan.image_size,
                camera=stream.camera,
                classes=plan.classes,
                min_score=config.score_min,
            )
            video.add(drawn)
            advance(len(latencies), stream.count or len(latencies) + 1)
            if config.frames_max is not None and len(latencies) >= config.frames_max:
                break
    return latencies, skipped


def _shown(image: Image) -> Image:
    """Not wider than an overlay needs to be."""
    height, width = image.shape[:2]
    if width <= OVERLAY_WIDTH_PX:
        return image
    size = (OVERLAY_WIDTH_PX, round(height * OVERLAY_WIDTH_PX / width))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def as_json(prediction: Prediction, key: str, timestamp_ns: int, classes: Sequence[str]) -> dict[str, Any]:
    """One line of the predictions file: pixels of the network's camera image, metres, seconds in nanoseconds."""
    out: dict[str, Any] = {"key": key, "timestamp_ns": timestamp_ns}
    if prediction.boxes is not None:
        out["objects"] = [
            {
                "category": classes[int(kind)],
                "score": round(float(score), 4),
                "box2d": [round(float(side), 2) for side in box],
                "distance_m": round(float(distance), 2),
            }
            for box, score, kind, distance in zip(
                prediction.boxes, prediction.scores, prediction.classes, prediction.distances, strict=True
            )
        ]
    if prediction.lanes is not None:
        out["lanes"] = [
            {"position": int(slot), "score": round(float(score), 4), "points": _rounded(line, 2)}
            for line, score, slot in zip(prediction.lanes, prediction.lane_scores, prediction.lane_slots, strict=True)
        ]
    if prediction.drivable is not None:
        out["drivable"] = {"size": list(prediction.drivable.shape), "runs": run_lengths(prediction.drivable)}
    if prediction.path is not None:
        out["path"] = {"points_m": _rounded(prediction.path, 3), "curvature_1pm": prediction.curvature}
    return out


def _rounded(points: npt.NDArray[np.float32], decimals: int) -> list[list[float]]:
    return [[round(float(value), decimals) for value in point] for point in points]


def run_lengths(mask: npt.NDArray[np.uint8]) -> list[int]:
    """Lengths of alternating runs of 0 and 1, row by row, beginning with 0."""
    flat = np.concatenate([[0], mask.ravel(), [1 - mask.ravel()[-1]]])
    edges = np.flatnonzero(np.diff(flat))
    lengths = np.diff(np.concatenate([[0], edges]))
    return [int(length) for length in lengths]


def speed(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Average, p50, p99, maximum [ms], and frames a second as 1000 / average."""
    values = np.asarray(latencies_ms)
    average = float(values.mean())
    return {
        "latency_avg_ms": average,
        "latency_p50_ms": float(np.quantile(values, 0.5)),
        "latency_p99_ms": float(np.quantile(values, 0.99)),
        "latency_max_ms": float(values.max()),
        "fps": 1000.0 / average,
        "frames": float(len(values)),
    }


def _tell(
    config: PredictConfig, run: RunFolder, plan: BundlePlan, latencies: list[float], skipped: list[Skipped]
) -> None:
    figures = speed(latencies[config.warmup :] or latencies)
    cells = [f"{figures[f'latency_{name}_ms']:.2f}" for name in ("avg", "p50", "p99", "max")]
    columns = ["plan", "frames", "FPS", "avg [ms]", "p50 [ms]", "p99 [ms]", "max [ms]"]
    row = [plan.name, str(int(figures["frames"])), f"{figures['fps']:.1f}", *cells]
    note = f"{config.threads} thread(s), infer and decode only, first {min(config.warmup, len(latencies))} frames not counted"
    show(Table(columns, [row], "Latency", frozenset(range(1, 7)), note=note), console=console)
    if skipped:
        console.print(
            f"skipped {len(skipped)}, such as {skipped[0].where}: {skipped[0].reason}", markup=False, soft_wrap=True
        )
    for name, path in (("overlay", run.video), ("predictions", run.predictions), ("run", run.path)):
        console.print(f"{name:<12}{path}", markup=False, soft_wrap=True)
    console.print("next        avexp evaluate of=<run or bundle> slice=night", markup=False)
