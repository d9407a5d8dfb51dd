"""Hardware profiles: typed facts of the machines that train and the targets that plans are built for, and what does not fit.

A profile is one yaml of conf/hardware. Nothing here imports torch: what is installed is asked by its version alone.
"""

import os
import platform
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


class Role(Enum):
    """What a machine is for."""

    trains = "trains"
    target = "target"


class Accelerator(Enum):
    """What a machine computes on."""

    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Arithmetic of training; ``auto`` chooses by the machine and says why."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass
class Toolchain:
    """The last software that serves a machine; empty where any does."""

    torch_max: str = ""  # newest torch whose wheels hold the card's sm
    torch_cuda: str = ""  # CUDA line of those wheels
    tensorrt_min: str = ""
    tensorrt_max: str = ""
    opset_max: int = 18  # of the TensorRT ONNX parser
    jetpack: str = ""
    python: str = ""


@dataclass
class Cluster:
    """How such machines are asked for on the cluster that they stand in; empty for its defaults."""

    partition: str = ""
    constraint: str = ""
    account: str = ""
    qos: str = ""
    time_min: int | None = None  # [min] limit of a job
    ask_memory: bool = False  # ask for memory_gib
    environment: dict[str, str] = field(default_factory=dict)  # of every job: NCCL_IB_HCA, NCCL_SOCKET_IFNAME, ...


@dataclass
class Hardware:
    """A machine, or a cluster of equal machines."""

    name: str = "cpu"
    role: Role = Role.trains
    accelerator: Accelerator = Accelerator.cpu
    devices: int = 1  # processes a node: one a GPU; on a CPU as many ranks as wanted
    nodes: int = 1
    cpu_cores: int | None = None
    memory_gib: float | None = None  # [GiB] of the host
    gpu_name: str = ""
    gpu_memory_gib: float | None = None  # [GiB] of each GPU
    sm: int | None = None  # CUDA compute capability times ten
    precision: Precision = Precision.auto
    plan_precisions: list[str] = field(default_factory=lambda: ["fp32", "int8"])
    tensor_cores: str = ""  # precisions that they multiply
    network: str = ""  # between nodes
    cache_gib: float = 0.0  # [GiB] level-0 cache
    power_w: float | None = None  # [W]
    price_per_hour: float = 0.0  # [currency/h] of one GPU; of one node where it has none
    dla_cores: int = 0
    toolchain: Toolchain = field(default_factory=Toolchain)
    cluster: Cluster = field(default_factory=Cluster)
    sources: list[str] = field(default_factory=list)  # where the facts are from

    def __post_init__(self) -> None:
        faults = [
            f"hardware.{name} must be at least 1, is {getattr(self, name)}"
            for name in ("devices", "nodes")
            if getattr(self, name) < 1
        ]
        if faults:
            from avexp.core.errors import ConfigError

            raise ConfigError(faults)


def faults(hardware: Hardware, purpose: str) -> list[str]:
    """What of a profile does not fit its purpose here, one line each.

    Args:
        hardware: the profile.
        purpose: ``train`` or ``export``.
    """
    found: list[str] = []
    if purpose == "train":
        if hardware.role is Role.target:
            found.append(
                f"hardware={hardware.name}: is a target that plans are built for, it does not train; choose cpu or a dgx"
            )
        found += _precision_faults(hardware)
        found += _torch_faults(hardware)
    return found


def _precision_faults(hardware: Hardware) -> list[str]:
    chosen, name = hardware.precision, hardware.name
    if hardware.accelerator is Accelerator.cpu and chosen is Precision.fp16:
        return [f"hardware.precision: fp16 needs a GPU, {name} is a CPU; use bf16, fp32 or auto"]
    if chosen is Precision.bf16 and hardware.sm is not None and hardware.sm < 80:
        return [
            f"hardware.precision: bf16 needs compute capability 8.0, {hardware.gpu_name} has {hardware.sm / 10:.1f}; use fp16"
        ]
    if chosen is Precision.fp16 and hardware.sm is not None and hardware.sm < 70:
        return [f"hardware.precision: {hardware.gpu_name} has no fp16 tensor cores; use fp32"]
    return []


def _torch_faults(hardware: Hardware) -> list[str]:
    """The installed torch against the last one that serves the card."""
    last = hardware.toolchain.torch_max
    if not last or hardware.accelerator is Accelerator.cpu:
        return []
    try:
        found = version("torch")
    except PackageNotFoundError:
        return []
    plain, _, local = found.partition("+")
    wanted_cuda = hardware.toolchain.torch_cuda
    too_new = _numbers(plain) > _numbers(last)
    other_line = bool(wanted_cuda) and _numbers(plain) >= (2, 11) and wanted_cuda not in local
    if too_new or other_line:
        line = f" of the {wanted_cuda} line" if wanted_cuda else ""
        remedy = f"install torch<={last}{line}"
        return [f"hardware={hardware.name}: torch {found} holds no sm_{hardware.sm} for {hardware.gpu_name}; {remedy}"]
    return []


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def device_faults(hardware: Hardware, gpus: int, arch_list: list[str]) -> list[str]:
    """What the stage sees once torch is loaded: too few GPUs, or a build without the card's kernels.

    Args:
        hardware: the profile.
        gpus: that torch sees.
        arch_list: of torch's build, such as ``sm_70``.
    """
    if hardware.accelerator is Accelerator.cpu:
        return []
    found = []
    if gpus < hardware.devices:
        wanted = f"wants {hardware.devices} GPUs a node, torch sees {gpus}"
        found.append(f"hardware={hardware.name}: {wanted}; set hardware.devices={max(1, gpus)}")
    if hardware.sm is not None and arch_list and f"sm_{hardware.sm}" not in arch_list:
        found.append(
            f"hardware={hardware.name}: this torch was built for {', '.join(arch_list)}, the card is sm_{hardware.sm}"
        )
    return found


def cpu_flags() -> set[str]:
    """Instruction sets of this CPU; empty where they cannot be read."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return set()
    line = next((line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())


def auto_precision(hardware: Hardware, flags: set[str] | None = None) -> tuple[Precision, str]:
    """The precision that ``auto`` stands for, and why.

    Args:
        hardware: the profile.
        flags: CPU instruction sets; those of this machine if None.
    """
    if hardware.accelerator is Accelerator.cuda:
        if hardware.sm is not None and hardware.sm >= 80:
            return Precision.bf16, f"{hardware.gpu_name or 'the GPU'} has bf16 tensor cores"
        if hardware.sm is not None and hardware.sm >= 70:
            return Precision.fp16, f"{hardware.gpu_name or 'the GPU'} has fp16 tensor cores and no bf16"
        return Precision.fp32, f"{hardware.gpu_name or 'the GPU'} has no tensor cores"
    found = cpu_flags() if flags is None else flags
    native = sorted(found & {"avx512_bf16", "amx_bf16"})
    if native:
        return Precision.bf16, f"this CPU multiplies bf16 natively: {', '.join(native)}"
    return Precision.fp32, "this CPU has no native bf16"


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Architecture of this machine, such as x86_64."""
    return platform.machine()
