"""What train.py ends with: the best checkpoint judged against the constant predictor, a table, the report, what to type next."""

import time

import numpy as np
import numpy.typing as npt
import torch

from avexp.core.config import TrainConfig
from avexp.core.files import write_json
from avexp.core.instantiate import build
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder
from avexp.evaluate import kpi_report
from avexp.evaluate.attribution import attribution
from avexp.evaluate.judge import Judged, judge, judge_constant, picture_keys
from avexp.loader.collate import collate
from avexp.loader.quarantine import Quarantine
from avexp.loader.sample import read_sample
from avexp.records.dataset import Dataset
from avexp.report.html import Report
from avexp.report.tables import show
from avexp.store.tracker import Tracker
from avexp.train.assemble import Rank, evaluation_loader, make_data, open_dataset
from avexp.train.launch import this_rank
from avexp.train.predictor import NetworkPredictor, load_predictor
from avexp.train.truth import DatasetTruth

ATTRIBUTED = 3
"""Frames with attribution maps."""


def conclude(config: TrainConfig, run: RunFolder) -> None:
    """Judge and report a finished run; a stopped one is left as it is."""
    best = run.best
    if run.state() != "finished" or best is None or this_rank().number:
        return
    dataset = open_dataset(config)
    data = make_data(config, dataset, Rank(), Quarantine())
    predictor = load_predictor(best)
    truth = DatasetTruth(dataset, data.val_rows)
    keys = picture_keys(dataset, data.val_rows, config.trainer.pictures)
    loader = evaluation_loader(dataset, data.val_rows, config.loader)
    judged = judge([predictor], loader, truth, keys)
    constant = judge_constant(dataset, data.val_rows, data.train_rows)
    write_report(run, dataset, predictor, [constant, *judged], truth)
    columns = {one.name: one.evidence.compute() for one in [constant, *judged]}
    write_json(run.kpis, columns)
    _track(config, run, judged[0], latency(predictor, dataset, data.val_rows, config.trainer.latency_frames))
    show(
        kpi_report.headline_table([constant, *judged], dataset.manifest.object_classes, f"{run.name} {run.id}"),
        console=console,
    )
    show(kpi_report.condition_table(judged[0], dataset.manifest.object_classes, headlines=True), console=console)
    console.print(f"run         {run.path}\ncheckpoint  {best}\nreport      {run.report}", markup=False, soft_wrap=True)
    console.print(f"next        python export.py run={run.reference}", markup=False, soft_wrap=True)


WARM_UP = 5


def latency(predictor: NetworkPredictor, dataset: Dataset, rows: npt.NDArray[np.int64], count: int) -> dict[str, float]:
    """Time from frame to predictions, one frame at a time, after a warm-up.

    Args:
        predictor: of the trained network.
        dataset: whose frames are shown.
        rows: of them.
        count: frames; 0 for no measurement.

    Returns:
        latency/p50_ms and latency/p99_ms; empty for 0.
    """
    taken = []
    sample = read_sample(dataset, int(rows[0]), None) if count else None
    for _ in range(count + WARM_UP if sample is not None else 0):
        assert sample is not None
        batch = collate([sample], sample.image[None])
        began = time.perf_counter()
        predictor(batch)
        taken.append((time.perf_counter() - began) * 1e3)
    if not taken:
        return {}
    return {f"latency/p{share}_ms": float(np.percentile(taken[WARM_UP:], share)) for share in (50, 99)}


def _track(config: TrainConfig, run: RunFolder, judged: Judged, latencies: dict[str, float]) -> None:
    """KPIs by condition, report and pictures into the run's own tracking, which goes on where training left it."""
    tracker: Tracker = build(config.store, "store", root=config.storage.root, experiment=config.name)
    tracker.start(run.path, run.id, f"{run.name}/{run.id}", {}, {})
    for name, found in judged.evidence.compute_by_condition().items():
        tracker.log({f"best/{name.replace('=', '.')}/{kpi}": value for kpi, value in found.items()}, 0)
    tracker.log({f"best/{kpi}": value for kpi, value in judged.evidence.compute().items()}, 0)
    if latencies:
        tracker.log(latencies, 0)
    tracker.picture(run.report)
    for picture in sorted(run.pictures.glob("*.png")):
        tracker.picture(picture)
    tracker.finish("finished")
    behind = tracker.close()
    if behind:
        console.print(behind, markup=False)


def write_report(
    run: RunFolder, dataset: Dataset, predictor: NetworkPredictor, judged: list[Judged], truth: DatasetTruth
) -> None:
    """The self-contained report of a training run."""
    classes = dataset.manifest.object_classes
    report = Report(f"avexp: {run.name}", f"Training run {run.id}")
    report.add_facts(kpi_report.run_facts(run, dataset))
    report.add_cards(kpi_report.headline_cards(judged[0], judged[-1]))
    kpi_report.add_frames(report, judged[-1], dataset, truth, folder=run.pictures)
    kpi_report.add_kpis(report, judged, classes)
    kpi_report.add_loss_curves(report, run)
    add_attributions(report, predictor, dataset, truth, list(judged[-1].kept)[:ATTRIBUTED])
    report.add_skipped(kpi_report.skipped_of(run, dataset))
    report.write(run.report)


def add_attributions(
    report: Report, predictor: NetworkPredictor, dataset: Dataset, truth: DatasetTruth, keys: list[str]
) -> None:
    """Attribution maps of some frames."""
    if not keys:
        return
    samples = [read_sample(dataset, truth.row(key), None) for key in keys]
    batch = collate(samples, np.stack([sample.image for sample in samples]))
    with torch.enable_grad():
        maps = attribution(predictor.network, batch)
    captions = [kpi_report.caption(truth(key)[0].conditions, key) for key in keys]
    kpi_report.add_attribution(report, maps, list(batch.images.numpy()), captions)
