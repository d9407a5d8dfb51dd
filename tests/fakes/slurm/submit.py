"""The fake's sbatch and srun."""

import marshal
import os
import pwd
import signal
import sys
import time

from fakes.slurm.store import file_name, host_names, send, signal_number, task_numbers

WITH_VALUE = set(
    "account array begin chdir clusters comment constraint cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline "
    "dependency distribution error exclude export gpu-bind gpu-freq gpus gpus-per-node gpus-per-task gres gres-flags hint "
    "input job-name kill-on-invalid-dep licenses mail-type mail-user mem mem-bind mem-per-cpu mem-per-gpu mincpus network "
    "nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output "
    "partition priority profile qos reservation signal switches threads-per-core time time-min tmp uid wait-all-nodes wckey "
    "wrap".split()
)
FLAGS = set(
    "contiguous hold ignore-pbs no-kill no-requeue overcommit oversubscribe parsable quiet requeue spread-job".split()
)
OPTIONAL = {"exclusive": "user", "get-user-env": "", "nice": "100", "verbose": ""}
SHORT = {
    **{"A": "account", "a": "array", "D": "chdir", "M": "clusters", "C": "constraint", "c": "cpus-per-task"},
    **{"d": "dependency", "e": "error", "x": "exclude", "G": "gpus", "i": "input", "J": "job-name", "L": "licenses"},
    **{"m": "distribution", "w": "nodelist", "N": "nodes", "n": "ntasks", "o": "output", "p": "partition", "q": "qos"},
    **{
        "t": "time",
        "b": "begin",
        "F": "nodefile",
        "H": "hold",
        "k": "no-kill",
        "O": "overcommit",
        "s": "oversubscribe",
    },
    **{"Q": "quiet", "v": "verbose"},
}
STEP_SHORT = {**SHORT, "K": "kill-on-bad-exit", "l": "label", "u": "unbuffered", "r": "relative", "W": "wait"}
STEP_FLAGS = {*FLAGS, "label", "unbuffered", "overlap", "exact", "pty", "disable-status"}
STEP_OPTIONAL = {**OPTIONAL, "kill-on-bad-exit": "1", "exclusive": "user"}
STEP_VALUES = {*WITH_VALUE, "cpu-bind", "mpi", "jobid", "relative", "wait", "gpu-bind", "accel-bind", "multi-prog"}
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Refused(Exception):  # noqa: N818
    """What the program says, and its exit status."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.text, self.status = text, status


def options(words, program, values, flags, optional, short):
    """({option: value}, the remaining words)."""
    found, at = {}, 0
    while at < len(words):
        word = words[at]
        if word == "--" or word == "-" or not word.startswith("-"):
            return found, words[at + (word == "--") :]
        at += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in flags:
                found[name] = ""
                continue
            if name in optional:
                found[name] = value if equals else optional[name]
                continue
            if name not in values:
                raise Refused(
                    f"{program}: unrecognized option '{word}'\nTry \"{program} --help\" for more information", 255
                )
        else:
            name, value = short.get(word[1]), word[2:]
            if name is None:
                said = f"{program}: invalid option -- '{word[1]}'\nTry \"{program} --help\" for more information"
                raise Refused(said, 255)
            if name in flags or (name in optional and not value):
                found[name] = optional.get(name, "")
                if value:
                    words = [*words[:at], f"-{value}", *words[at:]]
                continue
            equals = bool(value)
        if not equals:
            if at >= len(words):
                raise Refused(f"{program}: option '--{name}' requires an argument", 255)
            value, at = words[at], at + 1
        found[name] = value
    return found, []


def script_options(text):
    """Words of the #SBATCH lines, which stand before the first command."""
    words = []
    for line in text.splitlines()[1:]:
        if line.startswith("#SBATCH"):
            words += _split(line[7:])
        elif line.strip() and not line.startswith("#"):
            break
    return words


def _split(line):
    """As a shell: quotes, backslashes, and a comment at the end."""
    words, word, quote, at = [], None, "", 0
    while at < len(line):
        letter = line[at]
        at += 1
        if quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            word, quote = word or "", letter
        elif letter == "\\" and at < len(line):
            word, at = (word or "") + line[at], at + 1
        elif letter.isspace():
            if word is not None:
                words.append(word)
            word = None
        elif letter == "#" and word is None:
            break
        else:
            word = (word or "") + letter
    return words if word is None else [*words, word]


def minutes(text):
    """Of 5, 5:30, 1:00:00, 1-12, 1-12:30 or 1-12:30:00; None is without limit."""
    if text.upper() in ("INFINITE", "UNLIMITED", "-1", "0"):
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = [*parts, 0, 0][:3]
    else:
        hours, mins, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    total = ((int(days) if dash else 0) * 24 + hours) * 60 + mins + seconds / 60
    return float(int(total) + (total > int(total)))


def warning(text):
    """(signal, whether to the batch script, seconds before the limit) of [B:]SIG[@seconds]."""
    name, _, seconds = text.partition("@")
    flags, colon, name = name.rpartition(":")
    number = signal_number(name)
    if number is None or (seconds and not seconds.isdigit()) or (colon and flags not in ("B", "R", "BR", "RB")):
        raise Refused("sbatch: error: Invalid --signal specification", 255)
    return number, "B" in flags, float(seconds or 60)


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
    failed = "sbatch: error: Batch job submission failed: "
    partitions = store.setting("partitions").split(",")
    partition = chosen.get("partition", partitions[0])
    if partition not in partitions:
        said = f"sbatch: error: invalid partition specified: {partition}\n{failed}Invalid partition name specified"
        raise Refused(said)
    try:
        limit = minutes(chosen.get("time", "10"))
    except (ValueError, KeyError):
        raise Refused("sbatch: error: Invalid --time specification", 255) from None
    tasks, throttle = None, 0
    if "array" in chosen:
        numbers, _, most = chosen["array"].partition("%")
        try:
            tasks, throttle = task_numbers(numbers), int(most or 0)
        except ValueError:
            tasks = []
        if not tasks or tasks[-1] >= int(store.setting("max_array")):
            raise Refused(f"{failed}Invalid job array specification")
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


def user():
    return pwd.getpwuid(os.getuid()).pw_name


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
