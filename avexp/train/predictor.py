"""A network's predictions on batches as the loader gives them, and networks out of checkpoints."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avexp.augmentation.pipeline import prepare
from avexp.core.errors import RunError
from avexp.core.instantiate import build, refuse_untrusted
from avexp.models.head import Geometry
from avexp.models.network import Network, camera_geometry
from avexp.models.postprocess import Postprocess
from avexp.records.batch import Batch
from avexp.records.prediction import Prediction

Raw = dict[str, dict[str, Tensor]]


def image_size_of(batch: Batch) -> tuple[int, int]:
    """Camera image (width, height) [px] of a batch."""
    return int(batch.camera_size[0, 0]), int(batch.camera_size[0, 1])


def network_constants(network: Network, geometry: Geometry) -> dict[str, Any]:
    """Constants of all heads, by name."""
    return {key: value for name in network.heads for key, value in network.head(name).constants(geometry).items()}


def predict(
    network: Network, forward: Callable[[Tensor], Raw], postprocess: Postprocess, batch: Batch
) -> list[Prediction]:
    """Predictions in camera pixels.

    Args:
        network: in evaluation mode.
        forward: float [B, 3, H, W] -> raw outputs by head.
        postprocess: decoded outputs -> Predictions.
        batch: of frames at full camera size.
    """
    image_size = image_size_of(batch)
    geometry = camera_geometry(image_size, network.size_px)
    with torch.autocast(batch.images.device.type, enabled=False):
        images = prepare(batch, network.size_px).images
    raw = {head: {name: value.float() for name, value in parts.items()} for head, parts in forward(images).items()}
    decoded = network.decode(raw, geometry)
    if "lanes" in raw and "lane_map" in raw["lanes"]:
        decoded["lane_map"] = raw["lanes"]["lane_map"][:, 0].sigmoid()
    arrays = {name: value.cpu().numpy() for name, value in decoded.items()}
    return postprocess(arrays, network_constants(network, geometry), image_size)


@dataclass(frozen=True, kw_only=True)
class NetworkPredictor:
    """Predictions of a network in float32, in evaluation mode.

    Attributes:
        name: for tables.
        network: the network.
        postprocess: decoded outputs -> Predictions.
        about: what the checkpoint says of itself.
    """

    name: str
    network: Network
    postprocess: Postprocess
    about: dict[str, Any]

    def __call__(self, batch: Batch) -> list[Prediction]:
        """One Prediction a frame."""
        with torch.inference_mode():
            return predict(self.network, self.network, self.postprocess, batch)


def load_predictor(path: Path, postprocess: Postprocess | None = None, name: str = "checkpoint") -> NetworkPredictor:
    """Rebuild the network of a checkpoint.

    Args:
        path: checkpoint file.
        postprocess: instead of the one it was trained with.
        name: for tables.

    Raises:
        RunError: no checkpoint of ours, torn, or of another model.
        ConfigError: it names code that may not be run.
    """
    content = read_checkpoint(path)
    about = content["avexp"]
    model = json.loads(about["model_json"])
    refuse_untrusted(model, f"{path}: model")
    network: Network = build(model, "model", classes=about["classes"])
    load_weights(network, content["state_dict"], path)
    if postprocess is None:
        node = json.loads(about["postprocess_json"])
        refuse_untrusted(node, f"{path}: postprocess")
        postprocess = build(node, "postprocess") or Postprocess()
    return NetworkPredictor(name=name, network=network.eval(), postprocess=postprocess, about=about)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain JSON of a checkpoint; never code.

    Raises:
        RunError: missing, torn, or not ours.
    """
    if not path.is_file():
        raise RunError(str(path), "no such checkpoint", "check of= or run=")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:
        raise RunError(
            str(path), f"cannot be loaded ({str(fault).splitlines()[0][:120]})", "use an older checkpoint"
        ) from None
    if "avexp" not in content or "state_dict" not in content:
        raise RunError(str(path), "is no checkpoint of avexp", "give a file from a run's checkpoints/")
    return content


def load_weights(network: Network, state: dict[str, Tensor], path: Path) -> None:
    """Weights of a LightningModule's state into its network.

    Raises:
        RunError: they are those of another model; names the first difference.
    """
    own = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    wanted = network.state_dict()
    missing, extra = sorted(wanted.keys() - own.keys()), sorted(own.keys() - wanted.keys())
    shapes = [key for key in wanted.keys() & own.keys() if wanted[key].shape != own[key].shape]
    if missing or extra or shapes:
        if shapes:
            first = f"{shapes[0]} is {tuple(own[shapes[0]].shape)}, this model's is {tuple(wanted[shapes[0]].shape)}"
        else:
            first = f"lacks {missing[0]}" if missing else f"has {extra[0]}, this model does not"
        count = len(missing) + len(extra) + len(shapes)
        raise RunError(
            str(path), f"is the checkpoint of another model ({count} differences: {first})", "give its own config"
        )
    network.load_state_dict(own)
