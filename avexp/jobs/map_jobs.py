"""One function over a list of items, fanned out by a launcher: same ledger, same resume, as a sweep."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.core.files import digest_json, read_json
from avexp.jobs.controller import Controller
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State, Trial
from avexp.jobs.snapshot import snapshot

FUNCTION = "avexp.jobs.map_jobs:run_item"


@dataclass(frozen=True)
class ItemResult:
    """What came of one item.

    Attributes:
        item: as given.
        output: what the function returned; None if it failed.
        reason: why it failed; empty if it did not.
    """

    item: Any
    output: Any
    reason: str


def map_jobs(
    function: str,
    items: Sequence[Any],
    folder: Path,
    launcher: Launcher,
    shape: Mapping[str, Any] | None = None,
    show: Callable[[Ledger], None] | None = None,
) -> list[ItemResult]:
    """Run ``function(item)`` for each item, as jobs.

    Typed again with the same function and items it goes on: what is finished is not done twice.

    Args:
        function: ``module:name``, called with an item; it returns plain JSON.
        items: plain JSON, such as session ids or shard paths.
        folder: of the ledger; made if absent.
        launcher: where to run.
        shape: resources of each, with the names of a hardware profile.
        show: called while it runs.

    Returns:
        A result for each item, in order. One that fails is a result too.

    Raises:
        RunError: the folder holds other items.
    """
    ledger = _ledger(function, items, folder, json.dumps(dict(shape or {}), sort_keys=True))
    modules = [one.partition(":")[0] for one in (FUNCTION, function)]
    code = snapshot(folder / "code", modules)
    Controller(ledger, launcher.backend(folder, modules), launcher.rules, code, show=show).run()
    found = gather(ledger)
    ledger.close()
    return found


def _ledger(function: str, items: Sequence[Any], folder: Path, shape: str) -> Ledger:
    digest = digest_json([function, list(items)])
    if (folder / Ledger.FILE).is_file():
        ledger = Ledger(folder)
        if ledger.fact("items") != digest:
            raise RunError(str(folder), "holds a map job over other items", "choose another folder")
        for trial in ledger.trials(State.failed, State.cancelled):
            ledger.update(trial.number, state=State.planned, failures=0)
        return ledger
    job = {"run": FUNCTION, "function": function, "stage": "map"}
    trials = (
        Trial(number=number, digest=f"{number}", base="", changes={"item": item}, words=[str(item)], shape=shape)
        for number, item in enumerate(items)
    )
    return Ledger.create(folder, {"kind": "map", "job": job, "items": digest}, trials)


def gather(ledger: Ledger) -> list[ItemResult]:
    """What there is so far."""
    outputs = {}
    for attempt in ledger.attempts():
        if attempt.state == State.finished:
            outputs[attempt.trial] = read_json(ledger.folder / "results" / f"{attempt.token}.json")["output"]
    return [
        ItemResult(
            trial.changes["item"],
            outputs.get(trial.number),
            "" if trial.number in outputs else trial.reason or trial.state,
        )
        for trial in ledger.each()
    ]


def run_item(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Inside the job."""
    module, _, name = str(spec["function"]).partition(":")
    return {"state": "finished", "output": getattr(import_module(module), name)(spec["changes"]["item"])}
