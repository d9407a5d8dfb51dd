"""The plans of a bundle: which there are, what each was made of, what each target still has to build."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf

from avexp.core.config import ExportConfig
from avexp.core.errors import ExportError, did_you_mean
from avexp.core.files import write_json, write_text
from avexp.core.hardware import Hardware, machine
from avexp.core.stage import conf_folder
from avexp.evaluate.plan_predictor import BundlePlan, image_size_of_outputs
from avexp.export.build_spec import build_script, spec_for
from avexp.export.bundle import BundleWriter
from avexp.export.graph import INPUT
from avexp.export.onnx_form import LOW_OPSET, fold_weights, load, lower_opset, save
from avexp.export.proof import Proof
from avexp.export.quantise import quantise
from avexp.export.tensorrt_parser import parser_faults
from avexp.models.postprocess import Postprocess, RowLanes

Frames = npt.NDArray[np.uint8]
BACKENDS = ("openvino", "onnxruntime")
"""In the order in which a machine prefers them."""


@dataclass
class Made:
    """Plan files before they are judged.

    Attributes:
        folder: they lie in.
        plans: entries for the manifest.
        constants: of the outputs.
        frames: calibration frames.
        calibration: what is told of them.
        parity: largest difference of the float graph against torch, by output.
    """

    folder: Path
    plans: list[dict[str, Any]]
    constants: dict[str, Any]
    frames: Frames
    calibration: dict[str, Any]
    parity: dict[str, float] = field(default_factory=dict)

    def open(self, plan: dict[str, Any], threads: int, postprocess: Postprocess) -> BundlePlan:
        """A plan that is not yet in a finished bundle, ready to be judged."""
        from importlib import import_module

        engine = import_module(f"avexp.runtime.engine_{plan['backend']}").Engine(
            str(self.folder / plan["file"]), plan, threads
        )
        return BundlePlan(
            name=plan["id"],
            runtime=_Split(engine, int(plan["batch"]["max"])),
            constants=self.constants,
            image_size=image_size_of_outputs(self.constants, self.frames.shape),
            input_size=(self.frames.shape[2], self.frames.shape[1]),
            classes=list(self.constants.get("classes", [])),
            postprocess=postprocess,
        )


@dataclass
class _Split:
    """An engine that takes batches of any size."""

    engine: Any
    batch_max: int

    def infer(self, frames: Frames) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name."""
        pieces = [self.engine.infer(frames[at : at + self.batch_max]) for at in range(0, len(frames), self.batch_max)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def make(config: ExportConfig, writer: BundleWriter, constants: dict[str, Any], fp32: Path, frames: Frames) -> Made:
    """Write the graphs that the wanted backends and precisions need, and list their plans.

    Raises:
        ExportError: an unknown backend or precision.
    """
    for key, wanted, known in (
        ("backends", config.backends, BACKENDS),
        ("precisions", config.precisions, ("fp32", "int8")),
    ):
        for name in wanted:
            if name not in known:
                raise ExportError(
                    f"{key}={name}", f"no such one{did_you_mean(name, known)}", f"known: {', '.join(known)}"
                )
    files = {"fp32": "model.fp32.onnx"}
    calibration: dict[str, Any] = {
        "slice": config.calibration_slice,
        "frames": len(frames),
        "method": config.calibration_method,
    }
    if "int8" in config.precisions:
        qdq = writer.path("model.int8.qdq.onnx")
        calibration["zero_ranges"] = quantise(fp32, qdq, (frame[None] for frame in frames), config.calibration_method)
        calibration["digest"] = sha256(frames.tobytes()).hexdigest()
        save(fold_weights(load(qdq)), writer.path("model.int8.onnx"))
        files["int8"] = "model.int8.onnx"
    order = [(precision, backend) for precision in ("int8", "fp32") for backend in BACKENDS]
    wanted_plans = [pair for pair in order if pair[0] in config.precisions and pair[1] in config.backends]
    plans = [_entry(config, writer, backend, precision, files[precision]) for precision, backend in wanted_plans]
    return Made(writer.aside, plans, constants, frames, calibration)


def _entry(config: ExportConfig, writer: BundleWriter, backend: str, precision: str, file: str) -> dict[str, Any]:
    return {
        "id": f"cpu-{backend}-{precision}",
        "backend": backend,
        "platform": f"cpu-{machine()}" if backend == "openvino" else "cpu",
        "precision": precision,
        "batch": {"min": 1, "opt": 1, "max": config.batch_max},
        "status": "built",
        "requires": {"arch": machine()} if backend == "openvino" else {},
        "build": {"precision_hint": "f32"} if backend == "openvino" else {},
        **writer.entry(file),
    }


def postprocess_of_plans(postprocess: Postprocess) -> Postprocess:
    """What plans and checkpoint are judged with: plans give rows of lanes and no lane map to cluster."""
    if isinstance(postprocess.lanes, RowLanes):
        return postprocess
    return Postprocess(objects=postprocess.objects, lanes=RowLanes())


def decode_rules(postprocess: Postprocess) -> dict[str, Any]:
    """How the runtime decodes: as the plans were judged. (How sure an object must be is the car's own matter.)"""
    rules: dict[str, Any] = {"nms_iou": postprocess.objects.nms_iou}
    if isinstance(postprocess.lanes, RowLanes):
        rules |= {"lane_score_min": postprocess.lanes.score_min, "lane_rows_min": postprocess.lanes.rows_min}
    return rules


def add_verdicts(writer: BundleWriter, made: Made, proof: Proof) -> None:
    """Put what was proven into the plans' entries; passed plans first, the fastest of them first."""
    for plan in made.plans:
        plan.update(proof.of(plan["id"]))
    made.plans.sort(key=lambda plan: (not plan["gate"]["passed"], plan["latency"]["p50_ms"]))
    writer.plans = made.plans


def add_pending(writer: BundleWriter, config: ExportConfig, made: Made) -> None:
    """For each target profile: the graph it needs, a build spec, a build script, and an entry that says so."""
    for name in config.targets:
        hardware = profile(name)
        for precision in hardware.plan_precisions:
            writer.plans.append(_pending(writer, config, made, hardware, precision))
    for path in sorted(writer.path("").iterdir()):
        listed = {entry["file"] for entry in [*writer.plans, *writer.files] if "file" in entry}
        if f"plans/{path.name}" not in listed:
            writer.add_file(path.name)


def _pending(
    writer: BundleWriter, config: ExportConfig, made: Made, hardware: Hardware, precision: str
) -> dict[str, Any]:
    graph, refused = _target_graph(writer, hardware, "int8" if precision == "int8" else "fp32")
    frame = (made.frames.shape[1], made.frames.shape[2])
    spec = spec_for(hardware, precision, graph, INPUT, frame, config.batch_max, config.workspace_mib)
    entry: dict[str, Any] = {
        "id": spec.plan,
        "backend": "tensorrt",
        "platform": hardware.name,
        "precision": precision,
        "batch": {"min": spec.batch[0], "opt": spec.batch[1], "max": spec.batch[2]},
        "status": "pending_target",
        "requires": {
            "sm": hardware.sm,
            "tensorrt": f"{spec.tensorrt_min}..{spec.tensorrt_max}",
            "jetpack": hardware.toolchain.jetpack,
        },
        "reason": "plans are built on the target",
        "build": spec.as_dict(),
        "script": f"plans/{spec.plan}.sh",
    }
    if refused:
        entry |= {"status": "unsupported", "reason": f"it cannot be built there: {'; '.join(refused)}"}
        return entry
    write_json(writer.path(f"{spec.plan}.json"), spec.as_dict())
    write_text(writer.path(f"{spec.plan}.sh"), build_script(spec))
    return entry


def _target_graph(writer: BundleWriter, hardware: Hardware, precision: str) -> tuple[str, list[str]]:
    """File name of the graph that a target's parser takes, and why it would refuse it."""
    name = "model.int8.qdq.onnx" if precision == "int8" else "model.fp32.onnx"
    opset_max = hardware.toolchain.opset_max
    if not writer.path(name).is_file():
        return name, ["the int8 graph was not exported"]
    if opset_max < LOW_OPSET:
        return name, [f"it takes no opset above {opset_max}"]
    low = name.replace(".onnx", ".opset17.onnx")
    try:
        if not writer.path(low).is_file():
            save(lower_opset(load(writer.path(name))), writer.path(low))
        faults = parser_faults(load(writer.path(low)))
    except ExportError as fault:
        low, faults = name, [str(fault)]
    # one graph for all of TensorRT; a newer parser may take what 8.5's does not
    return (name, []) if faults and opset_max > LOW_OPSET else (low, faults)


def profile(name: str) -> Hardware:
    """A hardware profile by name.

    Raises:
        ExportError: there is none.
    """
    folder = conf_folder() / "hardware"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ExportError(
            f"targets={name}", f"no such hardware profile{did_you_mean(name, known)}", f"known: {', '.join(known)}"
        )
    merged = OmegaConf.merge(OmegaConf.structured(Hardware), OmegaConf.load(folder / f"{name}.yaml"))
    found = OmegaConf.to_object(merged)
    assert isinstance(found, Hardware)
    return found
