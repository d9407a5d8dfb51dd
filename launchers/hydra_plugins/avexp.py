"""Hydra's door to avexp.jobs. Every start of a Hydra app reads this file: what is heavy is imported where it is used."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class AvexpSearchPath(SearchPathPlugin):
    """conf/ last of the places looked at: a saved config (``--config-path``) finds its launcher and sweeper there."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra."""
        from avexp.core.stage import conf_folder

        search_path.append("avexp", f"file://{conf_folder()}")


class SweepLauncher(Launcher):
    """Runs trials on this machine or on SLURM; ``name`` says which.

    Args:
        settings: of avexp.jobs.launch.Launcher.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.task, self.config = task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """For another sweeper than ours: a sweep of exactly these jobs, waited for."""
        from avexp.jobs.command import launched

        found = launched(_plan(self, [], None), job_overrides, initial_job_idx)
        returns = []
        for words, (value, reason) in zip(job_overrides, found, strict=True):
            one = JobReturn(overrides=list(words), status=JobStatus.FAILED if reason else JobStatus.COMPLETED)
            one.return_value = RuntimeError(reason) if reason else value
            returns.append(one)
        return returns


class GridSweeper(Sweeper):
    """All combinations.

    Args:
        settings: ``params``, as of Hydra's own sweeper: key -> values; what is typed takes their place.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        from hydra.core.plugins import Plugins

        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, freeze, run."""
        from avexp.core.errors import AvexpError, ConfigError
        from avexp.evaluate.after_sweep import announce, conclude
        from avexp.jobs.command import sweep

        if not isinstance(self.launcher, SweepLauncher):
            raise ConfigError(
                ["hydra/launcher: avexp's sweepers need local or slurm; with others use hydra/sweeper=basic"]
            )
        asked = _asked(self.launcher)
        try:
            sweep(_plan(self.launcher, self.words(arguments), self.search()), asked, announce, conclude)
        except AvexpError as fault:
            asked.fault = fault  # told in one line, where Hydra would print a traceback

    def words(self, typed: list[str]) -> list[str]:
        """What is swept: of the config, then as typed.

        Raises:
            ConfigError: the config says what a grid does not know.
        """
        from avexp.core.errors import ConfigError

        settings = _plain(self.settings)
        params = settings.pop("params", None) or {}
        if settings:
            names = ", ".join(settings)
            raise ConfigError([f"hydra.sweeper: a grid takes params, not {names}; for a search: hydra/sweeper=search"])
        keys = {word.partition("=")[0] for word in typed}
        return [*(f"{key}={value}" for key, value in params.items() if key not in keys), *typed]

    def search(self) -> dict[str, Any] | None:
        """Settings of a search; None for a grid."""
        return None


class SearchSweeper(GridSweeper):
    """Asks Optuna for the next trial as one ends."""

    def words(self, typed: list[str]) -> list[str]:
        """As typed: what has several values is laid over the space."""
        return typed

    def search(self) -> dict[str, Any] | None:
        """See GridSweeper."""
        return _plain(self.settings)


def _plan(launcher: SweepLauncher, words: list[str], search: dict[str, Any] | None) -> Any:
    from avexp.jobs.command import plan_of

    return plan_of(_asked(launcher), launcher.config, words, _plain(launcher.settings), search, _tiers)


def _tiers(config: Any) -> Any:
    from avexp.train.assemble import tiers_of

    return tiers_of(config)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for name, value in settings.items()
    }


def _asked(launcher: SweepLauncher) -> Any:
    asked = getattr(launcher.task, "avexp", None)
    if asked is None:
        from avexp.core.errors import ConfigError

        raise ConfigError(["hydra/launcher: only stages of avexp can be swept by it; use hydra/launcher=basic"])
    return asked
