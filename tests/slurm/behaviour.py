"""What holds for the real SLURM and for the fake one.

A subclass gives the fixture ``slurm``: its call() runs a program; its pace is 1, and less where jobs may be shorter.
"""

import re
import time

import pytest
from slurm.jobs import (
    TRAPS,
    TURNS,
    begin_time_limit,
    end_at_time_limit,
    log,
    show,
    squeue,
    submit,
    two_tasks,
    wait_for,
    wait_state,
)


class Behaviour:
    def test_submission_and_end(self, slurm, tmp_path):
        head = "#SBATCH --job-name=first --comment='two words'\n# a remark\n#SBATCH --output=%x-%j.out\n#SBATCH --time=1:05:00"
        (tmp_path / "a.sh").write_text(
            f"#!/bin/bash\n{head}\necho out; echo err >&2; echo $1\n#SBATCH --job-name=late\n"
        )
        done = slurm.call("sbatch", "a.sh", "argument", cwd=tmp_path)
        job = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout).group(1)
        wait_state(slurm, job, "COMPLETED")
        wait_for(lambda: (tmp_path / f"first-{job}.out").read_text() == "out\nerr\nargument\n")
        shown = squeue(slurm, job, "%A|%F|%K|%i|%T|%t|%r|%j|%l|%k|%P|%D|%C|%E|%a|%R")
        node = squeue(slurm, job, "%N")[0]
        assert re.fullmatch(r"node[1-4]", node)
        first = f"{job}|{job}|N/A|{job}|COMPLETED|CD|None|first|1:05:00|two words|batch|1|1|(null)|(null)|{node}"
        assert shown == [first]
        facts = show(slurm, job)
        expected = {
            **{"JobId": job, "JobName": "first", "JobState": "COMPLETED", "Reason": "None", "ExitCode": "0:0"},
            **{"Requeue": "1", "Restarts": "0", "TimeLimit": "01:05:00", "Partition": "batch", "NodeList": node},
            **{"BatchHost": node, "NumNodes": "1", "NumTasks": "1", "Command": str(tmp_path / "a.sh")},
            **{"WorkDir": str(tmp_path), "StdOut": f"{tmp_path}/first-{job}.out", "Dependency": "(null)"},
        }
        assert {name: facts.get(name) for name in expected} == expected
        start, end = squeue(slurm, job, "%S %e")[0].split()
        assert start <= end
        assert slurm.call("squeue", "-h", "-j", job).stdout == "", "only what lives, unless -t all"

    def test_heading_and_widths(self, slurm, tmp_path):
        job = submit(slurm, tmp_path, "sleep 30", "-J", "a_long_name_of_a_job")
        text = slurm.call("squeue", "-j", job, "-o", "%.8i %10j|%.3T|%4P|%u").stdout.splitlines()
        assert text[0] == "   JOBID NAME      |STA|PART|USER"
        assert text[1].startswith(f"{job:>8} a_long_nam|")
        default = slurm.call("squeue", "-j", job).stdout.splitlines()
        assert default[0] == "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)"
        slurm.call("scancel", job)

    def test_array_limit(self, slurm, tmp_path):
        body = f"echo + >> turns; sleep {0.7 * slurm.pace}; echo - >> turns; exit $SLURM_ARRAY_TASK_ID"
        job = submit(slurm, tmp_path, body, "--array=0-5%2")
        waiting = wait_for(lambda: [line for line in squeue(slurm, job, "%i|%K|%A|%T|%r") if "TaskLimit" in line])
        assert waiting[0] in (
            f"{job}_[2-5%2]|2-5%2|{job}|PENDING|JobArrayTaskLimit",
            f"{job}_[4-5%2]|4-5%2|{job}|PENDING|JobArrayTaskLimit",
        )
        lines = [line.split("|") for line in squeue(slurm, job, "%F|%K|%T|%i", "-r")]
        assert sorted((first, task, name) for first, task, _, name in lines) == [
            (job, str(task), f"{job}_{task}") for task in range(6)
        ]
        wait_state(slurm, job, "COMPLETED", "FAILED")
        level, most = 0, 0
        for word in (tmp_path / "turns").read_text().split():
            level += 1 if word == "+" else -1
            most = max(most, level)
        assert most == 2
        for task in (0, 3):
            facts = show(slurm, f"{job}_{task}")
            assert facts["ArrayJobId"] == job
            assert facts["ArrayTaskId"] == str(task)
            assert facts["JobState"] == ("FAILED" if task else "COMPLETED")
            assert facts["Reason"] == ("NonZeroExitCode" if task else "None")
            assert facts["ExitCode"] == f"{task}:0"
            assert facts["StdOut"] == f"{tmp_path}/slurm-{job}_{task}.out"
        numbers = squeue(slurm, job, "%A", "-r")
        assert len(set(numbers)) == 6
        assert job in numbers

    def test_cancelled_elements(self, slurm, tmp_path):
        job = submit(slurm, tmp_path, "sleep 30", "--array=0-9%2")
        wait_for(lambda: f"{job}_1 RUNNING" in squeue(slurm, job, "%i %T"))
        assert slurm.call("scancel", f"{job}_[1-3]", f"{job}_6").returncode == 0
        wait_for(lambda: {f"{job}_1 CANCELLED", f"{job}_4 RUNNING"} <= set(squeue(slurm, job, "%i %T")))
        listed = squeue(slurm, job, "%K", "-r")
        assert sorted(map(int, listed)) == [0, 1, 4, 5, 7, 8, 9], "what never had a record of its own is nowhere"
        assert squeue(slurm, f"{job}_2", "%T") == []
        gone = slurm.call("scontrol", "show", "job", f"{job}_2")
        assert (gone.returncode, gone.stdout, gone.stderr) == (1, f"Job {job}_2 not found\n", "")
        slurm.call("scancel", job)
        wait_state(slurm, job, "CANCELLED")
        assert sorted(map(int, squeue(slurm, job, "%K", "-r"))) == [0, 1, 4, 5, 7, 8, 9], "the whole array's rest stays"

    def test_cancel_by_name_and_what_is_unknown(self, slurm, tmp_path):
        name = f"name{tmp_path.name}"
        job = submit(slurm, tmp_path, "sleep 30", "-J", name)
        other = submit(slurm, tmp_path, "sleep 30", "--hold")
        assert slurm.call("scancel", f"--name={name}").returncode == 0
        wait_state(slurm, job, "CANCELLED")
        assert squeue(slurm, other, "%T %r") == ["PENDING JobHeldUser"]
        assert slurm.call("squeue", "-h", "-t", "all", f"--name={name}", "--format=%F").stdout == f"{job}\n"
        slurm.call("scancel", other)
        wait_state(slurm, other, "CANCELLED")
        for words in (["99999"], ["--quiet", "99999"], [job]):
            done = slurm.call("scancel", *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        done = slurm.call("scancel", "abc")
        assert (done.returncode, done.stderr) == (1, "scancel: error: Invalid job id abc\n")
        done = slurm.call("scancel")
        assert (done.returncode, done.stderr) == (1, "scancel: error: No job identification provided\n")

    def test_cancel_asks_first(self, slurm, tmp_path):
        job = submit(slurm, tmp_path, two_tasks(tmp_path), "-n2")
        log(tmp_path, job, "task0 start 0", "task1 start 0")
        slurm.call("scancel", job)
        log(tmp_path, job, "task0 TERM", "task1 TERM")
        assert squeue(slurm, job, "%T") == ["COMPLETING"]
        facts = show(slurm, job)
        assert (facts["JobState"], facts["Reason"], facts["Restarts"]) == ("COMPLETING", "None", "0")
        (tmp_path / "enough").touch()
        wait_state(slurm, job, "CANCELLED")
        assert f"*** JOB {job} ON node" in (tmp_path / f"slurm-{job}.out").read_text()

    def test_signals(self, slurm, tmp_path):
        job = submit(slurm, tmp_path, two_tasks(tmp_path), "-n2")
        log(tmp_path, job, "batch start 0", "task0 start 0", "task1 start 0")
        slurm.call("scancel", "--signal=USR2", job)
        assert "batch USR2" not in log(tmp_path, job, "task0 USR2", "task1 USR2"), "steps only"
        slurm.call("scancel", "--batch", "--signal=USR1", job)
        assert "task0 USR1" not in log(tmp_path, job, "batch USR1"), "the batch script only"
        (tmp_path / "enough").touch()
        wait_state(slurm, job, "COMPLETED")

    def test_signal_without_steps(self, slurm, tmp_path):
        job = submit(slurm, tmp_path, f"WHO=batch\n{TRAPS}{TURNS}")
        log(tmp_path, job, "batch start 0")
        assert slurm.call("scancel", "--signal=USR2", job).returncode == 0
        time.sleep(0.5 * slurm.pace)
        assert log(tmp_path, job) == ["batch start 0"], "nobody there to get it"
        (tmp_path / "enough").touch()
        wait_state(slurm, job, "COMPLETED")

    def test_requeue_from_outside(self, slurm, tmp_path):
        body = f"echo restart ${{SLURM_RESTART_COUNT:-none}}\nWHO=batch\n{TRAPS}{TURNS}"
        job = submit(slurm, tmp_path, body, "--requeue", "--open-mode=append")
        log(tmp_path, job, "batch start 0")
        done = slurm.call("scontrol", "requeue", job)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        log(tmp_path, job, "batch TERM")
        facts = show(slurm, job)
        assert (facts["JobState"], facts["Restarts"]) == ("COMPLETING", "1"), "which tells it from what was cancelled"
        wait_for(lambda: squeue(slurm, job, "%T %r %N") == ["PENDING BeginTime "])
        facts = show(slurm, job)
        assert (facts["Restarts"], facts["NodeList"], facts["JobState"]) == ("1", "", "PENDING")
        log(tmp_path, job, "batch start 1")
        (tmp_path / "enough").touch()
        wait_state(slurm, job, "COMPLETED")
        said = (tmp_path / f"slurm-{job}.out").read_text()
        assert re.search(r"restart none\n(.*\n)*slurmstepd-node.*DUE TO JOB REQUEUE \*\*\*\n(.*\n)*restart 1\n", said)

    def test_requeue_from_inside(self, slurm, tmp_path):
        body = """
srun --output=step-%j.txt echo restart ${SLURM_RESTART_COUNT:-none}
[ -n "$SLURM_RESTART_COUNT" ] && exit 0
scontrol requeue $SLURM_JOB_ID
sleep 20; echo never"""
        job = submit(slurm, tmp_path, body, "--open-mode=append", "--array=4")
        wait_state(slurm, job, "COMPLETED")
        text = (tmp_path / f"slurm-{job}_4.out").read_text()
        assert "never" not in text
        [number] = squeue(slurm, job, "%A")
        assert (tmp_path / f"step-{number}.txt").read_text() == "restart none\nrestart 1\n"
        assert show(slurm, f"{job}_4")["Restarts"] == "1"

    def test_requeue_refused(self, slurm, tmp_path):
        fixed = submit(slurm, tmp_path, "sleep 30", "--no-requeue")
        held = submit(slurm, tmp_path, "sleep 30", "--hold")
        wait_state(slurm, fixed, "RUNNING")
        for job, text in (
            (fixed, "Requested operation is presently disabled"),
            (held, "Job is pending execution"),
            ("99999", "Invalid job id specified"),
        ):
            done = slurm.call("scontrol", "requeue", job)
            assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{text} for job {job}\n")
        slurm.call("scancel", fixed, held)

    def test_requeue_of_what_has_ended(self, slurm, tmp_path):
        job = submit(slurm, tmp_path, 'echo $SLURM_RESTART_COUNT >> ran; test -n "$SLURM_RESTART_COUNT"')
        wait_state(slurm, job, "FAILED")
        assert slurm.call("scontrol", "requeue", job).returncode == 0
        wait_state(slurm, job, "COMPLETED")
        assert (tmp_path / "ran").read_text() == "\n1\n"

    @pytest.mark.parametrize(
        ("body", "options", "state", "reason", "exit_code"),
        [
            ("exit 7", [], "FAILED", "NonZeroExitCode", "7:0"),
            ("kill -9 $$", [], "FAILED", "JobLaunchFailure", "0:9"),
            ("srun bash -c 'exit $((SLURM_PROCID + 4))'", ["-n2"], "FAILED", "NonZeroExitCode", "5:0"),
            ("srun bash -c 'kill -USR1 $$'; test $? = 138", [], "COMPLETED", "None", "0:0"),
            ("srun no_such_program; test $? = 2", [], "COMPLETED", "None", "0:0"),
            ("srun -n2 true", [], "FAILED", "NonZeroExitCode", "1:0"),
            ("true", ["--output=/no/such/folder/out"], "FAILED", "JobLaunchFailure", "0:53"),
        ],
    )
    def test_ends(self, slurm, tmp_path, body, options, state, reason, exit_code):
        job = submit(slurm, tmp_path, body, *options)
        wait_state(slurm, job, "COMPLETED", "FAILED")
        facts = show(slurm, job)
        assert (facts["JobState"], facts["Reason"], facts["ExitCode"]) == (state, reason, exit_code)
        assert squeue(slurm, job, "%T|%r|%R") == [
            f"{state}|{reason}|{facts['NodeList'] if state[0] == 'C' else f'({reason})'}"
        ]

    def test_bad_exit_ends_the_step(self, slurm, tmp_path):
        inner = "if [ $SLURM_PROCID = 0 ]; then exit 3; fi; sleep 20; echo late"
        job = submit(slurm, tmp_path, f"srun --kill-on-bad-exit=1 bash -c '{inner}'; exit $?", "-n2")
        wait_state(slurm, job, "FAILED", seconds=15)
        assert show(slurm, job)["ExitCode"] == "143:0"
        text = (tmp_path / f"slurm-{job}.out").read_text()
        assert "task 0: Exited with exit code 3" in text
        assert "task 1: Terminated" in text

    def test_environment(self, slurm, tmp_path):
        inner = "env > step$SLURM_PROCID"
        body = f"mkdir -p $SLURM_ARRAY_TASK_ID; cd $SLURM_ARRAY_TASK_ID\nenv > batch\nsrun bash -c '{inner}'\nsrun --output=out-%t-%j.txt bash -c 'echo $SLURM_PROCID; echo err >&2'"
        head = "#SBATCH -N 2 --ntasks-per-node=2 -c 1\n#SBATCH --gres=gpu:2"
        job = submit(slurm, tmp_path, body, "--array=3,7", "-J", "named", head=head)
        wait_state(slurm, job, "COMPLETED")
        folder = tmp_path / "7"
        env = {name: _variables(folder / name) for name in ("batch", "step0", "step3")}
        nodes = env["batch"]["SLURM_JOB_NODELIST"]
        names = slurm.call("scontrol", "show", "hostnames", nodes).stdout.split()
        assert len(names) == 2
        expected = {
            **{"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"},
            **{"SLURM_ARRAY_TASK_MAX": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_NTASKS": "4"},
            **{"SLURM_NPROCS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_TASKS_PER_NODE": "2(x2)"},
            **{"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NAME": "named", "SLURM_JOB_PARTITION": "batch"},
            **{"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_GPUS_ON_NODE": "2", "MASTER_ADDR": "127.0.0.1"},
            "SLURM_ARRAY_TASK_ID": "7",
        }
        for name, place in (("batch", ("0", "0", "0")), ("step0", ("0", "0", "0")), ("step3", ("3", "1", "1"))):
            one = env[name]
            assert {key: one.get(key) for key in expected} == expected, name
            assert (one["SLURM_PROCID"], one["SLURM_LOCALID"], one["SLURM_NODEID"]) == place
            assert len(one["CUDA_VISIBLE_DEVICES"].split(",")) == 2
            assert one["SLURM_JOB_ID"] in squeue(slurm, job, "%A", "-r")
            assert one["SLURMD_NODENAME"] == names[int(place[2])]
            assert "SLURM_RESTART_COUNT" not in one
        number = env["batch"]["SLURM_JOB_ID"]
        for task in range(4):
            assert sorted((folder / f"out-{task}-{number}.txt").read_text().split()) == [str(task), "err"]

    def test_dependencies(self, slurm, tmp_path):
        first = submit(slurm, tmp_path, f"sleep {slurm.pace}; exit 1")
        stuck = submit(slurm, tmp_path, "true", f"--dependency=afterok:{first}")
        ended = submit(slurm, tmp_path, "true", f"--dependency=afterok:{first}", "--kill-on-invalid-dep=yes")
        after = submit(slurm, tmp_path, "true", f"--dependency=afterany:{first}")
        other = submit(slurm, tmp_path, "true", f"--dependency=afternotok:{first}")
        wait_for(lambda: squeue(slurm, stuck, "%T %r %E") == [f"PENDING Dependency afterok:{first}(unfulfilled)"])
        wait_state(slurm, ended, "CANCELLED")
        assert squeue(slurm, ended, "%r") == ["DependencyNeverSatisfied"]
        wait_state(slurm, after, "COMPLETED")
        wait_state(slurm, other, "COMPLETED")
        assert squeue(slurm, stuck, "%T %r %E") == [f"PENDING DependencyNeverSatisfied afterok:{first}(failed)"]
        slurm.call("scancel", stuck)

    def test_dependencies_on_arrays(self, slurm, tmp_path):
        pair = submit(slurm, tmp_path, "exit $SLURM_ARRAY_TASK_ID", "--array=0-1")
        whole = submit(slurm, tmp_path, "true", f"--dependency=afterok:{pair}")
        each = submit(slurm, tmp_path, "true", "--array=0-1", f"--dependency=aftercorr:{pair}")
        after = submit(slurm, tmp_path, "true", f"--dependency=afterany:{pair}")
        wait_state(slurm, after, "COMPLETED")
        wait_for(lambda: sorted(squeue(slurm, each, "%K %T", "-r")) == ["0 COMPLETED", "1 PENDING"])
        wait_for(lambda: squeue(slurm, whole, "%T %r") == ["PENDING DependencyNeverSatisfied"])
        slurm.call("scancel", whole, each)

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            (["no_such.sh"], 1, "sbatch: error: Unable to open file no_such.sh\n"),
            (["empty.sh"], 1, "sbatch: error: Batch script is empty!\n"),
            (["plain.sh"], 1, "sbatch: error: This does not look like a batch script.  The first\n"),
            (["--foo=3", "--wrap", "true"], 255, "sbatch: unrecognized option '--foo=3'\n"),
            (["-p", "none", "--wrap", "true"], 1, "sbatch: error: invalid partition specified: none\n"),
            (
                ["--array=0-60", "--wrap", "true"],
                1,
                "sbatch: error: Batch job submission failed: Invalid job array specification\n",
            ),
            (["--signal=FOO@3", "--wrap", "true"], 255, "sbatch: error: Invalid --signal specification\n"),
            (["--time=abc", "--wrap", "true"], 255, "sbatch: error: Invalid --time specification\n"),
        ],
    )
    def test_refused_submissions(self, slurm, tmp_path, words, status, said):
        (tmp_path / "empty.sh").touch()
        (tmp_path / "plain.sh").write_text("true\n")
        done = slurm.call("sbatch", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith(said)

    def test_unknown_jobs(self, slurm):
        error = "slurm_load_jobs error: Invalid job id specified\n"
        for words in (["squeue", "-j", "99999"], ["scontrol", "show", "job", "99999"]):
            done = slurm.call(*words)
            assert (done.returncode, done.stdout, done.stderr) == (1, "", error)
        done = slurm.call("squeue", "-h", "-j", "99998,99999")
        assert done.stdout == ""
        assert slurm.call("squeue", "-t", "foo").returncode == 1

    def test_other_answers(self, slurm):
        shown = slurm.call("scontrol", "show", "config").stdout
        assert re.search(r"^MaxArraySize +=  *50$", shown, re.M)
        assert slurm.call("scontrol", "show", "hostnames", "node[1-3,7],x").stdout.split() == [
            "node1",
            "node2",
            "node3",
            "node7",
            "x",
        ]
        done = slurm.call("sacct", "-n", "-P", "-X", "-D", "-j", "1", "-o", "JobID,State")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "Slurm accounting storage is disabled\n")

    def test_time_limit(self, slurm, tmp_path):
        end_at_time_limit(slurm, tmp_path, begin_time_limit(slurm, tmp_path))


def _variables(file):
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
