"""A real SLURM of several virtual nodes on this one machine, of Debian's packages, for tests.

    python tests/slurm/cluster.py start [--nodes 4] [--accounting]   # installs what is missing, returns when nodes are idle
    eval "$(python tests/slurm/cluster.py env)"; sinfo; sbatch --wrap hostname
    python tests/slurm/cluster.py stop

Debian's slurmd takes several node names on one host, one port each. Everything lies in one temporary folder: key and socket
of munge, logs, spools and, with accounting, a MariaDB. No systemd, no cgroups, nothing below /etc.
"""

import argparse
import contextlib
import fcntl
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
APT_S, START_S = 900, 60
PREFIX = f"avexp-slurm-{os.getuid()}-"
NO_AUTOSTART = Path("/usr/sbin/policy-rc.d")
CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# cred_expire is also how long a requeued job waits
AuthInfo=socket={folder}/munge/socket,cred_expire={requeue_s}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.own
SlurmdPidFile={folder}/run/%n.own
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/task_prolog
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=200
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
SlurmctldParameters=preempt_send_user_signal
SlurmdTimeout={node_timeout_s}
SlurmctldTimeout=10
MessageTimeout=5
InactiveLimit=0
KillWait={kill_wait_s}
MinJobAge=300
JobRequeue=1
MaxArraySize={max_array}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{accounting}
{nodes}
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 PriorityTier=10 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=100 PreemptMode=OFF
"""
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu"""
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
PidFile={folder}/run/slurmdbd.own
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
CommitDelay=1
"""
# a node's name resolves nowhere: processes of several nodes meet on loopback
TASK_PROLOG = "#!/bin/sh\necho export MASTER_ADDR=127.0.0.1\necho export GLOO_SOCKET_IFNAME=lo\n"


class UnavailableError(RuntimeError):
    """There can be no SLURM on this machine."""


class Cluster:
    """Nodes node1 ... nodeN and the partitions batch (the default; its jobs are preempted) and urgent.

    Args:
        nodes: number of them.
        cpus: of a node, virtual.
        gpus: of a node, faked by links to /dev/null; jobs get CUDA_VISIBLE_DEVICES.
        accounting: with slurmdbd and MariaDB, so that ``sacct`` answers; some 10 s more to start.
        max_array: MaxArraySize.
        requeue_s: how long a requeued job waits, about.
        node_timeout_s: silence after which a node is down; SLURM takes up to three times that.
        kill_wait_s, grace_s: between SIGTERM and SIGKILL; between the notice of preemption and its SIGTERM.
        settings: further lines of slurm.conf.
        folder: of its state; a new temporary one unless given.
    """

    pace = 1.0

    def __init__(
        self,
        nodes=4,
        cpus=4,
        gpus=8,
        memory_mb=4000,
        accounting=False,
        max_array=1001,
        requeue_s=5,
        node_timeout_s=10,
        kill_wait_s=5,
        grace_s=5,
        settings="",
        folder=None,
    ):
        self.nodes, self.cpus, self.gpus, self.memory_mb = nodes, cpus, gpus, memory_mb
        self.accounting, self.settings = accounting, settings
        self.values = {
            "max_array": max_array,
            "requeue_s": requeue_s,
            "node_timeout_s": node_timeout_s,
            "kill_wait_s": kill_wait_s,
            "grace_s": grace_s,
        }
        self.folder = Path(folder) if folder else None
        self._children = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    @property
    def conf(self):
        return self.folder / "slurm.conf"

    @property
    def names(self):
        return [f"node{number}" for number in range(1, self.nodes + 1)]

    def env(self):
        """The whole environment to run sbatch, squeue and so on with."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        return {**kept, "SLURM_CONF": str(self.conf)}

    def call(self, *command, timeout=30, cwd=None, **variables):
        """A SLURM program, run to its end."""
        return subprocess.run(
            command,
            env={**self.env(), **variables},
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self):
        """Return when all nodes are idle."""
        install(self.accounting)
        reap()
        self.folder = self.folder or Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            self._configure()
            self._start_munge()
            if self.accounting:
                self._start_database()
            self._start_controller()
            for node in self.names:
                self._start_node(node)
            self._wait(f"{self.nodes} idle nodes", lambda: len(self._up()) == self.nodes)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """No process and no file of it stays. Also for a cluster that another process started: give its folder."""
        if not self.folder or not self.folder.is_dir():
            return
        names = sorted(path.stem for path in self.folder.glob("run/*.pid"))
        daemons = [process for name in ["slurmctld", *names] if (process := self._process(name))]
        for process in daemons:  # none of them may start or report anything any more
            with contextlib.suppress(psutil.Error):
                process.suspend()
        _kill([*daemons, *self._steps()])
        _kill(self._steps())
        for child in self._children:
            child.wait()
        self._children.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def power_cut(self, node):
        """The node's daemon, job steps and tasks die at once, and nothing is reported; noticed after some node_timeout_s."""
        daemon = self._process(node)
        if daemon is None:
            raise ValueError(f"{node} is not up")
        daemon.suspend()
        _kill(self._steps(node))
        _kill([daemon, *self._steps(node)])

    def power_on(self, node):
        """Bring it back; returns when its daemon answers."""
        self._start_node(node)
        self._wait(f"{node} up", lambda: node in self._up())

    def report_down(self, node):
        """Tell the controller of a dead node at once, rather than waiting for its timeout."""
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def kill_slurmd(self, node):
        """Only the daemon dies: its jobs run on."""
        _kill([daemon for daemon in [self._process(node)] if daemon])

    def restart_controller(self, down_s=0.0):
        """slurmctld ends, is away for down_s seconds, and comes back with its saved state; returns when it has its nodes."""
        controller = self._process("slurmctld")
        controller.terminate()
        _gone([controller], 15)
        time.sleep(down_s)
        self._start_controller()
        living = {name for name in self.names if self._process(name)}
        self._wait("nodes after the restart", lambda: living <= self._up())

    def _configure(self):
        folder, host, user = self.folder, socket.gethostname().partition(".")[0], _user()
        for name in ("log", "run", "munge", "state", "spool", "sql", "gpu"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        # of a test's process, so that a later cluster can tell that nobody stops this one any more
        (folder / "owner").write_text(_identity(psutil.Process()))
        (folder / "munge/key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge/key").chmod(0o400)
        (folder / "task_prolog").write_text(TASK_PROLOG)
        (folder / "task_prolog").chmod(0o755)
        for number in range(self.gpus):
            (folder / f"gpu/gpu{number}").symlink_to("/dev/null")
        ports = _free_ports(self.nodes + 3)
        self._sql_port, self._dbd_port = ports[-2:]
        gres = f"Gres=gpu:v100:{self.gpus}" if self.gpus else ""
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} "
            f"RealMemory={self.memory_mb} {gres} State=UNKNOWN"
            for name, port in zip(self.names, ports[1:], strict=False)
        ]
        accounting = ACCOUNTING.format(port=self._dbd_port, folder=folder) if self.accounting else ""
        common = {"folder": folder, "host": host, "user": user}
        text = CONF.format(port=ports[0], nodes="\n".join(nodes), accounting=accounting, **common, **self.values)
        self.conf.write_text(f"{text}{self.settings}\n")
        devices = f"Name=gpu Type=v100 File={folder}/gpu/gpu[0-{self.gpus - 1}]\n" if self.gpus else ""
        (folder / "gres.conf").write_text(devices)
        if self.accounting:
            self._password = secrets.token_hex(16)
            text = SLURMDBD.format(port=self._dbd_port, sql_port=self._sql_port, password=self._password, **common)
            (folder / "slurmdbd.conf").touch(0o600)
            (folder / "slurmdbd.conf").write_text(text)

    def _start_munge(self):
        folder = self.folder
        options = {"key-file": "munge/key", "socket": "munge/socket", "seed-file": "munge/seed"}
        files = [f"--{option}={folder / path}" for option, path in options.items()]
        files += [f"--pid-file={folder}/run/munged.own", f"--log-file={folder}/log/munged.log"]
        self._spawn("munged", "munged", "--foreground", "--force", "--num-threads=2", *files)
        self._wait("munged", (folder / "munge/socket").exists, "munged")

    def _start_database(self):
        folder, socket_ = self.folder, self.folder / "run/sql.sock"
        user = f"--user={_user()}"
        with (folder / "log/mariadb-install.log").open("w") as log:
            subprocess.run(
                [
                    *("mariadb-install-db", "--no-defaults", f"--datadir={folder}/sql", user, "--skip-test-db"),
                    *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={_user()}"),
                ],
                stdout=log,
                stderr=log,
                timeout=START_S,
                check=True,
            )
        self._spawn(
            *("mariadbd", "mariadbd", "--no-defaults", f"--datadir={folder}/sql", user, f"--socket={socket_}"),
            *("--bind-address=127.0.0.1", f"--port={self._sql_port}", f"--pid-file={folder}/run/mariadbd.own"),
            *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900"),
            *("--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve", f"--log-error={folder}/log/mariadbd.log"),
        )
        grant = (
            "create database slurm_acct; create user slurm@'127.0.0.1' identified by "
            f"'{self._password}'; grant all on slurm_acct.* to slurm@'127.0.0.1';"
        )
        query = ["mariadb", "--no-defaults", f"--socket={socket_}", "-u", _user(), "-e"]
        self._wait("mariadbd", lambda: not self.call(*query, "select 1").returncode, "mariadbd")
        if (done := self.call(*query, grant)).returncode:
            raise UnavailableError(f"MariaDB: {done.stderr.strip()}")
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: _listens(self._dbd_port), "slurmdbd")
        self.call("sacctmgr", "-iQ", "add", "cluster", "lab")

    def _start_controller(self):
        self._spawn("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self._wait("slurmctld", lambda: "is UP" in self.call("scontrol", "ping").stdout, "slurmctld")

    def _start_node(self, node):
        if self._process(node) is None:
            (self.folder / "spool" / node).mkdir(exist_ok=True)
            self._spawn(node, "slurmd", "-D", "-f", str(self.conf), "-N", node)

    def _spawn(self, name, *command):
        # a new session: neither a signal to the tests' group nor the end of the starting process reaches it
        with (self.folder / f"log/{name}.out").open("a") as log:
            child = subprocess.Popen(
                command,
                env={**self.env(), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        (self.folder / f"run/{name}.pid").write_text(_identity(psutil.Process(child.pid)))

    def _process(self, name):
        """The daemon of that name while it lives."""
        file = self.folder / f"run/{name}.pid"
        return _living(file.read_text()) if file.is_file() else None

    def _steps(self, node=""):
        """Processes of jobs, on one node or on all. A slurmstepd has written over its environment: its log is what tells it."""
        start = f"{self.folder}/log/{node}" + (".log" if node else "")
        mark, daemons = (
            f"SLURM_CONF={self.conf}",
            {process.pid for name in self.names if (process := self._process(name))},
        )
        found = {}
        for process in psutil.process_iter():
            if process.pid in daemons or process.pid == os.getpid():
                continue
            with contextlib.suppress(psutil.Error, OSError):
                if process.name().startswith("slurmstepd"):
                    files = Path(f"/proc/{process.pid}/fd").iterdir()
                    if any(str(file.readlink()).startswith(start) for file in files):
                        found.update({one.pid: one for one in [process, *process.children(recursive=True)]})
                    continue
                variables = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace").split("\0")
                here = [text.partition("=")[2] for text in variables if text.startswith("SLURMD_NODENAME=")]
                if here and mark in variables and node in ("", here[0]):
                    found[process.pid] = process
        return list(found.values())

    def _up(self):
        done = self.call("sinfo", "-h", "-N", "-p", "batch", "-t", "idle,mixed,allocated", "-o", "%N %T")
        return {line.split()[0] for line in done.stdout.splitlines() if not line.endswith("*")}

    def _wait(self, what, ready, daemon=None):
        end = time.monotonic() + START_S
        while not ready():
            if time.monotonic() > end or (daemon and self._process(daemon) is None):
                logs = [*self.folder.glob("log/*.out"), *self.folder.glob(f"log/{daemon or '*'}.log")]
                said = [f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-3:]]
                raise UnavailableError("\n".join([f"SLURM did not start: no {what} within {START_S} s", *said]))
            time.sleep(0.05)


def install(accounting=False):
    """Debian's packages, where they are missing."""
    wanted = PACKAGES + (ACCOUNTING_PACKAGES if accounting else ())
    if not (missing := _missing(wanted)):
        return
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"no SLURM here, and no apt-get to install it with: {' '.join(missing)}")
    if os.getuid():
        raise UnavailableError(f"no SLURM here; as root: apt-get install {' '.join(missing)}")
    lock = Path(tempfile.gettempdir()) / "avexp-slurm-install.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if missing := _missing(wanted):
            _apt(missing)


def _apt(packages):
    """With no daemon of the packages started, neither now nor at the next boot."""
    own = not NO_AUTOSTART.exists()
    if own:
        NO_AUTOSTART.write_text("#!/bin/sh\nexit 101\n")
        NO_AUTOSTART.chmod(0o755)
    apt = ["apt-get", "-qq", "-o", f"DPkg::Lock::Timeout={APT_S // 3}"]
    end = time.monotonic() + APT_S
    try:
        for command in ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(
                command,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                timeout=max(1.0, end - time.monotonic()),
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"apt-get did not end within {APT_S} s") from None
    finally:
        if own:
            NO_AUTOSTART.unlink()
    if done.returncode:
        raise UnavailableError(f"apt-get install {' '.join(packages)}: {done.stderr.strip()[-500:]}")
    if shutil.which("systemctl"):
        units = ["munge", "slurmd", "slurmctld", "slurmdbd", "mariadb"]
        subprocess.run(["systemctl", "disable", "-q", *units], capture_output=True, timeout=30, check=False)


def _missing(packages):
    if shutil.which("dpkg-query") is None:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        return () if all(shutil.which(name, path=path) for name in ("slurmd", "slurmctld", "munged")) else packages
    show = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *packages]
    said = subprocess.run(show, capture_output=True, text=True, timeout=30, check=False).stdout.splitlines()
    return [name for name in packages if f"{name} installed" not in said]


def reap():
    """Stop clusters that a test process left when it was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder / "owner"
        if owner.is_file() and owner.read_text() != "-" and _living(owner.read_text()) is None:
            Cluster(folder=folder, nodes=len(list(folder.glob("run/node*.pid")))).stop()


def _user():
    return psutil.Process().username()


def _identity(process):
    return f"{process.pid} {process.create_time()}"


def _living(identity):
    """The process, unless it has ended and its number serves another one."""
    pid, _, born = identity.partition(" ")
    with contextlib.suppress(psutil.Error, ValueError):
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(born)) < 1 and _alive(process):
            return process
    return None


def _kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    _gone(processes, 10)


def _gone(processes, seconds):
    """Wait for their end; a zombie has ended, whenever its parent hears of it."""
    end = time.monotonic() + seconds
    while alive := [process for process in processes if _alive(process)]:
        if time.monotonic() > end:
            raise RuntimeError(f"processes that do not end: {alive}")
        time.sleep(0.01)


def _alive(process):
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _free_ports(count):
    """Below the range that the system gives to connections, so that none of these takes one before it is bound."""
    found = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop", "env", "install"))
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--accounting", action="store_true")
    parser.add_argument("--max-array", type=int, default=1001)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / f"{PREFIX}cli")
    given = parser.parse_args(arguments)
    cluster = Cluster(given.nodes, accounting=given.accounting, max_array=given.max_array, folder=given.folder)
    try:
        if given.action == "install":
            install(given.accounting)
        elif given.action == "stop":
            cluster.stop()
        elif given.action == "env":
            sys.stdout.write(f"export SLURM_CONF={shlex.quote(str(cluster.conf))}\n")
        elif cluster.conf.is_file():
            raise UnavailableError(f"{cluster.folder} is there: stop it first")
        else:
            cluster.start()
            (cluster.folder / "owner").write_text("-")
    except UnavailableError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
