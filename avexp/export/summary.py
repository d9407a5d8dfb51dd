"""What export.py ends with: the table, the report, where everything lies, what to type next."""

from pathlib import Path
from typing import Any

from avexp.core.config import ExportConfig
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder
from avexp.evaluate import kpi_report
from avexp.evaluate.after_training import ATTRIBUTED, add_attributions
from avexp.export.proof import Proof
from avexp.metrics.bootstrap import Interval
from avexp.metrics.kpi import find_kpi
from avexp.records.dataset import Dataset
from avexp.report.html import Card, Report
from avexp.report.tables import KpiRow, Table, kpi_table, number, show
from avexp.train.predictor import NetworkPredictor
from avexp.train.truth import DatasetTruth


def tell(
    config: ExportConfig, run: RunFolder, source: RunFolder, manifest: dict[str, Any], tables: list[Table]
) -> None:
    """The last lines on the terminal."""
    for table in tables:
        show(table, console=console)
    for plan in manifest["plans"]:
        if plan["status"] == "built":
            state = "passed" if plan["gate"]["passed"] else "[bold red]REFUSED[/]"
            console.print(f"gate        {plan['id']}: {state}")
            for reason in [] if plan["gate"]["passed"] else plan["gate"]["reasons"]:
                console.print(f"              {reason}", markup=False)
    waiting = [plan for plan in manifest["plans"] if plan["status"] == "pending_target"]
    if waiting:
        names = ", ".join(plan["id"] for plan in waiting)
        console.print(f"pending     {names}: run their plans/*.sh on the target", markup=False)
    for name, path in (("bundle", run.bundle), ("report", run.report), ("checkpoint", source.best), ("run", run.path)):
        console.print(f"{name:<12}{path}", markup=False)
    console.print(
        f"next        avexp predict bundle={run.bundle} input=<video, images, shard or session>", markup=False
    )
    console.print(f"            avexp evaluate of={run.bundle} slice=night", markup=False)
    console.print(
        f"            mlflow ui --backend-store-uri sqlite:///{Path(config.storage.root) / 'mlflow.db'}", markup=False
    )


def proof_table(proof: Proof, manifest: dict[str, Any]) -> Table:
    """Headline KPIs: constant, checkpoint, each plan, and the drift of the int8 plan."""
    columns = {"constant": proof.constant.evidence.compute(), "checkpoint": proof.checkpoint.evidence.compute()}
    order = [plan["id"] for plan in manifest["plans"] if plan["status"] == "built"]
    for name in sorted(order, key=lambda plan: ("int8" in plan, "onnxruntime" in plan)):
        columns[short(name)] = proof.plans[name].evidence.compute()
    rows: list[KpiRow] = kpi_report.kpi_rows(columns, proof.checkpoint.evidence.classes, headlines=True)
    table = kpi_table(rows, list(columns), "Validation: constant predictor, checkpoint and plans")
    int8 = next((name for name in order if "int8" in name), None)
    if int8 is None:
        return table
    drift = [_drift(proof, int8, row) for row in rows]
    cells = [[*cells, text] for cells, text in zip(table.rows, drift, strict=True)]
    return Table(
        [*table.columns, f"drift of {short(int8)}"],
        cells,
        table.title,
        table.numbers | {len(table.columns)},
        table.best,
        table.strong,
        table.rules,
        "drift: relative loss against the checkpoint, with the 95 % interval of a paired bootstrap over frames",
    )


def _drift(proof: Proof, plan: str, row: KpiRow) -> str:
    for name, loss in proof.losses[plan].items():
        kpi = find_kpi(name)
        if kpi.task == row.task and kpi.title == row.title:
            return _loss(loss)
    return "-"


def short(plan: str) -> str:
    """Plan id for a column: precision and engine."""
    _, backend, precision = plan.split("-", 2)
    return f"{precision} {'OV' if backend == 'openvino' else 'ORT'}"


def speed_table(proof: Proof, manifest: dict[str, Any]) -> Table:
    """Latency, frames a second, size, and how much faster than PyTorch."""
    eager = proof.eager
    rows = [
        [
            "PyTorch eager",
            number(eager["p50_ms"], 2),
            number(eager["p99_ms"], 2),
            number(eager["fps"], 0),
            "-",
            "1.0",
            "-",
        ]
    ]
    for plan in manifest["plans"]:
        if plan["status"] == "built":
            latency = plan["latency"]
            rows.append(
                [
                    plan["id"],
                    number(latency["p50_ms"], 2),
                    number(latency["p99_ms"], 2),
                    number(latency["fps"], 0),
                    number(plan["bytes"] / 1e6, 2),
                    number(eager["p50_ms"] / latency["p50_ms"], 1),
                    "passed" if plan["gate"]["passed"] else "refused",
                ]
            )
    columns = ["plan", "p50 [ms]", "p99 [ms]", "FPS", "size [MB]", "x PyTorch", "gate"]
    note = f"one frame at a time, {int(eager['threads'])} thread(s), frame to decoded outputs, warm-up excluded"
    return Table(columns, rows, "Latency", frozenset(range(1, 6)), note=note)


def gate_table(proof: Proof, manifest: dict[str, Any]) -> Table:
    """What each plan loses of each KPI, and whether it may."""
    built = [plan for plan in manifest["plans"] if plan["status"] == "built"]
    names = list(proof.losses[built[0]["id"]])
    kpis = [find_kpi(name) for name in names]
    rows = [
        [
            plan["id"],
            *[_loss(proof.losses[plan["id"]][name]) for name in names],
            "passed" if plan["gate"]["passed"] else "refused",
        ]
        for plan in built
    ]
    columns = ["plan", *[f"{kpi.task}: {kpi.title}" for kpi in kpis], "gate"]
    note = "relative loss against the checkpoint (below zero: better), 95 % interval of a paired bootstrap over frames"
    return Table(columns, rows, "Gate", frozenset(range(1, 1 + len(names))), note=note)


def _loss(loss: Interval) -> str:
    return f"{100 * loss.loss:+.2f} % ({100 * loss.low:+.2f} to {100 * loss.high:+.2f})"


def report(
    run: RunFolder,
    source: RunFolder,
    dataset: Dataset,
    predictor: NetworkPredictor,
    proof: Proof,
    manifest: dict[str, Any],
) -> list[Table]:
    """Write the report; its tables, for the terminal."""
    tables = [proof_table(proof, manifest), speed_table(proof, manifest)]
    classes = dataset.manifest.object_classes
    first = manifest["plans"][0]
    chosen = proof.plans[first["id"]]
    truth = DatasetTruth(dataset, dataset.select("val"))
    subtitle = f"From recorded drives to a proven plan: export {run.id} of training run {source.id}"
    page = Report(f"avexp: {source.name}", subtitle)
    page.add_facts(kpi_report.run_facts(source, dataset))
    page.add_facts({"bundle digest": manifest["digest"][:16], "best plan": first["id"]})
    page.add_cards(kpi_report.headline_cards(proof.constant, proof.checkpoint))
    speed = f"{proof.eager['p50_ms'] / first['latency']['p50_ms']:.1f}x PyTorch eager"
    page.add_cards([Card("latency p50", f"{first['latency']['p50_ms']:.1f} ms", speed, True)])
    section = page.section("Plans")
    for table in tables:
        section.table(table)
    section.table(gate_table(proof, manifest))
    waiting = [plan for plan in manifest["plans"] if "gate" not in plan]
    if waiting:
        rows = [[plan["id"], plan["status"].replace("_", " "), plan["reason"]] for plan in waiting]
        section.table(Table(["plan", "status", "why"], rows, "Plans for other machines"))
    kpi_report.add_frames(page, chosen, dataset, truth, f"Frames as {first['id']} sees them")
    kpi_report.add_kpis(page, [proof.constant, proof.checkpoint, chosen], classes)
    kpi_report.add_loss_curves(page, source)
    add_attributions(page, predictor, dataset, truth, list(chosen.kept)[:ATTRIBUTED])
    page.add_skipped(kpi_report.skipped_of(source, dataset))
    page.write(run.report)
    return tables
