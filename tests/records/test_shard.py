import os
import tarfile

import pytest
import webdataset

from avexp.core.errors import DataError
from avexp.records.shard import ShardWriter, build_index, index_path, read_index, read_part, write_index

FRAMES = {"s/0001": {"front.jpg": b"J" * 700, "labels.json": b"{}"}, "s/0002": {"front.jpg": b"K" * 10}}


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "000000.tar"
    with ShardWriter(path) as writer:
        for key, parts in FRAMES.items():
            writer.write(key, parts)
    return path


def test_a_part_is_one_pread(tar):
    index = read_index(tar)
    with tar.open("rb") as stream:
        for key, parts in index.frames().items():
            for name, part in parts.items():
                assert read_part(stream.fileno(), key, part.offset, part.length, part.crc32) == FRAMES[key][name]


# webdataset leaves the closing of its file to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_any_webdataset_reader_reads_it(tar):
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == list(FRAMES)
    assert samples[0]["front.jpg"] == FRAMES["s/0001"]["front.jpg"]


def test_the_same_frames_give_the_same_bytes(tar, tmp_path):
    again = tmp_path / "again" / "000000.tar"
    with ShardWriter(again) as writer:
        for key, parts in FRAMES.items():
            writer.write(key, parts)
    assert again.read_bytes() == tar.read_bytes()


def test_the_index_can_be_rebuilt(tar):
    before = index_path(tar).read_bytes()
    index_path(tar).unlink()
    write_index(build_index(tar))
    assert index_path(tar).read_bytes() == before


def test_nothing_is_overwritten_and_nothing_half_written_stays(tar):
    with pytest.raises(DataError, match="never overwritten"):
        ShardWriter(tar)
    with pytest.raises(KeyError), ShardWriter(tar.with_name("b.tar")) as writer:
        writer.write("s/1", {"front.jpg": b"x"})
        raise KeyError
    assert sorted(os.listdir(tar.parent)) == ["000000.tar", "000000.tar.idx"]


def test_a_changed_byte_is_named(tar):
    part = read_index(tar).parts[0]
    content = bytearray(tar.read_bytes())
    content[part.offset + 5] ^= 1
    tar.write_bytes(bytes(content))
    with tar.open("rb") as stream, pytest.raises(DataError, match=r"s/0001@512: checksum differs"):
        read_part(stream.fileno(), "s/0001", part.offset, part.length, part.crc32)


def test_a_cut_shard_is_named(tar):
    os.truncate(tar, 900)
    with pytest.raises(DataError, match="has 900 bytes but its index says"):
        read_index(tar)
    with pytest.raises(DataError, match=r"cut off|truncated|no readable tar"):
        build_index(tar)


def test_garbage_is_no_tar(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(os.urandom(2048))
    with pytest.raises(DataError, match="no readable tar"):
        build_index(path)
    with pytest.raises(DataError, match="no such file"):
        read_index(path)


def test_plain_tar_has_ustar_names(tar):
    with tarfile.open(tar) as archive:
        assert archive.getnames() == ["s/0001.front.jpg", "s/0001.labels.json", "s/0002.front.jpg"]
