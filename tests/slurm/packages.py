"""SLURM's Debian packages, installed where they are missing."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
APT_S = 900
NO_AUTOSTART = Path("/usr/sbin/policy-rc.d")


class UnavailableError(RuntimeError):
    """There can be no SLURM on this machine."""


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
