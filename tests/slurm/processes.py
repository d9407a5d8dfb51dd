"""Processes of the test cluster: known for ever by number and birth, ended for certain."""

import contextlib
import random
import signal
import socket
import time

import psutil


def user_name():
    return psutil.Process().username()


def identity(process):
    """Number and birth."""
    return f"{process.pid} {process.create_time()}"


def living(name):
    """The process, unless it has ended and its number serves another one."""
    pid, _, born = name.partition(" ")
    with contextlib.suppress(psutil.Error, ValueError):
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(born)) < 1 and alive(process):
            return process
    return None


def kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    gone(processes, 10)


def gone(processes, seconds):
    """Wait for their end; a zombie has ended, whenever its parent hears of it."""
    end = time.monotonic() + seconds
    while left := [process for process in processes if alive(process)]:
        if time.monotonic() > end:
            raise RuntimeError(f"processes that do not end: {left}")
        time.sleep(0.01)


def alive(process):
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def free_ports(count):
    """Below the range that the system gives to connections, so that none of these takes one before it is bound."""
    found = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
