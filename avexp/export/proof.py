"""The proof of a plan: KPIs against the checkpoint on the same frames, agreement, drift, latency, and the gate's verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avexp.core.config import ExportConfig
from avexp.core.hardware import usable_cores
from avexp.evaluate.judge import Judged
from avexp.evaluate.plan_predictor import BundlePlan
from avexp.export.gate import Verdict, judge_losses
from avexp.export.graph import end_to_end
from avexp.metrics.bootstrap import Interval, paired_bootstrap
from avexp.metrics.kpi import HEADLINES, KpiAccumulator
from avexp.models.network import Network
from avexp.records.prediction import Prediction
from avexp.train.predictor import NetworkPredictor

WARMUP = 10
ROUNDS = 5
EAGER = "torch eager"
SCORE_MIN = 0.3
"""Objects that are compared."""


@dataclass
class Proof:
    """All that was measured.

    Attributes:
        constant: the image-blind predictor, judged.
        checkpoint: judged.
        plans: judged, by id.
        losses: relative loss of headline KPIs, by plan.
        verdicts: by plan.
        latency: by plan.
        agreement: by plan: how alike its predictions are to the checkpoint's.
        eager: latency of the checkpoint in PyTorch on one thread.
    """

    constant: Judged
    checkpoint: Judged
    plans: dict[str, Judged] = field(default_factory=dict)
    losses: dict[str, dict[str, Interval]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    eager: dict[str, float] = field(default_factory=dict)

    def of(self, plan: str) -> dict[str, Any]:
        """What the manifest says of a plan."""
        return {
            "kpis": self.plans[plan].evidence.compute(),
            "gate": self.verdicts[plan].as_dict(),
            "latency": self.latency[plan],
            "agreement": self.agreement[plan],
        }


def prove(
    config: ExportConfig,
    predictor: NetworkPredictor,
    plans: list[tuple[BundlePlan, Judged]],
    checkpoint: Judged,
    constant: Judged,
    frame: npt.NDArray[np.uint8],
) -> Proof:
    """Compare, time, decide.

    Args:
        config: of the export.
        predictor: the checkpoint.
        plans: each with what it did on the validation frames.
        checkpoint: what the checkpoint did on them.
        constant: what the constant predictor did.
        frame: uint8 [1, H, W, 3], for timing.
    """
    latency = time_together(predictor.network, [plan for plan, _ in plans], frame, config)
    proof = Proof(constant, checkpoint, eager=latency.pop(EAGER), latency=latency)
    for plan, judged in plans:
        losses = compare(checkpoint.evidence, judged.evidence, config.resamples)
        proof.plans[plan.name] = judged
        proof.losses[plan.name] = losses
        proof.verdicts[plan.name] = judge_losses(losses, config.loss_max)
        proof.agreement[plan.name] = agreement(checkpoint.kept, judged.kept)
    return proof


def compare(reference: KpiAccumulator, candidate: KpiAccumulator, resamples: int) -> dict[str, Interval]:
    """Relative loss of every headline KPI that the reference has."""
    known = reference.compute()
    return {
        name: paired_bootstrap(reference, candidate, name, resamples) for name in HEADLINES.values() if name in known
    }


def time_together(
    network: Network, plans: list[BundlePlan], frame: npt.NDArray[np.uint8], config: ExportConfig
) -> dict[str, dict[str, float]]:
    """Latency of one frame, of PyTorch eager and each plan, on the same number of threads.

    They take turns: what else the machine does then falls on all of them alike.
    """
    module, image = end_to_end(network, (frame.shape[2], frame.shape[1])), torch.from_numpy(frame)
    calls: dict[str, Callable[[], object]] = {EAGER: lambda: module(image)}
    calls |= {plan.name: partial(plan.runtime.infer, frame) for plan in plans}
    times: dict[str, list[float]] = {name: [] for name in calls}
    torch.set_num_threads(config.threads)
    try:
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for name, call in calls.items():
                    times[name] += _timed(call, -(-config.benchmark_runs // ROUNDS))
    finally:
        torch.set_num_threads(usable_cores())
    return {name: _figures(found, config.threads) for name, found in times.items()}


def _timed(call: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of each run, after a warm-up."""
    for _ in range(WARMUP):
        call()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def _figures(times: list[float], threads: int) -> dict[str, float]:
    average = float(np.mean(times))
    quantiles = {f"p{round(100 * share)}_ms": float(np.quantile(times, share)) for share in (0.5, 0.99)}
    return {"avg_ms": average, **quantiles, "max_ms": max(times), "fps": 1000.0 / average, "threads": float(threads)}


def agreement(reference: dict[str, Prediction], candidate: dict[str, Prediction]) -> dict[str, float]:
    """How alike two predictors are on the same frames, whatever is true.

    Returns:
        ``objects``: share of the reference's objects (score >= 0.3) that have a partner of the same class at IoU >= 0.5.
        ``drivable``: share of equal cells. ``lane_x_px`` and ``path_m``: mean distance.
    """
    values: dict[str, list[float]] = {}
    for key, one in reference.items():
        other = candidate[key]
        if one.boxes is not None and other.boxes is not None:
            for box, kind in zip(one.boxes[one.scores >= SCORE_MIN], one.classes[one.scores >= SCORE_MIN], strict=True):
                rivals = other.boxes[(other.classes == kind) & (other.scores >= SCORE_MIN * 0.8)]
                values.setdefault("objects", []).append(float(_best_iou(box, rivals) >= 0.5))
        if one.drivable is not None and other.drivable is not None:
            values.setdefault("drivable", []).append(float((one.drivable == other.drivable).mean()))
        if one.path is not None and other.path is not None:
            values.setdefault("path_m", []).append(float(np.linalg.norm(one.path - other.path, axis=1).mean()))
    return {name: float(np.mean(found)) for name, found in values.items()}


def _best_iou(box: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    if len(others) == 0:
        return 0.0
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return float((inner / np.maximum(areas - inner, 1e-6)).max())
