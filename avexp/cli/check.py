"""``avexp check ...``: what this machine or cluster can do, ahead of a long run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avexp.cli.options import AsJson
from avexp.core.progress import console, say_json

if TYPE_CHECKING:
    from avexp.train.fabric import Fabric

app = typer.Typer(no_args_is_help=True, help="What this machine or cluster can do, ahead of a long run.")


@app.callback()
def about() -> None:
    """Checks."""


@app.command("fabric")
def fabric(
    ranks: Annotated[int, typer.Option(help="Processes of this machine; under srun SLURM's tasks are taken.")] = 2,
    backend: Annotated[str, typer.Option(help="gloo, or nccl on GPUs.")] = "gloo",
    folder: Annotated[Path, typer.Option(help="Shared by all nodes: ranks meet there.")] = Path("outputs/fabric"),
    as_json: AsJson = False,
) -> None:
    """Latency and bandwidth of an all-reduce: here, or between nodes with srun -N2 --ntasks-per-node=8 avexp check fabric."""
    import os
    from dataclasses import asdict

    from avexp.train.fabric import measure_here
    from avexp.train.launch import slurm_tasks
    from avexp.train.rendezvous import meet

    if slurm_tasks() > 1:
        rank, local = int(os.environ["SLURM_PROCID"]), int(os.environ.get("SLURM_LOCALID", "0"))
        meet(folder, rank, slurm_tasks(), local, 1)
        found = measure_here(
            rank, slurm_tasks(), f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", backend
        )
        if rank:
            return
    else:
        found = _here(ranks, backend)
    say_json(asdict(found)) if as_json else console.print(str(found), markup=False)


def _here(ranks: int, backend: str) -> "Fabric":
    """Between processes of this machine."""
    import multiprocessing
    import socket

    from avexp.train.fabric import measure_here

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=measure_here, args=(rank, ranks, address, backend), daemon=True)
        for rank in range(1, ranks)
    ]
    for process in others:
        process.start()
    found = measure_here(0, ranks, address, backend)
    for process in others:
        process.join(60)
    return found
