"""Successive halving against random search: python bench/search.py [--trials 50] [--seeds 3] [--work FOLDER]

A space of short trials: lanes only, small frames. For each seed the same random suggestions are trained twice: once to the end,
once pruned by ASHA. What counts is the best KPI of each, and the epochs that were trained for it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from record import HERE, versions, write

ROOT = HERE.parent
EPOCHS = 9
WORDS = [
    "+experiment=quickstart", "hydra/sweeper=search", "model/heads=[lanes]", "model.width_px=160", "model.height_px=96",
    "data.name=search_bench", "data.reader.train_sessions=48", "data.reader.val_sessions=16", f"trainer.epochs={EPOCHS}",
    "trainer.validate_every_epochs=1", "trainer.pictures=0", "store=none", "hydra.sweeper.sampler=random",
    "hydra.sweeper.objectives={lanes/f1:maximize}", "optimizer=choice(adamw,sgd)",
    "optimizer.lr='tag(log,interval(1e-4,1e-1))'", "optimizer.weight_decay='tag(log,interval(1e-5,1e-1))'",
    "loader.batch_size=choice(4,8,16)", "model.backbone.widths='choice([8,16,24,32],[16,32,48,64],[24,48,72,96])'",
]  # fmt: skip
PRUNERS = {
    "random": [],
    "asha": ["hydra.sweeper.pruner=asha", "hydra.sweeper.pruner_options={min_resource:1,reduction_factor:3}"],
}
LIMIT_S = 3 * 3600


def search(home: Path, name: str, seed: int, trials: int, jobs: int) -> dict[str, Any]:
    """One search; its best value, epochs and trials by state."""
    folder = home / "outputs" / "train" / "quickstart" / f"{name}{seed}"
    command = [
        sys.executable, str(ROOT / "train.py"), "-m", *WORDS, *PRUNERS[name], f"hydra.sweeper.trials={trials}",
        f"hydra.sweeper.seed={seed}", f"hydra.sweeper.concurrent={jobs}", f"hydra.launcher.concurrent={jobs}",
        f"hydra.sweep.dir={folder}", f"storage.root={home}/datasets", f"storage.outputs={home}/outputs",
    ]  # fmt: skip
    with (home / f"{name}{seed}.log").open("ab") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False, timeout=LIMIT_S)
    return measured(folder)


def measured(folder: Path) -> dict[str, Any]:
    """From a sweep's folder."""
    from avexp.jobs.ledger import Ledger

    ledger = Ledger(folder)
    values, epochs, wall_s = [], 0, []
    for trial in ledger.each():
        lines = (folder / str(trial.number) / "metrics.jsonl").read_text().splitlines()
        epochs += sum("val/lanes/f1" in json.loads(line)["values"] for line in lines)
        if trial.state == "finished":
            values.append(trial.metrics["val/lanes/f1"])
            wall_s.append(trial.cost["wall_s"])
    return {
        "best": round(max(values), 4),
        "epochs": epochs,
        "trial_s": round(mean(wall_s), 1),
        "states": {str(state): count for state, count in ledger.counts().items()},
    }


def main() -> None:
    """Every seed, both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", default=None)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(given.work or temporary).absolute()
        home.mkdir(parents=True, exist_ok=True)
        for seed in range(given.seeds):
            rows.append(
                {"seed": seed, **{name: search(home, name, seed, given.trials, given.jobs) for name in PRUNERS}}
            )
            print(rows[-1], flush=True)
    best = {name: [row[name]["best"] for row in rows] for name in PRUNERS}
    figures = {
        "rows": rows,
        "trials": given.trials,
        "epochs_share": round(
            sum(row["asha"]["epochs"] for row in rows) / sum(row["random"]["epochs"] for row in rows), 3
        ),
        "best": {name: round(mean(values), 4) for name, values in best.items()},
        "spread": {name: round(stdev(values), 4) if len(values) > 1 else 0.0 for name, values in best.items()},
    }
    print({key: value for key, value in figures.items() if key != "rows"})
    write("search", figures, versions("optuna", "torch"))


if __name__ == "__main__":
    main()
