"""What a sweep's words leave open is settled when it is submitted: which run is the latest, which dataset version is read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from avexp.core.instantiate import build
from avexp.core.overrides import Word
from avexp.core.run_folder import find_run
from avexp.core.signatures import signature_of
from avexp.jobs.plan import Planner

RUNS = {"evaluate": "of", "export": "run"}
"""Of these stages the key that names a run."""
TiersOf = Callable[[Any], Any]


def freeze_runs(stage: str, words: Sequence[str], outputs: Path) -> list[str]:
    """The words with runs by their folders: which run is the latest may change while a sweep runs.

    Args:
        stage: key of SCHEMAS.
        words: as typed.
        outputs: where runs lie.

    Raises:
        RunError: there is no such run.
    """
    key = RUNS.get(stage)
    return [_by_folder(word, outputs) if word.partition("=")[0] == key else word for word in words]


def _by_folder(word: str, outputs: Path) -> str:
    folders = []
    for value in (one.partition("=")[2] for one in Word(word).values()):
        text = value.strip("'\"")
        folder = Path(text).absolute() if Path(text).exists() else find_run(outputs, text).path.absolute()
        folders.append("'" + str(folder).replace("'", "\\'") + "'")
    return f"{word.partition('=')[0]}={','.join(folders)}"


def freeze_data(planner: Planner, swept: Sequence[str], space: Mapping[str, Any], tiers: TiersOf | None = None) -> None:
    """Make the dataset version that all trials read now, once, and let them read that one, whatever is made later.

    Of a swept ``data`` each choice has its version. Where values below ``data`` are swept, each trial finds its own.

    Args:
        planner: of the sweep; takes the versions.
        swept: words with several values.
        space: of a search.
        tiers: a config -> where its shards come from, beside the storage root.
    """
    texts = {key: str(text["values"] if isinstance(text, Mapping) else text) for key, text in space.items()}
    keys = [*(word.partition("=")[0] for word in swept), *texts]
    bare = [key.lstrip("+~") for key in keys]
    if any(key.startswith(("data.", "data/", "storage", "reader")) for key in bare):
        return
    words = [
        *(word for word in swept if word.startswith("data=")),
        *(f"data={texts[key]}" for key in texts if key == "data"),
    ]
    if words:
        for choice in Word(words[-1]).values():
            if version := _version(planner.base((choice,)).config, tiers):
                planner.pins[choice] = [f"++data.version={version}"]
    elif version := _version(planner.base().config, tiers):
        planner.words.append(f"++data.version={version}")
    planner.forget()


def _version(config: DictConfig, tiers: TiersOf | None) -> str | None:
    """Digest of the dataset version that a config reads; None where it names one already, or reads none."""
    node = config.get("data")
    if not isinstance(node, DictConfig) or "_target_" not in node or (config.storage.remote and tiers is None):
        return None
    signature = signature_of(str(node["_target_"]))
    if signature is None or "version" not in signature.parameters or node.get("version") is not None:
        return None
    source = build(OmegaConf.to_container(node, resolve=True), "data")
    remote = [tiers(config)] if tiers is not None and config.storage.remote else []
    return str(source.open(Path(config.storage.root), *remote).manifest.digest)
