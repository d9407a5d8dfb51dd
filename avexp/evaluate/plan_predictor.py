"""A bundle's plan as a predictor: the runtime's raw outputs through the same post-processing as a checkpoint's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avexp.core.errors import ExportError
from avexp.core.files import read_json
from avexp.models.postprocess import ObjectFilter, Postprocess
from avexp.records.batch import Batch
from avexp.records.prediction import Prediction
from avexp.runtime.errors import BundleError
from avexp.runtime.loading import load

Image = npt.NDArray[np.uint8]


@dataclass
class BundlePlan:
    """One plan of a bundle, ready to run.

    Attributes:
        name: id of the plan.
        runtime: what infers.
        constants: of the outputs.
        image_size: (width, height) [px] of the camera, in which predictions are.
        input_size: (width, height) [px] of the frames that the plan takes.
        classes: object class names.
        postprocess: raw outputs -> Predictions.
        reason: why this plan.
    """

    name: str
    runtime: Any
    constants: dict[str, Any]
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    classes: list[str]
    postprocess: Postprocess
    reason: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)

    def predict(self, frames: Image) -> list[Prediction]:
        """uint8 [B, H, W, 3] RGB -> one Prediction a frame."""
        return self.postprocess(self.runtime.infer(frames), self.constants, self.image_size)

    def __call__(self, batch: Batch) -> list[Prediction]:
        """Of a batch as the evaluation loader gives it: uint8 frames; those of another rendition are scaled."""
        frames = batch.images.numpy()
        if (frames.shape[2], frames.shape[1]) != self.input_size:
            frames = np.stack([fit_frame(frame, self.input_size) for frame in frames])
        return self.predict(frames)


def open_bundle(
    folder: Path,
    plan: str | None = None,
    threads: int = 1,
    postprocess: Postprocess | None = None,
    score_min: float = 0.05,
    allow_refused: bool = False,
) -> BundlePlan:
    """Load a bundle; its files are checked against its manifest.

    Args:
        folder: of the bundle.
        plan: id of a plan; the first that fits this machine if None.
        threads: CPU threads of the plan.
        postprocess: raw outputs -> Predictions; the default with ``score_min`` if None.
        score_min: least score of an object.
        allow_refused: also a plan that its gate refused.

    Raises:
        ExportError: damaged, tampered with, or no plan of it runs here.
    """
    try:
        runtime = load(str(folder), plan=plan, threads=threads, allow_refused=allow_refused)
    except BundleError as fault:
        raise ExportError(fault.where, fault.what, fault.remedy) from None
    manifest = read_json(folder / "manifest.json")
    constants = dict(manifest["outputs"])
    shape = manifest["input"]["shape"]
    return BundlePlan(
        name=runtime.plan["id"],
        runtime=runtime,
        constants=constants,
        image_size=image_size_of_outputs(constants, shape),
        input_size=(int(shape[2]), int(shape[1])),
        classes=list(constants.get("classes", [])),
        postprocess=postprocess or Postprocess(objects=ObjectFilter(score_min=score_min)),
        reason="; ".join(runtime.reasons) or "the first of the bundle",
        manifest=manifest,
    )


def image_size_of_outputs(constants: Mapping[str, Any], shape: Sequence[Any]) -> tuple[int, int]:
    """(width, height) [px] that outputs refer to; bundles that do not say so refer to the frames they take."""
    width, height = constants.get("image_size") or (shape[2], shape[1])
    return int(width), int(height)


def fit_frame(image: Image, image_size: tuple[int, int]) -> Image:
    """A frame of another size brought to the plan's: scaled to its width, cut or padded with black below."""
    import cv2

    width, height = image_size
    if image.shape[1] != width:
        rows = round(image.shape[0] * width / image.shape[1])
        method = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (width, rows), interpolation=method), np.uint8)
    if image.shape[0] < height:
        image = np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0)))
    return np.ascontiguousarray(image[:height])
