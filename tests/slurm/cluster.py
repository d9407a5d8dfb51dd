"""A real SLURM of several virtual nodes on this one machine, of Debian's packages, for tests.

    python tests/slurm/cluster.py start [--nodes 4] [--accounting]   # installs what is missing, returns when nodes are idle
    eval "$(python tests/slurm/cluster.py env)"; sinfo; sbatch --wrap hostname
    python tests/slurm/cluster.py stop

Debian's slurmd takes several node names on one host, one port each. Everything lies in one temporary folder: key and socket
of munge, logs, spools and, with accounting, a MariaDB. No systemd, no cgroups, nothing below /etc.
"""

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slurm.packages import UnavailableError, install
from slurm.processes import gone, identity, kill, listens, living, user_name
from slurm.slurm_conf import configure

START_S = 60
PREFIX = f"avexp-slurm-{os.getuid()}-"


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
            configure(self)
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
        kill([*daemons, *self._steps()])
        kill(self._steps())
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
        kill(self._steps(node))
        kill([daemon, *self._steps(node)])

    def power_on(self, node):
        """Bring it back; returns when its daemon answers."""
        self._start_node(node)
        self._wait(f"{node} up", lambda: node in self._up())

    def report_down(self, node):
        """Tell the controller of a dead node at once, rather than waiting for its timeout."""
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def kill_slurmd(self, node):
        """Only the daemon dies: its jobs run on."""
        kill([daemon for daemon in [self._process(node)] if daemon])

    def kill_tasks(self, node):
        """The daemon dies, and what the node's jobs run; slurmstepd stays to tell of it."""
        self.kill_slurmd(node)
        kill([process for process in self._steps(node) if not process.name().startswith("slurmstepd")])

    def stop_controller(self):
        """slurmctld ends; nothing is answered until restart_controller."""
        controller = self._process("slurmctld")
        controller.terminate()
        gone([controller], 15)

    def restart_controller(self):
        """slurmctld ends, where it has not, and comes back with its saved state; returns when it has its nodes."""
        if self._process("slurmctld"):
            self.stop_controller()
        self._start_controller()
        living = {name for name in self.names if self._process(name)}
        self._wait("nodes after the restart", lambda: living <= self._up())

    def _start_munge(self):
        folder = self.folder
        options = {"key-file": "munge/key", "socket": "munge/socket", "seed-file": "munge/seed"}
        files = [f"--{option}={folder / path}" for option, path in options.items()]
        files += [f"--pid-file={folder}/run/munged.own", f"--log-file={folder}/log/munged.log"]
        self._spawn("munged", "munged", "--foreground", "--force", "--num-threads=2", *files)
        self._wait("munged", (folder / "munge/socket").exists, "munged")

    def _start_database(self):
        folder, socket_ = self.folder, self.folder / "run/sql.sock"
        user = f"--user={user_name()}"
        with (folder / "log/mariadb-install.log").open("w") as log:
            subprocess.run(
                [
                    *("mariadb-install-db", "--no-defaults", f"--datadir={folder}/sql", user, "--skip-test-db"),
                    *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={user_name()}"),
                ],
                stdout=log,
                stderr=log,
                timeout=START_S,
                check=True,
            )
        self._spawn(
            *("mariadbd", "mariadbd", "--no-defaults", f"--datadir={folder}/sql", user, f"--socket={socket_}"),
            *("--bind-address=127.0.0.1", f"--port={self.sql_port}", f"--pid-file={folder}/run/mariadbd.own"),
            *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900"),
            *("--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve", f"--log-error={folder}/log/mariadbd.log"),
        )
        grant = (
            "create database slurm_acct; create user slurm@'127.0.0.1' identified by "
            f"'{self.password}'; grant all on slurm_acct.* to slurm@'127.0.0.1';"
        )
        query = ["mariadb", "--no-defaults", f"--socket={socket_}", "-u", user_name(), "-e"]
        self._wait("mariadbd", lambda: not self.call(*query, "select 1").returncode, "mariadbd")
        if (done := self.call(*query, grant)).returncode:
            raise UnavailableError(f"MariaDB: {done.stderr.strip()}")
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: listens(self.dbd_port), "slurmdbd")
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
        (self.folder / f"run/{name}.pid").write_text(identity(psutil.Process(child.pid)))

    def _process(self, name):
        """The daemon of that name while it lives."""
        file = self.folder / f"run/{name}.pid"
        return living(file.read_text()) if file.is_file() else None

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


def reap():
    """Stop clusters that a test process left when it was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder / "owner"
        if owner.is_file() and owner.read_text() != "-" and living(owner.read_text()) is None:
            Cluster(folder=folder, nodes=len(list(folder.glob("run/node*.pid")))).stop()


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
