"""TensorRT plans as data: one build spec a plan, and the script with the trtexec line that a target runs on itself.

Plans are not portable: a Xavier's is built on a Xavier. What cannot be built here is handed over ready to build.
Sources: the trtexec migration pages 8.x to 10.x and 10.x to 11.x of NVIDIA's TensorRT documentation. Not run on a GPU.
"""

from dataclasses import asdict, dataclass
from typing import Any

from avexp.core.errors import ExportError
from avexp.core.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """All that determines a TensorRT plan.

    Attributes:
        plan: id, and stem of its file.
        onnx: graph file in the bundle.
        platform: hardware profile.
        precision: fp32, fp16 or int8.
        input: name of the graph's input.
        frame: (height, width) [px] of the input.
        batch: smallest, best and largest batch.
        workspace_mib: [MiB] of the builder.
        tensorrt_min: oldest TensorRT that serves the platform.
        tensorrt_max: newest.
        dla_core: DLA core to build for, the GPU taking what the DLA cannot; None for the GPU alone.
        timing_cache: file that makes the next build faster.
    """

    plan: str
    onnx: str
    platform: str
    precision: str
    input: str
    frame: tuple[int, int]
    batch: tuple[int, int, int]
    workspace_mib: int
    tensorrt_min: str
    tensorrt_max: str
    dla_core: int | None = None
    timing_cache: str = "timing.cache"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def spec_for(
    hardware: Hardware,
    precision: str,
    onnx: str,
    input_name: str,
    frame: tuple[int, int],
    batch_max: int,
    workspace_mib: int,
    dla_core: int | None = None,
) -> BuildSpec:
    """The spec of a profile's plan.

    Args:
        hardware: the profile.
        precision: fp32, fp16 or int8.
        onnx: graph file in the bundle.
        input_name: of the graph.
        frame: (height, width) [px] of the input.
        batch_max: largest batch; a DLA takes one size only, which is then 1.
        workspace_mib: [MiB] of the builder.
        dla_core: DLA core; None for the GPU.

    Raises:
        ExportError: no such DLA core, or a precision that a DLA does not take.
    """
    if dla_core is not None:
        where = f"{hardware.name} dla_core={dla_core}"
        if dla_core not in range(hardware.dla_cores):
            raise ExportError(where, f"the platform has {hardware.dla_cores} DLA cores", "leave dla_core out")
        if precision != "fp16":
            raise ExportError(where, f"a DLA takes no {precision} graph of ours (it knows no Q/DQ)", "build it in fp16")
    return BuildSpec(
        plan=f"{hardware.name}-trt-{precision}" + ("" if dla_core is None else f"-dla{dla_core}"),
        onnx=onnx,
        platform=hardware.name,
        precision=precision,
        input=input_name,
        frame=frame,
        batch=(1, 1, batch_max if dla_core is None else 1),
        workspace_mib=workspace_mib,
        tensorrt_min=hardware.toolchain.tensorrt_min,
        tensorrt_max=hardware.toolchain.tensorrt_max,
        dla_core=dla_core,
    )


def trtexec_flags(spec: BuildSpec, major: int) -> list[str]:
    """The flags of one TensorRT generation: 11 is always strongly typed and knows no precision flags."""
    height, width = spec.frame
    shapes = [f"{spec.input}:{count}x{height}x{width}x3" for count in spec.batch]
    names = ("minShapes", "optShapes", "maxShapes")
    flags = [f"--onnx={spec.onnx}", f"--saveEngine={spec.plan}.plan"]
    flags += [f"--{name}={shape}" for name, shape in zip(names, shapes, strict=True)]
    flags += [f"--memPoolSize=workspace:{spec.workspace_mib}", f"--timingCacheFile={spec.timing_cache}"]
    if spec.precision == "fp32":
        flags += ["--noTF32"]  # else a card from Ampere on rounds to 10 bits, unasked
    if major < 11 and spec.precision in ("fp16", "int8"):
        flags += ["--fp16"]
    if major < 11 and spec.precision == "int8":
        flags += ["--int8"]
    if spec.dla_core is not None:
        flags += [f"--useDLACore={spec.dla_core}", "--allowGPUFallback"]
    return flags


def tensorrt_number(version: str) -> int:
    """Major and minor as one number: "8.5" is 805, "10.4" is 1004."""
    major, _, minor = version.partition(".")
    return 100 * int(major) + int(minor.split(".")[0] or 0)


def build_script(spec: BuildSpec) -> str:
    """A self-contained shell script: finds trtexec, refuses a TensorRT that does not serve the platform, builds.

    TensorRT 11 builds what a graph's types say. Ours are float with Q/DQ: an fp16 plan of one would be fp32 in truth, so it is
    refused there.
    """
    least = tensorrt_number(spec.tensorrt_min) if spec.tensorrt_min else 0
    most = tensorrt_number(spec.tensorrt_max) if spec.tensorrt_max else 9999
    takes = f"{spec.tensorrt_min or 'any'} to {spec.tensorrt_max or 'any'}"
    weak, typed = (" \\\n    ".join(['"$trtexec"', *trtexec_flags(spec, major)]) for major in (10, 11))
    if spec.precision == "fp16":
        typed = 'echo "TensorRT 11 builds no fp16 plan from a float graph: use TensorRT 10"; exit 1'
    return f"""#!/bin/sh
# Builds {spec.plan}.plan on a {spec.platform}. Run it on the target, in this folder.
# Written by avexp, and not run where it was written.
set -eu
cd "$(dirname "$0")"
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
[ -x "$trtexec" ] || {{ echo "no trtexec: install TensorRT {takes}"; exit 1; }}
# trtexec says v8502 for 8.5.2 and v100300 for 10.3.0
version=$("$trtexec" --help 2>&1 | sed -n 's/.*TensorRT v\\([0-9][0-9]*\\).*/\\1/p' | head -n 1)
[ -n "$version" ] || {{ echo "trtexec tells no version"; exit 1; }}
if [ "$version" -ge 10000 ]; then
  number=$((version / 100))
else
  number=$((version / 1000 * 100 + version / 100 % 10))
fi
if [ "$number" -lt {least} ] || [ "$number" -gt {most} ]; then
  echo "TensorRT $((number / 100)).$((number % 100)) does not serve {spec.platform}: it takes {takes}"; exit 1
fi
if [ "$number" -ge 1100 ]; then
  {typed}
else
  {weak}
fi
"""
