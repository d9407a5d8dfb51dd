"""Where in the image a head looks, per head: HiResCAM (Draelos and Carin 2020) on a backbone stage.

Grad-CAM averages the gradient over the whole image first; with many objects in it that lights up what looks like them elsewhere.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avexp.augmentation.pipeline import prepare
from avexp.models.network import Network
from avexp.records.batch import Batch

Map = npt.NDArray[np.float32]
STAGE = 1
"""Backbone stage (stride 8): fine enough to tell one car from the next."""

WHAT: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "objects": lambda raw: raw["heat"].amax(1).flatten(1).topk(10, 1)[0].sum(),
    "lanes": lambda raw: raw["place"].amax(-1).sum(),
    "drivable": lambda raw: raw["mask"].clamp(min=0).sum(),
    "path": lambda raw: raw["offset"][..., 1].abs().sum(),
}
"""The number whose gradient is taken, by head: its strongest evidence."""


def attribution(network: Network, batch: Batch) -> dict[str, list[Map]]:
    """Maps by head, one a frame, [h, w] in 0..1 over the camera image.

    Args:
        network: in evaluation mode.
        batch: of frames at full camera size.
    """
    images = prepare(batch, network.size_px).images.requires_grad_(True)
    kept: list[Tensor] = []
    stages = cast(torch.nn.ModuleList, network.backbone.stages)
    hook = stages[STAGE].register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        raw = network(images)
    finally:
        hook.remove()
    scale = network.size_px[1] / float(batch.camera_size[0, 0])
    shown = min(1.0, float(batch.camera_size[0, 1]) * scale / network.size_px[0])
    maps: dict[str, list[Map]] = {}
    for head, parts in raw.items():
        if head not in WHAT:
            continue
        (gradient,) = torch.autograd.grad(WHAT[head](parts), kept[0], retain_graph=True)
        cam = (gradient * kept[0]).sum(1).clamp(min=0).detach()
        rows = max(1, round(cam.shape[1] * shown))
        cam = cam[:, :rows] / cam.flatten(1).amax(1).clamp(min=1e-9)[:, None, None]
        maps[head] = [frame.numpy().astype(np.float32) for frame in cam]
    return maps
