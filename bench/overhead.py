"""What the framework adds to a bare PyTorch loop, and how long a step waits for data:
python bench/overhead.py [--blocks 30] [--work FOLDER]

One process trains the same network twice: by ``fit`` (Lightning, callbacks, MLflow, loss chain) and by a loop of a few lines.
They take turns every few steps, on the same batches in memory, and must end with the same weights to the bit. Then ``fit`` alone
reads real shards with one decoding thread and one torch thread, and its own wait share is read.
"""

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning import Callback, LightningModule, Trainer
from record import versions, write

from avexp.core.config import TrainConfig
from avexp.core.lock import write_lock
from avexp.core.preflight import typed
from avexp.core.run_folder import RunFolder
from avexp.core.stage import conf_folder, prepare_hydra
from avexp.models.network import combine
from avexp.records.batch import Batch
from avexp.train import fit as fitting
from avexp.train import launch
from avexp.train.assemble import Data
from avexp.train.module import Perception

TARGETS_MS = {20: ["model.height_px=96", "model.width_px=160"], 100: [], 500: []}
"""Length of a bare step, and what the network is made smaller by for it."""
KINDS = 4
"""Different batches in memory."""
WAIT_STEPS = 60


class InMemory:
    """Batches that lie in memory, again and again."""

    def __init__(self, batches: list[Batch], steps: int) -> None:
        self.batches, self.steps = batches, steps
        self.batch_sampler = None
        self.sampler = None

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.steps):
            yield self.batches[number % len(self.batches)]


class Bare:
    """The same network, augmentation, loss, optimizer and schedule in a loop of a few lines."""

    def __init__(self, module: Perception, batches: list[Batch], clip_norm: float | None) -> None:
        self.network, self.augmentation, self.seed = module.network, module.augmentation, module.seed
        made = module.configure_optimizers()
        self.optimizer, self.schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
        self.batches, self.clip_norm, self.step_number = batches, clip_norm, 0

    def step(self) -> None:
        """One."""
        batch = self.augmentation(self.batches[self.step_number % len(self.batches)], 0, self.network.size_px)
        raw = self.network(batch.images.contiguous(memory_format=torch.channels_last))
        loss, _ = combine(self.network.terms(raw, batch), self.network.loss_weights, lambda counts: counts)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm is not None:
            # in the optimizer's order, as Lightning has it: the sum of squares rounds the same
            parameters = [value for group in self.optimizer.param_groups for value in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.step_number += 1


class TakeTurns(Callback):
    """Between two blocks of the framework's steps, the bare loop does as many."""

    def __init__(self, block: int) -> None:
        self.block, self.bare = block, None
        self.framework_s: list[float] = []
        self.bare_s: list[float] = []
        self._since = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """At a block's start."""
        assert self.bare is not None
        if batch_idx % self.block:
            return
        now = time.perf_counter()
        if batch_idx:
            self.framework_s.append(now - self._since)
        for _ in range(self.block):
            self.bare.step()
        self.bare_s.append(time.perf_counter() - now)
        self._since = time.perf_counter()


def config_of(home: Path, *words: str) -> tuple[TrainConfig, RunFolder]:
    """The quickstart's config with changes, and a run folder."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose(
            "train",
            [
                "+experiment=quickstart",
                "trainer.epochs=1",
                "trainer.ema_decay=null",
                "hardware.precision=fp32",
                f"storage.root={home}/store",
                *words,
            ],
        )
    run = RunFolder(home / f"run{len(list(home.iterdir()))}")
    write_lock(run, "train", composed, list(words))
    run.set_status("running")
    return typed(composed, "train"), run


def in_turns(home: Path, words: list[str], batch_size: int, block: int, blocks: int) -> dict[str, float]:
    """One batch size: ratio of the framework's time to the bare loop's."""
    small = ["data.reader.train_sessions=8", "data.reader.val_sessions=1", "data.name=small"]
    config, run = config_of(home, *small, *words, f"loader.batch_size={batch_size}")
    turns, steps = TakeTurns(block), block * (blocks + 1)
    plain_data, plain_module, plain_trainer = fitting.make_data, fitting._module, fitting._trainer
    batches: list[Batch] = []

    def data(*arguments: Any) -> Data:
        made = plain_data(*arguments)
        batches.extend(copied(made.train, KINDS))
        memory = InMemory(batches, steps)
        return Data(
            dataset=made.dataset, train=memory, val=made.val, train_rows=made.train_rows, val_rows=made.val_rows
        )  # type: ignore[arg-type]

    def trainer(config: Any, run: Any, steps: int, callbacks: list[Callback], rank: Any) -> Trainer:
        return plain_trainer(config, run, steps, [turns, *callbacks], rank)

    def module(config: Any, data: Data) -> Perception:
        turns.bare = Bare(plain_module(config, data).train(), batches, config.trainer.clip_norm)
        return plain_module(config, data)

    fitting.make_data, fitting._module, fitting._trainer = data, module, trainer  # type: ignore[assignment]
    try:
        fitting.fit(config, run)
    finally:
        fitting.make_data, fitting._module, fitting._trainer = plain_data, plain_module, plain_trainer
    turns.bare_s.pop()  # the last block of the framework ends with the epoch
    pairs = list(zip(turns.framework_s, turns.bare_s, strict=False))[1:]
    content = torch.load(run.step_checkpoints()[0], weights_only=True)["state_dict"]
    mine = turns.bare.network.state_dict()
    same = all(torch.equal(value, content[f"network.{name}"]) for name, value in mine.items())
    return {
        "batch_size": batch_size,
        "bare_ms": round(1e3 * median(bare for _, bare in pairs) / block, 2),
        "ratio": round(median(framework / bare for framework, bare in pairs), 4),
        "ratio_of_sums": round(sum(one for one, _ in pairs) / sum(other for _, other in pairs), 4),
        "same_weights": same,
    }


def copied(loader: Any, count: int) -> list[Batch]:
    """Batches whose memory is not used again."""
    found = []
    for batch in loader:
        found.append(copy.deepcopy(batch))
        if len(found) == count:
            break
    return found


def wait_share(home: Path, batch_size: int) -> dict[str, float]:
    """Training on one core, decoding 1280x720 on the other."""
    data = [
        "data.reader.width_px=1280",
        "data.reader.height_px=720",
        "data.name=large",
        "data.reader.train_sessions=24",
    ]
    words = [
        f"loader.batch_size={batch_size}",
        "loader.threads=1",
        "loader.keep_mib=0",
        f"trainer.train_batches_max={WAIT_STEPS}",
    ]
    config, run = config_of(home, *data, *words, "data.reader.val_sessions=1", "trainer.epochs=2")
    found: dict[str, float] = {}

    class Look(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            journal = next(one for one in trainer.callbacks if isinstance(one, fitting.Journal))  # type: ignore[attr-defined]
            found.update(
                wait_share=round(journal.wait_share, 4), step_ms=round(1e3 * journal.busy_s / trainer.global_step, 1)
            )

    plain, threads = fitting._trainer, launch.threads_per_rank
    fitting._trainer = lambda config, run, steps, callbacks, rank: plain(config, run, steps, [*callbacks, Look()], rank)
    launch.threads_per_rank = lambda config: 1
    try:
        fitting.fit(config, run)
    finally:
        fitting._trainer, launch.threads_per_rank = plain, threads
    return found | {"batch_size": batch_size}


def main() -> None:
    """Three step lengths, then the wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="about so long for each step length")
    parser.add_argument("--work", default="outputs/bench")
    arguments = parser.parse_args()
    prepare_hydra()
    Path(arguments.work).mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {"steps": {}, "wait": {}}
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        home = Path(folder).resolve()
        for target, words in TARGETS_MS.items():
            few, many = (in_turns(home, words, size, 4, 4)["bare_ms"] for size in (2, 8))
            per_image = (many - few) / 6
            size = max(1, round((target - few) / per_image + 2))
            block = max(2, 400 // target)
            blocks = max(10, int(arguments.seconds * 1e3 / (2 * block * target)))
            figures["steps"][target] = in_turns(home, words, size, block, blocks)
            print(target, figures["steps"][target], flush=True)
        figures["wait"] = wait_share(home, 8)
        print(figures["wait"])
    write("overhead", figures, versions("torch", "pytorch-lightning", "mlflow"), threads=len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
