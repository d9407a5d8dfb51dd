"""Plans that onnxruntime runs: the fall-back of every machine."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np


class Engine:
    """A loaded ONNX graph.

    Args:
        path: of the graph.
        plan: its entry in the manifest.
        threads: CPU threads; 0 for all.
    """

    def __init__(self, path: str, plan: Dict[str, Any], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # spinning threads take the cores that the rest of the car needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def infer(self, frames: np.ndarray) -> Dict[str, np.ndarray]:
        """uint8 [B, H, W, 3] -> outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, {self._input: frames})))
