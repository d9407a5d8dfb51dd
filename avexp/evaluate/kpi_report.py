"""What judged predictors look like to a person: KPI tables, curves, frames with predictions drawn on them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avexp.core.files import read_json, write_bytes
from avexp.core.run_folder import RunFolder
from avexp.evaluate.judge import CONSTANT, Judged
from avexp.loader.sample import camera_arrays
from avexp.metrics.kpi import HEADLINES, KpiAccumulator, find_kpi, kpi_table
from avexp.records.dataset import Dataset
from avexp.records.labels import Conditions, Task
from avexp.report import draw, plots
from avexp.report.ground import GroundCamera
from avexp.report.html import Card, Report
from avexp.report.tables import KpiRow, Table
from avexp.report.tables import kpi_table as lay_out
from avexp.train.truth import DatasetTruth

SMOOTH_STEPS = 9
ALSO_SHOWN = ("lanes/tusimple_accuracy",)
"""Shown beside the headline KPIs."""


def kpi_rows(
    columns: Mapping[str, Mapping[str, float]], classes: Sequence[str], headlines: bool = False
) -> list[KpiRow]:
    """Rows of a KPI table.

    Args:
        columns: column -> KPI -> value.
        classes: object classes.
        headlines: only the KPI that stands for each task.
    """
    rows = []
    # a task that nothing but the constant predictor answers is not in question
    asked = [column for column in columns if column != CONSTANT] or list(columns)
    for name, kpi in kpi_table(classes).items():
        if headlines and not (kpi.headline or name in ALSO_SHOWN):
            continue
        if all(name not in columns[column] for column in asked):
            continue
        values = {column: found.get(name) for column, found in columns.items()}
        rows.append(
            KpiRow(
                task=kpi.task,
                title=kpi.title,
                values=values,
                unit=kpi.unit,
                higher_is_better=kpi.higher_is_better,
                headline=kpi.headline,
            )
        )
    return rows


def headline_table(judged: Sequence[Judged], classes: Sequence[str], title: str) -> Table:
    """The headline KPIs of several predictors side by side."""
    columns = {one.name: one.evidence.compute() for one in judged}
    return lay_out(kpi_rows(columns, classes, headlines=True), list(columns), title)


def full_table(judged: Sequence[Judged], classes: Sequence[str], title: str) -> Table:
    """All KPIs of several predictors side by side."""
    columns = {one.name: one.evidence.compute() for one in judged}
    return lay_out(kpi_rows(columns, classes), list(columns), title)


def condition_table(one: Judged, classes: Sequence[str], headlines: bool = False) -> Table:
    """KPIs of one predictor, overall and by condition."""
    columns: dict[str, Mapping[str, float]] = {"all": one.evidence.compute()}
    columns |= {name.partition("=")[2]: found for name, found in one.evidence.compute_by_condition().items()}
    return lay_out(kpi_rows(columns, classes, headlines), list(columns), f"{one.name} by condition")


def headline_cards(constant: Judged, best: Judged) -> list[Card]:
    """One card a task: the value, held against the constant predictor."""
    before, now = constant.evidence.compute(), best.evidence.compute()
    cards = []
    for name in HEADLINES.values():
        if name in now:
            kpi = find_kpi(name)
            held = f"constant predictor {before[name]:.3f}" if name in before else ""
            better = name not in before or (now[name] > before[name]) == kpi.higher_is_better
            unit = f" {kpi.unit}" if kpi.unit else ""
            cards.append(Card(f"{kpi.task}: {kpi.title}", f"{now[name]:.3f}{unit}", held, better))
    return cards


def add_kpis(report: Report, judged: Sequence[Judged], classes: Sequence[str]) -> None:
    """Tables and, for the last predictor, curves."""
    section = report.section("KPIs")
    section.table(full_table(judged, classes, "KPIs on the validation frames"))
    section.table(condition_table(judged[-1], classes))
    section.plots(_bars(judged[-1].evidence))
    add_object_curves(report, judged[-1], classes)


def _bars(evidence: KpiAccumulator) -> list[tuple[bytes, str]]:
    by_condition = {name.partition("=")[2]: found for name, found in evidence.compute_by_condition().items()}
    bars: dict[str, dict[str, float]] = {}
    for name in HEADLINES.values():
        kpi = find_kpi(name)
        if kpi.higher_is_better:
            values = {condition: found[name] for condition, found in by_condition.items() if name in found}
            if values:
                bars[f"{kpi.task} {kpi.title}"] = values
    return [(plots.condition_bars(bars), "The headline scores by light, weather and road.")] if bars else []


def add_object_curves(report: Report, one: Judged, classes: Sequence[str]) -> None:
    """Precision-recall, confusion and reliability of the objects."""
    evidence = one.evidence
    curves = evidence.curves()
    if not curves:
        return
    kpis = evidence.compute()
    ap = {name: kpis[f"objects/ap50/{name}"] for name in curves if f"objects/ap50/{name}" in kpis}
    found = evidence.reliability()
    series = {name: (curve.recall, curve.precision) for name, curve in curves.items()}
    reliable = plots.reliability_curve(found.confidence, found.accuracy, found.count, found.ece)
    confused = plots.confusion_matrix(evidence.confusion(), list(classes))
    report.section("Objects").plots(
        [
            (plots.pr_curves(series, ap), "Precision over recall of each class, at IoU 0.5."),
            (confused, "Confusion at score 0.3; background is missed or invented."),
            (reliable, "Scores against how often they are right."),
        ]
    )


def add_loss_curves(report: Report, run: RunFolder) -> None:
    """Losses and validation KPIs of a training run, from its own journal."""
    if not run.metrics.is_file():
        return
    losses: dict[str, tuple[list[int], list[float]]] = {}
    validated: dict[str, tuple[list[int], list[float]]] = {}
    for entry in journal(run.metrics):
        for name, value in entry["values"].items():
            if name.startswith("train/loss/"):
                _put(losses, name.removeprefix("train/loss/"), entry["step"], value)
            elif name.removeprefix("val/") in HEADLINES.values() or name == "val/score":
                _put(validated, name.removeprefix("val/"), entry["step"], value)
    section = report.section("Training")
    pictures = []
    if losses:
        pictures.append((plots.loss_curves(losses, smooth=SMOOTH_STEPS), "Loss of each head over optimizer steps."))
    if any(len(steps) > 1 for steps, _ in validated.values()):
        pictures.append(
            (plots.line_plot(validated, "Validation", "step", "KPI"), "Headline KPIs over optimizer steps.")
        )
    section.plots(pictures)


def _put(series: dict[str, tuple[list[int], list[float]]], name: str, step: int, value: float) -> None:
    xs, ys = series.setdefault(name, ([], []))
    xs.append(step)
    ys.append(value)


def journal(path: Path) -> list[dict[str, Any]]:
    """Metric entries of a run; a torn last line is passed over."""
    entries = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and "values" in entry and "step" in entry:
            entries.append(entry)
    return entries


def ground_camera(dataset: Dataset, key: str) -> GroundCamera:
    """The camera of a frame, for drawing its path."""
    session, _, rest = key.partition("/")
    sensor = rest.partition(".")[2]
    try:
        camera = dataset.session_of(session).camera(sensor)
    except KeyError:
        camera = None
    matrix, pose = camera_arrays(camera)
    return GroundCamera(matrix, float(pose[0]), float(pose[1]), float(pose[2]))


def caption(conditions: Conditions, key: str) -> str:
    """Conditions and where the frame is from."""
    words = [
        value.value for value in (conditions.light, conditions.weather, conditions.road) if value.value != "unknown"
    ]
    return f"{', '.join(words) or 'conditions unknown'} - {key}"


def add_frames(
    report: Report,
    one: Judged,
    dataset: Dataset,
    truth: DatasetTruth,
    title: str = "Frames",
    folder: Path | None = None,
) -> None:
    """Frames with predicted and true objects, lanes, drivable area and path; also as files where a folder is given."""
    pictures = []
    for key, prediction in one.kept.items():
        labels, sensor = truth(key)
        drawn = draw.draw_frame(
            one.images[key],
            prediction,
            labels,
            sensor=sensor,
            camera_size=dataset.manifest.image_sizes_px[0] if dataset.manifest.rendition else None,
            camera=ground_camera(dataset, key),
            classes=dataset.manifest.object_classes,
        )
        pictures.append((drawn, caption(labels.conditions, key)))
        if folder is not None:
            save_png(folder / f"{len(pictures):02d}.png", drawn)
    section = report.section(title)
    section.text("Solid and coloured: predicted. Dashed white: true.")
    section.frames(pictures)


def save_png(path: Path, image: Any) -> None:
    """Write uint8 [H, W, 3] RGB as PNG."""
    import cv2

    coded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    write_bytes(path, coded.tobytes())


def add_attribution(
    report: Report, maps: Mapping[str, Sequence[Any]], images: Sequence[Any], captions: Sequence[str]
) -> None:
    """Where each head looks, on some frames."""
    section = report.section("Attribution")
    section.text("HiResCAM of each head's strongest evidence: warm where the network looks.")
    pictures = []
    for index, image in enumerate(images):
        for head, found in maps.items():
            heated = draw.heat(np.asarray(image), found[index])
            pictures.append((heated, f"{head}: {captions[index]}"))
    section.frames(pictures)


def run_facts(run: RunFolder, dataset: Dataset) -> dict[str, object]:
    """Where a report comes from."""
    lock = read_json(run.lock)
    manifest = dataset.manifest
    code = str(lock["code"]["commit"] or "not a checkout")[:12]
    return {
        "run": run.id,
        "code": code + (" with uncommitted changes" if lock["code"]["diff_sha256"] else ""),
        "config digest": lock["config_digest"][:16],
        "dataset": f"{manifest.reference}, digest {manifest.digest[:16]}",
        "seed": lock["seed"],
        "machine": f"{lock['hardware']['cpu']}, {lock['hardware']['cores']} cores",
    }


def skipped_of(run: RunFolder, dataset: Dataset) -> list[tuple[str, str]]:
    """What was left out at ingest and while training: (place, reason)."""
    found = [
        (item.where, item.reason) for name in dataset.manifest.sessions for item in dataset.session_of(name).skipped
    ]
    if run.quarantine.is_file():
        for line in run.quarantine.read_text().splitlines():
            entry = json.loads(line)
            found.append((entry["where"], entry["reason"]))
    return found


def headline_of(task: Task) -> str:
    """The KPI that stands for a task."""
    return HEADLINES[task]
