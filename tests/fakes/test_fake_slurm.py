"""The fake SLURM behaves as the real one (the same checks run on both), and its faults are what they say."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fakes.slurm import fake_slurm
from fakes.slurm.fake_slurm import FakeSlurm
from fakes.slurm.options import minutes, script_options, warning
from fakes.slurm.store import Store, file_name, host_names, nodes_text, spans, task_numbers
from slurm.behaviour import Behaviour
from slurm.jobs import TRAPS, TURNS, log, show, squeue, submit, wait_for, wait_state

pytestmark = pytest.mark.slow


@pytest.fixture
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fake")
    with FakeSlurm(folder, max_array=50, minute_s=1, kill_wait_s=0.5, requeue_s=0.2, grace_s=0.3) as slurm:
        yield slurm
    assert not folder.exists()
    wait_for(lambda: not processes_of(folder), seconds=2)


def processes_of(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([*process.cmdline(), process.environ().get("FAKE_SLURM_JOB", "")]):
                found.append(process)
        except psutil.Error:
            continue
    return found


def step(folder, turns=TURNS):
    """Body of a job whose one task tells which signals came."""
    (folder / "inner.sh").write_text(f"#!/bin/bash\nWHO=task\n{TRAPS}{turns}")
    return f"srun bash {folder / 'inner.sh'}"


def end(slurm, folder, job, state="COMPLETED"):
    (folder / "enough").touch()
    wait_state(slurm, job, state)


class TestAsTheReal(Behaviour):
    pass


def test_speed(slurm, tmp_path):
    script = tmp_path / "a.sh"
    script.write_text("#!/bin/sh\ndate +%s.%N\n")
    slurm.call("sbatch", "--wrap", "true")
    took, started = [], []
    for _ in range(5):
        begin = time.time()
        job = slurm.call("sbatch", "--parsable", str(script), cwd=tmp_path).stdout.strip()
        took.append(time.time() - begin)
        wait_state(slurm, job, "COMPLETED")
        started.append(float((tmp_path / f"slurm-{job}.out").read_text()) - begin)
    assert min(took) < 0.1
    assert min(started) < 0.2


def test_twenty_thousand_jobs(slurm):
    slurm.call("sbatch", "--wrap", "sleep 20")
    arrays = slurm.fill(12_000, 8_000)
    assert len(arrays) == 20
    used = []
    for _ in range(3):
        before = os.times().children_user
        done = slurm.call("squeue", "--me", "-h", "-r", "-t", "all", "--format=%F|%K|%T|%N|%r")
        used.append(os.times().children_user - before)
    lines = done.stdout.splitlines()
    assert len(lines) == 20_001
    assert min(used) < 0.8
    assert f"{arrays[0]}|0|RUNNING|node1|None" in lines
    assert f"{arrays[-1]}|999|PENDING||Resources" in lines
    assert slurm.call("squeue", "-h", "-j", str(arrays[-1]), "-o", "%i %T").stdout == f"{arrays[-1]}_[0-999] PENDING\n"
    begin = time.time()
    slurm.call("sbatch", "--wrap", "true")
    assert time.time() - begin < 0.5
    assert slurm.call("scancel", "--name=wrap", f"{arrays[0]}_5").returncode == 0


def test_node_fail(slurm, tmp_path):
    again = submit(slurm, tmp_path, step(tmp_path), "--open-mode=append")
    final = submit(slurm, tmp_path, "sleep 30", "--no-requeue")
    log(tmp_path, again, "task start 0")
    slurm.inject("node_fail", again)
    slurm.inject("node_fail", final)
    assert log(tmp_path, again, "task start 1") == ["task start 0", "task start 1"], "no signal before"
    assert show(slurm, again)["Restarts"] == "1"
    wait_state(slurm, final, "NODE_FAIL")
    assert show(slurm, final)["Reason"] == "NodeDown"
    end(slurm, tmp_path, again)


def test_preemption(slurm, tmp_path):
    slurm.set(requeue_s=0.5)
    job = submit(slurm, tmp_path, step(tmp_path), "--signal=USR2@60", "--open-mode=append")
    log(tmp_path, job, "task start 0")
    slurm.inject("preempt", job)
    assert log(tmp_path, job, "task USR2")[-1] == "task USR2"
    assert squeue(slurm, job, "%T") == ["RUNNING"], "a grace first"
    log(tmp_path, job, "task TERM")
    wait_for(lambda: squeue(slurm, job, "%T %r") == ["PENDING BeginTime"])
    log(tmp_path, job, "task start 1")
    end(slurm, tmp_path, job)


def test_preemption_without_a_signal_of_its_own(slurm, tmp_path):
    job = submit(slurm, tmp_path, step(tmp_path), "--no-requeue")
    log(tmp_path, job, "task start 0")
    slurm.inject("preempt", job)
    log(tmp_path, job, "task TERM")
    wait_state(slurm, job, "PREEMPTED")


def test_kill_timeout_and_lose(slurm, tmp_path):
    killed, limited, lost = (submit(slurm, tmp_path, "setsid sleep 39 & sleep 39") for _ in range(3))
    other = submit(slurm, tmp_path, "sleep 30", "--hold")
    for job in (killed, limited, lost):
        wait_state(slurm, job, "RUNNING")
    wait_for(lambda: len([one for one in processes_of(slurm.folder) if "39" in one.cmdline()]) == 6)
    slurm.inject("kill", killed)
    slurm.inject("timeout", limited)
    slurm.inject("lose", lost)
    wait_state(slurm, killed, "FAILED")
    assert show(slurm, killed)["ExitCode"] == "0:9"
    wait_state(slurm, limited, "TIMEOUT")
    gone = slurm.call("squeue", "-h", "-t", "all", "-j", lost)
    assert (gone.returncode, gone.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")
    assert slurm.call("scontrol", "show", "job", lost).returncode == 1
    wait_for(lambda: not [one for one in processes_of(slurm.folder) if "39" in one.cmdline()])
    with pytest.raises(ValueError, match=f"job {other} is PENDING, not RUNNING"):
        slurm.inject("kill", other)
    with pytest.raises(ValueError, match="no job 99999"):
        slurm.inject("kill", 99999)
    with pytest.raises(ValueError, match="fire is none of preempt, node_fail"):
        slurm.inject("fire", other)


def test_down_and_slow(slurm, tmp_path):
    job = submit(slurm, tmp_path, "sleep 30")
    slurm.inject("down", seconds=30)
    contact = "Unable to contact slurm controller (connect failure)\n"
    done = slurm.call("squeue")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"slurm_load_jobs error: {contact}")
    done = slurm.call("sbatch", "--wrap", "true")
    assert (done.returncode, done.stderr) == (1, f"sbatch: error: Batch job submission failed: {contact}")
    assert slurm.call("scontrol", "show", "hostnames", "a[1-2]").stdout == "a1\na2\n", "asks nobody"
    slurm.inject("down", seconds=0)
    assert squeue(slurm, job, "%j") == ["job0.sh"]
    slurm.inject("slow", seconds=0.4)
    begin = time.monotonic()
    squeue(slurm, job, "%T")
    assert time.monotonic() - begin > 0.4
    slurm.inject("slow", seconds=0)


def test_accounting(slurm, tmp_path):
    slurm.set(accounting=True)
    job = submit(slurm, tmp_path, 'test -n "$SLURM_RESTART_COUNT" && exit 3; sleep 30', "--array=0-1")
    wait_for(lambda: f"{job}_0 RUNNING" in squeue(slurm, job, "%i %T"))
    slurm.inject("node_fail", f"{job}_0")
    wait_for(lambda: f"{job}_0 FAILED" in squeue(slurm, job, "%i %T"))
    wait_for(lambda: f"{job}_1 RUNNING" in squeue(slurm, job, "%i %T"))
    slurm.call("scancel", f"{job}_1")
    wait_for(lambda: f"{job}_1 CANCELLED" in squeue(slurm, job, "%i %T"))
    ask = ["sacct", "-n", "-P", "-X", "-j", f"{job}_0,{job}_1", "-o", "JobID,State,ExitCode"]
    last = [f"{job}_0|FAILED|3:0", f"{job}_1|CANCELLED by {os.getuid()}|0:0"]
    assert slurm.call(*ask).stdout.splitlines() == last
    assert slurm.call(*ask, "-D").stdout.splitlines() == [f"{job}_0|NODE_FAIL|0:9", *last]
    held = submit(slurm, tmp_path, "true", "--array=0-5", "--hold")
    slurm.call("scancel", f"{held}_3")
    slurm.call("scancel", held)
    said = slurm.call("sacct", "-n", "-P", "-X", "-j", held, "-o", "JobID,State,NodeList,Start").stdout
    assert said == f"{held}_[0-2,4-5]|CANCELLED by {os.getuid()}|None assigned|None\n", "as seen on a real one"
    steps = slurm.call("sacct", "-n", "-P", "-j", job, "-o", "JobID,State").stdout
    assert f"{job}_0.batch|FAILED\n" in steps
    slurm.set(min_job_age_s=0)
    assert squeue_fails(slurm, job)
    assert slurm.call(*ask).stdout.splitlines() == last, "accounting forgets nothing"


def squeue_fails(slurm, job):
    return slurm.call("squeue", "-h", "-t", "all", "-j", job).returncode == 1


def test_old_jobs_are_forgotten(slurm, tmp_path):
    slurm.set(min_job_age_s=0.5)
    job = submit(slurm, tmp_path, "true", "--array=0-1")
    wait_state(slurm, job, "COMPLETED")
    wait_for(lambda: squeue_fails(slurm, job))
    done = slurm.call("scontrol", "show", "job", f"{job}_1")
    assert (done.returncode, done.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")


def test_minutes_scale_with_the_signal(slurm, tmp_path):
    """A minute of 1 s: the signal 30 s before a limit of one minute comes after half of it."""
    body = f"trap 'echo batch USR1 >> $SLURM_JOB_ID.log' USR1\n{step(tmp_path)} & wait; wait; wait"
    job = submit(slurm, tmp_path, body, "--time=1", "--signal=B:USR1@30")
    begin = time.monotonic()
    wait_state(slurm, job, "TIMEOUT")
    assert 0.8 < time.monotonic() - begin < 8
    assert "task USR1" not in log(tmp_path, job, "batch USR1"), "B: is for the batch script alone"


def test_the_daemon_ends_and_starts(slurm, tmp_path):
    slurm.set(idle_s=0.1)

    def daemons():
        return [one for one in processes_of(slurm.folder) if "daemon.py" in " ".join(one.cmdline())]

    wait_state(slurm, submit(slurm, tmp_path, "true"), "COMPLETED")
    wait_for(lambda: not daemons())
    job = submit(slurm, tmp_path, "sleep 20")
    wait_state(slurm, job, "RUNNING")
    assert len(daemons()) == 1
    daemons()[0].kill()
    slurm.call("scancel", job)
    wait_state(slurm, job, "CANCELLED")
    jobs = [submit(slurm, tmp_path, "true") for _ in range(8)]
    for job in jobs:
        wait_state(slurm, job, "COMPLETED")


def test_it_ends_with_its_folder(tmp_path):
    slurm = FakeSlurm(tmp_path / "state")
    job = submit(slurm, tmp_path, "setsid sleep 38 & sleep 38")
    wait_state(slurm, job, "RUNNING")
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    wait_for(lambda: not processes_of(tmp_path / "state"), seconds=5)


def test_from_a_shell(tmp_path):
    env = {
        **os.environ,
        "FAKE_SLURM": str(tmp_path / "state"),
        "FAKE_SLURM_REQUEUE_S": "0.1",
        "FAKE_SLURM_ACCOUNTING": "1",
    }
    file = [sys.executable, fake_slurm.__file__]

    def say(*command):
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=20, cwd=tmp_path
        ).stdout

    env["PATH"] = f"{say(*file, 'bin').strip()}:{env['PATH']}"
    job = say("sbatch", "--parsable", "--wrap", "sleep 30").strip()
    wait_for(lambda: say("squeue", "-h", "-o", "%T") == "RUNNING\n")
    say(*file, "inject", "node_fail", job)
    wait_for(lambda: say("squeue", "-h", "-o", "%T") == "RUNNING\n")
    assert say("sacct", "-nPXD", "-o", "State") == "NODE_FAIL\nRUNNING\n"
    assert len(say(*file, "fill", "2000").split()) == 2
    FakeSlurm(tmp_path / "state").stop()


def test_submission_from_a_job_and_preset_variables(slurm, tmp_path):
    job = submit(slurm, tmp_path, "sbatch --parsable --export=ALL,EXTRA=5 --wrap 'echo $EXTRA $SLURM_JOB_ID' > inner")
    wait_state(slurm, job, "COMPLETED")
    inner = (tmp_path / "inner").read_text().strip()
    wait_state(slurm, inner, "COMPLETED")
    assert (tmp_path / f"slurm-{inner}.out").read_text() == f"5 {inner}\n"


def test_submitit_gets_its_results(slurm, monkeypatch, tmp_path):
    submitit = pytest.importorskip("submitit")
    slurm.set(accounting=True)
    for name, value in slurm.variables().items():
        monkeypatch.setenv(name, value)
    executor = submitit.SlurmExecutor(folder=tmp_path, max_num_timeout=2)
    executor.update_parameters(time=10, array_parallelism=2)
    jobs = executor.map_array(pow, [2, 3], [5, 2])
    assert [job.result() for job in jobs] == [32, 9]


def test_several_at_once(slurm, tmp_path):
    """No number is given twice, none is lost."""
    script = tmp_path / "a.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    command = [Path(slurm.programs) / "sbatch", "--parsable", script]
    running = [
        subprocess.Popen(command, env=slurm.env(), cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(12)
    ]
    numbers = [process.communicate(timeout=30)[0].strip() for process in running]
    assert sorted(map(int, numbers)) == list(range(1, 13))
    for number in numbers:
        wait_state(slurm, number, "COMPLETED")


def test_texts():
    assert task_numbers("0-3,7,10-20:5") == [0, 1, 2, 3, 7, 10, 15, 20]
    assert spans([7, 0, 1, 2, 3]) == "0-3,7"
    assert (nodes_text([2]), nodes_text([1, 2, 4])) == ("node2", "node[1-2,4]")
    assert host_names("a[08-10],b") == ["a08", "a09", "a10", "b"]
    texts = ("5", "5:30", "1:00:00", "1-12", "1-12:30", "1-12:30:10", "UNLIMITED")
    assert [minutes(text) for text in texts] == [5, 6, 60, 2160, 2190, 2191, None]
    assert warning("B:USR1@90") == (10, True, 90)
    assert warning("SIGUSR2") == (12, False, 60)
    row = {"aid": 7, "task": 3, "id": 9, "name": "n", "user": "u", "cwd": "/w"}
    assert file_name("%x/%A_%4a-%j%%.log", row) == "/w/n/7_0003-9%.log"
    text = "#!/bin/sh\n# remark\n#SBATCH -N2 --comment='a b' # said\n\n#SBATCH --x=\"y\\z\"\ntrue\n#SBATCH --late\n"
    assert script_options(text) == ["-N2", "--comment=a b", "--x=y\\z"]


def test_settings_have_names(slurm):
    with pytest.raises(KeyError, match="speed is none of slots"):
        slurm.set(speed=3)
    store = Store(slurm.folder)
    assert store.seconds("minute_s") == 1
    store.close()
