"""Post-training int8 by explicit Q/DQ, in the one form that TensorRT 8.5 to 11, onnxruntime and OpenVINO all take.

Symmetric, zero point 0; weights per channel, kept float with their own Q and DQ; biases float. Preprocessing and decoding,
which hold no convolution, stay float.
"""

import io
import logging
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from avexp.core.errors import ExportError
from avexp.export.onnx_form import load, save, strip

HEAVY = ("Conv", "Gemm", "MatMul", "ConvTranspose")
METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
"""Calibration methods, and onnxruntime's names for them."""
FORM = {"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False}
FRAMES_AT_ONCE = 8
"""Histograms need all activations of a frame, some 30 MB for a small network: so many frames are held, not all."""
Frames = npt.NDArray[np.uint8]


def quantise(
    source: Path, target: Path, frames: Iterable[Frames], method: str = "percentile", float_nodes: Iterable[str] = ()
) -> list[str]:
    """Calibrate and write the Q/DQ graph.

    Args:
        source: float graph.
        target: where to.
        frames: uint8 [1, H, W, 3] each: the calibration set.
        method: one of METHODS.
        float_nodes: more nodes that stay float.

    Returns:
        Names of activations whose range was zero over the calibration set.

    Raises:
        ExportError: unknown method, no frames, or a graph whose form is not the one promised.
    """
    if method not in METHODS:
        raise ExportError(f"calibration_method={method}", "no such method", f"known: {', '.join(METHODS)}")
    reader = _Reader(load(source).graph.input[0].name, list(frames))
    if not reader.frames:
        raise ExportError("calibration", "no frames in the calibration slice", "choose another calibration_slice")
    with tempfile.TemporaryDirectory() as folder:
        model = strip(load(_calibrated(source, Path(folder), reader, method, set(float_nodes))))
    faults = form_faults(model)
    if faults:
        raise ExportError(str(target), f"is not in the promised form: {faults[0]}", "report it with the graph")
    save(model, target)
    return zero_ranges(model)


def _calibrated(source: Path, folder: Path, reader: "_Reader", method: str, float_nodes: set[str]) -> Path:
    """onnxruntime's quantiser with the options of our form; the file it wrote."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, raw = folder / "prepared.onnx", folder / "raw.onnx"
    before = logging.getLogger().level
    try:
        logging.getLogger().setLevel(logging.ERROR)
        # its optimiser fuses casts into bool -> uint8, which TensorRT refuses; there is nothing else left for it to do
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True, skip_optimization=True)
        with redirect_stdout(io.StringIO()):  # it prints how it is doing
            quantize_static(
                str(prepared),
                str(raw),
                reader,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                calibrate_method=getattr(CalibrationMethod, METHODS[method]),
                nodes_to_exclude=sorted(light_nodes(load(prepared)) | float_nodes),
                extra_options=FORM if method == "minmax" else {**FORM, "CalibStridedMinMax": _at_once(len(reader))},
            )
    finally:
        logging.getLogger().setLevel(before)
    return raw


class _Reader:
    """Hands calibration frames to onnxruntime, a few at a time if it asks so."""

    def __init__(self, name: str, frames: list[Frames]) -> None:
        self.name, self.frames = name, frames
        self.set_range(0, len(frames))

    def get_next(self) -> dict[str, Frames] | None:
        frame = next(self.rest, None)
        return None if frame is None else {self.name: frame}

    def __len__(self) -> int:
        return len(self.frames)

    def set_range(self, start_index: int, end_index: int) -> None:
        """The frames that ``get_next`` hands out from now on."""
        self.rest = iter(self.frames[start_index:end_index])


def _at_once(count: int) -> int:
    """Largest divisor of the number of frames that is small: onnxruntime wants equal parts."""
    return max(size for size in range(1, FRAMES_AT_ONCE + 1) if count % size == 0)


def light_nodes(model: Any) -> set[str]:
    """Nodes from which no convolution or matrix product is reached, and those before the first: decode and preprocessing."""
    nodes = list(model.graph.node)
    producer = {output: node for node in nodes for output in node.output}
    leads: set[str] = set()
    heavy = {node.name for node in nodes if node.op_type in HEAVY and not _averages(node, model)}
    stack = [node for node in nodes if node.name in heavy]
    while stack:
        node = stack.pop()
        if node.name in leads:
            continue
        leads.add(node.name)
        stack += [producer[name] for name in node.input if name in producer]
    behind: set[str] = set()
    for node in nodes:  # in topological order
        if node.name in heavy or any(name in producer and producer[name].name in behind for name in node.input):
            behind.add(node.name)
    return {node.name for node in nodes if node.name not in leads or node.name not in behind}


def _averages(node: Any, model: Any) -> bool:
    """Whether a convolution is the preprocessing's averaging of pixels: its kernel mixes no channels and is constant."""
    weight = next(
        (item for item in model.graph.initializer if len(node.input) > 1 and item.name == node.input[1]), None
    )
    if weight is None:
        return False
    kernel = numpy_helper.to_array(weight)
    if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1]:
        return False
    flat = np.eye(kernel.shape[0])[:, :, None, None] * kernel[0, 0, 0, 0]
    return bool(np.array_equal(kernel, np.broadcast_to(flat.astype(kernel.dtype), kernel.shape)))


def form_faults(model: Any) -> list[str]:
    """What TensorRT would not take: other zero points than int8 0, a quantised bias, integer weights."""
    weights = {item.name: item for item in model.graph.initializer}
    faults = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2 and node.input[2]:
            zero = numpy_helper.to_array(weights[node.input[2]])
            if zero.dtype != np.int8 or zero.any():
                faults.append(f"{node.name}: zero point {zero.ravel()[0]} of {zero.dtype}")
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            faults.append(
                f"{node.name}: dequantises a stored {onnx.TensorProto.DataType.Name(weights[node.input[0]].data_type)}"
            )
    return faults


def zero_ranges(model: Any) -> list[str]:
    """Activations that were zero over the whole calibration set: a dead channel, or a set that does not show them."""
    weights = {item.name: item for item in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in weights and node.input[1] in weights:
            scale = numpy_helper.to_array(weights[node.input[1]])
            # onnxruntime writes a scale of exactly 1 where it saw nothing but zeros
            if np.any(scale == 1.0):
                found.append(node.input[0])
    return found
