"""Frames a second of the synthetic world on one core, JPEG included: python bench/world.py

The peer is a fixed load of the same libraries, so that a slow hour of the machine shows.
"""

import time
from statistics import median

import cv2
import numpy as np
import simplejpeg
from record import versions, write

from avexp.ingest.world import WorldReader

SESSIONS, FRAMES = 6, 60


def peer_ms() -> float:
    """One 640x360 frame blurred, warped and coded, ten times."""
    image = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    turn = np.array([[1.0, 0.02, 3.0], [-0.02, 1.0, 5.0]])
    began = time.perf_counter()
    for _ in range(10):
        blurred = cv2.GaussianBlur(image, (5, 5), 1.2)
        simplejpeg.encode_jpeg(cv2.warpAffine(blurred, turn, (640, 360)), quality=90, colorspace="RGB")
    return (time.perf_counter() - began) * 100


def main() -> None:
    """Measure both kinds of road, frame by frame, the peer between sessions."""
    cv2.setNumThreads(1)
    figures: dict[str, dict[str, float]] = {}
    for road, urban in (("highway", 0.0), ("urban", 1.0)):
        reader = WorldReader(train_sessions=SESSIONS, val_sessions=0, frames_per_session=FRAMES, urban=urban)
        whole, peers = [], []
        for ref in reader.list():
            peers.append(peer_ms())
            began = time.perf_counter()
            count = sum(1 for _ in reader.read(ref))
            whole.append((time.perf_counter() - began) * 1e3 / count)
        frame, peer = median(whole), median(peers)
        figures[road] = {"frames_per_s": round(1000 / frame, 1), "frame_ms": round(frame, 3), "peer_ms": round(peer, 3)}
        print(f"{road:8s} {1000 / frame:6.0f} frames/s ({frame:.2f} ms a frame, making the drive included); "
              f"peer {peer:.2f} ms, ratio {frame / peer:.2f}")  # fmt: skip
    write("world", figures, versions("opencv-python-headless", "simplejpeg", "numpy"))


if __name__ == "__main__":
    main()
