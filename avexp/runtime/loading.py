"""``load``: a bundle checked, the plan that fits this machine chosen and loaded."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any, Dict, List, Optional

import numpy as np

from .decode import decode_frame
from .errors import BundleError
from .machine import unmet
from .manifest import checked_file, read_manifest

ENGINES = ("onnxruntime", "openvino", "tensorrt")


class Runtime:
    """A loaded plan.

    Attributes:
        manifest: of the bundle.
        plan: its entry in the manifest.
        reasons: why each plan before it was passed over.
    """

    def __init__(
        self, folder: str, manifest: Dict[str, Any], plan: Dict[str, Any], threads: int, reasons: List[str]
    ) -> None:
        self.manifest, self.plan, self.reasons = manifest, plan, reasons
        path = checked_file(folder, plan)
        module = importlib.import_module(".engine_" + str(plan["backend"]), __package__)
        self._engine = module.Engine(path, plan, threads)
        shape = manifest["input"]["shape"]
        self._frame_shape = tuple(int(side) for side in shape[1:])
        self._batch_max = int(plan["batch"]["max"])

    def infer(self, frames: np.ndarray) -> Dict[str, np.ndarray]:
        """Raw outputs by name.

        Args:
            frames: uint8 [B, H, W, 3] RGB; a batch beyond the plan's largest is split.

        Raises:
            BundleError: another type or shape.
        """
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            kind = str(getattr(frames, "dtype", type(frames).__name__))
            raise BundleError("frames", "are {}, the plan takes uint8".format(kind), "hand over RGB bytes")
        if frames.ndim != 4 or frames.shape[1:] != self._frame_shape or len(frames) == 0:
            wanted = "[B, {}, {}, {}]".format(*self._frame_shape)
            raise BundleError(
                "frames", "have shape {}, the plan takes {}".format(list(frames.shape), wanted), "scale them first"
            )
        pieces = [frames[start : start + self._batch_max] for start in range(0, len(frames), self._batch_max)]
        found: List[Dict[str, np.ndarray]] = [self._engine.infer(np.ascontiguousarray(piece)) for piece in pieces]
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}

    def predict(self, frames: np.ndarray, score_min: float = 0.3) -> List[Dict[str, Any]]:
        """Objects, lanes, drivable area and path of each frame as plain values; see ``decode_frame``."""
        outputs = self.infer(frames)
        constants = self.manifest["outputs"]
        return [
            decode_frame({name: value[index] for name, value in outputs.items()}, constants, score_min)
            for index in range(len(frames))
        ]

    def benchmark(self, frames: np.ndarray, runs: int = 100, warmup: int = 10) -> Dict[str, float]:
        """Latency [ms] of ``infer`` on these frames, warm-up excluded, and frames a second as 1000 / average."""
        for _ in range(warmup):
            self.infer(frames)
        times = np.empty(runs)
        for index in range(runs):
            began = time.perf_counter()
            self.infer(frames)
            times[index] = (time.perf_counter() - began) * 1e3
        average = float(times.mean())
        return {
            "avg_ms": average,
            "p50_ms": float(np.quantile(times, 0.5)),
            "p99_ms": float(np.quantile(times, 0.99)),
            "max_ms": float(times.max()),
            "fps": 1000.0 * len(frames) / average,
            "runs": float(runs),
        }


def load(bundle: str, plan: Optional[str] = None, threads: int = 0, allow_refused: bool = False) -> Runtime:
    """Load the plan of a bundle that fits this machine.

    Args:
        bundle: its folder.
        plan: id of the plan to load; None for the first that fits.
        threads: CPU threads; 0 for all.
        allow_refused: also a plan that its gate refused.

    Raises:
        BundleError: the bundle was changed, or no plan of it runs here; says why for each.
    """
    folder = os.fspath(bundle)
    manifest = read_manifest(folder)
    reasons: List[str] = []
    for entry in manifest["plans"]:
        if plan is not None and entry["id"] != plan:
            continue
        reason = _why_not(entry, allow_refused)
        if reason is None:
            return Runtime(folder, manifest, entry, threads, reasons)
        reasons.append("{}: {}".format(entry["id"], reason))
    if plan is not None and not reasons:
        known = ", ".join(str(entry["id"]) for entry in manifest["plans"])
        raise BundleError("plan={}".format(plan), "is not in the bundle", "it has {}".format(known))
    raise BundleError(folder, "no plan of it runs here ({})".format("; ".join(reasons)), "export one for this machine")


def _why_not(entry: Dict[str, Any], allow_refused: bool) -> Optional[str]:
    if entry["status"] != "built":
        return "is {}".format(entry["status"])
    if not allow_refused and not entry.get("gate", {}).get("passed", False):
        return "was refused by its gate"
    return unmet(entry)
