"""A stage of a few milliseconds that behaves as training does: steps, checkpoints, stop at a flag, go on bit-identically."""

import hashlib
import json
import os
import time

from avexp.core import stop_flag
from avexp.core.files import write_text

STEP_S = float(os.environ.get("TOY_STEP_S", "0.002"))
EVERY = 2


def work(config, run):
    """``steps`` steps; the value is a function of seed and steps only."""
    found = sorted(run.checkpoints.glob("step-*.ckpt"))
    state = json.loads(found[-1].read_text()) if found else {"step": 0, "digest": str(config.seed)}
    if "fail" in config.only:
        raise ValueError("told to fail")
    while state["step"] < config.steps:
        time.sleep(STEP_S)
        state = {
            "step": state["step"] + 1,
            "digest": hashlib.sha256(f"{state['digest']}{state['step']}".encode()).hexdigest(),
        }
        due = state["step"] % EVERY == 0 or stop_flag.asked() or state["step"] == config.steps
        if due:
            write_text(run.step_checkpoint(state["step"]), json.dumps(state))
        if stop_flag.asked() and state["step"] < config.steps:
            run.set_status("stopped")
            return None
    with (run.path / "completions").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    value = int(state["digest"][:8], 16) / 2**32
    with run.metrics.open("a") as stream:
        stream.write(json.dumps({"step": state["step"], "time_ms": 0, "values": {"val/toy": value}}) + "\n")
    run.set_status("finished")
    return value


def nothing(config, run):
    """A no-op trial."""
    run.set_status("finished")
    return float(config.seed)


def double(item):
    """For map jobs."""
    if item == "bad":
        raise ValueError("no number")
    return {"twice": item * 2}
