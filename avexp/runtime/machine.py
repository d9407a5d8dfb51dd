"""What this machine offers, against what a plan requires."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
from typing import Any, Dict, List, Optional, Tuple

MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
"""Module that each backend needs."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_* of the CUDA driver API."""


def cpu_flags() -> List[str]:
    """Instruction sets of this CPU; empty where they cannot be read."""
    if not os.path.isfile("/proc/cpuinfo"):
        return []
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith(("flags", "Features")):
                return line.split(":", 1)[1].split()
    return []


def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")


def driver_works() -> bool:
    """Whether CUDA's driver is there and initialises."""
    try:
        return bool(_driver().cuInit(0) == 0)
    except OSError:
        return False


def compute_capability() -> Optional[int]:
    """Ten times the compute capability of GPU 0, such as 72; None if the driver does not tell."""
    if not driver_works():
        return None
    driver, device = _driver(), ctypes.c_int()
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    found = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
        found.append(value.value)
    return 10 * found[0] + found[1]


def unmet(plan: Dict[str, Any]) -> Optional[str]:
    """Why a plan cannot run on this machine; None if it can."""
    requires = plan.get("requires", {})
    for key, have in (("os", platform.system().lower()), ("arch", platform.machine())):
        wanted = requires.get(key)
        if wanted and wanted != have:
            return "needs {} {}, this is {}".format(key, wanted, have)
    module = MODULES.get(str(plan["backend"]))
    if module is None:
        return "its backend {} is unknown here".format(plan["backend"])
    if importlib.util.find_spec(module) is None:
        return "needs the package {}".format(module)
    missing = sorted(set(requires.get("isa", [])) - set(cpu_flags())) if requires.get("isa") else []
    if missing:
        return "needs the CPU's {}".format(", ".join(missing))
    return _unmet_tensorrt(requires) if plan["backend"] == "tensorrt" else None


def _unmet_tensorrt(requires: Dict[str, Any]) -> Optional[str]:
    """TensorRT's plans run on the card and version that they were built on."""
    if not driver_works():
        return "needs a CUDA driver"
    card = compute_capability()
    if requires.get("sm") and card != requires["sm"]:
        return "needs an sm_{} card, this is {}".format(requires["sm"], "unknown" if card is None else card)
    if requires.get("tensorrt"):
        least, is_range, most = str(requires["tensorrt"]).partition("..")
        found = str(importlib.import_module("tensorrt").__version__)
        low, high = _numbers(least), _numbers(most if is_range else least)
        if _numbers(found)[: len(low)] < low or _numbers(found)[: len(high)] > high:
            return "needs TensorRT {}, this is {}".format(requires["tensorrt"], found)
    return None


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
