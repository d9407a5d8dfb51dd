"""The ``avexp`` command: stages take ``key=value`` (Hydra); look-ups take ordinary arguments and flags, and have --json."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from avexp.core.errors import AvexpError, did_you_mean
from avexp.core.files import read_json
from avexp.core.progress import console
from avexp.core.run_folder import find_run, runs
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
run_app = typer.Typer(no_args_is_help=True, help="Look at runs, and send what a tracking server missed.")
dataset_app = typer.Typer(no_args_is_help=True, help="Look at dataset versions and where things come from.")
cache_app = typer.Typer(no_args_is_help=True, help="Look at the level-0 cache of this node, and make it smaller.")
app.add_typer(run_app, name="run")
app.add_typer(dataset_app, name="dataset")
app.add_typer(cache_app, name="cache")

Outputs = Annotated[Path, typer.Option(help="Folder of run folders.")]
Root = Annotated[Path, typer.Option(help="Storage root.")]
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="Its folder, if it is not <root>/cache.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
OUTPUTS, ROOT = Path("outputs"), Path("outputs/store")


def main() -> None:
    """Dispatch; a user's error is one line."""
    words = sys.argv[1:]
    if words and words[0] in STAGES:
        sys.argv = [f"avexp {words[0]}", *words[1:]]
        run_stage(STAGES[words[0]], words[1:])
    known = [*STAGES, "run", "dataset", "cache"]
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


def _print(value: Any) -> None:
    console.print_json(json.dumps(value)) if console.is_terminal else console.file.write(json.dumps(value) + "\n")


@run_app.command("ls")
def run_ls(stage: str = "*", outputs: Outputs = OUTPUTS, as_json: AsJson = False) -> None:
    """Runs, newest first."""
    rows = [
        {"run": run.id, "stage": run.stage, "name": run.name, "state": run.state(), "path": str(run.path)}
        for run in runs(outputs, stage)
    ]
    if as_json:
        _print(rows)
        return
    for row in rows:
        console.print(f"{row['run']}  {row['state']:<9} {row['stage']:<9} {row['name']}", markup=False, highlight=False)
    if not rows:
        console.print(f"no runs under {outputs}; start one with python train.py +experiment=quickstart")


@run_app.command("show")
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
        _print(facts)
        return
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        console.print(f"{key:<14}{text}", markup=False, highlight=False, soft_wrap=True)


@run_app.command("sync")
def run_sync(run: str, stage: str = "*", outputs: Outputs = OUTPUTS) -> None:
    """Send what a slow or dead tracking server missed."""
    from avexp.store.tracker import sync

    found = find_run(outputs, run, stage)
    sent = sync(found.path)
    console.print(f"{found.id}: {sent}", markup=False, soft_wrap=True)


@run_app.command("diff")
def run_diff(one: str, two: str, outputs: Outputs = OUTPUTS, root: Root = ROOT, as_json: AsJson = False) -> None:
    """What two runs differ in: config, code, data, packages, hardware; the first loss that differs; KPIs."""
    from dataclasses import asdict

    from avexp.core.stage import conf_folder
    from avexp.store.run_diff import diff_runs

    found = diff_runs(find_run(outputs, one), find_run(outputs, two), root, conf_folder().parent)
    if as_json:
        _print({**asdict(found), "bit_exact": found.bit_exact})
    else:
        _tell_diff(found)


@run_app.command("reproduce")
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
        _print({**asdict(diff), "bit_exact": diff.bit_exact, "run": str(again.path)})
    else:
        _tell_diff(diff)
        console.print(f"run {again.path}; it reproduces {found.id}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(0 if diff.bit_exact else 1)


def _tell_diff(diff: Any) -> None:
    """Verdict first, then what could have caused it, then what came of it."""
    from avexp.store.run_diff import verdict

    for line in verdict(diff):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataset_app.command("ls")
def dataset_ls(root: Root = ROOT, as_json: AsJson = False) -> None:
    """Dataset versions."""
    from avexp.records.dataset import DatasetManifest, find_version, names, versions

    rows = []
    for name in names(root):
        for number in versions(root, name):
            manifest = DatasetManifest.from_file(find_version(root, f"{name}@{number}") / "manifest.json")
            rows.append({"dataset": manifest.reference, "digest": manifest.digest, "splits": manifest.splits})
    if as_json:
        _print(rows)
        return
    for row in rows:
        console.print(
            f"{row['dataset']}  {str(row['digest'])[:16]}  {json.dumps(row['splits'])}", markup=False, highlight=False
        )
    if not rows:
        console.print(f"no datasets under {root}; python train.py +experiment=quickstart makes one")


@dataset_app.command("show")
def dataset_show(dataset: str, root: Root = ROOT) -> None:
    """One dataset version's manifest, without its shards."""
    from avexp.records.dataset import Dataset

    manifest = Dataset.open(root, dataset).manifest
    _print({**manifest.model_dump(mode="json", exclude={"shards"}), "shards": len(manifest.shards)})


@dataset_app.command("verify")
def dataset_verify(dataset: str, root: Root = ROOT, threads: int = 2, as_json: AsJson = False) -> None:
    """Read and check all of a dataset version: every fault with shard, key, offset and reason. Exit code 3 if there is one."""
    from dataclasses import asdict

    from avexp.core.progress import bar
    from avexp.loader.verify import verify
    from avexp.records.dataset import Dataset

    opened = Dataset.open(root, dataset)
    if as_json:
        faults = verify(opened, root, threads)
        _print([asdict(fault) for fault in faults])
    else:
        with bar("verify frames") as advance:
            faults = verify(opened, root, threads, advance)
        for fault in faults:
            console.print(f"{fault}; {fault.remedy}", markup=False, highlight=False, soft_wrap=True)
        frames, shards = len(opened.rows), len(opened.manifest.shards)
        console.print(f"{opened.manifest.reference}: {frames} frames in {shards} shards, {len(faults)} faults")
    if faults:
        raise SystemExit(3)


@dataset_app.command("lineage")
def dataset_lineage(of: str, outputs: Outputs = OUTPUTS, root: Root = ROOT, as_json: AsJson = False) -> None:
    """From a bundle, checkpoint, run or dataset back to the sessions it stands on."""
    from dataclasses import asdict

    from avexp.records.dataset import find_version
    from avexp.store.lineage import node_of, tree_lines

    path = Path(of)
    if not path.exists():
        path = find_version(root, of) if "@" in of else find_run(outputs, of, "*").path
    node = node_of(path, root, outputs)
    if as_json:
        _print(asdict(node))
        return
    for line in tree_lines([node]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataset_app.command("push")
def dataset_push(dataset: str, url: str, root: Root = ROOT, as_json: AsJson = False) -> None:
    """Copy a dataset version to an object store (s3://bucket/prefix, gs://, az://, file:///folder). Overwrites nothing;
    repeated, it goes on where it was stopped, and checks what is there.
    """
    from avexp.core.progress import bar
    from avexp.core.units import size_text
    from avexp.loader.remote import RemoteStore
    from avexp.loader.replicate import push_version

    with bar(f"push {dataset} (MiB)") as advance:
        facts = push_version(root, dataset, RemoteStore(url), lambda done, total: advance(done >> 20, total >> 20))
    if as_json:
        _print(facts)
        return
    written = f"{facts['written']} objects written ({size_text(facts['written_bytes'])}), {facts['there']} were there"
    console.print(f"{facts['dataset']} is at {facts['url']}: {written}", markup=False)
    console.print(
        f"train on it anywhere: data=existing data.name={facts['dataset']} storage.remote={url}", markup=False
    )


@cache_app.command("show")
def cache_show(root: Root = ROOT, cache: CacheFolder = None, as_json: AsJson = False) -> None:
    """What the cache holds, and what all processes of this node did with it."""
    from avexp.core.units import size_text
    from avexp.loader.cache import summary

    facts = summary(cache or root / "cache")
    if as_json:
        _print(facts)
        return
    for key, value in facts.items():
        shown = size_text(value) if "bytes" in key and value is not None else value
        console.print(f"{key.removesuffix('_bytes'):<18}{shown}", markup=False, highlight=False)


@cache_app.command("trim")
def cache_trim(
    to: Annotated[str, typer.Option(help="What may stay, such as 10GiB; the least recently used goes first.")],
    root: Root = ROOT,
    cache: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make the cache smaller, now. A running job may fill it again, up to its own limit."""
    from avexp.core.units import size_text, to_bytes
    from avexp.loader.cache import ShardCache, summary

    folder = cache or root / "cache"
    before = summary(folder)
    used = ShardCache(folder, before["limit_bytes"] or to_bytes(to)).trim(to_bytes(to))
    facts = {"folder": str(folder), "bytes_before": before["bytes"], "bytes": used}
    if as_json:
        _print(facts)
        return
    console.print(f"{folder}: {size_text(before['bytes'])} before, {size_text(used)} now", markup=False)


if __name__ == "__main__":
    main()
