"""Configuration files of the test cluster, and its folder."""

import secrets
import socket

import psutil
from slurm.processes import free_ports, identity, user_name

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


def configure(cluster):
    """Write them, into a folder that may be new."""
    folder, host, user = cluster.folder, socket.gethostname().partition(".")[0], user_name()
    for name in ("log", "run", "munge", "state", "spool", "sql", "gpu"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    # of a test's process, so that a later cluster can tell that nobody stops this one any more
    (folder / "owner").write_text(identity(psutil.Process()))
    (folder / "munge/key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge/key").chmod(0o400)
    (folder / "task_prolog").write_text(TASK_PROLOG)
    (folder / "task_prolog").chmod(0o755)
    for number in range(cluster.gpus):
        (folder / f"gpu/gpu{number}").symlink_to("/dev/null")
    ports = free_ports(cluster.nodes + 3)
    cluster.sql_port, cluster.dbd_port = ports[-2:]
    gres = f"Gres=gpu:v100:{cluster.gpus}" if cluster.gpus else ""
    nodes = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cluster.cpus} "
        f"RealMemory={cluster.memory_mb} {gres} State=UNKNOWN"
        for name, port in zip(cluster.names, ports[1:], strict=False)
    ]
    accounting = ACCOUNTING.format(port=cluster.dbd_port, folder=folder) if cluster.accounting else ""
    common = {"folder": folder, "host": host, "user": user}
    text = CONF.format(port=ports[0], nodes="\n".join(nodes), accounting=accounting, **common, **cluster.values)
    cluster.conf.write_text(f"{text}{cluster.settings}\n")
    devices = f"Name=gpu Type=v100 File={folder}/gpu/gpu[0-{cluster.gpus - 1}]\n" if cluster.gpus else ""
    (folder / "gres.conf").write_text(devices)
    if cluster.accounting:
        cluster.password = secrets.token_hex(16)
        text = SLURMDBD.format(port=cluster.dbd_port, sql_port=cluster.sql_port, password=cluster.password, **common)
        (folder / "slurmdbd.conf").touch(0o600)
        (folder / "slurmdbd.conf").write_text(text)
