"""What this machine offers, against what a plan requires."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import Any, Dict, List, Optional

MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
"""Module that each backend needs."""


def cpu_flags() -> List[str]:
    """Instruction sets of this CPU; empty where they cannot be read."""
    if not os.path.isfile("/proc/cpuinfo"):
        return []
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith(("flags", "Features")):
                return line.split(":", 1)[1].split()
    return []


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
    return "needs the CPU's {}".format(", ".join(missing)) if missing else None
