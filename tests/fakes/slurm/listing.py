"""The fake's squeue, and how a job is shown."""

import sys
import time

from fakes.slurm.options import Refused, options, user
from fakes.slurm.store import FINAL, LIVE, SHORT, spans

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
            "E": ("DEPENDENCY", lambda row, elements, number: dependency(row)),
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


def dependency(row):
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


def states(text):
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
    shown = states(chosen["states"]) if "states" in chosen else LIVE
    where, values = [store.listed(), f"state in ({','.join('?' * len(shown))})"], [*shown]
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
