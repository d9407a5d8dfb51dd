"""An mp4 of RGB frames (H.264, yuv420p: every browser plays it), written aside and renamed."""

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt


class VideoWriter:
    """Frames of one size into an mp4.

    Args:
        path: the file to be; it appears when the block ends well.
        rate_hz: frames a second.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self.path, self.rate_hz = path, rate_hz
        self._aside = path.with_name(f".{path.stem}.tmp{os.getpid()}.mp4")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> Self:
        return self

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Append uint8 [H, W, 3] RGB; an odd last row or column is left out, because yuv420p needs even sizes."""
        import av

        image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
        if self._container is None:
            self._container = av.open(str(self._aside), "w")
            rate = Fraction(self.rate_hz).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate)
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"preset": "veryfast", "crf": "23", "threads": "2"}
        if image.shape[:2] != (self._stream.height, self._stream.width):
            return
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None:
            if kind is None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
        if kind is None and self._aside.exists():
            self._aside.replace(self.path)
        self._aside.unlink(missing_ok=True)
