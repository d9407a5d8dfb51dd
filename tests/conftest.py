"""Shared by all tests: bounded threads, so that the suite is steady on two cores; small datasets made once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

# What the tests of the real and of the fake SLURM have in common says what it compared.
pytest.register_assert_rewrite("slurm.behaviour", "slurm.jobs", "slurm.sweeps")
cv2.setNumThreads(1)
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "realdata"


@pytest.fixture(scope="session")
def real_data():
    """Real drives; tests that use them pass without them."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder of real data is not here")
    return REAL_DATA


def lane_frame(number, width=64, height=48):
    """A tiny frame with two lines, and its TuSimple label."""
    image = np.full((height, width, 3), 90, np.uint8)
    left, right = 16 + number % 4, 46 + number % 4
    cv2.line(image, (left, height), (28, 20), (255, 255, 255), 1)
    cv2.line(image, (right, height), (36, 20), (255, 255, 255), 1)
    rows = list(range(24, height, 4))
    share = [(row - 20) / (height - 20) for row in rows]
    lanes = [[round(28 + (left - 28) * s) for s in share], [round(36 + (right - 36) * s) for s in share]]
    return simplejpeg.encode_jpeg(image, 95), rows, lanes


@pytest.fixture(scope="session")
def lane_folder(tmp_path_factory):
    """A folder of two sessions in TuSimple's format."""
    import json

    root = tmp_path_factory.mktemp("lanes")
    for session in ("highway_day", "rural_night"):
        folder = root / session
        (folder / "frames").mkdir(parents=True)
        lines = []
        for number in range(24):
            jpeg, rows, lanes = lane_frame(number)
            (folder / "frames" / f"{number:03d}.jpg").write_bytes(jpeg)
            entry = {
                "raw_file": f"frames/{number:03d}.jpg",
                "h_samples": rows,
                "lanes": lanes,
                "timestamp_ns": number * 10**8,
            }
            lines.append(json.dumps(entry))
        (folder / "lanes_a.json").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="session")
def lane_dataset(lane_folder, tmp_path_factory):
    """Those sessions as a dataset version."""
    from avexp.catalog.split import ByTime
    from avexp.ingest.prepare import DataSource
    from avexp.ingest.tusimple import TuSimpleReader

    root = tmp_path_factory.mktemp("store")
    return DataSource("lanes", TuSimpleReader(str(lane_folder)), ByTime(0.25), workers=1).open(root)
