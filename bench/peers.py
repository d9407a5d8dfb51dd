"""Other loaders at the same task, each as well as its manual allows: run by loader.py, each in a process of its own.

All give [B, H, W, 3] uint8 (the plain one float32), parse each frame's label JSON, and hand on its boxes only, which is
less than avexp's batches hold: whole label trees would cost them a third in the pipe between processes. A tar sample of five
cameras becomes five rows of a batch.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from meter import main

AHEAD = 3
Options = Any


def decode(jpeg: bytes, size: tuple[int, int]) -> np.ndarray:
    """The same decode for all: scaled in the transform, as large as asked for."""
    return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=size[1] - 1, min_width=size[0] - 1)


def tidy(_: int = 0) -> None:
    """One thread a worker."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def endless(loader: Any) -> Iterator[np.ndarray]:
    """Images of all epochs."""
    while True:
        for batch in loader:
            yield batch[0]


def boxes(labels: dict[str, Any]) -> np.ndarray:
    """[N, 4] of all cameras' objects."""
    found = [[box["x1"], box["y1"], box["x2"], box["y2"]] for view in views(labels) for box in view]
    return np.array(found, np.float32).reshape(-1, 4)


def views(labels: dict[str, Any]) -> Iterator[Any]:
    """Each object's boxes."""
    for one in labels["labels"][:1]:
        for thing in one["objects"]:
            yield thing.get("box2d", {}).values()


def stacked(samples: list[tuple[Any, np.ndarray]]) -> tuple[Any, list[np.ndarray]]:
    """Images in one tensor."""
    import torch

    rows = [torch.as_tensor(image) for image, _ in samples]
    # in a worker the batch is made in the memory that it is handed over in, as torch's own collate does
    shared = torch.utils.data.get_worker_info() is not None
    out = None
    if shared:
        storage = rows[0]._typed_storage()._new_shared(sum(row.numel() for row in rows))
        out = rows[0].new(storage).resize_(len(rows), *rows[0].shape)
    return torch.stack(rows, out=out), [labels for _, labels in samples]


def images_of(sample: dict[str, Any]) -> list[str]:
    """Names of a tar sample's cameras."""
    return [name for name in sample if name.endswith(".jpg")]


def plain(shards: list[str], workers: int, batch: int, size: tuple[int, int], **_: Options) -> Iterator[np.ndarray]:
    """WebDataset as its README has it: PIL, float in the worker, DataLoader."""
    import torch
    import webdataset as wds
    from PIL import Image

    tidy()

    def prepare(source: Iterator[dict[str, Any]]) -> Iterator[tuple[torch.Tensor, str]]:
        for sample in source:
            labels = boxes(sample["labels.json"])
            for name in images_of(sample):
                small = sample[name].convert("RGB").resize(size, Image.Resampling.BILINEAR)
                values = np.asarray(small).astype(np.float32) / 255
                yield torch.from_numpy(values).permute(2, 0, 1), labels

    dataset = wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(100).decode("pil")
    dataset = dataset.compose(prepare)
    loader = torch.utils.data.DataLoader(
        dataset.repeat(), batch_size=batch, num_workers=workers, worker_init_fn=tidy, collate_fn=stacked
    )
    return endless(loader)


def webloader(shards: list[str], workers: int, batch: int, size: tuple[int, int], **_: Options) -> Iterator[np.ndarray]:
    """WebDataset tuned: the same scaled decode, uint8, batched in the worker."""
    import webdataset as wds

    tidy()

    def prepare(source: Iterator[dict[str, Any]]) -> Iterator[tuple[np.ndarray, Any]]:
        for sample in source:
            labels = boxes(json.loads(sample["labels.json"]))
            for name in images_of(sample):
                yield decode(sample[name], size), labels

    dataset = wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(100).compose(prepare)
    dataset = dataset.batched(batch, collation_fn=stacked, partial=False).repeat()
    return endless(wds.WebLoader(dataset, batch_size=None, num_workers=workers, worker_init_fn=tidy))


def files(shards: list[str], work: str, workers: int, batch: int, size: tuple[int, int], **_: Options) -> Any:
    """A DataLoader over a folder of files, the same decode, a global shuffle."""
    import tarfile

    import torch

    tidy()
    folder = Path(work) / "files"
    if not (folder / "done").is_file():
        for shard in shards:
            with tarfile.open(shard) as archive:
                archive.extractall(folder, filter="data")
        (folder / "done").touch()

    class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
        images = sorted(str(path) for path in folder.rglob("*.jpg"))

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, number: int) -> tuple[np.ndarray, Any]:
            path = Path(self.images[number])
            labels = boxes(json.loads((path.parent / (path.name.split(".")[0] + ".labels.json")).read_bytes()))
            return decode(path.read_bytes(), size), labels

    loader = torch.utils.data.DataLoader(
        Files(), batch, shuffle=True, drop_last=True, num_workers=workers, collate_fn=stacked,
        worker_init_fn=tidy, persistent_workers=True, prefetch_factor=2,
    )  # fmt: skip
    return endless(loader)


def energon(shards: list[str], work: str, workers: int, batch: int, size: tuple[int, int], **_: Options) -> Any:
    """Megatron-Energon: a crude WebDataset and a cooker, which is its form for raw parts."""
    from megatron.energon import (
        DefaultTaskEncoder,
        WorkerConfig,
        basic_sample_keys,
        get_savable_loader,
        get_train_dataset,
        stateless,
    )
    from megatron.energon.task_encoder.cooking import Cooker

    tidy()
    folder = Path(work) / "energon"
    if not (folder / ".nv-meta" / "dataset.yaml").is_file():
        prepare_energon(folder, shards)

    @stateless
    def cook(sample: dict[str, Any]) -> dict[str, Any]:
        image = decode(sample[images_of(sample)[0]], size)
        return dict(**basic_sample_keys(sample), image=image, labels=boxes(json.loads(sample["labels.json"])))

    class Encoder(DefaultTaskEncoder):  # type: ignore[misc]
        cookers = (Cooker(cook),)
        decoder = None

        def batch(self, samples: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
            return stacked([(sample["image"], sample["labels"]) for sample in samples])

    config = WorkerConfig(rank=0, world_size=1, num_workers=workers)
    dataset = get_train_dataset(
        folder, worker_config=config, batch_size=batch, shuffle_buffer_size=100, max_samples_per_sequence=100,
        task_encoder=Encoder(),
    )  # fmt: skip
    return endless(get_savable_loader(dataset, worker_config=config, checkpoint_every_sec=3600))


def prepare_energon(folder: Path, shards: list[str]) -> None:
    """Its index beside linked shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        link = folder / f"{number:06d}.tar"
        if not link.exists():
            link.symlink_to(Path(shard).resolve())
    program = Path(sys.executable).parent / "energon"
    command = [
        str(program),
        "prepare",
        "--non-interactive",
        "--split-ratio",
        "1,0,0",
        "--sample-type",
        "CrudeWebdataset",
    ]
    subprocess.run([*command, str(folder)], check=True, timeout=300, capture_output=True)


def litdata(shards: list[str], work: str, workers: int, batch: int, size: tuple[int, int], **_: Options) -> Any:
    """LitData on its own chunks of the same bytes."""
    import litdata as ld

    tidy()
    folder = Path(work) / "litdata"
    if not (folder / "index.json").is_file():
        script = Path(__file__).with_name("litdata_chunks.py")
        subprocess.run(
            [sys.executable, str(script), str(folder), *shards], check=True, timeout=300, capture_output=True
        )

    class Frames(ld.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[np.ndarray, Any]:
            sample = super().__getitem__(index)
            return decode(bytes(sample["image"]), size), boxes(json.loads(bytes(sample["labels"])))

    dataset = Frames(str(folder), shuffle=True, drop_last=True)
    loader = ld.StreamingDataLoader(
        dataset, batch_size=batch, num_workers=workers, collate_fn=stacked, worker_init_fn=tidy, persistent_workers=True
    )
    return endless(loader)


def spdl(shards: list[str], workers: int, batch: int, size: tuple[int, int], **_: Options) -> Any:
    """SPDL: its thread pipeline over the index of the tars, a global shuffle."""
    from spdl.pipeline import PipelineBuilder

    tidy()
    parts = tar_parts(shards)
    handles = [os.open(shard, os.O_RDONLY) for shard in shards]

    def source() -> Iterator[Any]:
        order = list(range(len(parts)))
        while True:
            random.shuffle(order)
            yield from order

    def read(number: int) -> tuple[np.ndarray, Any]:
        shard, image, labels = parts[number]
        jpeg, text = os.pread(handles[shard], image[1], image[0]), os.pread(handles[shard], labels[1], labels[0])
        return decode(jpeg, size), boxes(json.loads(text))

    builder = PipelineBuilder().add_source(source()).pipe(read, concurrency=workers, output_order="completion")
    pipeline = builder.aggregate(batch, drop_last=True).pipe(stacked).add_sink(AHEAD).build(num_threads=workers)

    def batches() -> Iterator[np.ndarray]:
        with pipeline.auto_stop():
            yield from endless(pipeline)

    return batches()


def tar_parts(shards: list[str]) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Shard, and (offset, length) of image and labels, from the text index beside each tar."""
    found = []
    for number, shard in enumerate(shards):
        frames: dict[str, dict[str, tuple[int, int]]] = {}
        for line in Path(shard + ".idx").read_text().splitlines()[1:]:
            key, part, offset, length, _ = line.split("\t")
            frames.setdefault(key, {})[part] = int(offset), int(length)
        for frame in frames.values():
            found += [(number, frame[name], frame["labels.json"]) for name in images_of(frame)]
    return found


def dali(shards: list[str], workers: int, batch: int, size: tuple[int, int], **_: Options) -> Iterator[np.ndarray]:
    """DALI on the CPU: its reader and decoder, which does not scale, and its resize."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=batch, num_threads=workers, device_id=None, prefetch_queue_depth=AHEAD)
    def pipeline() -> Any:
        image, labels = fn.readers.webdataset(
            paths=shards, ext=["front.jpg", "labels.json"], random_shuffle=True, initial_fill=100, name="reader"
        )
        image = fn.decoders.image(image, device="cpu", output_type=types.RGB)
        return fn.resize(image, resize_x=size[0], resize_y=size[1], antialias=False), labels

    running = pipeline()
    running.build()

    def batches() -> Iterator[np.ndarray]:
        while True:
            images, labels = running.run()
            for number in range(batch):
                boxes(json.loads(bytes(np.array(labels[number]))))
            yield np.array(images.as_tensor())

    return batches()


if __name__ == "__main__":
    main({
        "plain WebDataset": plain, "WebLoader": webloader, "Energon": energon, "files": files,
        "LitData": litdata, "SPDL": spdl, "DALI": dali,
    })  # fmt: skip
