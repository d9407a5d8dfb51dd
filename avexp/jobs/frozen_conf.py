"""Hydra on the configs that a sweep froze."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avexp.jobs.ledger import Ledger
from avexp.jobs.plan import Planner


def conf_of(code: Path | None) -> Path:
    """conf/ of the snapshot, or of the installed package."""
    from avexp.core.stage import conf_folder

    return code / "conf" if code is not None else conf_folder()


@contextmanager
def hydra_on(folder: Path) -> Iterator[None]:
    """Hydra initialised on a folder of configs, whatever it was on before."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from avexp.core.overrides import load_plugins
    from avexp.core.stage import prepare_hydra

    prepare_hydra()
    load_plugins()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        yield


@contextmanager
def hydra_on_ledger(ledger: Ledger) -> Iterator[None]:
    """Hydra initialised on a sweep's frozen configs."""
    code = ledger.fact("code")
    with hydra_on(conf_of(Path(code) if code else None)):
        yield


def planner_of(ledger: Ledger) -> Planner:
    """For further trials of a sweep."""
    stage = ledger.fact("stage")
    return Planner(stage, stage, ledger.fact("planned_with"))
