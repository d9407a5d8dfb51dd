"""A toy graph with the output names of the real one, and a bundle of it."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from avexp.core.files import digest_file
from avexp.runtime.manifest import manifest_digest

HEIGHT, WIDTH = 8, 12


def toy_graph(opset=17):
    """Image uint8 [B, 8, 12, 3] -> path [B, 2, 2] and curvature [B]: a convolution, a mean, a matrix."""
    weights = {
        "scale": np.array(1 / 255, np.float32),
        "kernel": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32),
        "matrix": np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32),
        "shape": np.array([-1, 2, 2], np.int64),
        "flat": np.array([-1, 4], np.int64),
        "axes": np.array([1, 2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"], "mul"),
        helper.make_node("Transpose", ["scaled"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["features"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"], "relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "pool"),
        helper.make_node("Reshape", ["pooled", "flat"], ["vector"], "flatten"),
        helper.make_node("Gemm", ["vector", "matrix"], ["numbers"], "gemm"),
        helper.make_node("Reshape", ["numbers", "shape"], ["path"], "reshape"),
        helper.make_node("ReduceSum", ["path", "axes"], ["curvature"], "sum", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("path", TensorProto.FLOAT, ["batch", 2, 2]),
            helper.make_tensor_value_info("curvature", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def toy_bundle(folder, **changes):
    """A bundle folder with an onnxruntime and an openvino plan of the toy graph."""
    (folder / "plans").mkdir(parents=True)
    onnx.save(toy_graph(), str(folder / "plans" / "toy.onnx"))
    file = folder / "plans" / "toy.onnx"
    entry = {"file": "plans/toy.onnx", "sha256": digest_file(file), "bytes": file.stat().st_size}
    common = {
        "batch": {"min": 1, "opt": 1, "max": 4},
        "status": "built",
        "gate": {"passed": True},
        "requires": {},
        **entry,
    }
    manifest = {
        "format": 1,
        "input": {"name": "image", "shape": ["batch", HEIGHT, WIDTH, 3], "dtype": "uint8"},
        "outputs": {"path_arc_m": [5.0, 10.0]},
        "plans": [
            {
                "id": "trt",
                "backend": "tensorrt",
                "precision": "fp16",
                "batch": {"min": 1, "opt": 1, "max": 4},
                "status": "pending_target",
            },
            {"id": "bad", "backend": "onnxruntime", "precision": "int8", **common, "gate": {"passed": False}},
            {"id": "ort", "backend": "onnxruntime", "precision": "fp32", **common},
            {"id": "ov", "backend": "openvino", "precision": "fp32", **common},
        ],
        **changes,
    }
    manifest["digest"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
