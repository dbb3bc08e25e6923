"""Starts two processes as SLURM's ``srun --kill-on-bad-exit`` does, on nodes of their own.

``python -m tests.training.srun tessera fit …``; both nodes are this machine, which needs no SLURM.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time

_JOB = {"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1"}
_JOB |= {"SLURM_JOB_NAME": "job", "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}


def job_id() -> str:
    """Four digits that Lightning makes the number of a free port of."""
    while True:
        job = random.randrange(10000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", 15000 + job))
            except OSError:
                continue
            return str(job)


def main() -> int:
    """An exit code that is not 0, else 0."""
    job = {**os.environ, **_JOB, "SLURM_JOB_ID": job_id()}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *sys.argv[1:]],
            env={**job, "SLURM_PROCID": str(nth), "SLURM_NODEID": str(nth)},
        )
        for nth in range(2)
    ]
    while None in (codes := [process.poll() for process in processes]) and not any(codes):
        time.sleep(0.1)
    for process in processes:
        process.kill()
        process.wait()
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    raise SystemExit(main())
