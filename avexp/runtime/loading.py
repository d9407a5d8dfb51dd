"""``load``: a bundle checked, the plan that fits this machine chosen and loaded."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any, Dict, List, Optional, Union

import numpy as np

from .decode import decode_frame
from .errors import BundleError
from .machine import unmet
from .manifest import NAME, checked_file, form_fault, read_manifest


class Runtime:
    """A loaded plan. Not for several threads at once: each loads its own.

    Attributes:
        manifest: of the bundle.
        plan: its entry in the manifest.
        reasons: why each plan before it was passed over.
    """

    def __init__(self, manifest: Dict[str, Any], plan: Dict[str, Any], engine: Any, reasons: List[str]) -> None:
        self.manifest, self.plan, self.reasons, self._engine = manifest, plan, reasons, engine
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

    def predict(self, frames: np.ndarray, score_min: Optional[float] = None) -> List[Dict[str, Any]]:
        """Objects, lanes, drivable area and path of each frame as plain values; see ``decode_frame``."""
        outputs = self.infer(frames)
        constants = self.manifest["outputs"]
        # frames may be a smaller rendition of the camera's image, in whose pixels the outputs are
        width, height = constants.get("image_size") or (self._frame_shape[1], self._frame_shape[0])
        size = (int(width), int(height))
        return [
            decode_frame({name: value[index] for name, value in outputs.items()}, constants, size, score_min)
            for index in range(len(frames))
        ]

    def benchmark(
        self, frames: np.ndarray, runs: int = 100, warmup: int = 10, seconds: Optional[float] = None
    ) -> Dict[str, float]:
        """Latency [ms] of ``infer`` on these frames, warm-up excluded, and frames a second.

        Args:
            frames: one batch.
            runs: how often, at least once.
            warmup: runs that are not timed.
            seconds: [s] measure that long instead of ``runs`` times.
        """
        for _ in range(warmup):
            self.infer(frames)
        times: List[float] = []
        until = None if seconds is None else time.perf_counter() + seconds
        while not times or (len(times) < runs if until is None else time.perf_counter() < until):
            began = time.perf_counter()
            self.infer(frames)
            times.append((time.perf_counter() - began) * 1e3)
        average = float(np.mean(times))
        return {
            "avg_ms": average,
            "p50_ms": float(np.quantile(times, 0.5)),
            "p99_ms": float(np.quantile(times, 0.99)),
            "max_ms": max(times),
            "fps": 1000.0 * len(frames) / average,
            "runs": float(len(times)),
        }


def load(
    bundle: Union[str, os.PathLike[str]],
    plan: Optional[str] = None,
    threads: int = 0,
    allow_refused: bool = False,
    backend: Optional[str] = None,
    precision: Optional[str] = None,
) -> Runtime:
    """Load the plan of a bundle that fits this machine.

    Args:
        bundle: its folder.
        plan: id of the plan to load; None for the first that fits.
        threads: CPU threads; 0 for all.
        allow_refused: also a plan that its gate refused.
        backend: only plans of this one, such as onnxruntime.
        precision: only plans of this one, such as fp32.

    Raises:
        BundleError: the bundle was changed, or no plan of it runs here; says why for each.
    """
    folder = os.fspath(bundle)
    manifest = read_manifest(folder)
    fault = form_fault(manifest)
    if fault is not None:
        raise BundleError(os.path.join(folder, NAME), fault, "export the run again")
    asked = {"id": plan, "backend": backend, "precision": precision}
    wanted = {key: value for key, value in asked.items() if value is not None}
    entries = [entry for entry in manifest["plans"] if all(entry.get(key) == wanted[key] for key in wanted)]
    if not entries:
        words = " ".join("{}={}".format("plan" if key == "id" else key, wanted[key]) for key in wanted)
        known = ", ".join(str(entry["id"]) for entry in manifest["plans"])
        raise BundleError(words or folder, "is not in the bundle", "it has {}".format(known or "no plan at all"))
    reasons: List[str] = []
    for entry in entries:
        reason = _why_not(entry, allow_refused)
        if reason is None:
            # a changed file ends it here: whoever changed one may have changed what comes next
            path = checked_file(folder, entry)
            try:
                return Runtime(manifest, entry, _engine(path, entry, threads), reasons)
            except Exception as cause:
                reason = "its engine cannot load it ({})".format((str(cause).splitlines() or [repr(cause)])[0])
        reasons.append("{}: {}".format(entry["id"], reason))
    raise BundleError(folder, "no plan of it runs here ({})".format("; ".join(reasons)), "export one for this machine")


def _engine(path: str, entry: Dict[str, Any], threads: int) -> Any:
    module = importlib.import_module(".engine_" + str(entry["backend"]), __package__)
    return module.Engine(path, entry, threads)


def _why_not(entry: Dict[str, Any], allow_refused: bool) -> Optional[str]:
    if entry["status"] != "built":
        return "is {}".format(entry["status"])
    if not allow_refused and not entry.get("gate", {}).get("passed", False):
        return "was refused by its gate"
    return unmet(entry)
