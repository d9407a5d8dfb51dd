"""``avexp bench what=loader``: what this machine's loader reaches on a user's own data, and which stage holds it up."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from avexp.core.config import BenchConfig
from avexp.core.errors import ConfigError, DataError
from avexp.core.files import write_json
from avexp.core.hardware import usable_cores
from avexp.core.lock import add_to_lock
from avexp.core.progress import bar, console
from avexp.core.run_folder import RunFolder
from avexp.loader.collate import collate
from avexp.loader.decode import Image, decode, decode_into
from avexp.loader.loader import Loader
from avexp.loader.replicate import open_version
from avexp.loader.sample import Sample, SampleReader
from avexp.loader.tiers import Tiers, open_tiers
from avexp.records.dataset import Dataset
from avexp.report.tables import Table, show

PROBES = 256
"""Frames that the single stages are measured on."""
IDLE_SHARE = 0.7
"""A loader that keeps the cores less busy than this, relative to the bare decoder beside it, waits for its storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What was reached.

    Attributes:
        image_per_s: of the loader as configured.
        image_per_cpu_s: of the same, over the whole process tree.
        decode_per_s: of the bare decoder on all cores.
        decode_per_cpu_s: of the same.
        share_of_decoder: image_per_s of decode_per_s.
        first_batch_s: [s] from the first request.
        stages_us: CPU time of each stage [us an image], measured alone.
        busy_share: of the cores that the decoder kept busy, how many the loader did.
        bottleneck: what holds it up, in words.
        cache_hit_share: of the shards that were opened; None without an object store.
    """

    image_per_s: float
    image_per_cpu_s: float
    decode_per_s: float
    decode_per_cpu_s: float
    share_of_decoder: float
    first_batch_s: float
    stages_us: dict[str, float]
    busy_share: float
    bottleneck: str
    cache_hit_share: float | None = None


def run_bench(config: BenchConfig, run: RunFolder) -> float:
    """Measure and tell; images a second.

    Raises:
        ConfigError: nothing of this name can be measured.
        DataError: there is no such dataset, or no frame in its split.
    """
    if config.what != "loader":
        raise ConfigError([f"what={config.what}: only the loader is measured here; give what=loader"])
    root = Path(config.storage.root)
    tiers = open_tiers(root, config.storage.remote, config.storage.cache, config.hardware.cache_gib)
    dataset = open_version(root, config.dataset, tiers)
    found = measure(dataset, config)
    manifest = dataset.manifest
    entry = {"kind": "dataset", "name": manifest.name, "version": manifest.version, "digest": manifest.digest}
    add_to_lock(run, inputs=entry)
    write_json(run.kpis, asdict(found))
    _tell(found, dataset, config, run)
    return found.image_per_s


def measure(dataset: Dataset, config: BenchConfig) -> Throughput:
    """The stages alone, the bare decoder, the loader as configured, in turns."""
    rows = dataset.select(config.split)
    if len(rows) < config.loader.batch_size:
        what = f"{len(rows)} frames make no batch of {config.loader.batch_size}"
        raise DataError(f"dataset {dataset.manifest.reference} {config.split}", what, "lower loader.batch_size")
    reader = SampleReader(dataset, config.width_px, rows)
    stages = stage_times(reader, rows[:: max(1, len(rows) // PROBES)][:PROBES])
    loader = Loader(
        dataset,
        rows,
        config.loader.batch_size,
        training=True,
        seed=config.seed,
        least_width_px=config.width_px,
        threads=config.loader.threads,
        processes=config.loader.processes,
        ahead=config.loader.ahead,
        read_ahead=config.loader.read_ahead,
        timeout_s=config.loader.timeout_s,
    )
    try:
        first = _first_batch(loader)
        with bar("measure [s]") as advance:
            decoded, decode_cpu = bare_decoder(reader, rows, config.seconds / 3)
            advance(round(config.seconds / 3), round(config.seconds))
            images, wall, cpu = _drain(loader, config.seconds * 2 / 3)
            advance(round(config.seconds), round(config.seconds))
    finally:
        loader.close()
    busy = (cpu / wall) / (decoded / decode_cpu)
    hits = None
    if isinstance(dataset.source, Tiers):
        stats = dataset.source.stats()
        hits = stats.hits / max(1, stats.hits + stats.misses)
    return Throughput(
        image_per_s=images / wall,
        image_per_cpu_s=images / cpu,
        decode_per_s=decoded,
        decode_per_cpu_s=decode_cpu,
        share_of_decoder=images / wall / decoded,
        first_batch_s=first,
        stages_us=stages,
        busy_share=busy,
        bottleneck=_bottleneck(stages, busy),
        cache_hit_share=hits,
    )


def _bottleneck(stages: dict[str, float], busy: float) -> str:
    if busy < IDLE_SHARE:
        return f"storage: the cores are {100 * busy:.0f} % as busy as decoding alone keeps them"
    name = max(stages, key=lambda stage: stages[stage])
    return f"{name}: {100 * stages[name] / sum(stages.values()):.0f} % of the CPU time"


def stage_times(reader: SampleReader, rows: npt.NDArray[np.int64]) -> dict[str, float]:
    """CPU time [us an image] of reading, decoding, labels and batching, each alone on one thread."""
    dataset, places = reader.dataset, range(len(rows))
    entries = [dataset.entry(int(row)) for row in rows]
    contents = [bytes(dataset.read_entry(entry, "image") or b"") for entry in entries]
    labels = [dataset.read_entry(entry, "labels") for entry in entries]
    out = np.empty((len(rows), reader.size[1], reader.size[0], 3), np.uint8)
    sensors = [dataset.manifest.sensors[entry.sensor] for entry in entries]
    samples: list[Sample] = [reader.read(int(row), out[place]) for place, row in enumerate(rows)]
    return {
        "read": _cpu_us(lambda: [dataset.read_entry(entry, "image") for entry in entries], len(rows)),
        "decode": _cpu_us(lambda: [decode(contents[p], "probe", reader.least_width_px) for p in places], len(rows)),
        "labels": _cpu_us(lambda: [reader.parse(labels[p], sensors[p], "probe") for p in places], len(rows)),
        "batching": _cpu_us(lambda: [collate(samples[p : p + 32], out[p : p + 32]) for p in places[::32]], len(rows)),
    }


def _cpu_us(work: Callable[[], object], count: int) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) / count * 1e6


def bare_decoder(reader: SampleReader, rows: npt.NDArray[np.int64], seconds: float) -> tuple[float, float]:
    """Images a second of the decoder alone on all cores, and a CPU-second: frames in memory, into memory."""
    picked = rows[:: max(1, len(rows) // PROBES)][:PROBES]
    contents = [content for row in picked if (content := reader.dataset.read(int(row), "image"))]
    until = time.perf_counter() + seconds

    def work(first: int) -> int:
        out: Image = np.empty((reader.size[1], reader.size[0], 3), np.uint8)
        done = 0
        for content in islice(cycle(contents), first, None):
            if time.perf_counter() > until:
                break
            decode_into(content, "probe", out)
            done += 1
        return done

    cores = usable_cores()
    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(cores) as pool:
        done = sum(pool.map(work, range(cores)))
    return done / (time.perf_counter() - began), done / (time.process_time() - cpu)


def _first_batch(loader: Loader) -> float:
    """[s]; also warms up."""
    began = time.perf_counter()
    batches = iter(loader)
    next(batches)
    return time.perf_counter() - began


def _tree_cpu_s() -> float:
    """CPU time of this process and its children so far [s]."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def _drain(loader: Loader, seconds: float) -> tuple[int, float, float]:
    """Images, wall time [s] and CPU time of the process tree [s] of epochs until the time is over."""
    began, cpu, images = time.perf_counter(), _tree_cpu_s(), 0
    while True:
        for batch in loader:
            images += len(batch)
            if time.perf_counter() - began > seconds:
                return images, time.perf_counter() - began, _tree_cpu_s() - cpu
        loader.sampler.set_epoch(loader.sampler.epoch + 1)


def _tell(found: Throughput, dataset: Dataset, config: BenchConfig, run: RunFolder) -> None:
    rows = [
        ("loader", f"{found.image_per_s:.0f}", f"{found.image_per_cpu_s:.0f}", f"{found.share_of_decoder:.2f}"),
        ("bare decoder", f"{found.decode_per_s:.0f}", f"{found.decode_per_cpu_s:.0f}", "1.00"),
        *((f"{name} alone", "-", f"{1e6 / max(us, 1e-3):.0f}", "-") for name, us in found.stages_us.items()),
    ]
    width, height = dataset.manifest.stored_size_px
    title = f"{dataset.manifest.reference}, {width}x{height} -> at least {config.width_px or width} wide"
    columns = ["", "images/s", "images/CPU-s", "of the decoder"]
    show(Table(columns, rows, title=title, numbers=frozenset({1, 2, 3}), rules=frozenset({1})), console=console)
    hits = "" if found.cache_hit_share is None else f"; cache hits {100 * found.cache_hit_share:.0f} %"
    console.print(f"bottleneck  {found.bottleneck}; first batch after {found.first_batch_s:.2f} s{hits}", markup=False)
    console.print(f"run         {run.path}", markup=False, soft_wrap=True)
    advice = "data.rendition_px=<width> stores smaller images" if "decode" in found.bottleneck else "see docs/loader.md"
    console.print(
        f"next        {advice}; python train.py data=existing data.name={dataset.manifest.reference}", markup=False
    )
