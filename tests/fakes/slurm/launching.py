"""A job's batch script as a process, with the environment that SLURM gives it."""

import os
import subprocess

from fakes.slurm.store import file_name, host_names


def launch(store, row, spec, script):
    """The process that runs the script, a session of its own."""
    node = host_names(row["nodelist"])[0]
    out, err = file_name(row["out"], row, node=node), file_name(row["err"], row, node=node)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if spec["append"] else os.O_TRUNC)
    handles = [os.open(spec["input"], os.O_RDONLY), os.open(out, flags, 0o666)]
    try:
        handles.append(os.open(err, flags, 0o666) if err != out else os.dup(handles[1]))
        return subprocess.Popen(
            [script, *spec["arguments"]],
            stdin=handles[0],
            stdout=handles[1],
            stderr=handles[2],
            cwd=row["cwd"] if os.path.isdir(row["cwd"]) else "/tmp",
            env=_environment(store, row, spec, node),
            start_new_session=True,
        )
    finally:
        for handle in handles:
            os.close(handle)


def _environment(store, row, spec, node):
    per_node = row["per_node"] or -(-row["ntasks"] // row["nodes"])
    each = f"{per_node}(x{row['nodes']})" if row["nodes"] > 1 else str(per_node)
    cpus = per_node * (row["cpus"] or 1)
    values = {
        "SLURM_CLUSTER_NAME": "fake",
        "SLURM_CPUS_ON_NODE": cpus,
        "SLURM_GTIDS": 0,
        "SLURM_JOBID": row["id"],
        "SLURM_JOB_CPUS_PER_NODE": f"{cpus}(x{row['nodes']})" if row["nodes"] > 1 else cpus,
        "SLURM_JOB_ID": row["id"],
        "SLURM_JOB_NAME": row["name"],
        "SLURM_JOB_NODELIST": row["nodelist"],
        "SLURM_JOB_NUM_NODES": row["nodes"],
        "SLURM_JOB_PARTITION": row["partition"],
        "SLURM_JOB_UID": os.getuid(),
        "SLURM_JOB_USER": row["user"],
        "SLURM_LOCALID": 0,
        "SLURM_NNODES": row["nodes"],
        "SLURM_NODEID": 0,
        "SLURM_NODELIST": row["nodelist"],
        "SLURM_NPROCS": row["ntasks"],
        "SLURM_NTASKS": row["ntasks"],
        "SLURM_PROCID": 0,
        "SLURM_SUBMIT_DIR": row["cwd"],
        "SLURM_SUBMIT_HOST": os.uname().nodename,
        "SLURM_TASKS_PER_NODE": each,
        "SLURMD_NODENAME": node,
        "HOSTNAME": node,
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "FAKE_SLURM": store.folder,
        "FAKE_SLURM_JOB": f"{store.folder}:{row['id']}",
    }
    values |= _chosen(store, row, spec)
    return {**spec["environment"], **{name: str(value) for name, value in values.items()}}


def _chosen(store, row, spec):
    """Variables that are there only where a job asked for what they tell."""
    values = {}
    if row["cpus"]:
        values["SLURM_CPUS_PER_TASK"] = row["cpus"]
    if row["per_node"]:
        values["SLURM_NTASKS_PER_NODE"] = row["per_node"]
    if row["restarts"]:
        values["SLURM_RESTART_COUNT"] = row["restarts"]
    if spec["append"]:
        values["SLURM_OPEN_MODE"] = "a"
    if row["task"] is not None:
        tasks = store.sql.execute(
            "select min(task), max(task), count(*) from job where aid = ?", (row["aid"],)
        ).fetchone()
        values["SLURM_ARRAY_JOB_ID"], values["SLURM_ARRAY_TASK_ID"] = row["aid"], row["task"]
        values["SLURM_ARRAY_TASK_MIN"], values["SLURM_ARRAY_TASK_MAX"], values["SLURM_ARRAY_TASK_COUNT"] = tasks
    if spec["gpus"]:
        values["SLURM_GPUS_ON_NODE"] = spec["gpus"]
        values["CUDA_VISIBLE_DEVICES"] = values["SLURM_JOB_GPUS"] = ",".join(map(str, range(spec["gpus"])))
    return values
