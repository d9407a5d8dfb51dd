import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.augmentation.resize import fit_matrix, fit_rows, resize_to, scale_to_width


def test_a_camera_image_keeps_its_proportions():
    assert fit_matrix((640, 360), (192, 320)).tolist() == [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]


def test_half_size_is_the_mean_of_four_pixels_and_zeros_below():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize_to(image, (3, 2))[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5], [0.0, 0.0]]


def test_rows_beyond_are_cut_at_the_bottom():
    image = torch.arange(8.0).view(1, 1, 4, 2)
    assert fit_rows(image, 2)[0, 0].tolist() == [[0.0, 1.0], [2.0, 3.0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 700), st.integers(20, 400), st.sampled_from([32, 48, 64]))
def test_a_pixel_goes_where_the_matrix_says(width, height, net_width):
    scale = fit_matrix((width, height), (32, net_width))[0, 0]
    ramp = torch.arange(width).add(0.5).expand(1, 1, height, width)
    out = scale_to_width(
        torch.cat([ramp, torch.arange(height).add(0.5).view(1, 1, -1, 1).expand_as(ramp)], 1), net_width
    )
    rows = max(1, round(height * net_width / width))
    assert out.shape == (1, 2, rows, net_width)
    assert resize_to(ramp, (32, net_width)).shape == (1, 1, 32, net_width)
    # inside; at the outer edge there is nothing left to average with
    edge = 2 + int(np.ceil(scale))
    columns = (torch.arange(net_width) + 0.5) / scale
    lines = (torch.arange(rows) + 0.5) / scale
    assert torch.allclose(out[0, 0, 0, edge:-edge], columns[edge:-edge], atol=2e-2)
    assert torch.allclose(out[0, 1, edge:-edge, 0], lines[edge:-edge], atol=2e-2)


@pytest.mark.parametrize("size", [(640, 360), (1241, 376), (160, 90)])
def test_the_exported_graph_resizes_alike(size, tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    class Resize(torch.nn.Module):
        def forward(self, image):
            return resize_to(image.permute(0, 3, 1, 2).float(), (96, 160))

    example = torch.randint(0, 256, (2, size[1], size[0], 3), dtype=torch.uint8)
    path = tmp_path / "resize.onnx"
    batch = torch.export.Dim("batch", min=1, max=8)
    with warnings.catch_warnings():
        # the exporter warns of its own deprecated calls
        warnings.simplefilter("ignore")
        shapes = {"image": {0: batch}}
        torch.onnx.export(
            Resize().eval(), (example,), str(path), dynamo=True, dynamic_shapes=shapes, opset_version=18, verbose=False
        )
    nodes = onnx.load(path).graph.node
    assert not any(a.name == "antialias" and a.i for node in nodes for a in node.attribute)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = torch.randint(0, 256, (3, size[1], size[0], 3), dtype=torch.uint8)
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    assert np.abs(found - Resize()(image).numpy()).max() < 1e-3
