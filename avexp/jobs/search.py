"""A search: asks Optuna for the next trial as one ends. The ledger says what was asked, the scheduler what became of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avexp.core.errors import ConfigError
from avexp.core.progress import console
from avexp.jobs.best import value_of
from avexp.jobs.frozen_conf import hydra_on_ledger
from avexp.jobs.ledger import ENDED, Ledger, State, Trial
from avexp.jobs.plan import Planner
from avexp.jobs.space import Space
from avexp.jobs.study import checked, pruner, sampler, storage

NAMES = (
    "trials", "objectives", "sampler", "sampler_options", "pruner", "pruner_options", "space", "study", "storage",
    "concurrent", "seed",
)  # fmt: skip
REFUSED = 20
"""Suggestions in a row that make no sound config before the search says so."""


def settings_of(search: Mapping[str, Any], swept: Mapping[str, str]) -> dict[str, Any]:
    """Checked settings, with what was typed laid over the space.

    Raises:
        ConfigError: all that is wrong with them.
    """
    found: dict[str, Any] = {
        "trials": 20,
        "sampler": "tpe",
        "pruner": "none",
        "objectives": {"score": "maximize"},
    }
    found |= {key: value for key, value in search.items() if value is not None}
    space = {**(found.get("space") or {}), **swept}
    faults = checked(found, NAMES)
    if not space:
        faults.append(
            "hydra.sweeper.space: is empty; type values, such as optimizer.lr=interval(1e-4,1e-2), or +sweep=<name>"
        )
    if faults:
        raise ConfigError(faults)
    found["space"] = space
    sampler(found, Space(space))
    pruner(found)
    return found


class Search:
    """A source of trials.

    Args:
        ledger: of the sweep.
        planner: on its frozen configs.
        at_once: trials that live at a time, where its settings do not say.
    """

    def __init__(self, ledger: Ledger, planner: Planner, at_once: int = 1) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.ledger, self.planner = ledger, planner
        self.settings: dict[str, Any] = ledger.fact("search")
        self.space = Space(self.settings["space"])
        self.at_once = int(self.settings.get("concurrent") or at_once)
        objectives = self.settings["objectives"]
        self.address = str(self.settings.get("storage") or ledger.folder / "study.journal")
        self.name = str(self.settings.get("study") or ledger.folder.name)
        self.study = optuna.create_study(
            storage=storage(self.address),
            study_name=self.name,
            directions=list(objectives.values()),
            pruner=pruner(self.settings),
            load_if_exists=True,
        )
        # gone on with, it must not draw what it has drawn already
        self.study.sampler = sampler(self.settings, self.space, len(self.study.get_trials(deepcopy=False)))
        self._refused = 0
        self._exhausted = False
        self._told_unmeasured = False

    @property
    def most(self) -> int:
        """Trials in all; ``avexp sweep extend`` may have changed it meanwhile."""
        return int(self.ledger.fact("search")["trials"])

    def begin(self) -> None:
        """See controller.Source: trials that another controller asked for and left."""
        known = {trial.asked: trial for trial in self.ledger.each() if trial.asked is not None}
        for frozen in self.study.get_trials(deepcopy=False):
            owner = frozen.user_attrs.get("sweep", None if self.settings.get("study") else self.ledger.folder.name)
            if frozen.state.is_finished() or owner != self.ledger.folder.name:
                continue
            trial = known.get(frozen.number)
            if trial is None:
                self._tell(frozen.number, None, "fail")  # asked for, never written down
            elif trial.state in ENDED:
                self.tell(trial)

    def ask(self, count: int) -> list[Trial]:
        """See controller.Source."""
        found: list[Trial] = []
        counts = self.ledger.counts()
        taken = sum(counts.values())
        living = taken - sum(counts.get(state, 0) for state in ENDED)
        while len(found) < min(count, self.at_once - living) and taken < self.most:
            trial = self._next(self.ledger.next_number())
            if trial is None:
                break
            taken += 1
            if trial.state is State.planned:
                found.append(trial)
        return found

    def _next(self, number: int) -> Trial | None:
        """One more, written down; it may be one that ended already. None if the grid is through."""
        if self.settings["sampler"] == "grid" and getattr(self.study.sampler, "is_exhausted", lambda _: False)(
            self.study
        ):
            self._exhausted = True
            return None
        asked = self.study.ask()
        asked.set_user_attr("sweep", self.ledger.folder.name)
        words = self.space.words(asked)
        try:
            with hydra_on_ledger(self.ledger):
                trial = self.planner.trial(number, words, asked.number)
                self.planner.write_bases(self.ledger.folder / "bases")
            self._refused = 0
        except ConfigError as fault:
            self._refused += 1
            if self._refused >= REFUSED:
                raise ConfigError([f"{REFUSED} suggestions in a row make no sound config", *fault.faults[:3]]) from None
            reason = fault.faults[0]
            trial = Trial(
                number=number,
                digest="",
                base="",
                changes={},
                words=words,
                state=State.failed,
                asked=asked.number,
                reason=reason,
            )
        else:
            equal = self.ledger.by_digest(trial.digest)
            if equal is not None:
                trial = Trial(**{**trial.__dict__, "state": State.same, "same_as": equal.number})
        self.ledger.add([trial])
        if trial.state is not State.planned:
            self.tell(trial)
        return trial

    def tell(self, trial: Trial) -> None:
        """See controller.Source."""
        for one in [trial, *(copy for copy in self.ledger.trials(State.same) if copy.same_as == trial.number)]:
            origin = self.ledger.trial(one.same_as) if one.same_as is not None else one
            if one.asked is None or origin.state not in ENDED:
                continue
            values = self.values(origin) if origin.state is State.finished else None
            if values is None and origin.state is State.finished:
                self._unmeasured(origin)
            how = "prune" if origin.state is State.pruned else "fail" if values is None else "complete"
            self._tell(one.asked, values, how)

    def _unmeasured(self, trial: Trial) -> None:
        """It finished, and says nothing of an objective: a wrong name, most likely. Said once, and kept with the trial."""
        missing = ", ".join(name for name in self.settings["objectives"] if value_of(trial, name) is None)
        known = ", ".join(sorted(name.removeprefix("val/") for name in trial.metrics)) or "none"
        self.ledger.update(trial.number, reason=f"has no {missing}; its metrics: {known}")
        if not self._told_unmeasured:
            self._told_unmeasured = True
            where = f"hydra.sweeper.objectives: trial {trial.number} has no {missing}, and counts as failed"
            console.print(f"{where}; it has {known}", markup=False, soft_wrap=True)

    def _tell(self, number: int, values: list[float] | None, how: str) -> None:
        from optuna.trial import TrialState

        states = {"prune": TrialState.PRUNED, "fail": TrialState.FAIL, "complete": TrialState.COMPLETE}
        asked = self._asked(number)
        if asked.state is TrialState.FAIL and how == "complete":
            self._tell_anew(asked, values)
        try:
            self.study.tell(number, values if how == "complete" else None, states[how], skip_if_finished=True)
        except RuntimeError:  # a grid that is through stops a loop of Optuna's own, which this is not; all is stored
            self._exhausted = True

    def _tell_anew(self, failed: Any, values: list[float] | None) -> None:
        """A trial that was retried: what the study calls failed stays so, its result stands beside it."""
        from optuna.trial import create_trial

        if any(one.user_attrs.get("again") == failed.number for one in self.study.get_trials(deepcopy=False)):
            return
        self.study.add_trial(
            create_trial(
                params=failed.params,
                distributions=failed.distributions,
                values=values,
                user_attrs={**failed.user_attrs, "again": failed.number},
            )
        )

    def _asked(self, number: int) -> Any:
        """A trial as the study has it."""
        return self.study.get_trials(deepcopy=False)[number]

    def values(self, trial: Trial) -> list[float] | None:
        """Of the objectives; None if one was not measured."""
        found = [value_of(trial, name) for name in self.settings["objectives"]]
        return None if any(value is None for value in found) else [float(value or 0.0) for value in found]

    def done(self) -> bool:
        """See controller.Source."""
        return self._exhausted or sum(self.ledger.counts().values()) >= self.most

    def study_spec(self, trial: Trial) -> dict[str, Any] | None:
        """What a job needs to report to the study; None where nothing is pruned."""
        if self.settings.get("pruner", "none") == "none" or trial.asked is None:
            return None
        if self._asked(trial.asked).state.is_finished():
            return None  # retried: the study takes no reports of it any more
        metric = next(iter(self.settings["objectives"]))
        return {
            "storage": str(Path(self.address).absolute()) if "://" not in self.address else self.address,
            "name": self.name, "trial": trial.asked, "metric": metric, "search": {
                key: self.settings.get(key) for key in ("pruner", "pruner_options")
            },
        }  # fmt: skip
