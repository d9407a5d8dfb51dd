"""What is typed after a stage's name -> what Hydra takes: our own words taken out, groups put in order."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

LATE_GROUPS = ("experiment", "sweep", "debug")
"""Groups that are laid over the defaults, in this order; their ``+`` may be left out."""
ASKS = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version", "--shell-completion", "-sc")
FLAGS_WITH_VALUE = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
)

PATHS = ("--config-path", "-cp")


@dataclass(frozen=True)
class CommandLine:
    """A stage's command, taken apart.

    Attributes:
        overrides: ``key=value`` and group choices, late groups last but one another's order kept.
        flags: Hydra's own flags with their values.
        dry_run: only say what would be done.
        resume: a run to continue, or ``auto``.
        replay: a run whose saved config is used.
        asks: the command only asks (help, config).
        multirun: ``-m`` was given, or a launcher.
    """

    overrides: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    dry_run: bool = False
    resume: str | None = None
    replay: str | None = None
    asks: bool = False
    multirun: bool = False

    @property
    def wants_help(self) -> bool:
        """``--help`` was given."""
        return any(flag in ("--help", "-h") for flag in self.flags)

    @property
    def saved_config(self) -> Path | None:
        """Folder of a saved config, where one is used instead of conf/."""
        given = self._flag("--config-path", "-cp")
        return None if given is None else Path(given)

    @property
    def config_name(self) -> str | None:
        """Of the root config, where it is not the stage's own."""
        return self._flag("--config-name", "-cn")

    @property
    def config_dirs(self) -> list[Path]:
        """Further folders of configs: of ``--config-dir``, and of ``hydra.searchpath=[file://x,pkg://team.conf]``."""
        pairs = zip(self.flags, self.flags[1:], strict=False)
        dirs = [Path(value) for flag, value in pairs if flag in ("--config-dir", "-cd")]
        typed = [word.partition("=")[2] for word in self.overrides if word.lstrip("+").startswith("hydra.searchpath=")]
        places = [place.strip(" '\"") for text in typed for place in text.strip("[] ").split(",")]
        return [*dirs, *(_folder(place) for place in places if place)]

    def _flag(self, *names: str) -> str | None:
        return next((value for flag, value in zip(self.flags, self.flags[1:], strict=False) if flag in names), None)

    def with_saved_config(self, folder: Path, resolved: bool = False) -> "CommandLine":
        """The same overrides over a saved config."""
        name = "config"
        return replace(self, flags=[*self.flags, "--config-path", str(folder.resolve()), "--config-name", name])

    def for_hydra(self, *extra: str) -> list[str]:
        """Arguments for hydra.main: flags first, because its parser does not mix them with overrides."""
        name = ["--config-name", "config"] if self.saved_config is not None and self.config_name is None else []
        return [*self.flags, *name, *self.overrides, *extra]


def _folder(place: str) -> Path:
    """Of a place in Hydra's words: ``file://x``, ``pkg://team.conf``, or a path."""
    kind, _, rest = place.rpartition("://")
    if kind != "pkg":
        return Path(rest)
    package, _, name = rest.partition("/")[0].rpartition(".")
    found = find_spec(package) if package else None
    return Path(found.submodule_search_locations[0], name) if found and found.submodule_search_locations else Path(rest)


def take_apart(arguments: Sequence[str], aliases: Mapping[str, str] | None = None) -> CommandLine:
    """Parse; unknown words are left to Hydra; ``aliases`` are short names for long keys."""
    overrides: list[str] = []
    flags: list[str] = []
    words = list(arguments)
    dry_run, resume, replay = False, None, None
    while words:
        word = words.pop(0)
        bare = word.lstrip("+")
        if word == "--dry-run":
            dry_run = True
        elif bare.startswith("resume="):
            resume = bare.partition("=")[2]
        elif bare.startswith("replay="):
            replay = bare.partition("=")[2]
        elif word in FLAGS_WITH_VALUE and words:
            flags += [word, _place(word, words.pop(0))]
        elif word.startswith("-") and "=" in word and word.split("=")[0] in FLAGS_WITH_VALUE:
            name, _, value = word.partition("=")
            flags += [name, _place(name, value)]
        elif word.startswith("-"):
            flags.append(word)
        else:
            key, equals, value = word.partition("=")
            overrides.append(f"{(aliases or {}).get(key, key)}{equals}{value}")
    asks = any(flag.split("=")[0] in ASKS for flag in flags)
    multirun = any(flag in ("-m", "--multirun") for flag in flags)
    if not asks and not multirun and any(_launches(word) for word in overrides):
        multirun = True
        flags.append("-m")
    return CommandLine(
        overrides=_ordered(overrides),
        flags=flags,
        dry_run=dry_run,
        resume=resume,
        replay=replay,
        asks=asks,
        multirun=multirun,
    )


def _launches(word: str) -> bool:
    """Whether it chooses where a run goes: one run is submitted as many are, never quietly started here."""
    key, _, name = word.partition("=")
    return key == "hydra/launcher" and name != "basic"


def _place(flag: str, value: str) -> str:
    """A path as it is meant: from where it is typed, where Hydra would take it from the script's folder."""
    return str(Path(value).absolute()) if flag in PATHS else value


def _ordered(overrides: list[str]) -> list[str]:
    """``experiment=x`` becomes ``+experiment=x``; debug is laid over the experiment, values over both."""
    late: dict[str, list[str]] = {name: [] for name in LATE_GROUPS}
    rest = []
    for word in overrides:
        name = word.lstrip("+").partition("=")[0]
        if name in late:
            late[name].append(f"+{word.lstrip('+')}")
        else:
            rest.append(word)
    return [word for name in LATE_GROUPS for word in late[name]] + rest


def program() -> str:
    """The command as typed, for messages."""
    name = Path(sys.argv[0]).name
    return f"python {name}" if name.endswith(".py") else name
