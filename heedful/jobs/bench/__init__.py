"""Speed and memory against peers, on this machine, both sides in one run."""

from heedful.jobs.bench.runner import Settings, run_bench, too_slow
from heedful.jobs.bench.work import WORKLOADS

__all__ = ["WORKLOADS", "Settings", "run_bench", "too_slow"]
