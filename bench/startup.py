"""CPU seconds before a command answers: python bench/startup.py [--rounds 7]

Commands take turns. What each imports is listed by the interpreter itself; heavy packages among it are named.
"""

import argparse
import os
import re
import subprocess
import sys
from statistics import median

from record import HERE, versions, write

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python train.py --help": ["train.py", "--help"],
    "python train.py --cfg job": ["train.py", "+experiment=quickstart", "--cfg", "job"],
    "python train.py (a wrong key)": ["train.py", "+experiment=quickstart", "optimiser.lr=1"],
    "python export.py --help": ["export.py", "--help"],
    "avexp --help": ["-m", "avexp.cli", "--help"],
    "avexp run ls": ["-m", "avexp.cli", "run", "ls"],
    "avexp dataset ls": ["-m", "avexp.cli", "dataset", "ls"],
}
HEAVY = (
    "torch pytorch_lightning lightning_fabric mlflow transformers cv2 scipy sklearn pandas matplotlib onnx onnxruntime "
    "openvino av"
)


def cpu_s(words: list[str]) -> float:
    """User and system time of one start."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=HERE.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    """This checkout's code."""
    return {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}


def heavy_imports(words: list[str]) -> list[str]:
    """Heavy packages that a start imports."""
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, env=environment(), check=False)
    seen = {found.group(1) for found in re.finditer(r"\| +([\w]+)[\w.]*$", done.stderr, re.MULTILINE)}
    return sorted(seen & set(HEAVY.split()))


def main() -> None:
    """All commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for words in COMMANDS.values():
        cpu_s(words)  # byte code is compiled and files are read once
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            taken[name].append(cpu_s(words))
    figures = {}
    for name, words in COMMANDS.items():
        figures[name] = {"cpu_s": round(median(taken[name]), 3), "heavy_imports": heavy_imports(words)}
        print(f"{name:32s} {figures[name]['cpu_s']:.2f} s  {' '.join(figures[name]['heavy_imports'])}")
    write("startup", figures, versions("hydra-core", "omegaconf", "typer", "rich"), rounds=rounds)


if __name__ == "__main__":
    main()
