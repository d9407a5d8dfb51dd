import numpy as np
import pytest
import simplejpeg
import torch

from avexp.catalog.split import BySession
from avexp.catalog.versions import create_version
from avexp.core.errors import DataError
from avexp.ingest.prepare import DataSource
from avexp.ingest.rendition import render, rendition, write_renditions
from avexp.ingest.world import WorldReader
from avexp.loader.loader import Loader
from avexp.loader.verify import verify


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same two drives: originals, and a rendition of half the width."""
    root = tmp_path_factory.mktemp("store")
    reader = WorldReader(train_sessions=1, val_sessions=1, frames_per_session=4, width_px=320, height_px=180, rate_hz=1)
    plain = DataSource("plain", reader, BySession("-val-"), workers=1).open(root)
    small = DataSource("small", reader, BySession("-val-"), workers=1, rendition_px=160).open(root)
    return plain, small


def test_the_version_reads_the_smaller_images_and_the_same_labels(stores):
    plain, small = stores
    assert small.manifest.rendition.name == "w160q90"
    assert small.manifest.digest != plain.manifest.digest
    assert (plain.manifest.stored_size_px, small.manifest.stored_size_px) == ((320, 180), (160, 90))
    assert small.manifest.image_sizes_px == [(320, 180)], "labels refer to the camera's pixels"
    rows = plain.select("train")
    a, b = (next(iter(Loader(one, rows, 4, training=False))) for one in stores)
    assert a.keys == b.keys
    assert (a.images.shape[1:], b.images.shape[1:]) == ((180, 320, 3), (90, 160, 3))
    assert torch.equal(torch.nan_to_num(a.boxes), torch.nan_to_num(b.boxes))
    assert a.camera_size.tolist() == b.camera_size.tolist() == [[320, 180]] * 4
    assert torch.equal(b.image_from_camera[0], torch.diag(torch.tensor([0.5, 0.5, 1.0])))
    half = a.images.reshape(4, 90, 2, 160, 2, 3).float().mean((2, 4))
    assert (half - b.images.float()).abs().mean() < 4, "the same picture"
    assert verify(small, small.root) == []


def test_it_is_baseline_jpeg_of_the_width_asked_for():
    image = np.random.default_rng(0).integers(0, 255, (300, 500, 3), dtype=np.uint8)
    coded = render(simplejpeg.encode_jpeg(image), rendition(200), "x")
    height, width, _, subsampling = simplejpeg.decode_jpeg_header(coded)
    assert (width, height, subsampling) == (200, 120, "420")
    assert b"\xff\xc0" in coded[:700], "baseline"
    assert b"\xff\xc2" not in coded[:700], "not progressive"
    assert simplejpeg.decode_jpeg_header(render(coded, rendition(400), "x"))[1] == 200, "never enlarged"


def test_it_is_made_once_and_never_overwritten(stores, tmp_path):
    _, small = stores
    folder = small.root / "sessions" / small.manifest.sessions[0] / "renditions" / "w160q90"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_renditions(small.root, small.manifest.sessions, rendition(160))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_rendition_that_is_not_there_is_named(stores):
    plain, _ = stores
    with pytest.raises(DataError, match=r"has no rendition w99q90; make it with data.rendition_px"):
        create_version(plain.root, "x", plain.manifest.sessions, BySession("-val-"), rendition="w99q90")
