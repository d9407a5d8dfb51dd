"""``python -m avexp_runtime <bundle> <frame.npy | image> ...``: predictions as JSON lines, and the latency.

``python -m avexp_runtime check <bundle>`` holds every file of a bundle against its manifest.
"""

from __future__ import annotations

import json
import sys
from typing import Any, List

import numpy as np

from .errors import BundleError
from .loading import load
from .manifest import check_files

USAGE = (
    "usage: python -m avexp_runtime <bundle> <frame.npy | image> ...\n       python -m avexp_runtime check <bundle>\n"
)


def read_frame(path: str) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a .npy file, or of an image where Pillow or OpenCV is there.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        if path.endswith(".npy"):
            return np.asarray(np.load(path))
        try:
            from PIL import Image

            return np.asarray(Image.open(path).convert("RGB"))
        except ImportError:
            import cv2

            return np.asarray(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB))
    except Exception as fault:
        raise BundleError(path, "cannot be read ({})".format(fault), "give a .npy file or an image") from None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def main(words: List[str]) -> int:
    """Exit code."""
    if len(words) < 2:
        sys.stderr.write(USAGE)
        return 2
    try:
        if words[0] == "check":
            sys.stdout.write("{} files are those of the manifest\n".format(len(check_files(words[1]))))
            return 0
        runtime = load(words[0], threads=1)
        for path in words[1:]:
            frame = read_frame(path)[None]
            for found in runtime.predict(frame):
                line = {"frame": path, **{name: _plain(value) for name, value in found.items()}}
                sys.stdout.write(json.dumps(line) + "\n")
        figures = runtime.benchmark(frame, runs=20, warmup=3)
    except BundleError as fault:
        sys.stderr.write("{}\n".format(fault))
        return 5
    for reason in runtime.reasons:
        sys.stderr.write("passed over {}\n".format(reason))
    sys.stderr.write(
        "plan {}: p50 {:.2f} ms, p99 {:.2f} ms\n".format(runtime.plan["id"], figures["p50_ms"], figures["p99_ms"])
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
