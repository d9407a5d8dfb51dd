"""Forms of one ONNX graph: stripped of local paths, lowered to opset 17 for TensorRT 8.5, weights folded to int8 for CPUs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from avexp.core.errors import ExportError
from avexp.core.files import write_bytes

LOW_OPSET = 17
LOW_IR = 8
RESIZE_NEW = {"antialias": (0,), "axes": (), "keep_aspect_ratio_policy": (b"stretch",)}
"""Attributes that Resize has from opset 18 on, with the values that say nothing new."""
REDUCTIONS = ("Max", "Mean", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
REDUCE_BY_ATTRIBUTE = tuple(f"Reduce{kind}" for kind in REDUCTIONS)
"""Reductions whose axes became an input in opset 18."""


def load(path: Path) -> Any:
    """The graph.

    Raises:
        ExportError: it is no ONNX file.
    """
    try:
        return onnx.load(str(path))
    except Exception as fault:
        raise ExportError(str(path), f"is no readable ONNX graph ({fault})", "export it again") from None


def save(model: Any, path: Path) -> None:
    """Check the graph fully and write it.

    Raises:
        ExportError: the checker refuses it.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as fault:
        raise ExportError(
            str(path), f"the checker refuses the graph ({str(fault).splitlines()[0]})", "report it"
        ) from fault
    write_bytes(path, model.SerializeToString(deterministic=True))


def strip(model: Any) -> Any:
    """Remove documentation and metadata, which hold stack traces and local paths: equal graphs get equal digests."""
    del model.metadata_props[:]
    model.doc_string = ""
    for part in [model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        part.doc_string = ""
        del part.metadata_props[:]
    for weight in model.graph.initializer:
        weight.doc_string = ""
        del weight.metadata_props[:]
    return model


def lower_opset(model: Any) -> Any:
    """A copy at opset 17, for the parser of TensorRT 8.5. (onnx's own converter fails on reductions.)

    Raises:
        ExportError: a node says what opset 17 cannot: an antialiased Resize, a reduction over axes that are computed.
    """
    low = onnx.ModelProto()
    low.CopyFrom(model)
    constants = {weight.name: weight for weight in low.graph.initializer}
    for node in low.graph.node:
        if node.op_type == "Resize":
            for item in node.attribute:
                if item.name in RESIZE_NEW and onnx.helper.get_attribute_value(item) not in RESIZE_NEW[item.name]:
                    raise ExportError(node.name, f"{item.name} cannot be lowered to opset 17", "resize without it")
            kept = [item for item in node.attribute if item.name not in RESIZE_NEW]
            del node.attribute[:]
            node.attribute.extend(kept)
        elif node.op_type in REDUCE_BY_ATTRIBUTE:
            _axes_to_attribute(node, constants)
    del low.opset_import[:]
    low.opset_import.append(onnx.helper.make_opsetid("", LOW_OPSET))
    low.ir_version = LOW_IR
    return low


def _axes_to_attribute(node: Any, constants: dict[str, Any]) -> None:
    kept = [item for item in node.attribute if item.name not in ("axes", "noop_with_empty_axes")]
    given = len(node.input) > 1 and bool(node.input[1])
    if given and node.input[1] not in constants:
        raise ExportError(node.name, "computed axes cannot be lowered to opset 17", "reduce over constant axes")
    axes = numpy_helper.to_array(constants[node.input[1]]).tolist() if given else None
    if not axes and any(item.name == "noop_with_empty_axes" and item.i for item in node.attribute):
        raise ExportError(node.name, "a reduction over no axes cannot be lowered to opset 17", "leave it out")
    del node.attribute[:]
    node.attribute.extend(kept)
    if axes:
        node.attribute.append(onnx.helper.make_attribute("axes", axes))
    del node.input[1:]


def fold_weights(model: Any) -> Any:
    """A copy whose quantised weights are stored as int8: a quarter of the size, the same numbers.

    TensorRT wants float weights with their own quantisation; engines on CPUs take either.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    weights = {item.name: item for item in graph.initializer}
    gone: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in weights:
            kept.append(node)
            continue
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        value, scale = (numpy_helper.to_array(weights[name]) for name in node.input[:2])
        stored = _quantised(value, scale, axis)
        graph.initializer.append(numpy_helper.from_array(stored, node.output[0]))
        gone.add(node.input[0])
    del graph.node[:]
    graph.node.extend(kept)
    still_used = {name for node in graph.node for name in node.input}
    left = [item for item in graph.initializer if item.name not in gone or item.name in still_used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    return folded


def _quantised(value: Any, scale: Any, axis: int) -> Any:
    """QuantizeLinear with zero point 0, as ONNX defines it: round half to even, saturate."""
    if scale.ndim:
        shape = [1] * value.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
    return np.clip(np.rint(value / scale), -128, 127).astype(np.int8)
