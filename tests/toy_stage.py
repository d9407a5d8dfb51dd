"""A stage of a few milliseconds that behaves as training does: steps, checkpoints, stop at a flag, go on bit-identically."""

import hashlib
import json
import os
import signal
import time

from avexp.core import stop_flag
from avexp.core.errors import LostRankError
from avexp.core.files import write_text
from avexp.jobs.starts import starts, step_of

STEP_S = float(os.environ.get("TOY_STEP_S", "0.002"))
EVERY = 2
time.sleep(float(os.environ.get("TOY_IMPORT_S", "0")))  # as torch would


def work(config, run):
    """``steps`` steps; the value is a function of seed and steps only."""
    found = sorted(run.checkpoints.glob("step-*.ckpt"))
    state = json.loads(found[-1].read_text()) if found else {"step": 0, "digest": str(config.seed)}
    if "fail" in config.only or ("broken" in config.only and not (run.path.parent / "mended").exists()):
        raise ValueError("told to fail")
    if "broken node" in config.only and os.environ["SLURMD_NODENAME"] == starts(run.path)[0]["node"]:
        os.kill(os.getpid(), signal.SIGKILL)
    while state["step"] < config.steps:
        time.sleep(STEP_S)
        state = {"step": state["step"] + 1, "digest": _next(**state)}
        if "hog" in config.only or ("hog once" in config.only and state["step"] > EVERY and not _took(run)):
            _take_memory(run)
        due = state["step"] % EVERY == 0 or stop_flag.asked() or state["step"] == config.steps
        if due:
            write_text(run.step_checkpoint(state["step"]), json.dumps(state))
        if state["step"] == config.steps:
            _completed(config, run)
        if stop_flag.asked() and state["step"] < config.steps:
            run.set_status("stopped")
            return None
    value = _value(state["digest"])
    with run.metrics.open("a") as stream:
        stream.write(json.dumps({"step": state["step"], "time_ms": 0, "values": {"val/toy": value}}) + "\n")
    run.set_status("finished")
    return value


def _completed(config, run):
    """Who made and saved the last step. One that is killed after it is started again, has no step to make, and tells the value."""
    with (run.path / "completions").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    if "dies at its end" in config.only:
        os.kill(os.getpid(), signal.SIGKILL)


def value_of(seed, steps):
    """What work comes to."""
    digest = str(seed)
    for step in range(steps):
        digest = _next(step, digest)
    return _value(digest)


def _next(step, digest):
    return hashlib.sha256(f"{digest}{step}".encode()).hexdigest()


def _value(digest):
    return int(digest[:8], 16) / 2**32


def _took(run):
    return (run.path / "hog").exists()


def _take_memory(run):
    (run.path / "hog").touch()
    taken = bytearray(400 << 20)
    taken[:: 1 << 12] = b"x" * (len(taken) >> 12)
    time.sleep(60)


def together(config, run):
    """Two ranks: at its first start the second one does what it is told, and the first one sees what comes of that."""
    rank, told, mark = int(os.environ["SLURM_PROCID"]), config.only[0], run.path / f"mark{os.environ['SLURM_JOB_ID']}"
    if step_of(run.path) > 0 or (told == "killed" and len(starts(run.path)) > 1):
        return work(config, run) if rank == 0 else None
    if rank == 0:
        while not mark.exists():
            time.sleep(0.01)
    elif told == "killed":
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif told == "raises":
        mark.touch()
        raise ValueError("of the second rank")
    else:
        mark.touch()
    if told == "ends first" and rank:
        return None
    if told == "ends first":
        time.sleep(0.5)
        assert run.state() == "running", "the first rank says how the run stands"
        return work(config, run)
    if told != "stopped":
        raise LostRankError(str(run.path), "another rank is gone")
    while not stop_flag.asked():
        time.sleep(0.01)
    return work(config, run) if rank == 0 else None


def always_killed(config, run):
    """As by the kernel."""
    os.kill(os.getpid(), signal.SIGKILL)


def nothing(config, run):
    """A no-op trial."""
    run.set_status("finished")
    return float(config.seed)


def on_a_gpu(config, run):
    """Says which, and from when to when."""
    began = time.time()
    time.sleep(0.1)
    (run.path / "gpu").write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {began} {time.time()}")
    return nothing(config, run)


def double(item):
    """For map jobs."""
    if item == "bad":
        raise ValueError("no number")
    return {"twice": item * 2}
