"""Hydra on the configs that a sweep froze."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avexp.jobs.ledger import Ledger
from avexp.jobs.plan import Planner

TARGET = re.compile(r"_target_:\s*[\"']?(\w+(?:\.\w+)*)")


@dataclass(frozen=True, kw_only=True)
class Confs:
    """Where a sweep's configs lie.

    Attributes:
        folder: of the root config: conf/, or a saved run's.
        root: its name.
        dirs: further folders of configs, as typed with --config-dir.
    """

    folder: Path
    root: str
    dirs: list[Path] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """What tells Hydra of the further folders."""
        return [f"hydra.searchpath=[{','.join(f'file://{path.resolve()}' for path in self.dirs)}]"] if self.dirs else []

    @property
    def saved(self) -> bool:
        """Whether the root is a saved config, which is whole and has no groups."""
        return self.root == "config"

    def modules(self) -> set[str]:
        """What their ``_target_``s name."""
        paths = [path for folder in [self.folder, *self.dirs] for path in _yaml(folder)]
        return {name for path in paths for name in TARGET.findall(path.read_text(errors="replace"))}

    def frozen(self, sweep: Path, code: Path | None) -> "Confs":
        """The same, copied into a sweep's folder, where nobody edits them.

        Args:
            sweep: its folder.
            code: the snapshot, which has conf/ already.
        """
        from avexp.core.stage import conf_folder

        if self.folder.resolve() == conf_folder().resolve():
            folder = code / "conf" if code is not None and (code / "conf").is_dir() else self.folder
        else:
            folder = _copied(self.folder, sweep / "conf-saved")
        dirs = [_copied(path, sweep / f"conf-{number}") for number, path in enumerate(self.dirs)]
        return Confs(folder=folder, root=self.root, dirs=dirs)

    def plain(self) -> dict[str, Any]:
        """As a ledger keeps it."""
        return {"folder": str(self.folder), "root": self.root, "dirs": [str(path) for path in self.dirs]}

    @classmethod
    def of(cls, ledger: Ledger) -> "Confs":
        """Those that a sweep froze."""
        known = ledger.fact("confs")
        return cls(folder=Path(known["folder"]), root=known["root"], dirs=[Path(path) for path in known["dirs"]])


def _yaml(folder: Path) -> list[Path]:
    return [*folder.rglob("*.yaml"), *folder.rglob("*.yml")]


def _copied(folder: Path, target: Path) -> Path:
    for path in _yaml(folder):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    target.mkdir(parents=True, exist_ok=True)
    return target.absolute()


@contextmanager
def hydra_on(confs: Confs) -> Iterator[None]:
    """Hydra initialised on these configs, whatever it was on before."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from avexp.core.overrides import load_plugins
    from avexp.core.stage import prepare_hydra

    prepare_hydra()
    load_plugins()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(confs.folder.resolve()), version_base="1.3"):
        yield


@contextmanager
def planner_on(confs: Confs, stage: str, words: Sequence[str]) -> Iterator[Planner]:
    """A planner for a sweep's first trials."""
    with hydra_on(confs):
        yield Planner(stage, confs.root, [*words, *confs.words])


@contextmanager
def hydra_on_ledger(ledger: Ledger) -> Iterator[None]:
    """Hydra initialised on a sweep's frozen configs."""
    with hydra_on(Confs.of(ledger)):
        yield


def planner_of(ledger: Ledger) -> Planner:
    """For further trials of a sweep."""
    planner = Planner(ledger.fact("stage"), Confs.of(ledger).root, ledger.fact("planned_with"))
    planner.pins = ledger.fact("pins", {})
    return planner
