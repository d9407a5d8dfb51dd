"""Names of runs: UTC time first, so that folders sort by time, and a short random id, so that none collide."""

import re
import secrets
from datetime import UTC, datetime

RUN_ID = re.compile(r"^\d{8}T\d{6}Z-[0-9a-z]{6}$")


def new_run_id() -> str:
    """Such as ``20261123T051500Z-k3f9qa``."""
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-" + "".join(secrets.choice(alphabet) for _ in range(6))


def is_run_id(name: str) -> bool:
    """Whether a folder name is that of a run."""
    return RUN_ID.match(name) is not None
