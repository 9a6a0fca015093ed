"""How many CPUs there are for this process."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Count the CPUs that one call may use: those there are, or ``OMP_NUM_THREADS``, if less."""
    cpus = cpu_count()
    # A list is allowed there, one number for each level of nesting.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        cpus = min(cpus, int(first))
    return cpus


def cpu_count() -> int:
    """Count the CPUs of this process's affinity mask, or those its control group pays for."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cpus = os.cpu_count() or 1
    quota = cgroup_quota(CGROUP)
    if quota is not None:
        cpus = min(cpus, round(quota))
    return max(1, cpus)


def cgroup_quota(root: Path) -> float | None:
    """Return how many CPUs a container's quota pays for, or None if there is no quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        if int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    except ValueError:  # "max"
        pass
    return None
