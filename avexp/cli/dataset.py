"""``avexp dataset ...``."""

import json
from pathlib import Path

import typer

from avexp.cli.options import OUTPUTS, ROOT, AsJson, Outputs, Root
from avexp.core.progress import console, say_json
from avexp.core.run_folder import find_run

app = typer.Typer(no_args_is_help=True, help="Look at dataset versions and where things come from.")


@app.command("ls")
def dataset_ls(root: Root = ROOT, as_json: AsJson = False) -> None:
    """Dataset versions."""
    from avexp.records.dataset import DatasetManifest, find_version, names, versions

    rows = []
    for name in names(root):
        for number in versions(root, name):
            manifest = DatasetManifest.from_file(find_version(root, f"{name}@{number}") / "manifest.json")
            rows.append({"dataset": manifest.reference, "digest": manifest.digest, "splits": manifest.splits})
    if as_json:
        say_json(rows)
        return
    for row in rows:
        console.print(
            f"{row['dataset']}  {str(row['digest'])[:16]}  {json.dumps(row['splits'])}", markup=False, highlight=False
        )
    if not rows:
        console.print(f"no datasets under {root}; python train.py +experiment=quickstart makes one")


@app.command("show")
def dataset_show(dataset: str, root: Root = ROOT) -> None:
    """One dataset version's manifest, without its shards."""
    from avexp.records.dataset import Dataset

    manifest = Dataset.open(root, dataset).manifest
    say_json({**manifest.model_dump(mode="json", exclude={"shards"}), "shards": len(manifest.shards)})


@app.command("verify")
def dataset_verify(dataset: str, root: Root = ROOT, threads: int = 2, as_json: AsJson = False) -> None:
    """Read and check all of a dataset version: every fault with shard, key, offset and reason. Exit code 3 if there is one."""
    from dataclasses import asdict

    from avexp.core.progress import bar
    from avexp.loader.verify import verify
    from avexp.records.dataset import Dataset

    opened = Dataset.open(root, dataset)
    if as_json:
        faults = verify(opened, root, threads)
        say_json([asdict(fault) for fault in faults])
    else:
        with bar("verify frames") as advance:
            faults = verify(opened, root, threads, advance)
        for fault in faults:
            console.print(f"{fault}; {fault.remedy}", markup=False, highlight=False, soft_wrap=True)
        frames, shards = len(opened.rows), len(opened.manifest.shards)
        console.print(f"{opened.manifest.reference}: {frames} frames in {shards} shards, {len(faults)} faults")
    if faults:
        raise SystemExit(3)


@app.command("lineage")
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
        say_json(asdict(node))
        return
    for line in tree_lines([node]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("push")
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
        say_json(facts)
        return
    written = f"{facts['written']} objects written ({size_text(facts['written_bytes'])}), {facts['there']} were there"
    console.print(f"{facts['dataset']} is at {facts['url']}: {written}", markup=False)
    console.print(
        f"train on it anywhere: data=existing data.name={facts['dataset']} storage.remote={url}", markup=False
    )
