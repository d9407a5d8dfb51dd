"""SLURM as a backend. submitit writes the sbatch script; the job is a plain command on files that are frozen.

State is asked of ``squeue`` with one call for all jobs, then of ``sacct`` where there is accounting, then of ``scontrol``.
"""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.jobs.backend import Batch, Phase, Seen
from avexp.jobs.ledger import Attempt
from avexp.jobs.snapshot import environment, python

COMMAND_S = 60.0
"""No call of a SLURM program may take longer [s]."""
ENDED = (
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "BOOT_FAIL",
    "REVOKED",
    "LAUNCH_FAILED",
)
COMES_BACK = ("NODE_FAIL", "PREEMPTED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""Not ends while SLURM still lists the job: it may be queued again."""
RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED", "RESIZING")
IGNORE = "trap '' USR1 USR2"
"""In the batch script, and in each task until Python takes signals over: a warning that comes early must not be deadly."""
UP = "idle,mixed,allocated,completing"
QUEUE = ("partition", "constraint", "account", "qos")
"""Where a job queues: by the launcher, else by the profile's cluster, else by SLURM's own defaults."""
WAITS = {
    "BeginTime": "was put back into the queue, and waits a moment",
    "Dependency": "waits for the jobs of hydra.launcher.dependency",
    "JobArrayTaskLimit": "as many run as hydra.launcher.concurrent lets",
    "PartitionConfig": "the partition has no such nodes: it asks for more nodes, cores, GPUs or time than there are",
    "PartitionDown": "the partition is closed",
    "PartitionNodeLimit": "the partition has fewer nodes than it asks for",
    "PartitionTimeLimit": "the partition allows less time than it asks for",
    "Priority": "others are ahead",
    "ReqNodeNotAvail": "the nodes that it could run on are down, drained or reserved",
    "Resources": "waits for nodes to become free",
}
"""SLURM's reasons in words."""
SAYS = re.compile(r"^sbatch: (error|fatal): ")
REMEDIES = {
    "partition": "sinfo shows the partitions that hydra.launcher.partition, or the profile's cluster, may name",
    "account": "hydra.launcher.account, or the profile's cluster, names it",
    "qos": "hydra.launcher.qos, or the profile's cluster, names it",
    "configuration source": "SLURM_CONF says where the cluster is",
}
SACCT_AT_ONCE = 400
NO_LIMIT = 987_654_321
"""Stands for none while submitit writes the script: the partition's own default then holds."""
MOST_ARRAY = 1001
"""MaxArraySize where the cluster does not say."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job asks SLURM for, beside the hardware profile's nodes, GPUs, cores and memory; None leaves it to the profile's
    ``cluster`` or to the cluster's default.

    Attributes:
        partition: queue.
        constraint: node features.
        account: who pays.
        qos: quality of service.
        time_min: limit [min].
        exclude: nodes to avoid.
        dependency: such as ``afterok:123``; a job whose dependency can never be met is ended.
        signal_s: how long before the limit the job is asked to save [s]; SLURM may do so up to a minute earlier.
        setup: shell lines before the job, such as ``module load``.
        extra: further options of sbatch.
    """

    partition: str | None = None
    constraint: str | None = None
    account: str | None = None
    qos: str | None = None
    time_min: int | None = None
    exclude: str | None = None
    dependency: str | None = None
    signal_s: int = 120
    setup: list[str] = field(default_factory=list)
    extra: dict[str, Any] | None = None


class SlurmBackend:
    """Submits arrays and watches them.

    Args:
        folder: of the sweep; scripts and SLURM's own logs go below it.
        resources: overrides of the profile.
        concurrent: jobs that run at a time; None for as many as there is room for.
    """

    name = "slurm"
    poll_s = (1.0, 30.0)

    def __init__(self, folder: Path, resources: Resources, concurrent: int | None = None) -> None:
        self.folder, self.resources, self.limit = folder, resources, concurrent
        self._most_array: int | None = None
        self._accounting: bool | None = None

    def room(self, living: int) -> int:
        """See Backend: SLURM queues what does not fit."""
        return 1 << 30

    @property
    def most_array(self) -> int:
        """Jobs of one array: the cluster's MaxArraySize."""
        if self._most_array is None:
            found = re.search(r"MaxArraySize\s*=\s*(\d+)", _call("scontrol", "show", "config").stdout or "")
            self._most_array = max(1, int(found.group(1)) - 1) if found else MOST_ARRAY - 1
        return self._most_array

    def submit(self, batch: Batch) -> list[str]:
        """See Backend."""
        script = batch.file.with_suffix(".sh")
        script.write_text(self.script(batch, self._avoidable(batch)))
        environment_ = {key: value for key, value in os.environ.items() if not _leaks(key)}
        done = _call("sbatch", str(script), environment=environment_)
        if done.returncode:
            said = SAYS.sub("", (done.stderr or done.stdout or "no answer").strip().splitlines()[-1])
            raise RunError("sbatch", said, f"{_remedy(said)}the script is {script}")
        from submitit import SlurmExecutor

        number = SlurmExecutor._get_job_id_from_submission_command(done.stdout)
        return _ids(number, len(batch.attempts))

    def script(self, batch: Batch, avoid: Sequence[str] = ()) -> str:
        """The sbatch script, by submitit.

        Args:
            batch: of jobs.
            avoid: nodes, beside those that the settings exclude.
        """
        from submitit.slurm.slurm import _make_sbatch_string

        shape, chosen = batch.shape, self.resources
        cluster = shape.get("cluster") or {}
        tasks, nodes = int(shape.get("devices") or 1), int(shape.get("nodes") or 1)
        logs = self.folder / "slurm"
        logs.mkdir(exist_ok=True)
        text: str = _make_sbatch_string(
            command=_command(batch.file),
            folder=logs,
            job_name=batch.name,
            comment=batch.name,
            **{name: getattr(chosen, name) or cluster.get(name) or None for name in QUEUE},
            time=chosen.time_min or cluster.get("time_min") or NO_LIMIT,
            nodes=nodes,
            ntasks_per_node=tasks,
            gpus_per_node=tasks if shape.get("accelerator") == "cuda" else None,
            cpus_per_task=int(shape.get("cpu_cores") or 0) // tasks or None,
            exclude=",".join([*([chosen.exclude] if chosen.exclude else []), *avoid]) or None,
            dependency=chosen.dependency,
            signal_delay_s=chosen.signal_s,
            array_parallelism=batch.at_once,
            map_count=len(batch.attempts),
            stderr_to_stdout=True,
            setup=[IGNORE, *_exports(batch.code, cluster), *chosen.setup],
            srun_args=["--kill-on-bad-exit=1"] if tasks * nodes > 1 else [],
            wckey="",
            additional_parameters=self._extra(shape, cluster),
        )
        for line in ("#SBATCH --wckey=''\n", f"#SBATCH --time={NO_LIMIT}\n"):
            text = text.replace(line, "")
        return text

    def _avoidable(self, batch: Batch) -> list[str]:
        """Nodes to avoid, as long as enough others answer: a job that may run nowhere would wait for ever."""
        if not batch.avoid:
            return []
        queue = self.resources.partition or (batch.shape.get("cluster") or {}).get("partition")
        where = [f"--partition={queue}"] if queue else []
        nodes = _call("sinfo", "--noheader", "--Node", "--responding", f"--states={UP}", "--format=%N", *where).stdout
        avoid = set(_call("scontrol", "show", "hostnames", ",".join(batch.avoid)).stdout.split())
        enough = len(set(nodes.split()) - avoid) >= int(batch.shape.get("nodes") or 1)
        return sorted(avoid) if enough else []

    def _extra(self, shape: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
        """Options of sbatch that submitit has no name for."""
        found: dict[str, Any] = {"requeue": True}
        if shape.get("memory_gib") and cluster.get("ask_memory"):
            found["mem"] = f"{int(shape['memory_gib'])}G"
        if self.resources.dependency:
            found["kill-on-invalid-dep"] = "yes"
        return {**found, **(self.resources.extra or {})}

    def find(self, batch: str, count: int) -> list[str] | None:
        """See Backend."""
        done = _call("squeue", "--noheader", "--states=all", f"--name={batch}", "--format=%F")
        if done.returncode:
            raise RunError(
                "squeue", (done.stderr or "no answer").strip().splitlines()[-1], "try again when SLURM answers"
            )
        found = done.stdout.split()
        return _ids(found[0], count) if found else None

    def look(self, attempts: Sequence[Attempt]) -> dict[str, Seen]:
        """See Backend."""
        by_job = {attempt.job: attempt.token for attempt in attempts if attempt.job}
        seen: dict[str, Seen] = {}
        listed = self._squeue()
        if listed is None:
            return {token: Seen(Phase.unknown, reason="squeue does not answer") for token in by_job.values()}
        for job, one in listed:
            if (token := by_job.get(job)) is not None:
                seen[token] = one
        missing = [job for job, token in by_job.items() if token not in seen]
        for job, one in self._sacct(missing):
            if job in by_job:
                seen[by_job[job]] = one
        # what squeue does not list any more and sacct calls running: its end was lost (a "runaway job"), or it is ending
        for job in [job for job in missing if by_job[job] not in seen or seen[by_job[job]].phase is not Phase.ended]:
            seen[by_job[job]] = self._scontrol(job)
        return seen

    def wait(self, seconds: float) -> None:
        """See Backend."""
        time.sleep(seconds)

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """See Backend."""
        jobs = [attempt.job for attempt in attempts if attempt.job]
        for start in range(0, len(jobs), 200):
            _call("scancel", "--quiet", *jobs[start : start + 200])

    def close(self) -> None:
        """See Backend."""

    def _squeue(self) -> list[tuple[str, Seen]] | None:
        done = _call("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F|%K|%T|%N|%r")
        if done.returncode:
            return None
        found = []
        for line in done.stdout.splitlines():
            job, index, word, node, reason = (line.split("|", 4) + [""] * 5)[:5]
            found.append((f"{job}_{index}" if index != "N/A" else job, seen_as(word, node, reason, listed=True)))
        return found

    def _sacct(self, jobs: Sequence[str]) -> Iterator[tuple[str, Seen]]:
        if not jobs or self._accounting is False:
            return
        for start in range(0, len(jobs), SACCT_AT_ONCE):
            ids = ",".join(jobs[start : start + SACCT_AT_ONCE])
            done = _call("sacct", "-n", "-P", "-X", "-D", "-j", ids, "-o", "JobID,State,NodeList,ExitCode")
            if done.returncode:
                self._accounting = False if "disabled" in done.stderr else self._accounting
                return
            for line in done.stdout.splitlines():  # a requeued job has several: the last is the newest
                job, word, node, code = (line.split("|") + [""] * 4)[:4]
                yield job, seen_as(word.split()[0] if word else "", node, f"exit code {code}", listed=False)

    def _scontrol(self, job: str) -> Seen:
        done = _call("scontrol", "--oneliner", "show", "job", job)
        text = done.stdout
        if done.returncode or "JobState=" not in text:
            # of an array whose other jobs are known, it says so in other words
            if any(words in done.stderr + text for words in ("Invalid job id", "not found")):
                return Seen(Phase.gone, reason="SLURM knows no such job any more")
            return Seen(Phase.unknown, reason="scontrol does not answer")
        facts = dict(re.findall(r"(\w+)=(\S*)", text))
        return seen_as(
            facts["JobState"], facts.get("NodeList", ""), f"exit code {facts.get('ExitCode', '')}", listed=True
        )


def seen_as(word: str, node: str, reason: str, listed: bool) -> Seen:
    """A SLURM state in short."""
    node = "" if node in ("(null)", "None assigned") else node
    reason = "" if reason == "None" else reason
    if word in RUNNING:
        return Seen(Phase.running, word, node)
    if word in ENDED or (word in COMES_BACK and not listed):
        return Seen(Phase.ended, word, node, reason)
    return Seen(Phase.waiting, word, node, f"{reason}: {WAITS[reason]}" if reason in WAITS else reason)


def _remedy(said: str) -> str:
    return next((f"{remedy}; " for word, remedy in REMEDIES.items() if word in said.lower()), "")


def _command(batch: Path) -> str:
    inner = shlex.join([python(), "-m", "avexp.jobs.task", str(batch)])
    return shlex.join(["bash", "-c", f"{IGNORE}; exec {inner}"])


def _exports(code: Path | None, cluster: Mapping[str, Any]) -> list[str]:
    """Shell lines: where the job finds its code, and what the cluster's fabric needs."""
    variables = {**environment(code), **(cluster.get("environment") or {})}
    return [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]


def _ids(number: str, count: int) -> list[str]:
    return [f"{number}_{index}" for index in range(count)]


def _leaks(key: str) -> bool:
    """Variables of a job that this process is part of: sbatch would take them for its own."""
    return key.startswith(("SLURM_", "SBATCH_")) and key != "SLURM_CONF"


def _call(*command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A SLURM program; one that is missing or hangs is one that failed."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
            env=environment and dict(environment),
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: no such program; is this a SLURM cluster?")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]}: no answer within {COMMAND_S:g} s")
