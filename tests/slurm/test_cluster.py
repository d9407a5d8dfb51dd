"""A real SLURM: what the fake is checked against, and what only real nodes can do."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from slurm import cluster as own
from slurm import packages
from slurm.behaviour import Behaviour
from slurm.cluster import Cluster
from slurm.jobs import TRAPS, TURNS, log, show, squeue, submit, wait_for, wait_state
from slurm.packages import UnavailableError, install
from slurm.processes import alive, living

pytestmark = pytest.mark.slurm


@pytest.fixture
def slurm(cluster):
    yield cluster
    cluster.call("scancel", f"--user={psutil.Process().username()}")
    wait_for(lambda: not cluster.call("squeue", "-h").stdout, what="an empty queue")


class TestReal(Behaviour):
    test_time_limit = None  # in test_limits.py: it takes a minute and more


def test_power_cut_without_requeue(slurm, tmp_path):
    job = submit(slurm, tmp_path, f"WHO=batch\n{TRAPS}echo $$ > pid\n{TURNS}", "--nodelist=node3", "--no-requeue")
    log(tmp_path, job, "batch start 0")
    slurm.power_cut("node3")
    assert not psutil.pid_exists(pid := int((tmp_path / "pid").read_text())) or not alive(psutil.Process(pid))
    assert squeue(slurm, job, "%T") == ["RUNNING"], "nobody has told the controller"
    slurm.report_down("node3")
    wait_state(slurm, job, "NODE_FAIL", seconds=10)
    assert show(slurm, job)["Reason"] == "NodeDown"
    assert log(tmp_path, job) == ["batch start 0"], "not a signal before"
    slurm.power_on("node3")
    with pytest.raises(ValueError, match="node9 is not up"):
        slurm.power_cut("node9")


def test_preemption(slurm, tmp_path):
    """A job's own signal comes first, where it has one; each is preempted on a node of its own."""
    asked = {"node1": ("--signal=USR2@60", "USR2"), "node2": ("--comment=none", "TERM")}
    body = f"cat > inner$SLURM_JOB_ID.sh <<'X'\nWHO=task\n{TRAPS}{TURNS}X\nsrun bash inner$SLURM_JOB_ID.sh"
    low, high = {}, []
    for node, (option, _) in asked.items():
        head = f"#SBATCH {option} --open-mode=append --time=10"
        low[node] = submit(slurm, tmp_path, body, "--exclusive", f"--nodelist={node}", head=head)
    for node in asked:
        log(tmp_path, low[node], "task start 0")
        high.append(submit(slurm, tmp_path, "sleep 1", "--partition=urgent", "--exclusive", f"--nodelist={node}"))
    for node, (_, first) in asked.items():
        assert log(tmp_path, low[node], f"task {first}") == ["task start 0", f"task {first}"]
    time.sleep(1)
    assert [squeue(slurm, job, "%T") for job in low.values()] == [["RUNNING"]] * 2, "a grace"
    for job in high:
        wait_state(slurm, job, "COMPLETED", seconds=60)
    assert all(squeue(slurm, job, "%T")[0] in ("PENDING", "RUNNING") for job in low.values())
    for job in low.values():
        log(tmp_path, job, "task start 1", seconds=60)
    (tmp_path / "enough").touch()
    for job in low.values():
        wait_state(slurm, job, "COMPLETED")


def test_jobs_outlive_slurmd_and_controller(slurm, tmp_path):
    job = submit(slurm, tmp_path, f"WHO=batch\n{TRAPS}{TURNS}", "--nodelist=node4")
    log(tmp_path, job, "batch start 0")
    slurm.kill_slurmd("node4")
    slurm.restart_controller()
    assert squeue(slurm, job, "%T") == ["RUNNING"]
    slurm.power_on("node4")
    (tmp_path / "enough").touch()
    wait_state(slurm, job, "COMPLETED")
    assert show(slurm, job)["Restarts"] == "0"


def test_two_nodes_and_stop(cluster, tmp_path):
    """A second cluster beside the first; nothing stays of it, and the first one does not notice."""
    with Cluster(2, gpus=0, settings="FirstJobId=500") as other:
        folder = other.folder
        job = submit(other, tmp_path, "srun -n2 sleep 100", "-N2", "-n2")
        wait_state(other, job, "RUNNING")
        assert int(job) >= 500
        wait_for(lambda: len(other._steps()) >= 5)
        steps = other._steps()
        assert {"node1", "node2"} == other._up()
    assert not folder.exists()
    assert not [process for process in steps if alive(process)]
    assert cluster._up() == set(cluster.names)
    other.stop()


def test_command_line(cluster, tmp_path):
    def run(action):
        command = [sys.executable, own.__file__, action, "--folder", str(tmp_path / "state"), "--nodes", "1"]
        return subprocess.run(command, timeout=60, capture_output=True, text=True)

    assert run("start").returncode == 0
    try:
        said = run("env").stdout
        shell = ["sh", "-c", f"{said}\nsrun hostname; sinfo -h -o '%D'"]
        done = subprocess.run(shell, timeout=30, capture_output=True, text=True)
        assert done.stdout.split()[1:] == ["1"]
        again = run("start")
        assert (again.returncode, again.stderr) == (1, f"{tmp_path}/state is there: stop it first\n")
    finally:
        run("stop")
    assert not (tmp_path / "state").exists()


def test_a_killed_owner(cluster):
    """What a killed test run left is stopped by the next start."""
    code = "import time; from slurm.cluster import Cluster; c = Cluster(1); c.start(); print(c.folder, flush=True); time.sleep(99)"
    tests = str(Path(own.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": tests}, stdout=subprocess.PIPE, text=True
    ) as process:
        folder = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    left = [Path(path).read_text() for path in folder.glob("run/*.pid")]
    assert len([one for one in left if living(one)]) == 3
    own.reap()
    assert not folder.exists()
    assert not [one for one in left if living(one)]
    assert cluster.folder.exists()


def test_unavailable(monkeypatch):
    monkeypatch.setattr(packages, "_missing", lambda packages: packages)
    monkeypatch.setattr(packages.os, "getuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="as root: apt-get install munge slurmctld slurmd slurm-client$"):
        install()
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match="no apt-get"):
        install()


def test_starts_quickly():
    """Beside the session's one: a bound of ten times what was measured."""
    begin = time.monotonic()
    with Cluster(4) as cluster:
        assert time.monotonic() - begin < 5
        assert str(cluster.folder).startswith(tempfile.gettempdir())
