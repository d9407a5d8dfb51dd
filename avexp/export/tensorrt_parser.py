"""What the ONNX parser of TensorRT 8.5 refuses, found here instead of on the car.

Source: onnx/onnx-tensorrt at its 8.5 GA commit 3b008c4: docs/operators.md for the operators, the assertions of
builtin_op_importers.cpp for how they are used. Reading is not running: the parser itself needs a GPU.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

OPSET_MAX = 17
TOP_K_MAX = 3840
"""Of TensorRT's TopK layer."""
# fmt: off
OPERATORS = frozenset((
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Concat",
    "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "DepthToSpace", "DequantizeLinear", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "InstanceNormalization",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mul", "Neg", "Not",
    "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
    "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice",
    "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh",
    "ThresholdedRelu", "Tile", "TopK", "Transpose", "Unsqueeze", "Where", "Xor",
))
# fmt: on
"""Operators marked Y that networks for perception use; recurrences, control flow and plugins are left out."""
WHOLE = (TensorProto.INT32, TensorProto.INT64)
REAL = (TensorProto.FLOAT, TensorProto.FLOAT16)
NO_WHOLE = ("ArgMax", "ArgMin", "TopK", "Gemm", "MatMul", "PRelu")
RESIZE_PLACES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
RESIZE_NEAREST = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def parser_faults(model: Any) -> list[str]:
    """Why TensorRT 8.5 would refuse a graph; empty if nothing is known against it.

    Args:
        model: ONNX graph at opset 17 or lower.
    """
    typed = onnx.shape_inference.infer_shapes(model)
    types = {item.name: item.data_type for item in typed.graph.initializer}
    for item in (*typed.graph.value_info, *typed.graph.input, *typed.graph.output):
        types[item.name] = item.type.tensor_type.elem_type
    constants = {item.name: item for item in typed.graph.initializer}
    found = [f"operator {name} is not in it" for name in sorted(_names(typed) - OPERATORS)]
    version = max(item.version for item in typed.opset_import if item.domain in ("", "ai.onnx"))
    if version > OPSET_MAX:
        found.append(f"opset {version} is above {OPSET_MAX}")
    for node in typed.graph.node:
        faults = (*_type_faults(node, types), *_use_faults(node, constants), *_quantisation_faults(node, constants))
        found += [f"{node.name or node.op_type}: {fault}" for fault in faults]
    return found


def _names(model: Any) -> set[str]:
    return {node.op_type for node in model.graph.node}


def _type_faults(node: Any, types: dict[str, int]) -> Iterator[str]:
    """uint8 is for Cast alone, from and to floats; some layers take no integers."""
    takes = [types.get(name, 0) for name in node.input if name]
    gives = [types.get(name, 0) for name in node.output if name]
    if TensorProto.UINT8 in (*takes, *gives):
        if node.op_type != "Cast":
            yield f"{node.op_type} takes no uint8"
        elif not {*takes, *gives} - {TensorProto.UINT8} <= set(REAL):
            yield "uint8 is cast from and to floats only"
    if node.op_type in NO_WHOLE and takes and takes[0] in WHOLE:
        yield f"{node.op_type} takes no integers"
    if node.op_type == "Resize" and takes and takes[0] == TensorProto.BOOL:
        yield "Resize takes no booleans"


def _use_faults(node: Any, constants: dict[str, Any]) -> Iterator[str]:
    """Attributes and inputs that an operator must have or must not."""
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "TopK":
        if node.input[1] not in constants:
            yield "K is no constant"
        elif int(numpy_helper.to_array(constants[node.input[1]]).ravel()[0]) > TOP_K_MAX:
            yield f"K is above {TOP_K_MAX}"
    elif node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield "indices of MaxPool are not given"
    elif node.op_type == "Pad" and len(node.input) > 3 and node.input[3]:
        yield "Pad takes no axes"
    elif node.op_type == "Slice" and len(node.input) > 3 and node.input[3] and node.input[3] not in constants:
        yield "axes are no constant"
    elif node.op_type == "Resize":
        mode = attributes.get("mode", b"nearest").decode()
        place = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
        nearest = attributes.get("nearest_mode", b"round_prefer_floor").decode()
        if mode == "cubic" or attributes.get("antialias"):
            yield f"Resize is not {'cubic' if mode == 'cubic' else 'antialiased'}"
        if place not in RESIZE_PLACES or nearest not in RESIZE_NEAREST:
            yield f"Resize knows no {place}, {nearest}"


def _quantisation_faults(node: Any, constants: dict[str, Any]) -> Iterator[str]:
    """Symmetric, with an explicit zero point as large as the scale, and no scale that is zero."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    if len(node.input) < 3 or not node.input[2]:
        yield "has no zero point"
        return
    scale, zero = (constants.get(name) for name in node.input[1:3])
    if scale is None or zero is None:
        yield "scale or zero point is no constant"
        return
    scales, zeros = numpy_helper.to_array(scale), numpy_helper.to_array(zero)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        yield "a scale is not positive"
    if zeros.any() or zeros.size != scales.size:
        yield "zero points are not zero, one a scale"
