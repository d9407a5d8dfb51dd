import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg

from avexp.core.errors import DataError
from avexp.ingest.images import ImagesReader
from avexp.ingest.session_writer import ingest
from avexp.ingest.tusimple import TuSimpleReader
from avexp.ingest.video import VideoReader
from avexp.records.labels import Light, Road
from avexp.records.session import Skipped
from avexp.records.shard import read_index


def frames_of(reader):
    (ref,) = reader.list()
    items = list(reader.read(ref))
    return [item for item in items if not isinstance(item, Skipped)], [
        item for item in items if isinstance(item, Skipped)
    ]


def jpeg(width=64, height=48, level=100):
    return simplejpeg.encode_jpeg(np.full((height, width, 3), level, np.uint8), 90)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(level=60 * number))
    return folder


def test_images_in_the_order_of_their_names(pictures):
    frames, skipped = frames_of(ImagesReader(str(pictures), rate_hz=5))
    assert [frame.timestamp_ns for frame in frames] == [0, 200_000_000, 400_000_000, 600_000_000]
    assert frames[1].sensors["front.jpg"] == (pictures / "1.jpg").read_bytes(), "pixels are never encoded again"
    assert skipped == []


def test_awkward_images_are_mended_or_named(pictures):
    from PIL import Image

    (pictures / "1.jpg").write_bytes((pictures / "1.jpg").read_bytes()[:300])
    (pictures / "2.jpg").write_bytes(b"<html>not found</html>")
    (pictures / "3.jpg").write_bytes(jpeg(width=32))
    Image.new("CMYK", (64, 48)).save(pictures / "4.jpg")
    turned = Image.new("RGB", (48, 64))
    turned.save(pictures / "5.jpg", exif=_orientation(6))
    frames, skipped = frames_of(ImagesReader(str(pictures)))
    assert [Path(item.where).name for item in skipped] == ["1.jpg", "2.jpg", "3.jpg"]
    assert "runcated" in skipped[0].reason
    assert "cannot identify" in skipped[1].reason
    assert skipped[2].reason == "is 32x48, the session's camera is 64x48"
    assert [list(frame.sensors) for frame in frames] == [["front.jpg"], ["front.png"], ["front.png"]]


def _orientation(code):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = code
    return exif


def test_tusimple_frames_with_conditions_from_their_folder(lane_folder):
    reader = TuSimpleReader(str(lane_folder))
    day, night = reader.list()
    assert (reader.describe(day).conditions.light, reader.describe(day).conditions.road) == (Light.day, Road.highway)
    assert reader.describe(night).conditions.light == Light.night
    frames = list(reader.read(day))
    assert len(frames) == 24
    labels = frames[3].labels[0]
    assert labels.annotator.name == "a"
    ys = [point[1] for point in labels.lanes[0].image["front"]]
    assert ys == sorted(ys, reverse=True), "near to far"


def test_wrong_tusimple_lines_are_named_and_the_rest_goes_on(lane_folder, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(lane_folder / "highway_day", folder)
    lines = (folder / "lanes_a.json").read_text().splitlines()
    entry = json.loads(lines[0])
    wrong = [
        json.dumps({**entry, "lanes": [[1, 2]]}),
        json.dumps({**entry, "lanes": [[float("nan")] * len(entry["h_samples"])]}),
        json.dumps({"raw_file": "x"}),
        lines[0][:30],
        "[1]",
        json.dumps({**entry, "raw_file": "frames/nowhere.jpg", "timestamp_ns": 10**12}),
    ]
    (folder / "lanes_a.json").write_text("\n".join([*lines[1:], *wrong]))
    frames, skipped = frames_of(TuSimpleReader(str(folder)))
    assert len(frames) == 23
    reasons = [item.reason for item in skipped]
    assert reasons[0] == f"lanes[0] has 2 points, h_samples has {len(entry['h_samples'])}"
    assert "no finite number" in reasons[1]
    assert reasons[2] == "has no lanes, h_samples"
    assert "no valid JSON" in reasons[3]
    assert "no JSON object" in reasons[4]
    assert "No such file" in reasons[5]
    assert skipped[0].where.endswith("lanes_a.json:24")


@pytest.fixture
def drive(tmp_path):
    """A video of unsteady rate: frames at 0, 0.1, 0.2, 0.5, 0.6 s."""
    path = tmp_path / "drive.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, tick in enumerate((0, 1, 2, 5, 6)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_video_by_its_own_timestamps_with_telemetry(drive):
    drive.with_suffix(".csv").write_text("time_s,speed_mps,yaw_rate_radps\n0.0,10,0.1\n0.52,12,\n0.6,x,0\n9,1,1\n")
    frames, skipped = frames_of(VideoReader(str(drive)))
    assert [round(frame.timestamp_ns / 1e8) for frame in frames] == [0, 1, 2, 5, 6]
    assert [frame.ego.speed_mps if frame.ego else None for frame in frames] == [10, 10, 10, 12, 12]
    assert frames[3].ego.yaw_rate_radps is None
    assert [item.where.rsplit(":", 1)[1] for item in skipped] == ["4"]


def test_video_can_be_thinned(drive):
    frames, _ = frames_of(VideoReader(str(drive), rate_hz=4.0))
    assert [round(frame.timestamp_ns / 1e8) for frame in frames] == [0, 5]


def test_a_cut_video_is_counted_against_its_container(real_data, tmp_path):
    whole = (real_data / "drives/lanelines/highway_day.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    try:
        frames, skipped = frames_of(VideoReader(str(path), rate_hz=5))
    except DataError as fault:
        assert "no readable video" in str(fault)
        return
    assert frames
    assert "of 221 frames: the file is cut off" in skipped[-1].reason


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: ImagesReader(str(p / "no")), "no such folder"),
        (lambda p: ImagesReader(str(p)), "holds no .jpg"),
        (lambda p: TuSimpleReader(str(p)), "no .*json label files"),
        (lambda p: VideoReader(str(p / "no.mp4")), "no such file"),
    ],
)
def test_an_empty_source_is_one_line(tmp_path, make, text):
    with pytest.raises(DataError, match=text):
        make(tmp_path).list()


def test_sessions_are_written_once(pictures, tmp_path):
    reader = ImagesReader(str(pictures))
    (first,) = ingest(reader, tmp_path / "store")
    tar = tmp_path / "store" / "sessions" / first.id / first.shards[0].file
    before = tar.stat().st_mtime_ns
    (again,) = ingest(reader, tmp_path / "store")
    assert again == first
    assert tar.stat().st_mtime_ns == before
    assert len(read_index(tar).frames()) == 4
    (pictures / "4.jpg").write_bytes(jpeg())
    (other,) = ingest(reader, tmp_path / "store")
    assert other.id != first.id, "another content is another session"


def test_a_session_without_a_readable_frame_leaves_nothing(pictures, tmp_path):
    for path in pictures.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no readable frame in session pictures; first reason"):
        ingest(ImagesReader(str(pictures)), tmp_path / "store")
    assert list((tmp_path / "store" / "sessions").iterdir()) == []


def test_real_lanes(real_data, tmp_path):
    sessions = ingest(TuSimpleReader(str(real_data / "lanes")), tmp_path)
    assert [session.frames for session in sessions] == [221, 157]
    assert all(session.skipped == [] for session in sessions)
