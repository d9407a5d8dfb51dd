from functools import partial

import numpy as np
import pytest
import torch

from avexp.models.fpn import FPN
from avexp.models.head import Term
from avexp.models.lanes import Lanes
from avexp.models.loss_weights import FixedWeights, UncertaintyWeights
from avexp.models.network import EndToEnd, Network, camera_geometry, combine
from avexp.models.objects import Objects
from avexp.models.postprocess import ClusteredLanes, ObjectFilter, Postprocess, RowLanes, longest_run
from avexp.models.resnet import ResidualBlock, ResNet


def small(**options):
    backbone = ResNet(stem_width=4, widths=[8, 8, 8, 8], depths=[1, 1, 1, 1], **options)
    return Network(backbone, partial(FPN, width=8), {"objects": Objects, "lanes": Lanes}, 64, 96, ["car", "light"])


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_what_the_search_ranges_over(block, norm, activation):
    net = small(block=block, norm=norm, activation=activation, kernel=3)
    raw = net(torch.rand(2, 3, 64, 96))
    assert raw["objects"]["heat"].shape == (2, 2, 16, 24)
    assert raw["lanes"]["place"].shape == (2, 4, 8, 12)


def test_stochastic_depth_leaves_frames_out_in_training_alone():
    block = ResidualBlock(4, 4, 1, 3, "none", "relu", "basic", drop=0.5)
    images = torch.rand(1, 4, 8, 8).repeat(400, 1, 1, 1)
    whole = block.eval()(images)
    torch.testing.assert_close(whole, block.activation(block.body(images) + images))
    found = block.train()(images)
    left_out = (found == images).all((1, 2, 3))
    assert 0.4 < left_out.float().mean() < 0.6
    # what is kept is scaled, so that the mean before the activation is that of the whole block
    torch.testing.assert_close(found[~left_out], block.activation(2 * block.body(images) + images)[~left_out])
    net = ResNet(depths=[1, 2, 1, 1], drop_path=0.5)
    drops = [one.drop for one in net.modules() if isinstance(one, ResidualBlock)]
    assert drops == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ResNet(widths=[8], depths=[1, 1]), "one length"),
        (lambda: ResNet(block="wide"), "block=wide"),
        (lambda: ResNet(norm="layer"), "norm=layer"),
        (lambda: ResNet(activation="tanh"), "activation=tanh"),
        (lambda: ResNet(drop_path=1.0), "drop_path=1.0"),
        (
            lambda: Network(ResNet(), partial(FPN), {"objects": Objects}, 100, 96),
            "no multiple of the coarsest stride 32",
        ),
        (lambda: Network(ResNet(), partial(FPN), {}, 64, 96), "at least one head"),
    ],
)
def test_impossible_networks_say_why(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_the_transformers_backbone_fits_the_same_neck():
    pytest.importorskip("transformers")
    from avexp.models.transformers_backbone import TransformersBackbone

    backbone = TransformersBackbone(
        "resnet", {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    )
    net = Network(backbone, partial(FPN, width=8), {"objects": Objects}, 64, 96, ["car"])
    assert backbone.strides == [4, 8, 16, 32]
    assert net(torch.rand(1, 3, 64, 96))["objects"]["heat"].shape == (1, 1, 16, 24)


def test_losses_divide_by_counts_summed_over_ranks():
    terms = {
        "a": {"x": Term(torch.tensor(6.0), torch.tensor(2.0), 0.5)},
        "b": {"y": Term(torch.tensor(4.0), torch.tensor(1.0))},
    }
    loss, parts = combine(terms, FixedWeights(b=2.0), lambda counts: counts)
    assert (float(parts["a"]), float(parts["b"]), float(loss)) == (1.5, 4.0, 9.5)
    loss, _ = combine(terms, FixedWeights(b=2.0), lambda counts: counts * 2)  # the other ranks have more
    assert float(loss) == pytest.approx(0.75 + 4.0)


def test_learned_weights_balance_the_losses():
    weights = UncertaintyWeights(["a", "b"])
    losses = {"a": torch.tensor(4.0), "b": torch.tensor(1.0)}
    assert float(weights(losses).detach()) == 5.0
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        weights(losses).backward()
        optimizer.step()
    # the minimum of exp(-s) L + s is at s = log L
    assert float(weights.log_variance["a"].detach()) == pytest.approx(np.log(4.0), abs=1e-3)


def test_end_to_end_takes_camera_frames():
    from avexp.augmentation.pipeline import resize_to

    module = EndToEnd(small().eval(), resize_to, camera_geometry((192, 120), (64, 96)))
    out = module(torch.randint(0, 255, (2, 120, 192, 3), dtype=torch.uint8))
    assert out["boxes"].shape == (2, 64, 4)
    assert out["lane_x"].shape == (2, 4, 8)


CONSTANTS = {"lane_rows_px": [8.0, 24.0, 40.0, 56.0], "lane_slots": [-1, 1], "classes": ["car"]}


def test_rows_above_a_score_become_a_lane_to_its_cells_ends():
    x = np.array([[40.0, 30.0, 20.0, 10.0], [50, 60, 70, 80]], np.float32)
    score = np.array([[0.1, 0.9, 0.9, 0.9], [0.9, 0.1, 0.1, 0.1]], np.float32)
    lanes, scores, slots = RowLanes()({"lane_x": x, "lane_score": score}, CONSTANTS)
    assert slots.tolist() == [-1]
    assert lanes[0].tolist() == [[5.0, 64.0], [10, 56], [20, 40], [30, 24], [35.0, 16.0]]
    assert scores[0] == pytest.approx(0.9)


def test_a_stray_row_is_no_lane():
    assert longest_run(np.array([1, 0, 0, 1, 1, 1, 0, 1, 1], bool)).tolist() == [3, 4, 5]
    assert longest_run(np.zeros(3, bool)).tolist() == []


def test_clusters_become_lanes():
    found = np.zeros((8, 24), np.float32)
    for row in range(8):
        found[row, 3] = found[row, 18 - row // 2] = 0.9
    constants = {"lane_rows_px": [8.0 * row + 4 for row in range(8)]}
    lanes, _, slots = ClusteredLanes()({"lane_map": found}, constants)
    assert len(lanes) == 2
    assert slots.tolist() == [0, 0]
    near = sorted(float(line[0, 0]) for line in lanes)
    assert near == [3.5 * 8, 15.5 * 8]


def test_overlapping_boxes_of_a_class_keep_the_better():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.8, 0.9, 0.04, 0.5], np.float32)
    kept = ObjectFilter(score_min=0.05, nms_iou=0.6).keep(boxes, scores, np.array([0, 0, 0, 1]))
    assert kept.tolist() == [1, 3]
    assert ObjectFilter(score_min=0.0, nms_iou=None).keep(boxes, scores, np.zeros(4, int)).tolist() == [1, 0, 3, 2]


def test_boxes_are_clipped_to_the_camera():
    outputs = {
        "boxes": np.array([[[-5, 2, 300, 50]]], np.float32),
        "scores": np.array([[0.9]], np.float32),
        "classes": np.array([[0]]),
        "distances": np.array([[7.0]], np.float32),
        "states": np.array([[0]]),
    }
    assert Postprocess()(outputs, CONSTANTS, (192, 120))[0].boxes.tolist() == [[0, 2, 192, 50]]
