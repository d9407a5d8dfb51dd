"""The shards as LitData's chunks: python bench/litdata_chunks.py FOLDER SHARD ... (by peers.py, in the peers' venv)."""

import os
import sys
from typing import Any

import litdata
from peers import tar_parts


def sample(place: tuple[str, tuple[int, int], tuple[int, int]]) -> dict[str, Any]:
    """Bytes of one frame."""
    shard, image, labels = place
    handle = os.open(shard, os.O_RDONLY)
    try:
        return {"image": os.pread(handle, image[1], image[0]), "labels": os.pread(handle, labels[1], labels[0])}
    finally:
        os.close(handle)


if __name__ == "__main__":
    folder, *shards = sys.argv[1:]
    places = [(shards[number], image, labels) for number, image, labels in tar_parts(shards)]
    litdata.optimize(fn=sample, inputs=places, output_dir=folder, chunk_bytes="32MB", num_workers=1)
