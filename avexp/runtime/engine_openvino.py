"""Plans that OpenVINO runs: on x86 about twice as fast as onnxruntime in int8."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

PRECISION_HINT = "f32"
"""OpenVINO's own default rounds to bf16 where the CPU can, unasked; a plan's precision is what its manifest says."""


class Engine:
    """A compiled graph.

    Args:
        path: of the ONNX graph.
        plan: its entry in the manifest.
        threads: CPU threads; 0 for all.
    """

    def __init__(self, path: str, plan: Dict[str, Any], threads: int) -> None:
        import openvino

        settings: Dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": plan.get("build", {}).get("precision_hint", PRECISION_HINT),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._model = openvino.Core().compile_model(path, "CPU", settings)
        self._request = self._model.create_infer_request()
        self._names = [output.get_any_name() for output in self._model.outputs]

    def infer(self, frames: np.ndarray) -> Dict[str, np.ndarray]:
        """uint8 [B, H, W, 3] -> outputs by name (copies: OpenVINO reuses its own)."""
        self._request.infer([frames])
        return {name: np.array(self._request.get_output_tensor(index).data) for index, name in enumerate(self._names)}
