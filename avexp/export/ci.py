"""``avexp ci``: every experiment for two steps through train, export and predict, on tiny data, as a user would type it."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from avexp.core.config import CiConfig
from avexp.core.errors import ConfigError, RunError, did_you_mean
from avexp.core.files import read_json
from avexp.core.progress import bar, console
from avexp.core.run_folder import RunFolder
from avexp.core.stage import conf_folder
from avexp.report.tables import Table, show

TIMEOUT_S = 600
STAGES = ("train", "export", "predict")
TINY_DATA = [
    "data=tiny",
    "++data.annotators=[]",
    "++data.source=null",
    "++data.name=ci",
    "++data.reader.train_sessions=2",
    "++data.reader.val_sessions=1",
    "++data.reader.frames_per_session=8",
]


@dataclass
class Outcome:
    """How one stage of one experiment went."""

    experiment: str
    stage: str
    seconds: float
    code: int
    log: Path


def run_ci(config: CiConfig, run: RunFolder) -> None:
    """Run them all; every failure is told with its log's tail.

    Raises:
        ConfigError: an unknown experiment.
        RunError: at least one failed.
    """
    known = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))
    unknown = [name for name in config.only if name not in known]
    if unknown:
        raise ConfigError(
            [
                f"only={name}: no such experiment{did_you_mean(name, known)}; known: {', '.join(known)}"
                for name in unknown
            ]
        )
    wanted = config.only or known
    outcomes: list[Outcome] = []
    with bar("ci") as advance:
        for name in wanted:
            outcomes += _experiment(name, config.steps, run)
            advance(wanted.index(name) + 1, len(wanted))
    _tell(outcomes, run)
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    if failed:
        first = failed[0]
        what = f"{len(failed)} of {len(outcomes)} stages failed, the first: {first.experiment} {first.stage}"
        raise RunError(str(run.path), what, f"see {first.log}")


def _experiment(name: str, steps: int, run: RunFolder) -> list[Outcome]:
    """Train, export, predict; what comes after a failure is not run."""
    outputs = run.path / "outputs"
    places = [f"storage.outputs={outputs}", f"storage.root={run.path / 'store'}", "store=none"]
    commands = {
        "train": [f"+experiment={name}", f"name={name}", *TINY_DATA, *_train(steps), *places],
        "export": [f"run={name}/latest", f"name={name}", *_export(), *places],
        "predict": [f"name={name}", "frames_max=3", "plan=cpu-onnxruntime-fp32", "allow_refused=true", *places[:2]],
    }
    outcomes: list[Outcome] = []
    for stage in STAGES:
        words = commands[stage]
        if stage == "predict":
            words = [*words, *_inputs(outputs, run.path / "store", name)]
        outcomes.append(_run(name, stage, words, run))
        if outcomes[-1].code != 0:
            break
    return outcomes


def _train(steps: int) -> list[str]:
    words = [
        "trainer.epochs=1",
        f"trainer.steps_max={steps}",
        "trainer.validate_every_epochs=1",
        "trainer.val_batches_max=1",
    ]
    return [*words, f"trainer.train_batches_max={steps}", "trainer.pictures=2", "loader.batch_size=4"]


def _export() -> list[str]:
    words = ["backends=[onnxruntime]", "calibration_frames=4", "resamples=20", "benchmark_runs=3", "pictures=2"]
    return [*words, "validation_frames_max=4", "loss_max=1.0"]


def _inputs(outputs: Path, store: Path, name: str) -> list[str]:
    """The bundle just made, and a session of the tiny data."""
    bundles = sorted((outputs / "export" / name).glob("*/bundle"))
    lock = read_json(bundles[-1] / "manifest.json")["source"]["dataset"]
    manifest = read_json(store / "datasets" / lock["name"] / str(lock["version"]) / "manifest.json")
    return [f"bundle={bundles[-1]}", f"input={store / 'sessions' / manifest['sessions'][-1]}"]


def _run(name: str, stage: str, words: list[str], run: RunFolder) -> Outcome:
    log = run.path / f"{name}.{stage}.log"
    began = time.monotonic()
    command = [sys.executable, "-m", "avexp.cli", stage, *words]
    with log.open("wb") as stream:
        try:
            code = subprocess.run(command, stdout=stream, stderr=stream, timeout=TIMEOUT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            code = 124
    return Outcome(name, stage, time.monotonic() - began, code, log)


def _tell(outcomes: list[Outcome], run: RunFolder) -> None:
    rows = [
        [one.experiment, one.stage, f"{one.seconds:.0f}", "ok" if one.code == 0 else f"failed ({one.code})"]
        for one in outcomes
    ]
    show(Table(["experiment", "stage", "s", "result"], rows, "Continuous integration", frozenset({2})), console=console)
    for one in outcomes:
        if one.code != 0:
            tail = one.log.read_text(errors="replace").splitlines()[-8:]
            console.print(f"{one.experiment} {one.stage}:\n  " + "\n  ".join(tail), markup=False)
    console.print(f"run         {run.path}", markup=False)
    console.print("next        python train.py +experiment=quickstart", markup=False)
