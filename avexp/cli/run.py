"""``avexp run ...``."""

import json
from typing import Annotated, Any

import typer

from avexp.cli.options import OUTPUTS, ROOT, AsJson, Outputs, Root
from avexp.core.files import read_json
from avexp.core.progress import console, say_json
from avexp.core.run_folder import find_run, runs

app = typer.Typer(no_args_is_help=True, help="Look at runs, and send what a tracking server missed.")


@app.command("ls")
def run_ls(stage: str = "*", outputs: Outputs = OUTPUTS, as_json: AsJson = False) -> None:
    """Runs, newest first."""
    rows = [
        {"run": run.id, "stage": run.stage, "name": run.name, "state": run.state(), "path": str(run.path)}
        for run in runs(outputs, stage)
    ]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        console.print(f"{row['run']}  {row['state']:<9} {row['stage']:<9} {row['name']}", markup=False, highlight=False)
    if not rows:
        console.print(f"no runs under {outputs}; start one with python train.py +experiment=quickstart")


@app.command("show")
def run_show(run: str, stage: str = "*", outputs: Outputs = OUTPUTS, as_json: AsJson = False) -> None:
    """One run: state, inputs, outputs, KPIs."""
    found = find_run(outputs, run, stage)
    lock = read_json(found.lock)
    kpis = read_json(found.kpis) if found.kpis.is_file() else {}
    facts = {
        "run": found.id,
        "state": found.state(),
        "path": str(found.path),
        "commit": lock["code"]["commit"],
        "config_digest": lock["config_digest"],
        "overrides": lock["overrides"],
        "inputs": lock["inputs"],
        "outputs": lock["outputs"],
        "kpis": kpis,
    }
    if as_json:
        say_json(facts)
        return
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        console.print(f"{key:<14}{text}", markup=False, highlight=False, soft_wrap=True)


@app.command("sync")
def run_sync(run: str, stage: str = "*", outputs: Outputs = OUTPUTS) -> None:
    """Send what a slow or dead tracking server missed."""
    from avexp.store.tracker import sync

    found = find_run(outputs, run, stage)
    sent = sync(found.path)
    console.print(f"{found.id}: {sent}", markup=False, soft_wrap=True)


@app.command("diff")
def run_diff(one: str, two: str, outputs: Outputs = OUTPUTS, root: Root = ROOT, as_json: AsJson = False) -> None:
    """What two runs differ in: config, code, data, packages, hardware; the first loss that differs; KPIs."""
    from dataclasses import asdict

    from avexp.core.stage import conf_folder
    from avexp.store.run_diff import diff_runs

    found = diff_runs(find_run(outputs, one), find_run(outputs, two), root, conf_folder().parent)
    if as_json:
        say_json({**asdict(found), "bit_exact": found.bit_exact})
    else:
        _tell_diff(found)


@app.command("reproduce")
def run_reproduce(
    run: str,
    here: Annotated[bool, typer.Option("--here", help="With the code that is here now.")] = False,
    change: Annotated[list[str] | None, typer.Option("--set", help="key=value to change.")] = None,
    check_data: Annotated[bool, typer.Option(help="Read and check all of the dataset first.")] = True,
    timeout: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    outputs: Outputs = OUTPUTS,
    root: Root = ROOT,
    as_json: AsJson = False,
) -> None:
    """Run it again from its lock, and prove that it is the same: bit-exact, or the first batch that differs and why.

    Exit code 0 if bit-exact, else 1.
    """
    from dataclasses import asdict

    from avexp.train.reproduce import reproduce

    def say(line: str) -> None:
        if not as_json:
            console.print(f"  {line}" if line else "", markup=False, highlight=False, soft_wrap=True)

    found = find_run(outputs, run)
    again, diff = reproduce(
        found, outputs, root, here=here, overrides=change or [], check_data=check_data, timeout_s=timeout, say=say
    )
    if as_json:
        say_json({**asdict(diff), "bit_exact": diff.bit_exact, "run": str(again.path)})
    else:
        _tell_diff(diff)
        console.print(f"run {again.path}; it reproduces {found.id}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(0 if diff.bit_exact else 1)


def _tell_diff(diff: Any) -> None:
    """Verdict first, then what could have caused it, then what came of it."""
    from avexp.store.run_diff import verdict

    for line in verdict(diff):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
