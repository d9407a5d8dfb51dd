import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_bundle import toy_graph

from avexp.export.tensorrt_parser import OPERATORS, parser_faults


def graph(nodes, dtype=TensorProto.FLOAT, out=TensorProto.FLOAT, opset=17, **weights):
    """x [1, 2, 6, 6] of a type -> y."""
    items = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    inputs = [helper.make_tensor_value_info("x", dtype, [1, 2, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", out, None)]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, items), opset_imports=[helper.make_opsetid("", opset)]
    )


def node(kind, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), "it", **attributes)


def test_a_graph_in_the_promised_form_has_no_fault():
    model = toy_graph()
    del model.graph.node[:3]  # the toy transposes before it is clean; see below
    model.graph.node[0].input[0] = "image"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    assert parser_faults(model) == []


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (graph([node("HardSwish")]), "operator HardSwish is not in it"),
        (graph([node("Relu")], opset=18), "opset 18 is above 17"),
        (
            graph([node("Transpose", perm=[0, 2, 3, 1])], TensorProto.UINT8, TensorProto.UINT8),
            "it: Transpose takes no uint8",
        ),
        (
            graph([node("Cast", to=TensorProto.UINT8)], TensorProto.BOOL, TensorProto.UINT8),
            "it: uint8 is cast from and to floats only",
        ),
        (graph([node("ArgMax", axis=1)], TensorProto.INT64, TensorProto.INT64), "it: ArgMax takes no integers"),
        (graph([node("TopK", ("x", "k"), ("y", "i"))], k=np.array([5000])), "it: K is above 3840"),
        (graph([node("MaxPool", outputs=("y", "i"), kernel_shape=[2, 2])]), "it: indices of MaxPool are not given"),
        (
            graph([node("Resize", ("x", "", "s"), mode="cubic")], s=np.array([1, 1, 2, 2], np.float32)),
            "it: Resize is not cubic",
        ),
        (
            graph(
                [node("QuantizeLinear", ("x", "s", "z"))],
                out=TensorProto.INT8,
                s=np.float32(0),
                z=np.array(0, np.int8),
            ),
            "it: a scale is not positive",
        ),
        (
            graph([node("QuantizeLinear", ("x", "s"))], out=TensorProto.UINT8, s=np.float32(1)),
            "it: has no zero point",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_parser_asserts_is_found_here(model, fault):
    assert fault in parser_faults(model)


def test_a_cast_of_uint8_to_float_is_the_one_way_in():
    assert parser_faults(graph([node("Cast", to=TensorProto.FLOAT)], TensorProto.UINT8)) == []


def test_every_operator_is_one_of_onnx():
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert known >= OPERATORS
