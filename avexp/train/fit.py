"""``fit``: the whole of a training run, from config to best checkpoint."""

import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from avexp.core.config import TrainConfig
from avexp.core.errors import AvexpError, ConfigError
from avexp.core.files import digest_file, write_text
from avexp.core.hardware import device_faults
from avexp.core.instantiate import build
from avexp.core.lock import add_to_lock
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder
from avexp.jobs.trial_run import sweep_tags
from avexp.loader.quarantine import BadFrame, Quarantine
from avexp.store.cost import CostMeter
from avexp.store.tracker import Tracker
from avexp.train import launch
from avexp.train.assemble import (
    Data,
    Rank,
    make_augmentation,
    make_data,
    make_network,
    make_postprocess,
    open_dataset,
    total_steps,
)
from avexp.train.averages import Averages
from avexp.train.chain import LossChain, tensor_digests
from avexp.train.checkpointing import AtomicIO, StepCheckpoint, best_score, newest_valid
from avexp.train.collective import lost_rank_told
from avexp.train.fabric import FabricCheck
from avexp.train.module import Perception
from avexp.train.precision import lightning_precision
from avexp.train.predictor import read_checkpoint
from avexp.train.signals import StopOnSignal, StopTraining, say_stopped
from avexp.train.tracking import Journal, TrainBar, report_tiers
from avexp.train.trial_reports import PruneTraining, TrialReports
from avexp.train.truth import DatasetTruth

CHECKPOINT_FORMAT = 1
FABRIC = ("NCCL_", "GLOO_", "UCX_", "FI_")
"""Variables that decide how ranks talk: noted down with each run."""


def fit(config: TrainConfig, run: RunFolder) -> float:
    """Train, or go on with a run that was stopped.

    Args:
        config: typed and checked.
        run: its folder; checkpoints that lie there are gone on from.

    Returns:
        The best validation's score.

    Raises:
        AvexpError: data, model or disk at fault; one line says where and what to do.
    """
    dataset = open_dataset(config)
    if launch.ranks_wanted(config) > 1 and not launch.is_rank():
        launch.run_ranks(config, run)
        return float(best_score(run).get(config.trainer.monitor, float("nan")))
    with lost_rank_told(str(run.path)):
        return _fit_rank(config, run, dataset)


def _fit_rank(config: TrainConfig, run: RunFolder, dataset: Any) -> float:
    if wrong := device_faults(config.hardware, torch.cuda.device_count(), torch.cuda.get_arch_list()):
        raise ConfigError(wrong)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rank = launch.join_ranks(run)
    torch.set_num_threads(launch.threads_per_rank(config))
    quarantine = Quarantine(config.loader.most_bad_share, on_bad=lambda fault: _note_bad(run, fault))
    data = make_data(config, dataset, rank, quarantine)
    module = _module(config, data)
    checkpoint = StepCheckpoint(run, config.trainer.checkpoint_every_steps, config.trainer.monitor)
    stop = StopOnSignal(checkpoint)
    tracker: Tracker = build(config.store, "store", root=config.storage.root, experiment=config.name)
    if rank.number == 0:
        _announce(config, run, data, module, tracker)
    gpus = launch.ranks_wanted(config) if config.hardware.accelerator.name == "cuda" else 0
    nodes = launch.nodes_held(config.hardware)
    meter = CostMeter(run.cost, gpus=gpus, nodes=nodes, price_per_hour=config.hardware.price_per_hour)
    journal = Journal(tracker, config.trainer.log_every_steps, meter)
    chain = LossChain(run, config.trainer.log_every_steps)
    callbacks = [chain, journal, checkpoint, stop, TrainBar(module.steps), TrialReports(run, journal)]
    if config.trainer.check_fabric:
        callbacks = [*callbacks, FabricCheck(tracker)]
    trainer = _trainer(config, run, module.steps, callbacks, rank)
    began = time.time()
    status = "failed"
    try:
        with warnings.catch_warnings():
            # Lightning's hints on workers and loggers do not fit our loader and journal
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
            trainer.fit(module, data.train, data.val, ckpt_path=newest_valid(run), weights_only=True)
        status = "finished"
    except PruneTraining:
        status = "pruned"
    except StopTraining:
        status = "stopped"
    finally:
        if rank.number == 0:
            meter.save()
            report_tiers(data.dataset, tracker, trainer.global_step)
            _close(config, run, tracker, journal, quarantine, status, time.time() - began)
    return float(best_score(run).get(config.trainer.monitor, float("nan")))


def _module(config: TrainConfig, data: Data) -> Perception:
    classes = data.dataset.manifest.object_classes
    return Perception(
        network=make_network(config.model, classes, config.seed),
        augmentation=make_augmentation(config),
        postprocess=make_postprocess(config.postprocess),
        optimizer=_scaled(config),
        schedule=build(config.schedule, "schedule"),
        truth=DatasetTruth(data.dataset, data.val_rows),
        seed=config.seed,
        steps=total_steps(config, len(data.train)),
        about=_about(config, data),
        channels_last=config.trainer.channels_last,
        compiled=config.trainer.compile,
    )


def _scaled(config: TrainConfig) -> Callable[..., Any]:
    """The optimizer, its rate scaled with the global batch."""
    optimizer: Callable[..., Any] = build(config.optimizer, "optimizer")
    factor = launch.lr_factor(config)
    if factor == 1.0 or not isinstance(optimizer, partial):
        return optimizer
    return partial(optimizer, lr=float(optimizer.keywords["lr"]) * factor)


def _about(config: TrainConfig, data: Data) -> dict[str, Any]:
    """Plain JSON for each checkpoint."""
    manifest = data.dataset.manifest
    dataset = {"name": manifest.name, "version": manifest.version, "digest": manifest.digest}
    dataset["stored_as"] = manifest.stored_as
    return {
        "format": CHECKPOINT_FORMAT,
        "model_json": json.dumps(config.model),
        "postprocess_json": json.dumps(config.postprocess),
        "classes": list(manifest.object_classes),
        "image_sizes_px": [list(size) for size in manifest.image_sizes_px],
        "dataset": dataset,
    }


def _announce(config: TrainConfig, run: RunFolder, data: Data, module: Perception, tracker: Tracker) -> None:
    """Lock the inputs, open tracking, say what is trained on what."""
    manifest = data.dataset.manifest
    path = f"{config.storage.root}/datasets/{manifest.name}/{manifest.version}"
    entry = {
        "kind": "dataset",
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "path": path,
    }
    add_to_lock(run, inputs=entry)
    precision, reason = lightning_precision(config)
    parameters = sum(value.numel() for value in module.network.parameters())
    derived = {"steps": module.steps, "precision": precision, "precision_reason": reason, "parameters": parameters}
    derived |= {"global_batch": launch.global_batch(config), "lr_factor": launch.lr_factor(config)}
    derived["fabric_environment"] = {name: value for name, value in os.environ.items() if name.startswith(FABRIC)}
    write_text(run.derived, OmegaConf.to_yaml(OmegaConf.create(derived)))
    tags = {"stage": "train", "experiment": config.name, **sweep_tags(run)}
    tracker.start(run.path, run.id, f"{run.name}/{run.id}", _params(config), tags)
    tracker.dataset(manifest.reference, manifest.digest, path, dict(manifest.splits))
    console.print(
        f"train {manifest.reference}: {len(data.train_rows)} frames, validate on {len(data.val_rows)}; "
        f"{parameters / 1e6:.2f} M parameters, {module.steps} steps of {derived['global_batch']}, {precision} ({reason})",
        markup=False,
    )


def _params(config: TrainConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in ("storage", "store")}


def _trainer(config: TrainConfig, run: RunFolder, steps: int, callbacks: list[Callback], rank: Rank) -> Trainer:
    chosen = config.trainer
    if chosen.ema_decay is not None:
        # first, so that its averages are what is validated and saved; not before the warm-up is over
        start = min(100, steps // 10)
        callbacks = [Averages(chosen.ema_decay, start), *callbacks]
    if chosen.early_stopping_patience is not None:
        callbacks = [*callbacks, EarlyStopping(chosen.monitor, patience=chosen.early_stopping_patience, mode="max")]
    return Trainer(
        accelerator=config.hardware.accelerator.name,
        devices=launch.devices(config),
        num_nodes=config.hardware.nodes,
        strategy=launch.strategy(config),
        precision=lightning_precision(config)[0],
        max_epochs=chosen.epochs,
        max_steps=chosen.steps_max or -1,
        accumulate_grad_batches=chosen.accumulate,
        gradient_clip_val=chosen.clip_norm,
        # a run that is shorter than that is validated once, at its end
        check_val_every_n_epoch=min(chosen.validate_every_epochs, chosen.epochs),
        limit_train_batches=chosen.train_batches_max,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=chosen.deterministic,
        callbacks=callbacks,
        plugins=[AtomicIO(), launch.environment_of(config)],
        profiler=_profiler(run) if chosen.profile else None,
        default_root_dir=run.path,
    )


def _profiler(run: RunFolder) -> Any:
    from pytorch_lightning.profilers import PyTorchProfiler

    return PyTorchProfiler(dirpath=run.path, filename="profile", sort_by_key="cpu_time_total", row_limit=40)


def _note_bad(run: RunFolder, bad: BadFrame) -> None:
    """One line in the run's ledger; appended whole, also by several ranks."""
    with run.quarantine.open("a") as ledger:
        ledger.write(json.dumps(asdict(bad)) + "\n")


def _close(
    config: TrainConfig,
    run: RunFolder,
    tracker: Tracker,
    journal: Journal,
    quarantine: Quarantine,
    status: str,
    wall_s: float,
) -> None:
    """Outputs into lock and store, what was skipped, how it stands."""
    best = run.best
    if best is not None and status == "finished":
        digest = digest_file(best)
        last = tensor_digests(read_checkpoint(run.step_checkpoints()[0]))
        entry = {"kind": "checkpoint", "path": str(best), "digest": digest, "score": best_score(run), "final": last}
        add_to_lock(run, outputs=entry)
        tracker.output("checkpoint", best, digest)
    console.print(f"trained {wall_s:.0f} s; waited for data {100 * journal.wait_share:.1f} % of the time")
    if quarantine.bad:
        first = next(iter(quarantine.bad.values()))
        console.print(
            f"left out {len(quarantine.bad)} bad frames, such as {first}; all in {run.quarantine}", markup=False
        )
    tracker.finish(status)
    behind = tracker.close()
    if behind:
        console.print(behind, markup=False)
    run.set_status(status, pid=os.getpid(), wall_s=round(wall_s, 1), skipped=len(quarantine.bad))
    if status == "stopped":
        say_stopped(str(run.path))


def root_of(config: TrainConfig) -> Path:
    """Storage root."""
    return Path(config.storage.root)


__all__ = ["AvexpError", "fit"]
