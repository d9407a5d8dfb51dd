"""One class owns every file name of a run. Nothing else joins paths in a run folder."""

from dataclasses import dataclass
from pathlib import Path

from avexp.core.errors import RunError, did_you_mean
from avexp.core.files import read_json, write_json
from avexp.core.ids import is_run_id

SWEEP_LEDGER = "sweep.db"
"""Of a sweep's folder, which is no run; its trials are."""
TRACKING_ID_DIGITS = 32
"""Of a run's id in MLflow."""


@dataclass(frozen=True)
class RunFolder:
    """``outputs/<stage>/<name>/<run id>/``."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def name(self) -> str:
        """Experiment or name."""
        return self.path.parent.name

    @property
    def reference(self) -> str:
        """What a person types for it: its experiment's latest; of a trial, which of its sweep."""
        return f"{self.name}/latest" if is_run_id(self.id) else f"{self.name}/{self.id}"

    @property
    def stage(self) -> str:
        """Stage."""
        return self.path.parent.parent.name

    @property
    def hydra(self) -> Path:
        """Hydra's own record: config.yaml, overrides.yaml, hydra.yaml."""
        return self.path / ".hydra"

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def resumes(self) -> Path:
        """When the run was gone on with, and what was told anew then: one JSON object a line."""
        return self.path / "resumes.jsonl"

    @property
    def derived(self) -> Path:
        """What code computed from config and machine."""
        return self.path / "derived.yaml"

    @property
    def lock(self) -> Path:
        """What the run depends on."""
        return self.path / "lock.json"

    @property
    def diff(self) -> Path:
        """The code's uncommitted changes."""
        return self.path / "code.diff"

    @property
    def status(self) -> Path:
        """State of the run: running, finished, stopped, failed."""
        return self.path / "status.json"

    @property
    def log(self) -> Path:
        """What was printed, and tracebacks."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_pointer(self) -> Path:
        """Says which checkpoint validated best."""
        return self.path / "best.json"

    @property
    def best(self) -> Path | None:
        """The checkpoint that validated best; None before the first validation."""
        if not self.best_pointer.is_file():
            return None
        return self.checkpoints / str(read_json(self.best_pointer)["file"])

    def step_checkpoint(self, step: int) -> Path:
        """The checkpoint after an optimizer step."""
        return self.checkpoints / f"step-{step:09d}.ckpt"

    def step_checkpoints(self) -> list[Path]:
        """Checkpoints after steps, newest first."""
        return sorted(self.checkpoints.glob("step-*.ckpt"), reverse=True)

    @property
    def losses(self) -> Path:
        """Loss of every batch with a hash chain, a line of fixed length each: what a reproduction is held against."""
        return self.path / "losses.txt"

    @property
    def metrics(self) -> Path:
        """Metrics, one JSON object a line: the truth that the tracking server is fed from."""
        return self.path / "metrics.jsonl"

    @property
    def tracking(self) -> Path:
        """Params, pictures, inputs, outputs and states for the tracking server, one JSON object a line."""
        return self.path / "tracking.jsonl"

    @property
    def tracking_state(self) -> Path:
        """The run's id on the tracking server, and how far metrics and tracking were sent."""
        return self.path / "mlflow.json"

    @property
    def tracking_lock(self) -> Path:
        """Held while a process sends."""
        return self.path / ".tracking.lock"

    @property
    def cost(self) -> Path:
        """What the run has cost so far, over all its resumptions."""
        return self.path / "cost.json"

    @property
    def quarantine(self) -> Path:
        """What could not be read, one JSON object a line."""
        return self.path / "quarantine.jsonl"

    @property
    def pictures(self) -> Path:
        """Folder of pictures."""
        return self.path / "pictures"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def kpis(self) -> Path:
        """KPI table as JSON."""
        return self.path / "kpis.json"

    @property
    def predictions(self) -> Path:
        """Predictions, one JSON object a frame and line."""
        return self.path / "predictions.jsonl"

    @property
    def video(self) -> Path:
        """Frames with overlay."""
        return self.path / "overlay.mp4"

    @property
    def bundle(self) -> Path:
        """The plans and their manifest."""
        return self.path / "bundle"

    def set_status(self, state: str, **facts: object) -> None:
        """Say how the run stands."""
        write_json(self.status, {"state": state, **facts})

    def state(self) -> str:
        """How the run stands; ``unknown`` if it never said."""
        return str(read_json(self.status)["state"]) if self.status.is_file() else "unknown"


def runs(outputs: Path, stage: str = "*") -> list[RunFolder]:
    """All runs of a stage, newest first."""
    found = [path for path in outputs.glob(f"{stage}/*/*") if is_run_id(path.name) and path.is_dir()]
    found = [path for path in found if not (path / SWEEP_LEDGER).is_file()]
    found += [path for path in outputs.glob(f"{stage}/*/*/*") if path.name.isdigit() and (path / "lock.json").is_file()]
    return [RunFolder(path) for path in sorted(found, key=_age, reverse=True)]


def _age(path: Path) -> tuple[str, int, float]:
    """Runs and trials together: a trial is as old as its sweep, the later trials of it the younger ones."""
    trial = path.name.isdigit()
    return (path.parent.name, int(path.name), 0.0) if trial else (path.name, -1, path.stat().st_mtime)


def find_run(outputs: Path, reference: str, stage: str = "train") -> RunFolder:
    """A run by folder, id, beginning or end of an id, MLflow id, ``latest``, ``<name>/latest``, or ``<sweep>/<trial>``.

    Raises:
        RunError: there is none, or several; with the known ones.
    """
    folder = Path(reference)
    if folder.is_dir() and ((folder / "lock.json").is_file() or (folder / ".hydra").is_dir()):
        return RunFolder(folder.resolve())
    known = runs(outputs, stage)
    name, _, run = reference.rpartition("/")
    if name:
        known = [
            entry for entry in known if entry.name == name or (is_run_id(entry.name) and entry.name.endswith(name))
        ]
    if run == "latest":
        if known:
            return known[0]
        raise RunError(reference, f"there is no run under {outputs}/{stage}", "start one with train.py")
    if len(run) == TRACKING_ID_DIGITS and set(run) <= set("0123456789abcdef"):
        tracked = [entry for entry in known if entry.tracking_state.is_file()]
        known = [entry for entry in tracked if read_json(entry.tracking_state).get("run_id") == run] or known
        if len(known) == 1:
            return known[0]
    fitting = [entry for entry in known if entry.id == run]
    if not fitting and run:
        fitting = [entry for entry in known if entry.id.startswith(run) or entry.id.endswith(run)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(entry.id for entry in fitting[:5])
        raise RunError(reference, f"several runs fit: {names}", "give more of the id")
    newest = ", ".join(entry.id for entry in known[:5]) or "none"
    hint = did_you_mean(run, [entry.id for entry in known])
    raise RunError(reference, f"no such run under {outputs}/{stage}{hint}", f"the newest: {newest}")
