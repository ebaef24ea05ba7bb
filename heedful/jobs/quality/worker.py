"""The process that computes summaries beside the server: one job a line in, one answer a line out.

    python -m heedful.jobs.quality.worker

First line: ``{"store": URL}``; then ``{"project": NAME, "kind": KIND}`` each, answered by the same
with ``error``, null when all went well. Ends when its input does, or after ``IDLE_SECONDS``. The
only thing it writes to the database is a whole summary, so it may be killed at any time.
"""

import json
import os
import select
import traceback

from heedful.errors import HeedfulError
from heedful.store import Store, open_store

IDLE_SECONDS = 300.0
NICENESS = 10  # pages come first


def main() -> None:
    """Work until the input ends."""
    os.nice(NICENESS)
    # unbuffered: what a buffer has read ahead, select does not see
    with (
        open(0, "rb", buffering=0) as jobs,
        open_store(json.loads(jobs.readline())["store"]) as store,
    ):
        while select.select([jobs], [], [], IDLE_SECONDS)[0]:
            line = jobs.readline()
            if not line:
                return
            job = json.loads(line)
            print(json.dumps({**job, "error": work(store, job)}), flush=True)


def work(store: Store, job: dict[str, str]) -> str | None:
    """Do one job; what went wrong, or None."""
    # late: the server hears of a broken installation as the error of a job
    from heedful.jobs.quality import compute

    try:
        compute(store, job["project"], job["kind"])  # type: ignore[arg-type]
    except HeedfulError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main()
