"""A TCP link of a chosen rate to a port of this machine: what a network between a node and its store would be."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

PIECE = 128 << 10


@contextmanager
def paced_link(port: int, mib_s: float) -> Iterator[int]:
    """The port to use instead; all its connections together carry at most so much towards the client."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there, port, mib_s), daemon=True)
    process.start()
    try:
        if not here.poll(20):
            raise RuntimeError("the link did not start")
        yield here.recv()
    finally:
        process.terminate()
        process.join(10)


def _run(told: Connection, port: int, mib_s: float) -> None:
    asyncio.run(_serve(told, port, mib_s * 2**20))


async def _serve(told: Connection, port: int, bytes_s: float) -> None:
    free_at = [0.0]

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, paced: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                if paced:
                    free_at[0] = max(free_at[0], time.perf_counter() - 0.1) + len(piece) / bytes_s
                    await asyncio.sleep(free_at[0] - time.perf_counter())
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
            await asyncio.gather(carry(reader, far_writer, False), carry(far_reader, writer, True))

    server = await asyncio.start_server(connect, "127.0.0.1", 0, limit=PIECE)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()
