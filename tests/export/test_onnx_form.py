import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_bundle import HEIGHT, WIDTH, toy_graph

import avexp.export.quantise
from avexp.core.errors import ExportError
from avexp.export.onnx_form import fold_weights, load, lower_opset, save, strip
from avexp.export.quantise import form_faults, light_nodes, quantise, zero_ranges

FRAMES = np.random.default_rng(3).integers(0, 255, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)


def outputs(model, frames=FRAMES):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": frames})


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    onnx.save(toy_graph(), str(folder / "fp32.onnx"))
    zero = quantise(folder / "fp32.onnx", folder / "int8.onnx", (frame[None] for frame in FRAMES))
    return load(folder / "int8.onnx"), zero


def test_strip_leaves_no_path_and_no_number_changed():
    model = toy_graph()
    model.graph.node[0].doc_string = "/home/someone/secret.py"
    model.metadata_props.add(key="trace", value="/home/someone")
    before = outputs(model)
    text = strip(model).SerializeToString()
    assert b"/home" not in text
    assert all(np.array_equal(one, two) for one, two in zip(before, outputs(model), strict=True))


def reduce_graph(antialias=0):
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    resize = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": antialias}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["big"], "resize", **resize),
        helper.make_node("ReduceMax", ["big", "axes"], ["y"], "max", keepdims=0, noop_with_empty_axes=0),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 3])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 6])]
    graph = helper.make_graph(nodes, "g", inputs, results, [axes, scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def test_opset_17_says_the_same():
    model, x = reduce_graph(), np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)
    low = lower_opset(model)
    onnx.checker.check_model(low, full_check=True)
    assert low.opset_import[0].version == 17
    one, two = (onnxruntime.InferenceSession(part.SerializeToString()).run(None, {"x": x})[0] for part in (model, low))
    assert np.array_equal(one, two)
    assert model.opset_import[0].version == 18, "the original is left alone"


def set_attribute(model, node, **values):
    for name, value in values.items():
        model.graph.node[node].attribute.append(helper.make_attribute(name, value))
    return model


def computed_axes(model):
    del model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("axes", TensorProto.INT64, [1]))
    return model


def no_axes(model):
    model.graph.node[1].input[1] = ""
    model.graph.node[1].attribute[1].i = 1
    return model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (reduce_graph(antialias=1), "antialias cannot be lowered"),
        (set_attribute(reduce_graph(), 0, axes=[2, 3]), "axes cannot be lowered"),
        (set_attribute(reduce_graph(), 0, keep_aspect_ratio_policy="not_larger"), "keep_aspect_ratio_policy cannot"),
        (computed_axes(reduce_graph()), "computed axes cannot be lowered"),
        (no_axes(reduce_graph()), "reduction over no axes cannot be lowered"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_dropped_silently(model, text):
    with pytest.raises(ExportError, match=text):
        lower_opset(model)


def test_int8_has_the_form_that_every_engine_takes(int8):
    model, zero = int8
    assert form_faults(model) == []
    assert zero == []
    names = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= names
    gap = np.abs(outputs(model)[0] - outputs(toy_graph())[0]).max()
    assert 0 < gap < 0.05


def test_folding_weights_changes_size_and_no_number(int8):
    model, _ = int8
    folded = fold_weights(model)
    onnx.checker.check_model(folded, full_check=True)
    kinds = {item.data_type for item in folded.graph.initializer if item.name.endswith("_QuantizeLinear_Output")}
    assert kinds == {TensorProto.INT8}
    assert all(np.array_equal(one, two) for one, two in zip(outputs(model), outputs(folded), strict=True))
    assert "dequantises a stored INT8" in form_faults(folded)[0]


def test_what_holds_no_product_stays_float():
    assert light_nodes(toy_graph()) == {"cast", "mul", "transpose", "reshape", "sum"}


def test_a_dead_activation_is_named(tmp_path):
    onnx.save(toy_graph(), str(tmp_path / "fp32.onnx"))
    black = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    dead = quantise(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", [black])
    assert "planes" in dead
    assert dead == zero_ranges(load(tmp_path / "int8.onnx"))


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_histograms_are_made_a_few_frames_at_a_time(tmp_path, method, monkeypatch):
    sizes = []
    at_once = avexp.export.quantise._at_once
    monkeypatch.setattr("avexp.export.quantise._at_once", lambda count: sizes.append(at_once(count)) or sizes[-1])
    onnx.save(toy_graph(), str(tmp_path / "fp32.onnx"))
    frames = [frame[None] for frame in FRAMES] * 3
    quantise(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", frames, method)
    assert sizes == [6], "12 frames: the largest divisor of at most 8"
    assert [at_once(count) for count in (1, 7, 128, 13)] == [1, 7, 8, 1]
    gap = np.abs(outputs(load(tmp_path / "int8.onnx"))[0] - outputs(toy_graph())[0]).max()
    assert gap < 0.1


@pytest.mark.parametrize(
    ("method", "frames", "text"), [("magic", FRAMES, "known: minmax"), ("minmax", [], "no frames")]
)
def test_bad_calibration_is_one_line(tmp_path, method, frames, text):
    onnx.save(toy_graph(), str(tmp_path / "fp32.onnx"))
    with pytest.raises(ExportError, match=text):
        quantise(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", (frame[None] for frame in frames), method)


def test_a_broken_graph_is_one_line(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="no readable ONNX"):
        load(tmp_path / "x.onnx")
    model = toy_graph()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ExportError, match="checker refuses"):
        save(model, tmp_path / "y.onnx")
