"""Config nodes -> the objects that a run is made of. The last place that sees a config."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avexp.augmentation.pipeline import Augmentation
from avexp.core.config import Loader as LoaderConfig
from avexp.core.config import Stage, TrainConfig
from avexp.core.errors import ConfigError
from avexp.core.hardware import Accelerator
from avexp.core.instantiate import build
from avexp.core.progress import console
from avexp.loader.loader import Loader
from avexp.loader.quarantine import Quarantine
from avexp.loader.sampling import check_window, make_order
from avexp.loader.stream import PROMISES, StreamLoader
from avexp.loader.tiers import Tiers, open_tiers
from avexp.models.network import Network
from avexp.models.postprocess import Postprocess
from avexp.records.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This process among those of the run."""

    number: int = 0
    count: int = 1
    local: int = 0  # on its node


@dataclass(frozen=True, kw_only=True)
class Data:
    """The dataset and its loaders."""

    dataset: Dataset
    train: Loader | StreamLoader
    val: Loader
    train_rows: npt.NDArray[np.int64]
    val_rows: npt.NDArray[np.int64]


def open_dataset(config: TrainConfig) -> Dataset:
    """The dataset version of ``data``, ingested first where it is new."""
    dataset: Dataset = build(config.data, "data").open(Path(config.storage.root), tiers_of(config))
    return dataset


def tiers_of(config: Stage) -> Tiers | None:
    """Where shards come from; None without an object store."""
    return open_tiers(Path(config.storage.root), config.storage.remote, config.storage.cache, config.hardware.cache_gib)


def make_data(config: TrainConfig, dataset: Dataset, rank: Rank, quarantine: Quarantine) -> Data:
    """Loaders of this rank.

    Raises:
        ConfigError: the dataset has no frames to train or validate on.
    """
    trainer, loader = config.trainer, config.loader
    train_rows, val_rows = dataset.select("train"), dataset.select("val")
    if trainer.overfit_batches is not None:
        train_rows = val_rows = train_rows[: trainer.overfit_batches * loader.batch_size * rank.count]
    if trainer.val_batches_max is not None:
        keep = trainer.val_batches_max * loader.evaluation_batch_size * rank.count
        val_rows = spread(val_rows, keep)
    if len(train_rows) == 0 or len(val_rows) == 0:
        counts = f"{len(train_rows)} training and {len(val_rows)} validation frames"
        raise ConfigError([f"data: {dataset.manifest.reference} has {counts}; both are needed; check data.split"])
    val = evaluation_loader(dataset, val_rows, loader, rank, quarantine)
    train: Loader | StreamLoader
    if (stream := _stream(config, dataset, rank, quarantine)) is not None:
        return Data(dataset=dataset, train=stream, val=val, train_rows=train_rows, val_rows=val_rows)
    check_window(dataset, train_rows, loader.window_shards)
    order = make_order(
        dataset,
        train_rows,
        config.seed,
        balance=loader.balance,
        balance_power=loader.balance_power,
        window_shards=loader.window_shards,
    )
    train = Loader(
        dataset,
        train_rows,
        loader.batch_size,
        training=True,
        seed=config.seed,
        order=order,
        least_width_px=int(config.model["width_px"]),
        keep_mib=loader.keep_mib,
        device=f"cuda:{rank.local}" if config.hardware.accelerator is Accelerator.cuda else "cpu",
        **_manner(loader, rank, quarantine),
    )
    return Data(dataset=dataset, train=train, val=val, train_rows=train_rows, val_rows=val_rows)


def _stream(config: TrainConfig, dataset: Dataset, rank: Rank, quarantine: Quarantine) -> StreamLoader | None:
    """Training batches of a source that has no index; None for all others."""
    if "urls" not in (config.data or {}):
        return None
    source, manner = build(config.data, "data"), _manner(config.loader, rank, quarantine)
    if rank.number == 0:
        console.print(f"data.urls: {PROMISES}", soft_wrap=True)
    return StreamLoader(
        source.urls,
        source.frames_per_epoch,
        config.loader.batch_size,
        classes=dataset.manifest.object_classes,
        annotators=dataset.manifest.recipe.get("annotators") or [],
        seed=config.seed,
        shuffle_frames=source.shuffle_frames,
        least_width_px=int(config.model["width_px"]),
        **{key: value for key, value in manner.items() if key not in ("processes", "read_ahead")},
    )


def _manner(loader: LoaderConfig, rank: Rank, quarantine: Quarantine | None) -> dict[str, Any]:
    """What training and evaluation loaders have in common."""
    return {
        "rank": rank.number,
        "ranks": rank.count,
        "threads": loader.threads,
        "processes": loader.processes,
        "ahead": loader.ahead,
        "read_ahead": loader.read_ahead,
        "timeout_s": loader.timeout_s,
        "quarantine": quarantine,
        "pin": torch.cuda.is_available(),
    }


def evaluation_loader(
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    loader: LoaderConfig,
    rank: Rank | None = None,
    quarantine: Quarantine | None = None,
) -> Loader:
    """Frames in index order at full camera size, as the exported graph gets them."""
    manner = _manner(loader, rank or Rank(), quarantine)
    return Loader(dataset, rows, loader.evaluation_batch_size, training=False, **manner)


def spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most so many rows, evenly over all of them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]


def make_network(model: Any, classes: list[str], seed: int) -> Network:
    """The network of a ``model`` node, its weights a function of the seed.

    Raises:
        ConfigError: sizes that do not fit each other.
    """
    torch.manual_seed(seed)
    network: Network = build(model, "model", classes=classes)
    return network


def make_augmentation(config: TrainConfig) -> Augmentation:
    """The pipeline of the chosen operations."""
    operations = {name: build(node, f"augmentation.{name}") for name, node in (config.augmentation or {}).items()}
    return Augmentation(operations, seed=config.seed)


def make_postprocess(node: Any) -> Postprocess:
    """Post-processing of a ``postprocess`` node; the default for None."""
    found: Postprocess | None = build(node, "postprocess")
    return found or Postprocess()


def total_steps(config: TrainConfig, batches: int) -> int:
    """Optimizer steps of the whole run."""
    per_epoch = batches if config.trainer.train_batches_max is None else min(batches, config.trainer.train_batches_max)
    steps = config.trainer.epochs * math.ceil(per_epoch / config.trainer.accumulate)
    return steps if config.trainer.steps_max is None else min(steps, config.trainer.steps_max)
