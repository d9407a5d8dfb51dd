"""Checkpoint -> end-to-end ONNX graph: uint8 camera frame in, decoded outputs out, dynamic batch."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from avexp.augmentation.pipeline import resize_to
from avexp.core.errors import ExportError
from avexp.models.network import EndToEnd, Network, camera_geometry
from avexp.train.predictor import network_constants

OPSET = 18
"""Floor of torch's exporter; lowered to 17 for TensorRT 8.5 (onnx_form)."""
INPUT = "image"


def end_to_end(network: Network, image_size: tuple[int, int]) -> EndToEnd:
    """The exported module.

    Args:
        network: trained.
        image_size: camera image (width, height) [px].
    """
    return EndToEnd(network.eval(), resize_to, camera_geometry(image_size, network.size_px)).eval()


def export_onnx(
    network: Network, image_size: tuple[int, int], path: Path, batch_max: int, input_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Write the graph; returns the constants that a reader of its outputs needs.

    Args:
        network: trained.
        image_size: camera image (width, height) [px], in which outputs are.
        path: where to.
        batch_max: largest batch that the graph takes.
        input_size: of the frames that it takes, where they are a rendition of the camera's.

    Raises:
        ExportError: the exporter refuses the graph.
    """
    module = end_to_end(network, image_size)
    width, height = input_size or image_size
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with torch.inference_mode():
        names = list(module(example))
    batch = torch.export.Dim("batch", min=1, max=max(2, batch_max))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            for name in ("onnxscript", "onnx_ir"):
                logging.getLogger(name).setLevel(logging.ERROR)
            torch.onnx.export(
                module,
                (example,),
                str(path),
                input_names=[INPUT],
                output_names=names,
                dynamo=True,
                dynamic_shapes={INPUT: {0: batch}},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as fault:
        raise ExportError(
            "model", f"ONNX export failed ({str(fault).splitlines()[0]})", "see the log for the operator"
        ) from fault
    return {**network_constants(network, module.geometry), "image_size": list(image_size)}


def parity(network: Network, image_size: tuple[int, int], path: Path, frames: Any) -> dict[str, float]:
    """Largest absolute difference of each output between torch and onnxruntime, at the given frames.

    Args:
        network: trained.
        image_size: camera image (width, height) [px].
        path: of the graph.
        frames: uint8 [B, H, W, 3].
    """
    import numpy as np
    import onnxruntime

    module = end_to_end(network, image_size)
    with torch.inference_mode():
        wanted = {name: value.numpy() for name, value in module(torch.from_numpy(frames)).items()}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = dict(zip([item.name for item in session.get_outputs()], session.run(None, {INPUT: frames}), strict=True))
    return {
        name: float(np.abs(found[name].astype(np.float64) - wanted[name].astype(np.float64)).max()) for name in wanted
    }
