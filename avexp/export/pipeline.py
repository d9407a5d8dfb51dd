"""``export.py``: a trained run -> a bundle of plans, each proven against the checkpoint on the validation split."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from avexp.core.config import ExportConfig
from avexp.core.errors import ExportError, RunError
from avexp.core.files import digest_file, read_json
from avexp.core.hardware import usable_cores
from avexp.core.progress import bar, console
from avexp.core.run_folder import RunFolder, find_run
from avexp.evaluate.judge import Judged, Predictor, judge, judge_constant, picture_keys
from avexp.export import plans, summary
from avexp.export.bundle import BundleWriter
from avexp.export.graph import INPUT, export_onnx, parity
from avexp.export.onnx_form import load, save, strip
from avexp.export.proof import Proof, prove
from avexp.export.registry import register
from avexp.loader.decode import decode
from avexp.loader.replicate import open_version
from avexp.loader.tiers import Tiers
from avexp.records.dataset import Dataset
from avexp.train.assemble import evaluation_loader, spread, tiers_of
from avexp.train.predictor import NetworkPredictor, load_predictor
from avexp.train.truth import DatasetTruth

PARITY_FRAMES = 2


def export(config: ExportConfig, run: RunFolder) -> None:
    """Export, prove, bundle, report.

    Raises:
        RunError: no such run, or no checkpoint.
        ExportError: a step fails; nothing half-made is left under the bundle's name.
    """
    torch.set_num_threads(usable_cores())
    source = find_run(Path(config.storage.outputs), config.run)
    checkpoint = checkpoint_of(source, config.checkpoint)
    predictor = load_predictor(checkpoint)
    predictor = replace(predictor, postprocess=plans.postprocess_of_plans(predictor.postprocess))
    dataset = trained_on(predictor, Path(config.storage.root), tiers_of(config))
    width, height = dataset.manifest.stored_size_px
    console.print(f"export {source.id}, {checkpoint.name}, for {width}x{height} frames", markup=False)
    writer = BundleWriter(run.bundle)
    try:
        made = _make_plans(config, writer, predictor, dataset)
        proof = _prove(config, predictor, dataset, made)
        plans.add_verdicts(writer, made, proof)
        plans.add_pending(writer, config, made)
        manifest = writer.finish(**_facts(source, checkpoint, predictor, dataset, made, proof))
    except BaseException:
        writer.discard()
        raise
    tables = summary.report(run, source, dataset, predictor, proof, manifest)
    register(config, run, source, manifest)
    summary.tell(config, run, source, manifest, tables)


def checkpoint_of(run: RunFolder, which: str) -> Path:
    """best, last, or a file.

    Raises:
        RunError: there is none.
    """
    if which == "best" and run.best is not None:
        return run.best
    if which == "last" and run.step_checkpoints():
        return run.step_checkpoints()[0]
    if which in ("best", "last"):
        raise RunError(str(run.path), f"has no {which} checkpoint", "finish it with train.py resume=<run>")
    return Path(which)


def trained_on(predictor: NetworkPredictor, root: Path, tiers: Tiers | None = None) -> Dataset:
    """The dataset version of a checkpoint.

    Raises:
        ExportError: it is there, but is another one.
    """
    about = predictor.about["dataset"]
    dataset = open_version(root, f"{about['name']}@{about['version']}", tiers)
    if dataset.manifest.digest != about["digest"]:
        raise ExportError(
            dataset.manifest.reference, "is not the dataset that the checkpoint was trained on", "restore it"
        )
    return dataset


def _make_plans(
    config: ExportConfig,
    writer: BundleWriter,
    predictor: NetworkPredictor,
    dataset: Dataset,
) -> plans.Made:
    """Graphs and plan files; nothing judged yet."""
    fp32 = writer.path("model.fp32.onnx")
    image_size, input_size = dataset.manifest.image_sizes_px[0], dataset.manifest.stored_size_px
    with bar("export graphs") as advance:
        advance(0, 3)
        constants = export_onnx(predictor.network, image_size, fp32, config.batch_max, input_size)
        constants["decode"] = plans.decode_rules(predictor.postprocess)
        save(strip(load(fp32)), fp32)
        advance(1, 3)
        frames = calibration_frames(dataset, config)
        largest = parity(predictor.network, image_size, fp32, frames[:PARITY_FRAMES])
        made = plans.make(config, writer, constants, fp32, frames)
        made.parity = largest
        advance(3, 3)
    return made


def calibration_frames(dataset: Dataset, config: ExportConfig) -> Any:
    """uint8 [N, H, W, 3]: spread evenly over the named slice of the training split.

    Raises:
        ExportError: the slice is empty.
    """
    import numpy as np

    rows = spread(dataset.select("train", config.calibration_slice), config.calibration_frames)
    if len(rows) == 0:
        raise ExportError(
            f"calibration_slice={config.calibration_slice}", "no training frame is in it", "choose another"
        )
    frames = []
    for row in rows:
        content = dataset.read(int(row), "image")
        if content is not None:
            frames.append(decode(content, dataset.key(int(row)))[0])
    return np.stack(frames)


def _prove(config: ExportConfig, predictor: NetworkPredictor, dataset: Dataset, made: plans.Made) -> Proof:
    """Judge checkpoint and plans on the same frames, time them, and let the gate decide."""
    rows = dataset.select("val", config.validation_slice)
    if config.validation_frames_max is not None:
        rows = spread(rows, config.validation_frames_max)
    truth = DatasetTruth(dataset, rows)
    loaded = [made.open(plan, config.threads, predictor.postprocess) for plan in made.plans]
    predictors: list[Predictor] = [predictor, *loaded]
    loader = evaluation_loader(dataset, rows, config.loader)
    judged = judge(predictors, loader, truth, picture_keys(dataset, rows, config.pictures))
    constant: Judged = judge_constant(dataset, rows, dataset.select("train"))
    frame = made.frames[:1]
    return prove(
        config,
        predictor,
        [(plan, one) for plan, one in zip(loaded, judged[1:], strict=True)],
        judged[0],
        constant,
        frame,
    )


def _facts(
    source: RunFolder,
    checkpoint: Path,
    predictor: NetworkPredictor,
    dataset: Dataset,
    made: plans.Made,
    proof: Proof,
) -> dict[str, Any]:
    """All of the manifest but plans and files."""
    lock = read_json(source.lock)
    manifest = dataset.manifest
    width, height = manifest.stored_size_px
    before = f"{manifest.rendition.how}; " if manifest.rendition else ""
    return {
        "model": {
            "experiment": source.name,
            "heads": list(predictor.network.heads),
            "classes": predictor.network.classes,
        },
        "source": {
            "run": source.id,
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": digest_file(checkpoint),
            "config_digest": lock["config_digest"],
            "code": lock["code"],
            "dataset": {"name": manifest.name, "version": manifest.version, "digest": manifest.digest},
        },
        "input": {
            "name": INPUT,
            "shape": ["batch", height, width, 3],
            "dtype": "uint8",
            "layout": "NHWC",
            "colour": "RGB",
            "camera_size": list(manifest.image_sizes_px[0]),
            "rendition": manifest.rendition.model_dump() if manifest.rendition else None,
            "preprocessing": f"{before}inside the graph: uniform scale to the network's width, padding below",
        },
        "outputs": made.constants,
        "calibration": made.calibration,
        "parity_max_abs": made.parity,
        "torch_eager": proof.eager,
    }
