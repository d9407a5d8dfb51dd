"""TensorRT plans as data: one build spec a plan, and the script with the trtexec line that a target runs on itself.

Plans are not portable: a Xavier's is built on a Xavier. What cannot be built here is handed over ready to build.
"""

from dataclasses import asdict, dataclass
from typing import Any

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
        dla_core: DLA core to build for; None for the GPU.
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
) -> BuildSpec:
    """The spec of a profile's plan."""
    return BuildSpec(
        plan=f"{hardware.name}-trt-{precision}",
        onnx=onnx,
        platform=hardware.name,
        precision=precision,
        input=input_name,
        frame=frame,
        batch=(1, 1, batch_max),
        workspace_mib=workspace_mib,
        tensorrt_min=hardware.toolchain.tensorrt_min,
        tensorrt_max=hardware.toolchain.tensorrt_max,
    )


def trtexec_flags(spec: BuildSpec, major: int) -> list[str]:
    """The flags of one TensorRT generation: 11 is always strongly typed and knows no precision flags."""
    height, width = spec.frame
    shapes = [f"{spec.input}:{count}x{height}x{width}x3" for count in spec.batch]
    names = ("minShapes", "optShapes", "maxShapes")
    flags = [f"--onnx={spec.onnx}", f"--saveEngine={spec.plan}.plan"]
    flags += [f"--{name}={shape}" for name, shape in zip(names, shapes, strict=True)]
    flags += [f"--memPoolSize=workspace:{spec.workspace_mib}", f"--timingCacheFile={spec.timing_cache}"]
    if major < 11 and spec.precision in ("fp16", "int8"):
        flags += ["--fp16"]
    if major < 11 and spec.precision == "int8":
        flags += ["--int8"]
    if spec.dla_core is not None:
        flags += [f"--useDLACore={spec.dla_core}", "--allowGPUFallback"]
    return flags


def build_script(spec: BuildSpec) -> str:
    """A self-contained shell script: finds trtexec, refuses a TensorRT that does not serve the platform, builds."""
    lines = " \\\n    ".join(trtexec_flags(spec, 10))
    typed = " \\\n    ".join(trtexec_flags(spec, 11))
    least = spec.tensorrt_min or "0"
    most = spec.tensorrt_max or "99"
    return f"""#!/bin/sh
# Builds {spec.plan}.plan on a {spec.platform}. Run it on the target, in this folder.
# Written by avexp, and not run where it was written.
set -eu
cd "$(dirname "$0")"
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
[ -x "$trtexec" ] || {{ echo "no trtexec: install TensorRT {least}"; exit 1; }}
version=$("$trtexec" --help 2>&1 | sed -n 's/.*TensorRT v\\([0-9]*\\).*/\\1/p' | head -n 1)
case "$version" in
  "") echo "trtexec tells no version"; exit 1 ;;
  [0-9]) major=$version ;;
  ????) major=$(echo "$version" | cut -c1) ;;
  *) major=$(echo "$version" | cut -c1-2) ;;
esac
[ "$major" -ge "{least.split(".")[0]}" ] && [ "$major" -le "{most.split(".")[0]}" ] || {{
  echo "TensorRT $major does not serve {spec.platform}: it takes {least} to {most}"; exit 1; }}
if [ "$major" -ge 11 ]; then
  "$trtexec" --stronglyTyped {typed}
else
  "$trtexec" {lines}
fi
"""
