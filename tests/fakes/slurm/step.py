"""The fake's srun: the command once for each task, each a session of its own."""

import os
import signal
import sys

from fakes.slurm.options import FLAGS, OPTIONAL, SHORT, WITH_VALUE, Refused, options
from fakes.slurm.store import file_name, host_names, send

STEP_SHORT = {**SHORT, "K": "kill-on-bad-exit", "l": "label", "u": "unbuffered", "r": "relative", "W": "wait"}
STEP_FLAGS = {*FLAGS, "label", "unbuffered", "overlap", "exact", "pty", "disable-status"}
STEP_OPTIONAL = {**OPTIONAL, "kill-on-bad-exit": "1", "exclusive": "user"}
STEP_VALUES = {*WITH_VALUE, "cpu-bind", "mpi", "jobid", "relative", "wait", "gpu-bind", "accel-bind", "multi-prog"}
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def srun(store, words):
    """Runs the command once for each task; ends with the highest exit status."""
    chosen, command = options(words, "srun", STEP_VALUES, STEP_FLAGS, STEP_OPTIONAL, STEP_SHORT)
    job = store.job(int(os.environ.get("SLURM_JOB_ID", "0")))
    if job is None or not command:
        raise Refused("srun: error: the fake SLURM runs commands inside of jobs only")
    nodes = int(chosen.get("nodes", os.environ.get("SLURM_JOB_NUM_NODES", "1")))
    count = int(chosen.get("ntasks", 0)) or nodes * int(chosen.get("ntasks-per-node", 0)) or None
    count = count or (nodes if "nodes" in chosen else int(os.environ.get("SLURM_NTASKS", "1")))
    nodes = min(nodes, count)
    if count > job["ntasks"]:
        raise Refused(
            f"srun: error: Unable to create step for job {job['id']}: More processors requested than permitted"
        )
    step = _Step(store, job, chosen, command, nodes, count)
    return step.run()


class _Step:
    def __init__(self, store, job, chosen, command, nodes, count):
        self.job, self.chosen, self.command = job, chosen, command
        self.nodes, self.count = nodes, count
        self.folder = os.path.join(store.folder, "procs", str(job["id"]))
        os.makedirs(self.folder, exist_ok=True)
        self.number = _step_number(self.folder)
        self.pids = {}

    def run(self):
        for number in FORWARDED:
            signal.signal(number, self._forward)
        for task in range(self.count):
            self._spawn(task)
        worst, kill = 0, self.chosen.get("kill-on-bad-exit", "0") != "0"
        while self.pids:
            pid, status = os.wait()
            if pid not in self.pids:
                continue
            task = self.pids.pop(pid)
            _forget(os.path.join(self.folder, str(pid)))
            code = os.waitstatus_to_exitcode(status)
            if code:
                said = f"Exited with exit code {code}" if code > 0 else signal.strsignal(-code)
                sys.stderr.write(f"srun: error: {self._node(task)}: task {task}: {said}\n")
                sys.stderr.flush()
            worst = max(worst, code if code >= 0 else 128 - code)
            if kill and code:
                sys.stderr.write(
                    f"srun: launch/slurm: _step_signal: Terminating StepId={self.job['id']}.{self.number}\n"
                )
                self._forward(signal.SIGTERM)
                signal.signal(signal.SIGALRM, lambda *_: self._forward(signal.SIGKILL))
                signal.alarm(5)
        return worst

    def _node(self, task):
        names = host_names(os.environ["SLURM_JOB_NODELIST"])
        return names[self._place(task)[0] % len(names)]

    def _place(self, task):
        each = -(-self.count // self.nodes)
        return task // each, task % each

    def _forward(self, number, _frame=None):
        for pid in list(self.pids):
            send(pid, number, group=True)

    def _spawn(self, task):
        # what comes before the task is itself waits for it
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        pid = os.fork()
        if pid:
            self.pids[pid] = task
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            return
        try:
            # known before it leaves the batch script's group: whoever kills the job finds it in one of the two
            with open(os.path.join(self.folder, str(os.getpid())), "w"):
                pass
            os.setsid()
            for number in FORWARDED:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            self._redirect(task)
            os.execvpe(self.command[0], self.command, self._environment(task))
        except FileNotFoundError:
            node = self._node(task)
            os.write(2, f"slurmstepd-{node}: error: execve(): {self.command[0]}: No such file or directory\n".encode())
            os._exit(2)
        except BaseException as error:
            os.write(2, f"srun: error: {error}\n".encode())
            os._exit(1)

    def _redirect(self, task):
        mode = os.O_APPEND if os.environ.get("SLURM_OPEN_MODE") == "a" else os.O_TRUNC
        if self.chosen.get("open-mode"):
            mode = os.O_APPEND if self.chosen["open-mode"].startswith("a") else os.O_TRUNC
        out, err = self.chosen.get("output"), self.chosen.get("error")
        for pattern, streams in ((out, (1,) if err else (1, 2)), (err, (2,))):
            if pattern:
                path = file_name(pattern, {**self.job, "cwd": os.getcwd()}, task, self._node(task), self.number)
                # tasks that share a file must not write over each other
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                if mode == os.O_TRUNC and (task == 0 or "%t" in pattern):
                    os.ftruncate(handle, 0)
                for stream in streams:
                    os.dup2(handle, stream)

    def _environment(self, task):
        node, local = self._place(task)
        each = -(-self.count // self.nodes)
        return {
            **os.environ,
            "SLURM_PROCID": str(task),
            "SLURM_LOCALID": str(local),
            "SLURM_NODEID": str(node),
            "SLURM_NTASKS": str(self.count),
            "SLURM_NPROCS": str(self.count),
            "SLURM_NNODES": str(self.nodes),
            "SLURM_STEP_ID": str(self.number),
            "SLURM_STEPID": str(self.number),
            "SLURM_STEP_NUM_NODES": str(self.nodes),
            "SLURM_STEP_NUM_TASKS": str(self.count),
            "SLURM_STEP_NODELIST": os.environ.get("SLURM_JOB_NODELIST", ""),
            "SLURM_STEP_TASKS_PER_NODE": f"{each}(x{self.nodes})" if self.nodes > 1 else str(each),
            "SLURM_TASK_PID": str(os.getpid()),
            "SLURMD_NODENAME": self._node(task),
        }


def _step_number(folder):
    """0 for the job's first step, and so on."""
    number = 0
    while True:
        try:
            os.close(os.open(os.path.join(folder, f".step{number}"), os.O_CREAT | os.O_EXCL))
            return number
        except FileExistsError:
            number += 1


def _forget(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
