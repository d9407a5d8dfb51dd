"""The fake's scheduler: starts jobs as processes, hears of their end, ends them at their limits. One for each cluster."""

import fcntl
import os
import select
import signal
import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from fakes.slurm.launching import launch
from fakes.slurm.listing import clock
from fakes.slurm.store import FINAL, Store, alive, file_name, host_names, nodes_text, send

POLL_S = 0.02
WAKE_S = 0.5
SAID = {
    "CANCELLED": "",
    "TIMEOUT": " DUE TO TIME LIMIT",
    "REQUEUED": " DUE TO JOB REQUEUE",
    "PREEMPTED": " DUE TO PREEMPTION",
}
GOOD = {
    "afterok": ("COMPLETED",),
    "afternotok": tuple(state for state in FINAL if state != "COMPLETED"),
    "afterany": FINAL,
}


class Daemon:
    def __init__(self, folder):
        self.folder = folder
        self.store = Store(folder)
        self.children = {}
        self.starting = []
        self.turn = 0
        self.idle_since = time.monotonic()

    def run(self):
        self.lock = open(os.path.join(self.folder, "daemon.lock"), "a")  # noqa: SIM115
        if not self._alone():
            return
        with open(os.path.join(self.folder, "daemon.pid"), "w") as file:
            file.write(str(os.getpid()))
        wake = os.open(os.path.join(self.folder, "wake"), os.O_RDWR | os.O_NONBLOCK)
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(read, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        delay = 0.0
        while True:
            ready, _, _ = select.select([wake, read], [], [], delay)
            for handle in ready:
                os.read(handle, 4096)
            if not os.path.isfile(os.path.join(self.folder, "cluster.sqlite")):
                self._abandon()
                return
            delay = self._look()
            if delay is None:
                return

    def _alone(self):
        """Whether there is no other daemon; the lock may also be that of a program that looks for one."""
        for _ in range(100):
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if self.store.daemon():
                    break
                time.sleep(0.005)
        return False

    def _look(self):
        """One round; seconds until the next one is due, or None at the end."""
        ended = self._reap()
        store, store_now = self.store, time.time()
        store.refresh()
        with store as sql:
            for job, status in ended:
                self._batch_ended(job, status)
            rows = sql.execute("select * from job where not filled and state in ('RUNNING', 'COMPLETING')").fetchall()
            due = [self._attend(row, store_now) for row in rows]
            due.append(self._schedule(store_now))
            left = sql.execute("select count(*) from job where not filled and state in ('RUNNING', 'COMPLETING')")
            running = left.fetchone()[0]
            waiting = sql.execute(
                "select count(*) from job where not filled and state = 'PENDING' and eligible is not null"
            ).fetchone()[0]
            if running or waiting:
                self.idle_since = time.monotonic()
            elif time.monotonic() - self.idle_since > store.seconds("idle_s"):
                # inside of the change: a later submission finds no daemon and starts one
                os.unlink(os.path.join(self.folder, "daemon.pid"))
                fcntl.flock(self.lock, fcntl.LOCK_UN)
                return None
        if self.starting:
            self._begin()
            return 0.0
        return max(0.0, min([WAKE_S, *[moment - time.time() for moment in due if moment is not None]]))

    def _reap(self):
        found = []
        for pid, (job, process) in list(self.children.items()):
            status = process.poll()
            if status is not None:
                del self.children[pid]
                found.append((job, status))
        return found

    def _abandon(self):
        """The folder is gone: so are the jobs."""
        for pid in self.children:
            send(pid, signal.SIGKILL, group=True)
        self.store.kill_strays()

    def _batch_ended(self, job, status):
        """The script's exit status decides, unless the job is being ended."""
        row = self.store.job(job)
        if row["state"] == "RUNNING":
            self.store.kill(job, None) if self.store.tasks(job) else None
            send(row["pid"], signal.SIGKILL, group=True)
            code, sig = (status, 0) if status >= 0 else (0, -status)
            reason = "None" if status == 0 else "NonZeroExitCode" if status > 0 else "JobLaunchFailure"
            self._end(row, "COMPLETED" if status == 0 else "FAILED", reason, code, sig)
        elif row["state"] == "COMPLETING":
            self.store.update(job, pid=None, code=max(0, status), sig=max(0, -status))
            send(row["pid"], signal.SIGCONT, group=True)

    def _attend(self, row, now):
        """Limits and ends of one job; when it is due again."""
        store, minute = self.store, self.store.seconds("minute_s")
        if row["state"] == "COMPLETING":
            return self._finish(row, now)
        if row["pid"] not in self.children and not alive(row["pid"]):
            self._end(row, "FAILED", "JobLaunchFailure", 0, signal.SIGKILL)  # of a daemon before this one
            return None
        moments = []
        if row["preempt_at"] is not None:
            if now >= row["preempt_at"]:
                store.update(row["id"], state="COMPLETING", final="PREEMPTED", end=now, preempt_at=None)
                return now
            moments.append(row["preempt_at"])
        if row["limit_min"] is not None:
            limit = row["start"] + row["limit_min"] * minute
            if now >= limit:
                store.update(row["id"], state="COMPLETING", final="TIMEOUT", reason="TimeLimit", end=now)
                return now
            moments.append(limit)
            if row["warn_sig"] and not row["warned"]:
                warn = limit - row["warn_s"] * minute / 60
                if now >= warn:
                    self._warn(row)
                else:
                    moments.append(warn)
        return min(moments, default=None)

    def _warn(self, row):
        """The signal that the job asked for; a step that has not begun yet cannot get it."""
        self.store.update(row["id"], warned=1)
        if row["warn_batch"]:
            self.store.signal_batch(row["pid"], row["warn_sig"])
        else:
            self.store.signal_steps(row["id"], row["warn_sig"])

    def _finish(self, row, now):
        store, job = self.store, row["id"]
        if row["kill_at"] is None:
            self._say(row, now)
            for number in (signal.SIGCONT, signal.SIGTERM):
                store.signal_all(job, row["pid"], number)
            row = {**row, "kill_at": now + store.seconds("kill_wait_s")}
            store.update(job, kill_at=row["kill_at"])
        living = row["pid"] in self.children or any(alive(pid) for pid in store.tasks(job))
        if living and now >= row["kill_at"]:
            store.kill(job, row["pid"])
        if living:
            return now + POLL_S
        row = store.job(job)
        store.kill(job, None)
        final = row["final"]
        again = final == "REQUEUED" or (final in ("PREEMPTED", "NODE_FAIL") and row["requeue"])
        if not again:
            self._end(
                row, final, row["reason"], row["code"], row["sig"] or (signal.SIGTERM if final == "TIMEOUT" else 0)
            )
            return None
        self._record(row, final)
        wait = now + store.seconds("requeue_s")
        store.update(
            job,
            **{
                "state": "PENDING",
                "reason": "BeginTime",
                "final": None,
                "restarts": row["restarts"] + 1,
                "submit": now,
            },
            **{"eligible": wait, "start": None, "end": None, "nodelist": "", "pid": None, "kill_at": None, "warned": 0},
            **{"code": 0, "sig": 0, "preempt_at": None, "own": 1},
        )
        self._forget(job)
        return wait

    def _say(self, row, now):
        """In the job's log, as slurmstepd does."""
        node = host_names(row["nodelist"])[0]
        text = f"*** JOB {row['id']} ON {node} CANCELLED AT {clock(now)}{SAID.get(row['final'], '')} ***"
        try:
            with open(file_name(row["err"], row, node=node), "a") as log:
                log.write(f"slurmstepd-{node}: error: {text}\n")
        except OSError:
            pass

    def _end(self, row, state, reason, code, sig):
        now = row["end"] or time.time()
        values = {"state": state, "reason": reason, "code": code, "sig": int(sig), "end": now, "pid": None}
        self.store.update(row["id"], final=None, kill_at=None, preempt_at=None, **values)
        self._forget(row["id"])

    def _record(self, row, state):
        self.store.sql.execute(
            "insert into record values (?, ?, ?, ?, ?, ?, ?)",
            (row["id"], state, row["code"], row["sig"], row["nodelist"], row["start"], row["end"]),
        )

    def _forget(self, job):
        folder = os.path.join(self.folder, "procs", str(job))
        try:
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        except OSError:
            pass

    def _schedule(self, now):
        """Start what there is room for; when the next job may become eligible."""
        store = self.store
        query = "select * from job where not filled and state = 'PENDING' and eligible is not null order by id"
        pending = store.sql.execute(query).fetchall()
        if not pending:
            return None
        busy = {}
        for aid, count in store.sql.execute(
            "select aid, count(*) from job where not filled and state in ('RUNNING', 'COMPLETING') group by aid"
        ):
            busy[aid] = count
        free, later, ready = int(store.setting("slots")) - sum(busy.values()), [], {}
        # elements start in their order
        pending.sort(key=lambda row: (row["partition"] != "urgent", row["aid"] or row["id"], row["task"] or 0))
        for row in pending:
            if row["eligible"] > now:
                later.append(row["eligible"])
                continue
            reason = self._obstacle(row, busy, ready, free)
            if reason is None:
                continue
            if reason == "":
                busy[row["aid"]] = busy.get(row["aid"], 0) + 1
                free -= 1
                self._start(row)
            elif reason != row["reason"]:
                store.update(row["id"], reason=reason)
        return min(later, default=None)

    def _obstacle(self, row, busy, ready, free):
        """Why it does not start: "" where it does, None where it has just been ended."""
        if row["nodes"] > int(self.store.setting("nodes")):
            return "PartitionConfig"
        if row["dependency"]:
            state = self._dependency(row, ready)
            if state == "never":
                if row["kill_dep"]:
                    now = time.time()
                    values = {"state": "CANCELLED", "reason": "DependencyNeverSatisfied", "end": now}
                    self.store.update(row["id"], own=2, **values)
                    return None
                return "DependencyNeverSatisfied"
            if state == "wait":
                return "Dependency"
        if row["throttle"] and busy.get(row["aid"], 0) >= row["throttle"]:
            return "JobArrayTaskLimit"
        return "" if free > 0 else "Resources"

    def _dependency(self, row, ready):
        """met, wait or never."""
        text = row["dependency"]
        key = (text, row["task"] if "aftercorr" in text else None)
        if key in ready:
            return ready[key]
        either = "?" in text
        found = [self._condition(part, row) for part in text.replace("?", ",").split(",")]
        if either:
            state = "met" if "met" in found else "wait" if "wait" in found else "never"
        else:
            state = "never" if "never" in found else "wait" if "wait" in found else "met"
        ready[key] = state
        return state

    def _condition(self, text, row):
        kind, *ids = text.split(":")
        if kind == "singleton":
            query = "select count(*) from job where name = ? and id < ? and state in ('PENDING','RUNNING','COMPLETING')"
            return "wait" if self.store.sql.execute(query, (row["name"], row["id"])).fetchone()[0] else "met"
        states = []
        for number in ids:
            number = number.partition("+")[0]
            if kind == "aftercorr" and "_" not in number:
                number = f"{number}_{row['task']}"
            states += [one["state"] for one in self.store.find(number)]
        if kind == "after":
            return "wait" if "PENDING" in states else "met"
        good = GOOD.get("afterok" if kind == "aftercorr" else kind, FINAL)
        if any(state in FINAL and state not in good for state in states):
            return "never"
        return "met" if all(state in good for state in states) else "wait"

    def _start(self, row):
        """It runs from here on; its process comes once that can be read by all."""
        count = int(self.store.setting("nodes"))
        nodes = nodes_text([(self.turn + offset) % count + 1 for offset in range(row["nodes"])])
        self.turn += row["nodes"]
        values = {"state": "RUNNING", "reason": "None", "start": time.time(), "end": None, "nodelist": nodes, "own": 1}
        self.store.update(row["id"], pid=None, **values)
        self.starting.append(row["id"])

    def _begin(self):
        """Processes of the jobs that were just started."""
        store, started = self.store, []
        for job in self.starting:
            row = store.job(job)
            spec = store.spec(row["spec"])
            folder = os.path.join(self.folder, "spool", f"job{job:05d}")
            script = os.path.join(folder, "slurm_script")
            try:
                os.makedirs(folder, exist_ok=True)
                with open(script, "w") as file:
                    file.write(spec["script"])
                os.chmod(script, 0o700)
                process = launch(store, row, spec, script)
                self.children[process.pid] = (job, process)
                started.append((row, process.pid))
            except OSError as error:
                sys.stderr.write(f"job {job}: {error}\n")
                started.append((row, None))
        self.starting.clear()
        with store:
            for row, pid in started:
                if pid is None:
                    self._end({**row, "end": None}, "FAILED", "JobLaunchFailure", 0, 53)
                else:
                    store.update(row["id"], pid=pid)


if __name__ == "__main__":
    os.setsid() if os.getpid() != os.getsid(0) else None
    try:
        daemon = Daemon(sys.argv[1])
    except FileNotFoundError:
        sys.exit()
    daemon.run()
