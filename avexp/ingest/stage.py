"""``avexp ingest``: a source into the session store, with what was skipped counted and named."""

from pathlib import Path

from avexp.core.config import IngestConfig
from avexp.core.files import write_json
from avexp.core.instantiate import build
from avexp.core.lock import add_to_lock
from avexp.core.progress import bar, console
from avexp.core.run_folder import RunFolder
from avexp.ingest.reader import Reader
from avexp.ingest.session_writer import ingest
from avexp.records.session import Session

SHOWN = 5


def run_ingest(config: IngestConfig, run: RunFolder) -> None:
    """Ingest and say what came out.

    Raises:
        DataError: the source cannot be read, or holds no frame.
    """
    reader: Reader = build(config.reader, "reader")
    root = Path(config.storage.root)
    with bar("ingest sessions") as advance:
        sessions = ingest(reader, root, config.workers, lambda _, done, total: advance(done, total))
    for session in sessions:
        add_to_lock(run, outputs={"kind": "session", "name": session.id, "path": str(root / "sessions" / session.id)})
    skipped = [item for session in sessions for item in session.skipped]
    write_json(run.path / "skipped.json", [item.model_dump() for item in skipped])
    _tell(sessions, root, run)


def _tell(sessions: list[Session], root: Path, run: RunFolder) -> None:
    for session in sessions:
        sensors = ", ".join(sensor.name for sensor in session.sensors)
        console.print(
            f"  {session.id}: {session.frames} frames of {sensors}, {len(session.skipped)} skipped", markup=False
        )
        for item in session.skipped[:SHOWN]:
            console.print(f"    skipped {item.where}: {item.reason}", markup=False, soft_wrap=True)
    frames, skipped = sum(session.frames for session in sessions), sum(len(session.skipped) for session in sessions)
    console.print(
        f"{len(sessions)} sessions, {frames} frames, {skipped} skipped; in {root / 'sessions'}", soft_wrap=True
    )
    console.print(f"run {run.id}; next: python train.py data=existing data.name=<dataset>", soft_wrap=True)
