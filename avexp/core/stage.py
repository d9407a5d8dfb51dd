"""How every stage is run: its command line checked in under a second, its run folder made, its errors told in one line."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from avexp.core.command_line import CommandLine, program, take_apart
from avexp.core.config import SCHEMAS, over_schema
from avexp.core.errors import AvexpError, ConfigError
from avexp.core.ids import new_run_id
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder, find_run, runs

if TYPE_CHECKING:
    from avexp.core.overrides import Checked

STOPPED = 75
"""Exit code of a run that was stopped and can be resumed (EX_TEMPFAIL)."""
INTERRUPTED = 128 + 2
"""Exit code of a shell's Ctrl-C."""
DEFAULTS = {"launcher": "local", "sweeper": "grid"}
"""Of Hydra's own groups, instead of Hydra's defaults."""


@dataclass(frozen=True)
class Entry:
    """A stage: its name, and the function behind it as ``module:function``, imported only once it is needed.

    The function is called with the typed config and the run folder; what it returns is the job's result (a number for a
    search to optimise, or None). ``aliases`` are short names for long keys. ``then``
    is called after it with the same arguments: a higher room's part, such as the report.
    """

    stage: str
    function: str
    aliases: tuple[tuple[str, str], ...] = ()
    then: str = ""

    def call(self, config: Any, run: RunFolder) -> Any:
        """Import and call."""
        result = None
        for place, dotted in enumerate(name for name in (self.function, self.then) if name):
            module, _, name = dotted.partition(":")
            value = getattr(import_module(module), name)(config, run)
            result = value if place == 0 else result
        return result


def conf_folder() -> Path:
    """conf/ of the checkout, or the copy inside the installed package."""
    checkout = Path(__file__).resolve().parents[2] / "conf"
    return checkout if checkout.is_dir() else Path(__file__).resolve().parents[1] / "_conf"


def main(entry: Entry, arguments: Sequence[str] | None = None) -> None:
    """Run a stage from a command line; leaves with its exit code.

    Args:
        entry: the stage.
        arguments: what was typed after the command; those of this process if None.
    """
    prepare_hydra()
    line = take_apart(sys.argv[1:] if arguments is None else arguments, dict(entry.aliases))
    try:
        raise SystemExit(_run(entry, line))
    except AvexpError as fault:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise SystemExit(_tell(entry, fault)) from None
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        raise SystemExit(INTERRUPTED) from None


def prepare_hydra() -> None:
    """Let Hydra find our plugins, schemas and defaults; once more is harmless."""
    from hydra.conf import HydraConf
    from hydra.core.config_store import ConfigStore

    launchers = Path(__file__).resolve().parents[2] / "launchers"
    if launchers.is_dir() and str(launchers) not in sys.path:
        # a plain checkout: Hydra finds plugins only in the package hydra_plugins on the path
        sys.path.insert(0, str(launchers))
    for stage, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{stage}_schema", node=schema)
    # not in conf/: what a root config overrides, a sweep's or an experiment's file could not override again
    ours = [{group: DEFAULTS.get(group, name) for group, name in one.items()} for one in HydraConf().defaults]
    ConfigStore.instance().store(group="hydra", name="config", node=HydraConf(defaults=ours), provider="avexp")


def _tell(entry: Entry, fault: AvexpError) -> int:
    """Print an error as a person reads it; its exit code."""
    if isinstance(fault, ConfigError):
        count = len(fault.faults)
        console.print(f"[bold red]{entry.stage}: {count} fault{'s' if count > 1 else ''} in the config[/]")
        for line in fault.faults:
            console.print(f"  - {line}", markup=False, soft_wrap=True)
        console.print(f"nothing was started; see [bold]{program()} --help[/], [bold]--cfg job[/]")
    else:
        console.print("[bold red]error[/]", end=" ")
        console.print(str(fault), markup=False, soft_wrap=True)
    return fault.exit_code


def _run(entry: Entry, line: CommandLine) -> int:
    if line.replay is not None:
        run = find_run(_outputs(line), line.replay, entry.stage)
        line = line.with_saved_config(run.hydra)
    if not line.asks:
        _refuse_copies()
    if line.multirun and not line.asks:
        return _sweep(entry, line)
    if line.resume not in (None, "auto"):
        return _resume(entry, find_run(_outputs(line), str(line.resume), entry.stage), line)
    if line.wants_help:
        return _help(entry, line)
    if line.asks:
        return _hydra(entry, line, None)
    config, _ = _checked(entry, line)
    if line.resume == "auto" and (unfinished := _newest_unfinished(entry, config)) is not None:
        return _resume(entry, unfinished, line)
    folder = Path(config.storage.outputs) / entry.stage / str(config.name) / new_run_id()
    if line.dry_run:
        return _dry_run(entry, config, folder)
    return _hydra(entry, line, folder)


def _refuse_copies() -> None:
    """Under ``srun`` each task would make a run of its own, and wait for the others in it."""
    count = os.environ.get("SLURM_STEP_NUM_TASKS", "1") if "SLURM_STEP_ID" in os.environ else "1"
    if count != "1":
        remedy = "leave srun out and add hydra/launcher=slurm: it submits, and starts the ranks of hardware.nodes and devices"
        raise ConfigError([f"srun: starts {count} copies of this command; {remedy}"])


def _outputs(line: CommandLine) -> Path:
    for word in line.overrides:
        if word.startswith("storage.outputs="):
            return Path(word.partition("=")[2])
    return Path("outputs")


def _help(entry: Entry, line: CommandLine) -> int:
    from avexp.core.help import help_text

    checked = _composed(entry, line)
    if checked.faults or checked.config is None:
        raise ConfigError(checked.faults)
    text = help_text(program(), entry.stage, checked.config, [conf_folder(), *line.config_dirs])
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def _composed(entry: Entry, line: CommandLine) -> "Checked":
    """Compose, and find all words that do not fit."""
    from hydra import initialize_config_dir

    from avexp.core.overrides import check_overrides, load_plugins

    load_plugins()
    saved = line.saved_config
    folder = saved if saved is not None else conf_folder()
    if saved is not None:
        _refuse_groups(saved, line)
    if missing := [path for path in line.config_dirs if not path.is_dir()]:
        raise ConfigError([f"{path}: no such folder of configs (--config-dir, hydra.searchpath)" for path in missing])
    places = ",".join(f"file://{path.resolve()}" for path in line.config_dirs)
    extra = [f"hydra.searchpath=[{places}]"] if places else []
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        root = line.config_name or ("config" if saved else entry.stage)
        return check_overrides(root, [*extra, *line.overrides])


def _checked(entry: Entry, line: CommandLine) -> tuple[DictConfig, dict[str, str]]:
    """Compose and check; raises with all faults. Beside the config, what Hydra takes later in a sweep (Checked.late)."""
    from avexp.core.preflight import preflight

    checked = _composed(entry, line)
    saved = line.saved_config
    faults = list(checked.faults)
    if checked.config is not None:
        OmegaConf.set_struct(checked.config, False)
        faults += [fault for fault in preflight(checked.config, entry.stage) if not _told(fault, faults)]
        if saved is not None:
            from avexp.core.instantiate import refused_targets

            faults += refused_targets(checked.config)
    if faults or checked.config is None:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            sys.argv[1:] = line.for_hydra()
        raise ConfigError(faults)
    return checked.config, checked.late


def _refuse_groups(saved: Path, line: CommandLine) -> None:
    """A saved config is whole: values can be changed in it, groups cannot be chosen any more."""
    if not (saved / "config.yaml").is_file():
        raise ConfigError([f"--config-path: {saved}: no saved config there"])
    folders = (path.relative_to(conf_folder()) for path in conf_folder().rglob("*") if path.is_dir())
    groups = {str(path) for path in folders if path.parts[0] != "hydra"}
    keys = [word.lstrip("+").partition("=")[0] for word in line.overrides]
    why = "a saved config has no groups; change its values, such as trainer.epochs=1"
    faults = [f"{key}: {why}" for key in keys if key in groups]
    if faults:
        raise ConfigError(faults)


def _told(fault: str, faults: Sequence[str]) -> bool:
    """Whether a key was named already: one mistake, one line."""
    return any(fault.split(":")[0] == other.split(":")[0] for other in faults)


def _sweep(entry: Entry, line: CommandLine) -> int:
    """Hand a sweep over to Hydra's sweeper, ours or another."""
    config, late = _checked(entry, line)
    outputs = Path(config.storage.outputs).absolute()
    folder = outputs / entry.stage / str(config.name) / new_run_id()
    return _hydra(entry, line, folder, outputs, late)


def _dry_run(entry: Entry, config: DictConfig, folder: Path) -> int:
    from avexp.core.lock import config_digest

    console.print(f"[bold]{entry.stage}[/] would run, and has not:")
    for key in ("seed", "data", "model", "hardware", "trainer"):
        if key in config and config[key] is not None:
            node = config[key]
            text = OmegaConf.to_yaml(node, resolve=True) if isinstance(node, DictConfig) else str(node)
            console.print(f"[bold]{key}[/]: " + text.strip().replace("\n", "\n    "), markup=True, highlight=False)
    console.print(f"config digest  {config_digest(config)[:16]}")
    console.print(f"run folder     {folder}", soft_wrap=True)
    return 0


def _newest_unfinished(entry: Entry, config: DictConfig) -> RunFolder | None:
    from avexp.core.files import read_json
    from avexp.core.lock import config_digest

    digest = config_digest(config)
    for run in runs(Path(config.storage.outputs), entry.stage):
        if (
            run.lock.is_file()
            and run.state() not in ("finished", "pruned")
            and read_json(run.lock)["config_digest"] == digest
        ):
            return run
    return None


def _resume(entry: Entry, run: RunFolder, line: CommandLine) -> int:
    """Continue a run in its own folder, with its own config."""
    from avexp.core.instantiate import refused_targets
    from avexp.core.preflight import preflight, typed
    from avexp.core.resume import note_resume, resumed_config

    words = [] if line.resume == "auto" else line.overrides
    config = resumed_config(run, words)
    faults = preflight(config, entry.stage) + refused_targets(config)
    if faults:
        raise ConfigError(faults)
    if line.dry_run:
        return _dry_run(entry, config, run.path)
    console.print(f"resume {run.path}", soft_wrap=True)
    note_resume(run, words)
    entry.call(typed(config, entry.stage), run)
    return STOPPED if run.state() == "stopped" else 0


def _hydra(
    entry: Entry,
    line: CommandLine,
    folder: Path | None,
    outputs: Path | None = None,
    late: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Hand over to Hydra for help, config print-outs, single runs and sweeps."""
    import hydra

    extra = [f"hydra.job.name={entry.stage}", "hydra/job_logging=stdout"]
    if folder is not None:
        part = "sweep" if line.multirun else "run"
        given = any(word.startswith(f"hydra.{part}.dir=") for word in line.overrides)
        extra += [] if given else [f"hydra.{part}.dir={folder}"]
        extra += ["hydra.sweep.subdir=${hydra:job.num}"] if line.multirun else []
    sys.argv[1:] = [late.get(word, word) for word in line.for_hydra(*extra)]
    results: list[tuple[RunFolder, str]] = []

    def job(config: DictConfig) -> Any:
        if line.dry_run:
            asked.fault = ConfigError(
                ["--dry-run: avexp's launchers know it, Hydra's do not; use hydra/launcher=local"]
            )
            return None
        return _job(entry, config, results, line.multirun)

    # what avexp's sweepers and launchers (launchers/) need to know beyond Hydra's own words, and answer
    asked = SweepWords(entry=entry, line=line, typed=line.for_hydra(), outputs=outputs)
    job.avexp = asked  # type: ignore[attr-defined]
    decorated: Callable[[], Any] = hydra.main(
        version_base="1.3", config_path=str(conf_folder()), config_name=entry.stage
    )(job)
    decorated()
    if asked.fault is not None:
        raise asked.fault
    if asked.exit_code is not None:
        return asked.exit_code
    if line.multirun:
        _tell_sweep(results)
    states = [state for _, state in results]
    if any(state not in ("finished", "stopped") for state in states):
        return 1
    return STOPPED if "stopped" in states else 0


@dataclass
class SweepWords:
    """Between a stage and its sweeper.

    Attributes:
        entry: the stage.
        line: what was typed.
        typed: the same, for a person to type again.
        outputs: where runs and sweeps lie.
        exit_code: of a sweep that the sweeper ran; None if it was another's.
        fault: that stopped it: Hydra would print a traceback of it.
    """

    entry: Entry
    line: CommandLine
    typed: list[str]
    outputs: Path | None = None
    exit_code: int | None = None
    fault: AvexpError | None = None

    @property
    def config_dirs(self) -> list[Path]:
        """Further folders of configs."""
        return self.line.config_dirs


def _job(entry: Entry, config: DictConfig, results: list[tuple[RunFolder, str]], multirun: bool) -> Any:
    """One run. In a sweep a failed trial is a row and a log, and the others go on."""
    from hydra.core.hydra_config import HydraConfig

    from avexp.core.lock import write_lock
    from avexp.core.preflight import typed

    run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    full = over_schema(config, entry.stage)
    write_lock(run, entry.stage, full, list(HydraConfig.get().overrides.task))
    run.set_status("running", started=time.time(), pid=os.getpid())
    try:
        value = entry.call(typed(full, entry.stage), run)
    except Exception as fault:
        run.set_status("failed", reason=str(fault).splitlines()[0] if str(fault) else type(fault).__name__)
        with run.log.open("a") as log:
            log.write(traceback.format_exc())
        results.append((run, f"failed: {fault}"))
        if multirun:
            return float("nan")
        if isinstance(fault, AvexpError):
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            raise SystemExit(_tell(entry, fault)) from None
        raise
    if run.state() == "running":
        run.set_status("finished")
    results.append((run, run.state()))
    return value


def _tell_sweep(results: Sequence[tuple[RunFolder, str]]) -> None:
    console.print("[bold]sweep[/]")
    for run, state in results:
        console.print(f"  {run.path}  {state}", markup=False, soft_wrap=True)
