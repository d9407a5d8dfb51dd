"""The fake's squeue, scontrol, scancel and sacct."""

import os
import signal
import sys
import time

from fakes.slurm.store import FINAL, LIVE, SHORT, file_name, host_names, nodes_text, signal_number, spans, task_numbers
from fakes.slurm.submit import Refused, options, user

ALL_STATES = (*LIVE, *FINAL)
OTHER_STATES = (
    "SUSPENDED CONFIGURING OUT_OF_MEMORY BOOT_FAIL DEADLINE REQUEUED REVOKED SIGNALING STAGE_OUT STOPPED".split()
)
SQUEUE_DEFAULT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
SQUEUE_VALUES = {"format", "states", "jobs", "user", "users", "name", "names", "partition", "sort", "account", "qos"}
SQUEUE_FLAGS = {"noheader", "me", "array", "all", "hide", "long"}
SQUEUE_SHORT = {
    **{"h": "noheader", "o": "format", "t": "states", "j": "jobs", "u": "user", "n": "name", "r": "array", "a": "all"},
    **{"p": "partition", "S": "sort", "A": "account", "q": "qos", "l": "long"},
}
BY_REASON = ("PENDING", "FAILED", "TIMEOUT")


def clock(moment, none="N/A"):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) if moment else none


def duration(seconds, long=False):
    """1:05, 2:01:05 or 1-02:01:05; long is scontrol's 00:01:05."""
    days, rest = divmod(max(0, int(seconds)), 86400)
    hours, mins, secs = rest // 3600, rest // 60 % 60, rest % 60
    if days:
        return f"{days}-{hours:02d}:{mins:02d}:{secs:02d}"
    if long:
        return f"{hours:02d}:{mins:02d}:{secs:02d}"
    return f"{hours}:{mins:02d}:{secs:02d}" if hours else f"{mins}:{secs:02d}"


class View:
    """Rows as they are shown: pending elements of an array in one line, unless each is wanted."""

    def __init__(self, store):
        self.now, self.minute = time.time(), store.seconds("minute_s")

    def lines(self, rows, each):
        """(row, text of the elements, shown number) in squeue's order."""
        together, found = {}, []
        for row in rows:
            task = row["task"]
            if task is None:
                found.append((row, "", row["id"]))
            elif each or row["own"] == 1:
                found.append((row, str(task), row["id"] if row["own"] == 1 else row["aid"]))
            else:
                together.setdefault((row["aid"], row["state"]), []).append(row)
        for (aid, _), group in together.items():
            text = spans([row["task"] for row in group])
            throttle = f"%{group[0]['throttle']}" if group[0]["throttle"] else ""
            found.append((group[0], text if len(group) == 1 else text + throttle, aid))
        return found

    def name(self, row, elements):
        if row["task"] is None:
            return str(row["id"])
        return f"{row['aid']}_{elements}" if elements.isdigit() else f"{row['aid']}_[{elements}]"

    def ran(self, row):
        """Seconds in SLURM's own minutes."""
        if row["state"] == "PENDING" or not row["start"]:
            return 0.0
        return max(0.0, (row["end"] or self.now) - row["start"]) * 60 / self.minute

    def limit(self, row):
        return "UNLIMITED" if row["limit_min"] is None else duration(row["limit_min"] * 60)

    def left(self, row):
        return "UNLIMITED" if row["limit_min"] is None else duration(row["limit_min"] * 60 - self.ran(row))

    def end(self, row):
        if row["end"] or not row["start"] or row["limit_min"] is None:
            return clock(row["end"])
        return clock(row["start"] + row["limit_min"] * self.minute)

    def begins(self, row):
        if row["state"] == "PENDING":
            return clock(row["eligible"]) if row["reason"] == "BeginTime" else "N/A"
        return clock(row["start"])

    def letters(self):
        """What a letter of squeue's format shows of (row, elements, number): its heading and a function."""
        return {
            "A": ("JOBID", lambda row, elements, number: str(number)),
            "a": ("ACCOUNT", lambda row, elements, number: "(null)"),
            "C": ("CPUS", lambda row, elements, number: str(row["ntasks"] * (row["cpus"] or 1))),
            "D": ("NODES", lambda row, elements, number: str(row["nodes"])),
            "E": ("DEPENDENCY", lambda row, elements, number: _dependency(row)),
            "e": ("END_TIME", lambda row, elements, number: self.end(row)),
            "F": ("ARRAY_JOB_ID", lambda row, elements, number: str(number if row["task"] is None else row["aid"])),
            "i": ("JOBID", lambda row, elements, number: self.name(row, elements)),
            "j": ("NAME", lambda row, elements, number: row["name"]),
            "K": ("ARRAY_TASK_ID", lambda row, elements, number: elements or "N/A"),
            "k": ("COMMENT", lambda row, elements, number: row["comment"] or "(null)"),
            "L": ("TIME_LEFT", lambda row, elements, number: self.left(row)),
            "l": ("TIME_LIMIT", lambda row, elements, number: self.limit(row)),
            "M": ("TIME", lambda row, elements, number: duration(self.ran(row))),
            "N": ("NODELIST", lambda row, elements, number: row["nodelist"]),
            "o": ("COMMAND", lambda row, elements, number: row["script"]),
            "P": ("PARTITION", lambda row, elements, number: row["partition"]),
            "p": ("PRIORITY", lambda row, elements, number: "0.99998474074527"),
            "Q": ("PRIORITY", lambda row, elements, number: "4294901759"),
            "q": ("QOS", lambda row, elements, number: "(null)"),
            "R": ("NODELIST(REASON)", _place),
            "r": ("REASON", lambda row, elements, number: row["reason"]),
            "S": ("START_TIME", lambda row, elements, number: self.begins(row)),
            "T": ("STATE", lambda row, elements, number: row["state"]),
            "t": ("ST", lambda row, elements, number: SHORT[row["state"]]),
            "u": ("USER", lambda row, elements, number: row["user"]),
            "V": ("SUBMIT_TIME", lambda row, elements, number: clock(row["submit"])),
            "Z": ("WORK_DIR", lambda row, elements, number: row["cwd"]),
        }


def _dependency(row):
    if not row["dependency"] or row["state"] not in ("PENDING", "CANCELLED"):
        return "(null)"
    word = "failed" if row["reason"] == "DependencyNeverSatisfied" else "unfulfilled"
    return ",".join(f"{part}({word})" for part in row["dependency"].split(","))


def _place(row, elements, number):
    return f"({row['reason']})" if row["state"] in BY_REASON else row["nodelist"]


def _columns(text, letters):
    """[(text before, heading, function, width, whether to the right)], text at the end."""
    found, before, at = [], "", 0
    while at < len(text):
        if text[at] != "%":
            before, at = before + text[at], at + 1
            continue
        at += 1
        right = text[at : at + 1] == "."
        at += right
        start = at
        while text[at : at + 1].isdigit():
            at += 1
        heading, show = letters.get(text[at : at + 1], ("", lambda *_: "n/a"))
        found.append((before, heading, show, int(text[start:at] or 0), right))
        before, at = "", at + 1
    return found, before


def _fit(text, width, right):
    if not width:
        return text
    return text[:width].rjust(width) if right else text[:width].ljust(width)


def _states(text):
    if text.lower() == "all":
        return ALL_STATES
    by_short = {short: state for state, short in SHORT.items()}
    found = []
    for word in text.upper().split(","):
        state = by_short.get(word, word)
        if state not in ALL_STATES and state not in OTHER_STATES:
            raise Refused(
                f"squeue: error: Invalid job state specified: {word.lower()}\n"
                f"squeue: error: Valid job states include: {','.join(ALL_STATES)}\n"
            )
        found.append(state)
    return found


def squeue(store, words):
    chosen, _ = options(words, "squeue", SQUEUE_VALUES, SQUEUE_FLAGS, {}, SQUEUE_SHORT)
    states = _states(chosen["states"]) if "states" in chosen else LIVE
    where, values = [store.listed(), f"state in ({','.join('?' * len(states))})"], [*states]
    users = [user()] if "me" in chosen else (chosen.get("user") or chosen.get("users", "")).split(",")
    names = (chosen.get("name") or chosen.get("names", "")).split(",")
    for column, wanted in (("user", users), ("name", names), ("partition", chosen.get("partition", "").split(","))):
        if wanted != [""]:
            where.append(f"{column} in ({','.join('?' * len(wanted))})")
            values += wanted
    if "jobs" in chosen:
        ids = _ids(store, chosen["jobs"])
        where.append(f"id in ({','.join(map(str, ids))})")
    rows = store.sql.execute(
        f"select * from job where {' and '.join(where)} order by partition, state, coalesce(aid, id), task", values
    )
    view = View(store)
    text = chosen.get("format", SQUEUE_DEFAULT)
    columns, tail = _columns(text, view.letters())
    written = []
    if "noheader" not in chosen:
        written.append("".join(b + _fit(h, width, right) for b, h, _, width, right in columns) + tail)
    lines = view.lines(rows, "array" in chosen)
    for row, elements, number in lines:
        written.append(
            "".join([b + _fit(show(row, elements, number), width, right) for b, _, show, width, right in columns])
            + tail
        )
    sys.stdout.write("".join(f"{line}\n" for line in written))
    return 0


def _ids(store, text):
    """Numbers of rows; refused where a single job is asked for that is not known."""
    words, depth, word = [], 0, ""
    for letter in text + ",":
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            words.append(word)
            word = ""
        else:
            word += letter
    try:
        found = [row["id"] for word in words for row in store.find(word)]
        known = found or len(words) > 1 or store.find(words[0].partition("_")[0])
    except ValueError:
        raise Refused(f"squeue: error: Invalid job id: {text}") from None
    if not known:
        raise Refused("slurm_load_jobs error: Invalid job id specified")
    return found


SCONTROL_FLAGS = {"oneliner", "all", "details", "quiet", "verbose"}


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
        {"JobState": state, "Reason": row["reason"], "Dependency": _dependency(row)},
        {
            "Requeue": row["requeue"],
            "Restarts": row["restarts"],
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
    if row["state"] == "COMPLETING":
        return "Job/step already completing or completed"
    if row["state"] == "RUNNING":
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
        and ("state" not in chosen or row["state"] in _states(chosen["state"]))
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


SACCT_VALUES = {"jobs", "format", "starttime", "endtime", "state", "user", "name", "delimiter", "accounts", "partition"}
SACCT_FLAGS = {"noheader", "parsable", "parsable2", "allocations", "duplicates", "allusers", "array"}
SACCT_SHORT = {
    **{"n": "noheader", "p": "parsable", "P": "parsable2", "X": "allocations", "D": "duplicates", "j": "jobs"},
    **{"o": "format", "S": "starttime", "E": "endtime", "s": "state", "u": "user", "a": "allusers", "A": "accounts"},
}


def sacct(store, words):
    chosen, _ = options(words, "sacct", SACCT_VALUES, SACCT_FLAGS, {}, SACCT_SHORT)
    if not store.setting("accounting"):
        raise Refused("Slurm accounting storage is disabled")
    fields = chosen.get("format", "JobID,JobName,Partition,State,ExitCode").split(",")
    parsable = {"parsable", "parsable2"} & set(chosen)
    out = [] if "noheader" in chosen else [fields]
    for row, name, number, records in _accounted(store, chosen):
        for state, code, sig, nodes, start, end in records if "duplicates" in chosen else records[-1:]:
            said = f"CANCELLED by {os.getuid()}" if state == "CANCELLED" else state
            shown = {
                "jobid": name,
                "jobidraw": str(number),
                "jobname": row["name"],
                "partition": row["partition"],
                "user": row["user"],
                "state": said,
                "exitcode": f"{code}:{sig}",
                "nodelist": nodes or "None assigned",
                "submit": clock(row["submit"]),
                "start": clock(start, "None" if state == "CANCELLED" else "Unknown"),
                "end": clock(end, "Unknown"),
                "elapsed": duration((end or time.time()) - start if start else 0, long=True),
                "comment": row["comment"] or "",
            }
            out.append([shown.get(field.partition("%")[0].lower(), "") for field in fields])
            if "allocations" not in chosen and start:
                batch = {
                    **shown,
                    "jobid": f"{shown['jobid']}.batch",
                    "jobname": "batch",
                    "partition": "",
                    "state": state,
                }
                out.append([batch.get(field.partition("%")[0].lower(), "") for field in fields])
    end = "|" if "parsable" in chosen else ""
    for line in out:
        text = "|".join(line) + end if parsable else " ".join(f"{word[:12]:>12}" for word in line)
        sys.stdout.write(f"{text}\n")
    return 0


def _accounted(store, chosen):
    """(row, its name, its number, its records, oldest first). Accounting forgets nothing; what was cancelled alone before it
    had a record it never knew."""
    where, values = "not lost and not filled", []
    if "name" in chosen:
        where, values = f"{where} and name = ?", [chosen["name"]]
    rows = store.sql.execute(f"select * from job where {where} order by coalesce(aid, id), task", values).fetchall()
    wanted = None
    if "jobs" in chosen:
        wanted = set()
        for text in chosen["jobs"].split(","):
            base, _, tasks = text.partition(".")[0].partition("_")
            numbers = task_numbers(tasks.strip("[]").partition("%")[0]) if tasks else [None]
            wanted |= {(int(base), task) for task in numbers}
    chosen_rows = []
    for row in rows:
        names = {(row["id"], None), (row["aid"], None), (row["aid"], row["task"])}
        vanished = row["task"] is not None and not row["own"] and row["state"] in FINAL
        if not vanished and (wanted is None or names & wanted):
            chosen_rows.append(row)
    for row, elements, number in View(store).lines(chosen_rows, each=False):
        query = "select state, code, sig, nodelist, start, end from record where job = ? order by rowid"
        records = [tuple(record) for record in store.sql.execute(query, (row["id"],))]
        state = row["state"]
        if state == "COMPLETING":
            state = row["final"] if row["final"] in FINAL else "RUNNING"
        ran = row["start"] if row["nodelist"] else None
        ended = (0, 0) if state == "CANCELLED" else (row["code"], row["sig"])
        records.append((state, *ended, row["nodelist"], ran, row["end"]))
        yield row, View(store).name(row, elements), number, records


def nodes_of(row, first, count):
    """The nodes that a job of so many nodes gets, from the given one on."""
    return nodes_text([(first + offset) % count + 1 for offset in range(row["nodes"])])
