"""The fake's scontrol and scancel."""

import os
import signal
import sys
import time

from fakes.slurm.listing import View, clock, dependency, duration, states
from fakes.slurm.options import Refused, options, user
from fakes.slurm.store import LIVE, file_name, host_names, signal_number


def scontrol(store, words):
    line = any(word in ("-o", "--oneliner") for word in words)
    words = [word for word in words if not word.startswith("-")]
    command, rest = (words[0] if words else ""), words[1:]
    if command == "show" and rest:
        kind = rest[0].rstrip("s")
        if kind == "hostname":
            text = rest[1] if len(rest) > 1 else os.environ.get("SLURM_JOB_NODELIST", "")
            sys.stdout.write("".join(f"{name}\n" for name in host_names(text)))
            return 0
        if kind == "config":
            return _config(store)
        if kind == "job":
            return _show_jobs(store, rest[1] if len(rest) > 1 else None, line)
    if command == "ping":
        sys.stdout.write("Slurmctld(primary) at localhost is UP\n")
        return 0
    if command in ("requeue", "hold", "release") and rest:
        change = {"requeue": _requeue, "hold": _hold, "release": _release}[command]
        worst = 0
        for text in ",".join(rest).split(","):
            worst = max(worst, _each(store, text, change))
        store.wake()
        return worst
    raise Refused(f"invalid keyword: {' '.join(words)}")


def _config(store):
    shown = {
        "KillWait": f"{store.seconds('kill_wait_s'):g} sec",
        "MaxArraySize": store.setting("max_array"),
        "MinJobAge": f"{store.seconds('min_job_age_s'):g} sec",
        "JobRequeue": "1",
        "AccountingStorageType": f"accounting_storage/{'slurmdbd' if store.setting('accounting') else 'none'}",
        "ClusterName": "fake",
        "SLURM_VERSION": "22.05.8",
    }
    sys.stdout.write(f"Configuration data as of {clock(time.time())}\n")
    sys.stdout.write("".join(f"{name:<23} = {shown[name]}\n" for name in sorted(shown)))
    return 0


def _show_jobs(store, text, line):
    if text is None:
        rows = store.sql.execute(f"select * from job where {store.listed()} order by id").fetchall()
    else:
        try:
            rows = store.find(text)
        except ValueError:
            rows = []
        if not rows:
            base = text.partition("_")[0]
            if text != base and base.isdigit() and store.find(base):
                sys.stdout.write(f"Job {text} not found\n")
                return 1
            raise Refused("slurm_load_jobs error: Invalid job id specified")
    view = View(store)
    for row, elements, number in view.lines(rows, each=bool(text) and "_" in text):
        blocks = _facts(view, row, elements, number)
        joint, tail = (" ", "\n") if line else ("\n   ", "\n\n")
        sys.stdout.write(joint.join(" ".join(f"{k}={v}" for k, v in block.items()) for block in blocks) + tail)
    return 0


def _facts(view, row, elements, number):
    """The lines that scontrol shows, less those of the scheduler's own."""
    uid, state = os.getuid(), row["state"]
    array = {"ArrayJobId": row["aid"], "ArrayTaskId": elements} if row["task"] is not None else {}
    throttle = {"ArrayTaskThrottle": row["throttle"]} if row["throttle"] else {}
    # the array's record has no one element, which shows as the highest number
    log = {**row, "id": number, "task": row["task"] if elements.isdigit() or not elements else 4294967294}
    pending = state == "PENDING"
    start = clock(row["eligible"] if row["reason"] == "BeginTime" else None, "Unknown") if pending else ""
    return [
        {"JobId": number, **array, **throttle, "JobName": row["name"]},
        {"UserId": f"{row['user']}({uid})", "GroupId": f"{row['user']}({os.getgid()})", "MCS_label": "N/A"},
        {"Priority": 4294901759, "Nice": 0, "Account": "(null)", "QOS": "(null)"},
        {"JobState": state, "Reason": row["reason"], "Dependency": dependency(row)},
        {
            "Requeue": row["requeue"],
            "Restarts": row["restarts"] + (state == "COMPLETING" and row["final"] == "REQUEUED"),
            "BatchFlag": 1,
            "Reboot": 0,
            "ExitCode": f"{row['code']}:{row['sig']}",
        },
        {
            "RunTime": duration(view.ran(row), long=True),
            "TimeLimit": "UNLIMITED" if row["limit_min"] is None else duration(row["limit_min"] * 60, long=True),
            "TimeMin": "N/A",
        },
        {"SubmitTime": clock(row["submit"]), "EligibleTime": clock(row["eligible"], "Unknown")},
        {"StartTime": start or clock(row["start"], "Unknown"), "EndTime": "Unknown" if pending else view.end(row)},
        {"Partition": row["partition"], "AllocNode:Sid": "localhost:1"},
        {"ReqNodeList": "(null)", "ExcNodeList": "(null)"},
        {"NodeList": row["nodelist"]},
        *([{"BatchHost": host_names(row["nodelist"])[0]}] if row["nodelist"] else []),
        {"NumNodes": row["nodes"], "NumCPUs": row["ntasks"] * (row["cpus"] or 1), "NumTasks": row["ntasks"]},
        {"Command": row["script"]},
        {"WorkDir": row["cwd"]},
        *([{"Comment": row["comment"]}] if row["comment"] else []),
        {"StdErr": file_name(row["err"], log)},
        {"StdIn": "/dev/null"},
        {"StdOut": file_name(row["out"], log)},
        {"Power": ""},
    ]


def _each(store, text, change):
    try:
        with store:
            rows = store.find(text)
            if not rows:
                raise Refused(f"Invalid job id specified for job {text}")
            said = [found for row in rows if (found := change(store, row))]
            if said:
                raise Refused(f"{said[0]} for job {text}")
    except ValueError:
        sys.stderr.write(f"Invalid job id specified for job {text}\n")
        return 1
    except Refused as refused:
        sys.stderr.write(f"{refused.text}\n")
        return 1
    return 0


def _requeue(store, row):
    if row["state"] == "PENDING":
        return "Job is pending execution"
    if not row["requeue"]:
        return "Requested operation is presently disabled"
    if row["state"] == "COMPLETING" and row["final"] != "CANCELLED":
        return "Job/step already completing or completed"
    if row["state"] in ("RUNNING", "COMPLETING"):
        store.update(row["id"], state="COMPLETING", final="REQUEUED", end=time.time())
        return None
    values = {"state": "PENDING", "restarts": row["restarts"] + 1, "end": None, "start": None, "own": 1, "final": None}
    eligible = time.time() + store.seconds("requeue_s")
    store.update(row["id"], eligible=eligible, nodelist="", code=0, sig=0, pid=None, kill_at=None, **values)
    return None


def _hold(store, row):
    if row["state"] == "PENDING":
        store.update(row["id"], eligible=None, reason="JobHeldUser")


def _release(store, row):
    if row["state"] == "PENDING" and row["eligible"] is None:
        store.update(row["id"], eligible=time.time(), reason="None")


SCANCEL_VALUES = {"name", "jobname", "user", "state", "signal", "partition", "account", "qos", "nodelist", "wckey"}
SCANCEL_FLAGS = {"batch", "full", "quiet", "verbose", "me", "interactive", "hurry", "sibling", "ctld"}
SCANCEL_SHORT = {
    **{
        "n": "name",
        "u": "user",
        "t": "state",
        "s": "signal",
        "p": "partition",
        "b": "batch",
        "f": "full",
        "Q": "quiet",
    },
    **{"v": "verbose", "A": "account", "q": "qos", "w": "nodelist", "i": "interactive", "H": "hurry"},
}


def scancel(store, words):
    found, ids = {}, []
    while words:
        one, words = options(words, "scancel", SCANCEL_VALUES, SCANCEL_FLAGS, {}, SCANCEL_SHORT)
        found.update(one)
        ids, words = ids + words[:1], words[1:]
    filters = {"name", "jobname", "user", "state", "partition", "me"} & set(found)
    if not ids and not filters:
        raise Refused("scancel: error: No job identification provided")
    number = signal_number(found["signal"]) if "signal" in found else signal.SIGKILL
    if number is None:
        raise Refused(f"scancel: error: Unknown job signal: {found['signal']}")
    with store:
        chosen = []  # (row, whether the whole array's record is meant)
        for text in [word for part in ids for word in ([part] if "[" in part else part.split(","))]:
            try:
                chosen += [(row, "_" not in text) for row in store.find(text)]
            except ValueError:
                raise Refused(f"scancel: error: Invalid job id {text}") from None
        if not ids:
            rows = store.sql.execute(f"select * from job where {store.listed()} and not filled").fetchall()
            chosen = [(row, True) for row in rows]
        chosen = [(row, whole) for row, whole in chosen if row["state"] in LIVE and _meant(row, found)]
        if number == signal.SIGKILL and not {"batch", "full"} & set(found):
            for row, whole in chosen:
                _cancel(store, row, whole)
    if number != signal.SIGKILL or {"batch", "full"} & set(found):
        for row, _ in chosen:
            if row["state"] != "PENDING":
                _send(store, row, number, found)
    store.wake()
    return 0


def _meant(row, chosen):
    names = chosen.get("name") or chosen.get("jobname")
    return (
        (not names or row["name"] in names.split(","))
        and ("user" not in chosen or row["user"] == chosen["user"])
        and ("me" not in chosen or row["user"] == user())
        and ("partition" not in chosen or row["partition"] == chosen["partition"])
        and ("state" not in chosen or row["state"] in states(chosen["state"]))
    )


def _cancel(store, row, whole):
    now = time.time()
    if row["state"] == "PENDING":
        own = 2 if whole and row["own"] == 0 else row["own"]
        store.update(row["id"], state="CANCELLED", start=now, end=now, own=own)
    elif row["filled"]:
        store.update(row["id"], state="CANCELLED", end=now)
    elif row["final"] != "CANCELLED":
        store.update(row["id"], state="COMPLETING", final="CANCELLED", end=row["end"] or now)


def _send(store, row, number, chosen):
    if "batch" in chosen:
        store.signal_batch(row["pid"], number)
    elif "full" in chosen:
        store.signal_all(row["id"], row["pid"], number)
    else:
        store.signal_steps(row["id"], number)
