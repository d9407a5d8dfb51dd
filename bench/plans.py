"""CPU plans against torch eager, one frame, one thread: python bench/plans.py

Random weights: this is about speed. Plans and eager take turns, frame in to decoded outputs out.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import versions, write

from avexp.core.config import ExportConfig
from avexp.export.bundle import BundleWriter
from avexp.export.graph import export_onnx
from avexp.export.onnx_form import load, save, strip
from avexp.export.plans import make
from avexp.export.proof import EAGER, time_together
from avexp.models.drivable import Drivable
from avexp.models.fpn import FPN
from avexp.models.lanes import Lanes
from avexp.models.network import Network
from avexp.models.objects import Objects
from avexp.models.path import Path as PathHead
from avexp.models.postprocess import Postprocess
from avexp.models.resnet import ResNet

SIZE = 640, 360
NETWORKS = {
    "quickstart": (ResNet(), 32),
    "ResNet-18 size": (ResNet(stem_width=64, widths=(64, 128, 256, 512), depths=(2, 2, 2, 2)), 64),
}


def main() -> None:
    """Both networks, all plans."""
    figures: dict[str, Any] = {}
    frames = np.random.default_rng(1).integers(0, 255, (8, SIZE[1], SIZE[0], 3), dtype=np.uint8)
    for name, (backbone, width) in NETWORKS.items():
        heads = {"objects": partial(Objects, width=width), "lanes": Lanes, "drivable": Drivable, "path": PathHead}
        network = Network(backbone, partial(FPN, width=width), heads, 192, 320).eval()
        with tempfile.TemporaryDirectory() as folder:
            writer = BundleWriter(Path(folder) / "bundle")
            fp32 = writer.path("model.fp32.onnx")
            constants = export_onnx(network, SIZE, fp32, 8)
            save(strip(load(fp32)), fp32)
            config = ExportConfig(run="-")
            made = make(config, writer, constants, fp32, frames)
            times = time_together(
                network, [made.open(plan, 1, Postprocess()) for plan in made.plans], frames[:1], config
            )
            writer.discard()
        eager = times[EAGER]["p50_ms"]
        print(f"{name}, {sum(value.numel() for value in network.parameters()) / 1e6:.1f} M parameters")
        figures[name] = {}
        for plan, taken in times.items():
            figures[name][plan] = {"p50_ms": round(taken["p50_ms"], 3), "ratio": round(eager / taken["p50_ms"], 3)}
            print(f"  {plan:22s} p50 {taken['p50_ms']:6.2f} ms, {eager / taken['p50_ms']:.1f}x PyTorch eager")
    write("plans", figures, versions("torch", "onnxruntime", "openvino", "nncf"))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
