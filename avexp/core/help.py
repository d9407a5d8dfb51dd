"""``--help`` of a stage: how it is typed, what can be chosen, what can be changed.

Hydra's own copies every known config once a group: seconds.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from avexp.core.command_line import LATE_GROUPS

FLAGS = """
  --dry-run  check everything and start nothing     --cfg job       print the whole config
  -m         sweep: seed=1,2                        --hydra-help    Hydra's own flags
"""
TRAIN_FLAGS = """  resume=RUN|auto  go on with a run                 +replay=RUN     start again from a run's saved config
"""


def help_text(command: str, stage: str, config: DictConfig, folders: Sequence[Path]) -> str:
    """Of a stage.

    Args:
        command: as typed.
        stage: its name.
        config: composed of what was typed.
        folders: conf/ and whatever was added to it.
    """
    trains = stage == "train"
    usage = f"{_title(folders[0] / f'{stage}.yaml')}\n\n  {command} {'[+experiment=NAME] ' if trains else ''}"
    usage += f"[GROUP=OPTION ...] [KEY=VALUE ...]\n{FLAGS}{TRAIN_FLAGS if trains else ''}"
    groups = [
        f"  {name:22s} {', '.join(options)}"
        for name, options in sorted(_groups(folders).items())
        if (trains and name in LATE_GROUPS) or OmegaConf.select(config, name.replace("/", ".")) is not None
    ]
    values = OmegaConf.to_yaml(config).rstrip()
    return (
        f"{usage}\nGROUPS (GROUP=OPTION)\n"
        + "\n".join(groups)
        + f"\n\nCONFIG (KEY=VALUE, as model.norm=group)\n{values}"
    )


def _title(path: Path) -> str:
    """The first line says what the stage is for."""
    return path.read_text().partition("\n")[0].lstrip("# ")


def _groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in _configs(folder):
            found.setdefault(path.parent.relative_to(folder).as_posix(), set()).add(path.stem)
    return {name: sorted(options) for name, options in found.items()}


def _configs(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.yaml"):
        if path.parent != folder:
            yield path
