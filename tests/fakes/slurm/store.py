"""State of a fake SLURM: one folder with a SQLite file, and the processes of its jobs."""

import fcntl
import marshal
import os
import signal
import sqlite3
import sys
import time

DEFAULTS = {
    "slots": "4",  # jobs that run at a time
    "nodes": "4",
    "minute_s": "60",  # seconds that a minute of a time limit lasts
    "requeue_s": "0.2",  # how long a requeued job waits
    "kill_wait_s": "5",  # between SIGTERM and SIGKILL
    "grace_s": "5",  # between the signal of a preemption and SIGTERM
    "min_job_age_s": "300",  # how long a job that has ended is listed
    "idle_s": "5",  # the daemon ends after that long without jobs
    "max_array": "1001",
    "accounting": "",
    "slow_s": "0",  # every program waits that long
    "down_until": "0",
    "partitions": "batch,urgent",
}
SCHEMA = """
pragma journal_mode=wal;
create table job (
    id integer primary key, aid integer, task integer, name text, user text, partition text, comment text,
    state text, reason text, final text, code integer default 0, sig integer default 0, restarts integer default 0,
    requeue integer, own integer default 0, submit real, eligible real, start real, end real, limit_min real,
    nodes integer, ntasks integer, per_node integer, cpus integer, throttle integer, nodelist text default '',
    dependency text, kill_dep integer, cwd text, out text, err text, script text, spec integer,
    warn_sig integer, warn_batch integer, warn_s real, warned integer default 0,
    pid integer, kill_at real, preempt_at real, want text, lost integer default 0, filled integer default 0
);
create index living on job (filled, state);
create index arrays on job (aid);
create table spec (id integer primary key, content blob);
create table record (job integer, state text, code integer, sig integer, nodelist text, start real, end real);
create table setting (name text primary key, value text);
create table number (next integer);
insert into number values (1);
"""
LIVE = ("PENDING", "RUNNING", "COMPLETING")
FINAL = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
SHORT = {
    "PENDING": "PD",
    "RUNNING": "R",
    "COMPLETING": "CG",
    "COMPLETED": "CD",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "NODE_FAIL": "NF",
    "PREEMPTED": "PR",
}


def signal_number(text):
    """Of USR1, SIGUSR1 or 10; None where there is no such signal."""
    if text.isdigit():
        return int(text)
    text = text.upper()
    return getattr(signal, text if text.startswith("SIG") else f"SIG{text}", None)


class Store:
    """The cluster's tables. Use ``with store:`` for one change as a whole, against all other processes."""

    def __init__(self, folder, create=False):
        self.folder = folder
        file = os.path.join(folder, "cluster.sqlite")
        if not os.path.isfile(file):
            if not create:
                raise FileNotFoundError(f"no cluster in {folder}")
            self._create(file)
        self.sql = sqlite3.connect(file, timeout=30, isolation_level=None)
        self.sql.execute("pragma synchronous=off")
        self.sql.row_factory = sqlite3.Row
        self._settings = None

    def _create(self, file):
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, "create.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isfile(file):
                return
            for name in ("procs", "spool"):
                os.makedirs(os.path.join(self.folder, name), exist_ok=True)
            os.mkfifo(os.path.join(self.folder, "wake"))
            sql = sqlite3.connect(f"{file}.new", isolation_level=None)
            sql.executescript(SCHEMA)
            sql.close()
            os.rename(f"{file}.new", file)

    def __enter__(self):
        self.sql.execute("begin immediate")
        return self.sql

    def __exit__(self, kind, *_):
        self.sql.execute("rollback" if kind else "commit")

    def close(self):
        self.sql.close()

    def setting(self, name):
        """What was set, else the variable FAKE_SLURM_NAME, else the default."""
        if self._settings is None:
            self._settings = dict(tuple(row) for row in self.sql.execute("select name, value from setting"))
        return self._settings.get(name, os.environ.get(f"FAKE_SLURM_{name.upper()}", DEFAULTS[name]))

    def seconds(self, name):
        return float(self.setting(name))

    def set(self, **values):
        for name, value in values.items():
            if name not in DEFAULTS:
                raise KeyError(f"{name} is none of {', '.join(DEFAULTS)}")
            value = "" if value is None or value is False else str(value)
            self.sql.execute("insert or replace into setting values (?, ?)", (name, value))
        self.refresh()

    def refresh(self):
        self._settings = None

    def take_numbers(self, count):
        """The first of so many new job numbers; inside of a change."""
        first = self.sql.execute("select next from number").fetchone()[0]
        self.sql.execute("update number set next = ?", (first + count,))
        return first

    def insert(self, rows):
        names = list(rows[0])
        marks = ", ".join("?" * len(names))
        self.sql.executemany(
            f"insert into job ({', '.join(names)}) values ({marks})", [tuple(r.values()) for r in rows]
        )

    def update(self, job, **values):
        names = ", ".join(f"{name} = ?" for name in values)
        self.sql.execute(f"update job set {names} where id = ?", (*values.values(), job))

    def job(self, number):
        return self.sql.execute("select * from job where id = ?", (number,)).fetchone()

    def listed(self):
        """The condition on jobs that SLURM's memory still holds. An element of an array that was cancelled before it ever had
        a record of its own (own = 0) is in nobody's list, as in the real one."""
        oldest = time.time() - self.seconds("min_job_age_s")
        ended = ", ".join(f"'{state}'" for state in FINAL)
        return f"(not lost and (state not in ({ended}) or ((own or task is null) and end > {oldest!r})))"

    def find(self, text):
        """Jobs of 12, 12_3 or 12_[1-3,5%2]: all rows that are in SLURM's memory. ValueError for anything else."""
        number, _, tasks = text.partition("_")
        rows = self.sql.execute(
            f"select * from job where {self.listed()} and (id = ? and task is null or aid = ?) order by id",
            (int(number), int(number)),
        ).fetchall()
        if not rows and not tasks:  # the own number of one element
            rows = self.sql.execute(
                f"select * from job where {self.listed()} and id = ? and own", (int(number),)
            ).fetchall()
        if tasks:
            wanted = set(task_numbers(tasks.strip("[]").partition("%")[0]))
            rows = [row for row in rows if row["task"] in wanted]
        return rows

    def spec(self, number):
        return marshal.loads(self.sql.execute("select content from spec where id = ?", (number,)).fetchone()[0])

    def wake(self):
        """Have the daemon look now; start it where there is none."""
        with open(os.path.join(self.folder, "daemon.lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                pass
            else:
                fcntl.flock(lock, fcntl.LOCK_UN)
                self._start_daemon()
                return
        try:
            pipe = os.open(os.path.join(self.folder, "wake"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # it is just coming up, and will look by itself
        try:
            os.write(pipe, b"!")
        except OSError:
            pass
        finally:
            os.close(pipe)

    def daemon(self):
        """The number of the daemon's process, if there is one."""
        try:
            with open(os.path.join(self.folder, "daemon.pid")) as file:
                pid = int(file.read() or 0)
            with open(f"/proc/{pid}/cmdline") as file:
                return pid if self.folder in file.read() else None
        except OSError:
            return None

    def _start_daemon(self):
        here = os.path.dirname(os.path.abspath(__file__))
        log = os.open(os.path.join(self.folder, "daemon.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        null = os.open(os.devnull, os.O_RDONLY)
        # through a shell that ends at once: the daemon is nobody's child that waits for it
        command = ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-SE", os.path.join(here, "daemon.py"), self.folder]
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        pid = os.posix_spawn("/bin/sh", command, os.environ, file_actions=actions)
        os.waitpid(pid, 0)
        os.close(log)
        os.close(null)

    def tasks(self, job):
        """Processes that srun started for the job: each leads a session of its own."""
        try:
            names = os.listdir(os.path.join(self.folder, "procs", str(job)))
            return [int(name) for name in names if name.isdigit()]
        except FileNotFoundError:
            return []

    def signal_steps(self, job, number):
        """To all that srun started; whether there was anything."""
        sent = [send(pid, number, group=True) for pid in self.tasks(job)]
        return any(sent)

    def signal_batch(self, pid, number):
        """To the batch script alone."""
        return bool(pid) and send(pid, number)

    def signal_all(self, job, pid, number):
        if pid:
            send(pid, number, group=True)
        self.signal_steps(job, number)

    def kill(self, job, pid):
        """SIGKILL for everything of the job, also what went into a session of its own."""
        for _ in range(2):
            self.signal_all(job, pid, signal.SIGKILL)
            for stray in self.strays(job):
                send(stray, signal.SIGKILL)

    def kill_strays(self):
        """SIGKILL for all processes of all jobs, until there are none: one that is just being started shows no environment."""
        quiet = 0
        while quiet < 2:
            strays = self.strays()
            for pid in strays:
                send(pid, signal.SIGKILL)
            quiet = 0 if strays else quiet + 1
            time.sleep(0.01)

    def strays(self, job=None):
        """Processes whose environment says that they belong to the job, or to any job of this cluster."""
        mark = f"FAKE_SLURM_JOB={self.folder}:{'' if job is None else job}".encode()
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/environ", "rb") as file:
                        variables = file.read()
                except OSError:
                    continue
                at = variables.find(mark)
                if at >= 0 and (job is None or variables[at + len(mark) : at + len(mark) + 1] in (b"\0", b"")):
                    found.append(int(name))
        return found


def send(pid, number, group=False):
    """Whether the signal went out. A process that does not lead its group yet gets it alone."""
    for way in (os.killpg, os.kill) if group else (os.kill,):
        try:
            way(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
        return True
    return False


def alive(pid):
    """Whether it runs; one that has ended may wait long for its parent to notice."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def task_numbers(text):
    """Of 0-3,7,10-20:5."""
    found = []
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        found += range(int(first), int(last if dash else first) + 1, int(step or 1))
    return sorted(set(found))


def spans(numbers):
    """0-3,7 of [0, 1, 2, 3, 7]."""
    found = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in found)


def nodes_text(numbers):
    """node[1-2] of [1, 2]."""
    text = spans(numbers)
    return f"node{text}" if text.isdigit() else f"node[{text}]"


def host_names(text):
    """Of node[1-3,7],x."""
    found, part, depth = [], "", 0
    for letter in text + ",":
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            head, bracket, tail = part.partition("[")
            if bracket:
                for span in tail.rstrip("]").split(","):
                    first, dash, last = span.partition("-")
                    wide = len(first)
                    found += [f"{head}{n:0{wide}d}" for n in range(int(first), int(last if dash else first) + 1)]
            elif part:
                found.append(part)
            part = ""
        else:
            part += letter
    return found


def file_name(pattern, row, task=0, node="", step=0):
    """%A, %a, %j, %x, %u, %N, %n, %t, %s and %% of a log's name."""
    aid = row["aid"] if row["aid"] is not None else row["id"]
    values = {
        "A": aid,
        "a": row["task"] if row["task"] is not None else 4294967294,
        "j": row["id"],
        "J": row["id"],
        "x": row["name"],
        "u": row["user"],
        "N": node or "%N",
        "n": 0,
        "t": task,
        "s": step,
        "%": "%",
    }
    found, at = "", 0
    while at < len(pattern):
        if pattern[at] == "%" and at + 1 < len(pattern):
            end = at + 1
            while end < len(pattern) - 1 and pattern[end].isdigit():
                end += 1
            value, wide = str(values.get(pattern[end], "%" + pattern[end])), pattern[at + 1 : end]
            found += value.zfill(int(wide)) if wide else value
            at = end + 1
        else:
            found += pattern[at]
            at += 1
    return os.path.join(row["cwd"], found)
