"""``avexp evaluate``: KPIs of a run, a checkpoint or a bundle on any dataset version and slice."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avexp.core.config import EvaluateConfig
from avexp.core.errors import DataError, RunError
from avexp.core.files import digest_file, read_json, write_json
from avexp.core.instantiate import build
from avexp.core.lock import add_to_lock
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder, find_run
from avexp.evaluate import kpi_report
from avexp.evaluate.judge import Judged, Predictor, judge, judge_constant, picture_keys
from avexp.evaluate.plan_predictor import open_bundle
from avexp.loader.replicate import open_version
from avexp.models.postprocess import Postprocess
from avexp.records.dataset import Dataset
from avexp.report.html import Report
from avexp.report.tables import show
from avexp.store.tracker import Tracker
from avexp.train.assemble import evaluation_loader, tiers_of
from avexp.train.predictor import load_predictor
from avexp.train.truth import DatasetTruth, score_of


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        predictor: of it.
        kind: checkpoint or bundle.
        path: its file or folder.
        dataset: reference of the dataset it was trained on.
        stored_as: form of the images that it was trained on; empty where it does not say so.
    """

    predictor: Predictor
    kind: str
    path: Path
    dataset: str
    stored_as: str = ""


def find_subject(config: EvaluateConfig) -> Subject:
    """A bundle folder, a checkpoint file, or a run.

    Raises:
        RunError: none of these.
        ExportError: a damaged bundle.
    """
    path = Path(config.of)
    postprocess: Postprocess | None = build(config.postprocess, "postprocess")
    if (path / "manifest.json").is_file():
        plan = open_bundle(path, config.plan, postprocess=postprocess)
        source = plan.manifest["source"]["dataset"]
        stored = plan.manifest["input"].get("rendition")
        stored_as = f"rendition {stored['name']}" if stored else "original images"
        return Subject(plan, "bundle", path, f"{source['name']}@{source['version']}", stored_as)
    if not path.is_file():
        run = find_run(Path(config.storage.outputs), config.of)
        if run.best is None:
            raise RunError(str(run.path), "has no validated checkpoint yet", "finish it with train.py resume=<run>")
        path = run.best
    predictor = load_predictor(path, postprocess)
    source = predictor.about["dataset"]
    stored_as = source.get("stored_as", "")
    return Subject(predictor, "checkpoint", path, f"{source['name']}@{source['version']}", stored_as)


def run_evaluate(config: EvaluateConfig, run: RunFolder) -> float:
    """Judge, print the table, write report and tracking.

    Returns:
        The score, as training has it: what a search of post-processing optimises.

    Raises:
        DataError: no such dataset, or the slice is empty.
    """
    subject = find_subject(config)
    dataset = open_version(Path(config.storage.root), config.dataset or subject.dataset, tiers_of(config))
    rows = dataset.select(config.split, config.slice)
    if len(rows) == 0:
        raise DataError(
            f"slice={config.slice}",
            f"no frame of {dataset.manifest.reference} {config.split} is in it",
            "see its conditions",
        )
    truth = DatasetTruth(dataset, rows)
    loader = evaluation_loader(dataset, rows, config.loader)
    keys = picture_keys(dataset, rows, config.pictures)
    judged = judge([subject.predictor], loader, truth, keys)
    train_rows = dataset.select("train")
    constant = [judge_constant(dataset, rows, train_rows)] if len(train_rows) else []
    _lock(run, subject, dataset)
    _report(config, run, dataset, [*constant, *judged], truth)
    _track(config, run, dataset, judged[0])
    _tell(config, run, dataset, [*constant, *judged], subject, len(rows))
    skipped = loader.quarantine.bad
    if skipped:
        console.print(
            f"skipped {len(skipped)} bad frames, such as {next(iter(skipped.values()))}", markup=False, soft_wrap=True
        )
    kpis = judged[0].evidence.compute()
    return score_of(
        kpis, [task for task in ("objects", "lanes", "drivable", "path") if any(k.startswith(task) for k in kpis)]
    )


def _lock(run: RunFolder, subject: Subject, dataset: Dataset) -> None:
    manifest = dataset.manifest
    digest = digest_file(subject.path if subject.path.is_file() else subject.path / "manifest.json")
    add_to_lock(run, inputs={"kind": subject.kind, "path": str(subject.path), "digest": digest})
    entry = {"kind": "dataset", "name": manifest.name, "version": manifest.version, "digest": manifest.digest}
    add_to_lock(run, inputs=entry)


def _report(
    config: EvaluateConfig, run: RunFolder, dataset: Dataset, judged: list[Judged], truth: DatasetTruth
) -> None:
    classes = dataset.manifest.object_classes
    report = Report(
        f"avexp: {config.of}", f"Evaluation on {dataset.manifest.reference}, {config.split}, slice {config.slice}"
    )
    report.add_facts(kpi_report.run_facts(run, dataset))
    if len(judged) > 1:
        report.add_cards(kpi_report.headline_cards(judged[0], judged[-1]))
    kpi_report.add_frames(report, judged[-1], dataset, truth)
    kpi_report.add_kpis(report, judged, classes)
    report.add_skipped(kpi_report.skipped_of(run, dataset))
    report.write(run.report)
    values: dict[str, Any] = {one.name: one.evidence.compute() for one in judged}
    values["by_condition"] = judged[-1].evidence.compute_by_condition()
    write_json(run.kpis, values)


def _track(config: EvaluateConfig, run: RunFolder, dataset: Dataset, judged: Judged) -> None:
    tracker: Tracker = build(config.store, "store", root=config.storage.root, experiment=config.name)
    lock = read_json(run.lock)
    params = {key: value for key, value in asdict(config).items() if key not in ("storage", "store")}
    tracker.start(run.path, run.id, f"evaluate/{run.id}", params, {"stage": "evaluate", "slice": config.slice})
    manifest = dataset.manifest
    path = f"{config.storage.root}/datasets/{manifest.name}/{manifest.version}"
    tracker.dataset(manifest.reference, manifest.digest, path, dict(manifest.splits))
    tracker.log({f"val/{name}": value for name, value in judged.evidence.compute().items()}, 0)
    for name, found in judged.evidence.compute_by_condition().items():
        tracker.log({f"val/{name.replace('=', '.')}/{kpi}": value for kpi, value in found.items()}, 0)
    tracker.picture(run.report)
    tracker.finish("finished" if lock else "failed")
    behind = tracker.close()
    if behind:
        console.print(behind, markup=False)


def _tell(
    config: EvaluateConfig, run: RunFolder, dataset: Dataset, judged: list[Judged], subject: Subject, frames: int
) -> None:
    classes = dataset.manifest.object_classes
    show(kpi_report.condition_table(judged[-1], classes), console=console)
    where = f"{dataset.manifest.reference} {config.split}, slice {config.slice}, {frames} frames"
    where += f", {dataset.manifest.stored_as}"
    title = f"{subject.kind} {subject.path.name} on {where}"
    show(kpi_report.headline_table(judged, classes, title), console=console)
    if subject.stored_as not in ("", dataset.manifest.stored_as):
        console.print(f"it was trained on {subject.stored_as}, and is judged on {dataset.manifest.stored_as}")
    for name, path in (("report", run.report), ("kpis", run.kpis), ("run", run.path)):
        console.print(f"{name:<12}{path}", markup=False, soft_wrap=True)
    console.print("next        python export.py run=latest", markup=False)
