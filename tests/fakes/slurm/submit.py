"""The fake's sbatch."""

import marshal
import os
import sys
import time

from fakes.slurm.options import (
    FLAGS,
    OPTIONAL,
    SHORT,
    WITH_VALUE,
    Refused,
    minutes,
    options,
    script_options,
    user,
    warning,
)
from fakes.slurm.store import task_numbers

FAILED = "sbatch: error: Batch job submission failed: "


def sbatch(store, words):
    first, rest = options(words, "sbatch", WITH_VALUE, FLAGS, OPTIONAL, SHORT)
    text, name, arguments, path = _script(first, rest)
    inside, _ = options(script_options(text), "sbatch", WITH_VALUE, FLAGS, OPTIONAL, SHORT)
    chosen = {**inside, **first}
    row, tasks = _row(store, chosen, name, path)
    spec = {
        "script": text,
        "arguments": arguments,
        "environment": _environment(chosen),
        "append": chosen.get("open-mode", "").startswith("a"),
        "input": chosen.get("input", os.devnull),
        "gpus": _gpus(chosen),
    }
    with store as sql:
        spec_id = sql.execute("insert into spec (content) values (?)", (marshal.dumps(spec),)).lastrowid
        count = len(tasks) if tasks else 1
        number = store.take_numbers(count)
        row["spec"] = spec_id
        if tasks:
            # elements get numbers of their own; the last one has the array's
            ids = [*range(number + 1, number + count), number]
            rows = [{**row, "id": own, "aid": number, "task": task} for own, task in zip(ids, tasks, strict=True)]
        else:
            rows = [{**row, "id": number}]
        store.insert(rows)
    store.wake()
    sys.stdout.write(f"{number}\n" if "parsable" in chosen else f"Submitted batch job {number}\n")
    return 0


def _script(first, rest):
    if "wrap" in first:
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{first['wrap']}\n", "wrap", [], "(null)"
    if not rest:
        text, name, path = sys.stdin.read(), "sbatch", "(null)"
    else:
        path = os.path.abspath(rest[0])
        name = os.path.basename(path)
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            raise Refused(f"sbatch: error: Unable to open file {rest[0]}") from None
    if not text:
        raise Refused("sbatch: error: Batch script is empty!")
    if not text.startswith("#!"):
        said = (
            "This does not look like a batch script.  The first",
            ("line must start with #! followed by the path to an interpreter."),
        )
        raise Refused("\n".join(f"sbatch: error: {line}" for line in (*said, "For instance: #!/bin/sh")))
    return text, name, rest[1:], path


def _number(chosen, name, default=None):
    if name not in chosen:
        return default
    text = chosen[name].partition("-")[0]
    if not text.isdigit():
        raise Refused(f'sbatch: error: Invalid numeric value "{chosen[name]}" for --{name}.')
    return int(text)


def _row(store, chosen, name, path):
    """What a job's row says, and the numbers of the array's elements."""
    partitions = store.setting("partitions").split(",")
    partition = chosen.get("partition", partitions[0])
    if partition not in partitions:
        said = f"sbatch: error: invalid partition specified: {partition}\n{FAILED}Invalid partition name specified"
        raise Refused(said)
    try:
        limit = minutes(chosen.get("time", "10"))
    except (ValueError, KeyError):
        raise Refused("sbatch: error: Invalid --time specification", 255) from None
    tasks, throttle = _array(store, chosen)
    per_node, ntasks = _number(chosen, "ntasks-per-node"), _number(chosen, "ntasks")
    nodes = _number(chosen, "nodes", 1)
    warn = warning(chosen["signal"]) if "signal" in chosen else (None, False, None)
    now = time.time()
    cwd = os.path.abspath(chosen.get("chdir", os.getcwd()))
    out = chosen.get("output") or ("slurm-%A_%a.out" if tasks else "slurm-%j.out")
    row = {
        "name": chosen.get("job-name", name),
        "user": user(),
        "partition": partition,
        "comment": chosen.get("comment"),
        "state": "PENDING",
        "reason": "None",
        "requeue": int("no-requeue" not in chosen),
        "own": 0,
        "submit": now,
        "eligible": now if "hold" not in chosen else None,
        "limit_min": limit,
        "nodes": nodes,
        "ntasks": ntasks or nodes * (per_node or 1),
        "per_node": per_node,
        "cpus": _number(chosen, "cpus-per-task"),
        "throttle": throttle,
        "dependency": chosen.get("dependency"),
        "kill_dep": int(chosen.get("kill-on-invalid-dep") == "yes"),
        "cwd": cwd,
        "out": out,
        "err": chosen.get("error") or out,
        "script": path,
        "warn_sig": warn[0],
        "warn_batch": int(warn[1]),
        "warn_s": warn[2],
    }
    if "hold" in chosen:
        row["reason"] = "JobHeldUser"
    elif nodes > int(store.setting("nodes")):
        row["reason"] = "PartitionConfig"
    return row, tasks


def _array(store, chosen):
    """Numbers of the elements, None without an array; how many may run at a time, 0 for all."""
    if "array" not in chosen:
        return None, 0
    numbers, _, most = chosen["array"].partition("%")
    try:
        tasks, throttle = task_numbers(numbers), int(most or 0)
    except ValueError:
        tasks, throttle = [], 0
    if not tasks or tasks[-1] >= int(store.setting("max_array")):
        raise Refused(f"{FAILED}Invalid job array specification")
    return tasks, throttle


def _gpus(chosen):
    text = chosen.get("gpus-per-node") or chosen.get("gres", "").partition("gpu:")[2] or chosen.get("gpus", "0")
    return int(text.rpartition(":")[2] or 0)


def _environment(chosen):
    asked = chosen.get("export", "ALL").split(",")
    given = dict(word.partition("=")[::2] for word in asked if "=" in word)
    if "ALL" in asked:
        return {**os.environ, **given}
    kept = [word for word in asked if "=" not in word and word != "NONE"]
    base = {"PATH", "HOME", "USER", "FAKE_SLURM", *kept}
    return {**{key: os.environ[key] for key in base if key in os.environ}, **given}
