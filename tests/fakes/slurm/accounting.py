"""The fake's sacct."""

import os
import sys
import time

from fakes.slurm.listing import View, clock, duration
from fakes.slurm.options import Refused, options
from fakes.slurm.store import FINAL, task_numbers

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
