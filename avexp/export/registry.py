"""Where a bundle is remembered: the run's lock, tracking, the model registry."""

from typing import Any

from avexp.core.config import ExportConfig
from avexp.core.files import write_json
from avexp.core.instantiate import build
from avexp.core.lock import add_to_lock
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder
from avexp.store.tracker import Tracker


def register(config: ExportConfig, run: RunFolder, source: RunFolder, manifest: dict[str, Any]) -> None:
    """Lineage of the run, and the bundle in the model registry."""
    add_to_lock(run, inputs={"kind": "run", "name": source.id, "path": str(source.path)})
    entry = {"kind": "bundle", "name": source.name, "path": str(run.bundle), "digest": manifest["digest"]}
    add_to_lock(run, outputs=entry)
    tracker: Tracker = build(config.store, "store", root=config.storage.root, experiment=source.name)
    tracker.start(
        run.path, run.id, f"export/{run.id}", {"run": source.id, "checkpoint": config.checkpoint}, {"stage": "export"}
    )
    dataset = manifest["source"]["dataset"]
    reference = f"{dataset['name']}@{dataset['version']}"
    path = f"{config.storage.root}/datasets/{dataset['name']}/{dataset['version']}"
    tracker.dataset(reference, dataset["digest"], path, {})
    for plan in manifest["plans"]:
        if plan["status"] == "built":
            values = {f"{plan['id']}/{name}": value for name, value in plan["kpis"].items()}
            values |= {f"{plan['id']}/latency_{name}": value for name, value in plan["latency"].items()}
            tracker.log(values, 0)
    tracker.picture(run.report)
    tracker.output("bundle", run.bundle, manifest["digest"])
    passed = any(plan.get("gate", {}).get("passed") for plan in manifest["plans"])
    if passed:
        tracker.register(source.name, "candidate", run.bundle, manifest["digest"])
    tracker.finish("finished")
    behind = tracker.close()
    if behind:
        console.print(behind, markup=False)
    write_json(run.kpis, {plan["id"]: plan.get("kpis", {}) for plan in manifest["plans"]})
