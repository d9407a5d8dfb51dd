"""The ``avexp`` command: stages take ``key=value`` (Hydra); look-ups take ordinary arguments and flags, and have --json."""

import sys

import typer
from rich.markup import escape

from avexp.cli import cache, check, dataset, run, sweep
from avexp.core.errors import AvexpError, did_you_mean
from avexp.core.progress import console
from avexp.core.stage import Entry
from avexp.core.stage import main as run_stage

STAGES = {
    "train": Entry("train", "avexp.train.fit:fit", then="avexp.evaluate.after_training:conclude"),
    "export": Entry("export", "avexp.export.pipeline:export"),
    "ingest": Entry("ingest", "avexp.ingest.stage:run_ingest", (("source", "reader.source"),)),
    "evaluate": Entry("evaluate", "avexp.evaluate.stage:run_evaluate", (("data", "dataset"),)),
    "predict": Entry("predict", "avexp.evaluate.predict:run_predict"),
    "bench": Entry("bench", "avexp.loader.throughput:run_bench", (("data", "dataset"),)),
    "ci": Entry("ci", "avexp.export.ci:run_ci"),
}
"""Stage verbs."""

app = typer.Typer(no_args_is_help=True, add_completion=True, rich_markup_mode="rich")
app.add_typer(run.app, name="run")
app.add_typer(dataset.app, name="dataset")
app.add_typer(cache.app, name="cache")
app.add_typer(sweep.app, name="sweep")
app.add_typer(check.app, name="check")


def main() -> None:
    """Dispatch; a user's error is one line."""
    words = sys.argv[1:]
    if words and words[0] in STAGES:
        sys.argv = [f"avexp {words[0]}", *words[1:]]
        run_stage(STAGES[words[0]], words[1:])
    known = [*STAGES, "run", "sweep", "dataset", "cache", "check"]
    if words and not words[0].startswith("-") and words[0] not in known:
        console.print(
            f"avexp: no command {words[0]}{did_you_mean(words[0], known)}; known: {', '.join(known)}", markup=False
        )
        raise SystemExit(2)
    try:
        app()
    except AvexpError as fault:
        console.print(f"[bold red]error[/] {escape(str(fault))}", soft_wrap=True)
        raise SystemExit(fault.exit_code) from None


@app.callback()
def about() -> None:
    """avexp: recorded drives in, proven inference plans out.

    Stages (take key=value, --help, --cfg job, --dry-run): train, export, ingest, evaluate, predict, bench, ci.
    """
