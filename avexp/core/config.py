"""The typed root of each stage's config: what every run has. Groups with ``_target_`` (model, data, augmentation, ...) are
free-form here and are checked against the signatures of the code by preflight.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from avexp.core.errors import ConfigError
from avexp.core.hardware import Hardware


def _ranges(owner: object, **bounds: tuple[float, float]) -> None:
    """Raise for fields outside their closed range."""
    faults = []
    for name, (low, high) in bounds.items():
        value = getattr(owner, name)
        if value is not None and not low <= value <= high:
            faults.append(f"{name} must be within {low:g} and {high:g}, is {value:g}")
    if faults:
        raise ConfigError(faults)


REMOTE_SCHEMES = ("s3", "gs", "az", "file")


def remote_fault(url: str) -> str:
    """What is wrong with an object store's URL, in words; empty if nothing."""
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in REMOTE_SCHEMES:
        return f"{url} is no object store; give s3://bucket/prefix, gs://, az:// or file:///folder"
    if scheme == "file" and not rest.startswith("/"):
        return f"{url} names no folder; give file:///folder, with three slashes"
    if not rest.strip("/") or (scheme != "file" and rest.startswith("/")):
        return f"{url} names no {'folder' if scheme == 'file' else 'bucket'}"
    return ""


@dataclass
class Loader:
    """How batches are made."""

    batch_size: int = 16  # frames a rank and step
    evaluation_batch_size: int = 16
    threads: int | None = None  # decoding threads a rank; by the machine's cores if null
    processes: int | None = None  # decoding processes instead; 0 for none, by the machine's cores if null
    ahead: int = 3  # batches prepared ahead
    read_ahead: int = 2  # batches beyond those whose bytes are asked for from the disk
    keep_mib: int = 0  # [MiB] of decoded training frames that stay in memory (threads only)
    most_bad_share: float = 0.001  # of the frames may be unreadable before the run stops
    timeout_s: float = 120.0  # [s] no batch may take longer
    balance: str | None = None  # light, weather, road or classes: draw such groups of frames by weight
    balance_power: float = 0.0  # weight of a group is its count to this power: 0 all alike, 1 as they are
    window_shards: int | None = None  # shuffle so many shards at a time, for storage that is far away

    def __post_init__(self) -> None:
        _ranges(self, batch_size=(1, 65536), evaluation_batch_size=(1, 65536), threads=(1, 256), ahead=(1, 64))
        _ranges(self, keep_mib=(0, 1 << 30), processes=(0, 256), read_ahead=(0, 1024), timeout_s=(0.1, 1e6))
        _ranges(self, most_bad_share=(0.0, 1.0), balance_power=(0.0, 1.0), window_shards=(1, 1 << 30))
        if self.keep_mib and self.processes:
            raise ConfigError(["loader.keep_mib needs loader.processes=0: what processes decode is not kept"])


@dataclass
class Trainer:
    """How long and how a run trains."""

    epochs: int = 10
    steps_max: int | None = None  # ends the run earlier
    accumulate: int = 1  # batches a step
    validate_every_epochs: int = 1
    checkpoint_every_steps: int = 100
    log_every_steps: int = 10
    clip_norm: float | None = 10.0
    ema_decay: float | None = None  # exponential moving average of the weights, a step
    early_stopping_patience: int | None = None  # validations without a better score
    lr_scaling: str = (
        "none"  # of optimizer.lr with the global batch: linear (Goyal 2017), sqrt (Krizhevsky 2014) or none
    )
    reference_batch: int = 16  # global batch that optimizer.lr is meant for
    check_fabric: bool = False  # measure the network between ranks first, and say it
    monitor: str = "score"  # validation value to be best in (higher is better)
    channels_last: bool = True
    compile: bool = False  # torch.compile
    deterministic: bool = False
    train_batches_max: int | None = None  # an epoch, for debugging
    val_batches_max: int | None = None
    overfit_batches: int | None = None  # train and validate on these few batches
    profile: bool = False
    strategy: str = "auto"  # Lightning strategy; auto is ddp on several devices
    pictures: int = 8  # validation frames drawn into the report
    latency_frames: int = (
        0  # frames that the trained network is timed on, one by one: metrics latency/p50_ms and p99_ms
    )

    def __post_init__(self) -> None:
        _ranges(self, latency_frames=(0, 1e6), reference_batch=(1, 1e9))
        if self.lr_scaling not in ("none", "linear", "sqrt"):
            raise ConfigError([f"trainer.lr_scaling: {self.lr_scaling} is none of none, linear, sqrt"])
        _ranges(self, epochs=(1, 1e6), accumulate=(1, 1e6), validate_every_epochs=(1, 1e6), pictures=(0, 200))
        _ranges(
            self, checkpoint_every_steps=(1, 1e9), log_every_steps=(1, 1e9), ema_decay=(0.0, 1.0), clip_norm=(0, 1e9)
        )


@dataclass
class Storage:
    """Where things lie."""

    root: str = "outputs/store"  # sessions, datasets, mlflow.db: all that outlives runs
    outputs: str = "outputs"  # run folders
    remote: str | None = None  # object store of the root's layout: s3://bucket/prefix, gs://, az:// or file:///folder
    cache: str | None = (
        None  # folder for what is fetched from it; null for <root>/cache; hardware.cache_gib is its size
    )

    def __post_init__(self) -> None:
        if self.remote is not None and (fault := remote_fault(self.remote)):
            raise ConfigError([f"storage.remote: {fault}"])


@dataclass
class Stage:
    """What every stage has."""

    name: str = "???"  # the middle folder of outputs/<stage>/<name>/<run>
    seed: int = 1
    tags: list[str] = field(default_factory=list)
    storage: Storage = field(default_factory=Storage)
    hardware: Hardware = field(default_factory=Hardware)
    store: Any = None


@dataclass
class TrainConfig(Stage):
    """conf/train.yaml."""

    loader: Loader = field(default_factory=Loader)
    trainer: Trainer = field(default_factory=Trainer)
    data: Any = None
    model: Any = None
    augmentation: Any = None
    optimizer: Any = None
    schedule: Any = None
    postprocess: Any = None


@dataclass
class ExportConfig(Stage):
    """conf/export.yaml."""

    run: str = "???"  # a training run: latest, id or folder
    checkpoint: str = "best"  # best, last or a file
    backends: list[str] = field(default_factory=lambda: ["onnxruntime", "openvino"])
    precisions: list[str] = field(default_factory=lambda: ["fp32", "int8"])
    targets: list[str] = field(default_factory=lambda: ["dgx1_v100", "xavier", "orin"])
    calibration_slice: str = "all"  # of the training split
    calibration_frames: int = 64
    calibration_method: str = "percentile"  # minmax, percentile or entropy
    validation_slice: str = "all"
    validation_frames_max: int | None = None
    loss_max: float = 0.01  # relative loss of each headline KPI that int8 may have
    resamples: int = 1000  # of the paired bootstrap
    benchmark_runs: int = 100
    threads: int = 1  # of the CPU plans when they are timed
    batch_max: int = 8
    workspace_mib: int = 1024
    pictures: int = 12
    loader: Loader = field(default_factory=Loader)

    def __post_init__(self) -> None:
        _ranges(self, calibration_frames=(1, 1e6), loss_max=(0.0, 1.0), benchmark_runs=(1, 1e6), batch_max=(1, 4096))


@dataclass
class EvaluateConfig(Stage):
    """conf/evaluate.yaml."""

    of: str = "???"  # a run, a checkpoint file or a bundle
    dataset: str | None = None  # name@version (data=... for short); the one it was trained on if null
    split: str = "val"
    slice: str = "all"  # such as night or night+rain
    plan: str | None = None  # of a bundle
    postprocess: Any = None
    loader: Loader = field(default_factory=Loader)
    pictures: int = 12


@dataclass
class PredictConfig(Stage):
    """conf/predict.yaml."""

    bundle: str = "???"
    input: str = "???"  # a video, an image, a folder of images, a shard or a session
    plan: str | None = None
    threads: int = 1
    score_min: float = 0.3
    frames_max: int | None = None
    warmup: int = 5  # frames not timed
    allow_refused: bool = False  # also a plan that its gate refused

    def __post_init__(self) -> None:
        _ranges(self, score_min=(0.0, 1.0), threads=(1, 1024), warmup=(0, 1e6))


@dataclass
class IngestConfig(Stage):
    """conf/ingest.yaml."""

    reader: Any = None
    workers: int = 2


@dataclass
class CiConfig(Stage):
    """conf/ci.yaml."""

    steps: int = 2
    only: list[str] = field(default_factory=list)  # experiments; empty for all


@dataclass
class BenchConfig(Stage):
    """conf/bench.yaml."""

    what: str = "loader"
    dataset: str = "???"  # name@version (data=... for short)
    split: str = "train"
    width_px: int | None = None  # decode no smaller than this; null for full size
    seconds: float = 20.0  # [s] that are measured
    loader: Loader = field(default_factory=Loader)

    def __post_init__(self) -> None:
        _ranges(self, seconds=(0.1, 3600), width_px=(1, 1e5))


SCHEMAS: dict[str, type[Stage]] = {
    "train": TrainConfig,
    "export": ExportConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "ingest": IngestConfig,
    "ci": CiConfig,
    "bench": BenchConfig,
}
"""Root schema by stage."""


@lru_cache
def schema(stage: str) -> DictConfig:
    """A stage's schema as a config; not to be changed."""
    found = OmegaConf.structured(SCHEMAS[stage])
    assert isinstance(found, DictConfig)
    return found


def over_schema(config: DictConfig, stage: str) -> DictConfig:
    """A config laid over its schema: a composed or saved one has lost it, here types and enums are back.

    Raises:
        OmegaConfBaseException: a value does not fit.
    """
    merged = OmegaConf.merge(schema(stage), config)
    assert isinstance(merged, DictConfig)
    return merged
