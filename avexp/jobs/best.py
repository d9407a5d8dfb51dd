"""Which trials of a sweep are best, and their difference as an experiment that can be run."""

from collections.abc import Mapping
from typing import Any

from avexp.jobs.ledger import Ledger, State, Trial

SCORE = "score"
"""What a stage returns: of a training the score of its best checkpoint."""


def objectives_of(ledger: Ledger) -> dict[str, str]:
    """Objective -> maximize or minimize."""
    found: dict[str, str] = (ledger.fact("search") or {}).get("objectives") or {SCORE: "maximize"}
    return found


def value_of(trial: Trial, name: str) -> float | None:
    """An objective of a trial: ``score`` is its stage's own result, others are metrics by name, with or without ``val/``."""
    if name == SCORE and trial.value is not None:
        return trial.value
    return next((trial.metrics[key] for key in (name, f"val/{name}") if key in trial.metrics), None)


def best_trials(ledger: Ledger) -> list[tuple[Trial, dict[str, float]]]:
    """The best finished trial, or the Pareto front of several objectives, with their values."""
    names = objectives_of(ledger)
    found: list[tuple[Trial, dict[str, float]]] = []
    for trial in ledger.each(State.finished):
        values = {name: value_of(trial, name) for name in names}
        known = {name: value for name, value in values.items() if value is not None and value == value}
        if len(known) == len(names):
            found.append((trial, known))
    found.sort(key=lambda one: _signed(one[1], names))
    if len(names) == 1:
        return found[:1]
    front: list[tuple[Trial, dict[str, float]]] = []
    for one in found:  # only one that sorts before can beat it
        if not any(_beats(other[1], one[1], names) for other in front):
            front.append(one)
    return front


def _signed(values: Mapping[str, float], names: Mapping[str, str]) -> list[float]:
    """Smaller is better."""
    return [-values[name] if direction == "maximize" else values[name] for name, direction in names.items()]


def _beats(one: Mapping[str, float], other: Mapping[str, float], names: Mapping[str, str]) -> bool:
    mine, theirs = _signed(one, names), _signed(other, names)
    return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs


def experiment_text(ledger: Ledger, trial: Trial, values: Mapping[str, float]) -> str:
    """A trial's difference over its sweep's base, as a file of conf/experiment."""
    from omegaconf import OmegaConf

    words = [word for word in ledger.fact("words") if not word.lstrip("+").startswith("hydra")]
    swept = {word.partition("=")[0] for word in trial.words}
    all_words = [word for word in words if word.lstrip("+").partition("=")[0] not in swept] + list(trial.words)
    defaults: list[Any] = []
    plain = OmegaConf.create({})
    for word in all_words:
        key, _, text = word.partition("=")
        if key.lstrip("+") == "experiment":
            defaults.insert(0, text)  # of the same group: by its bare name
        elif key.lstrip("+") == "sweep":
            defaults.append({"/sweep": text})  # what it sets beside its space
        elif _is_group(ledger, key):
            parsed = OmegaConf.to_object(OmegaConf.from_dotlist([f"x={text}"]))
            defaults.append({f"override /{key}": parsed["x"] if isinstance(parsed, dict) else text})
        else:
            OmegaConf.update(plain, key.lstrip("+"), OmegaConf.from_dotlist([f"x={text}"]).x, force_add=True)
    said = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    head = f"# @package _global_\n# Trial {trial.number} of sweep {ledger.folder.name}: {said}\n"
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    return head + body + ("\n" + OmegaConf.to_yaml(plain) if len(plain) else "")


def _is_group(ledger: Ledger, key: str) -> bool:
    from pathlib import Path

    from avexp.core.stage import conf_folder

    code = ledger.fact("code")
    return ((Path(code) / "conf" if code else conf_folder()) / key.lstrip("+")).is_dir()
