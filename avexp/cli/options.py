"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Outputs = Annotated[Path, typer.Option(help="Folder of run folders.")]
Root = Annotated[Path, typer.Option(help="Storage root.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
OUTPUTS, ROOT = Path("outputs"), Path("outputs/store")
