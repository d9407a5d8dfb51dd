"""Builds a TensorRT plan from its spec by the Python API, on a machine that has TensorRT and a driver.

Written by its documentation and UNPROVEN: no GPU was at hand. The build runs in a process of its own, because TensorRT can
end the process it runs in.
"""

import json
import subprocess
import sys
from pathlib import Path

from avexp.core.errors import ExportError
from avexp.runtime.machine import driver_works

TIMEOUT_S = 3600
_PROGRAM = """
import json, os, sys
import tensorrt as trt
spec, target = json.loads(sys.argv[1]), sys.argv[2]
logger = trt.Logger(trt.Logger.WARNING)
builder = trt.Builder(logger)
major = int(trt.__version__.split(".")[0])
if major >= 11 and spec["precision"] == "fp16":
    sys.exit("TensorRT 11 builds no fp16 plan from a float graph: use TensorRT 10")
flags = 0 if major >= 10 else 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
network = builder.create_network(flags)
parser = trt.OnnxParser(network, logger)
with open(spec["onnx"], "rb") as stream:
    if not parser.parse(stream.read()):
        sys.exit("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
config = builder.create_builder_config()
config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec["workspace_mib"] << 20)
if spec["precision"] == "fp32":
    config.clear_flag(trt.BuilderFlag.TF32)
if major < 11 and spec["precision"] in ("fp16", "int8"):
    config.set_flag(trt.BuilderFlag.FP16)
if major < 11 and spec["precision"] == "int8":
    config.set_flag(trt.BuilderFlag.INT8)
if spec["dla_core"] is not None:
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = spec["dla_core"]
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
profile = builder.create_optimization_profile()
profile.set_shape(spec["input"], *[(count, *spec["frame"], 3) for count in spec["batch"]])
config.add_optimization_profile(profile)
cached = b""
if os.path.isfile(spec["timing_cache"]):
    with open(spec["timing_cache"], "rb") as stream:
        cached = stream.read()
cache = config.create_timing_cache(cached)
config.set_timing_cache(cache, ignore_mismatch=False)
plan = builder.build_serialized_network(network, config)
if plan is None:
    sys.exit("the builder returned nothing; see its log above")
with open(spec["timing_cache"], "wb") as stream:
    stream.write(config.get_timing_cache().serialize())
with open(target, "wb") as stream:
    stream.write(plan)
"""


def can_build() -> bool:
    """Whether TensorRT and a driver are here."""
    from importlib.util import find_spec

    return find_spec("tensorrt") is not None and driver_works()


def build(spec: Path, target: Path) -> None:
    """Build one plan.

    Args:
        spec: its build spec (JSON).
        target: the .plan file to be.

    Raises:
        ExportError: no TensorRT or driver here, or the builder fails.
    """
    if not can_build():
        raise ExportError(
            str(target), "TensorRT or a CUDA driver is missing here", "run the bundle's build script on the target"
        )
    content = json.loads(spec.read_text())
    content["onnx"] = str((spec.parent / content["onnx"]).resolve())
    content["timing_cache"] = str(target.parent.resolve() / content["timing_cache"])
    command = [sys.executable, "-c", _PROGRAM, json.dumps(content), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ExportError(str(target), f"TensorRT took more than {TIMEOUT_S} s", "free the GPU and repeat") from None
    if done.returncode != 0 or not target.is_file():
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(str(target), f"TensorRT could not build it ({reason})", "see its log")
