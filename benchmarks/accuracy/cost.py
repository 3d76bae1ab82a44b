"""What a command costs, from a process that holds little: Linux counts what one holds as the peak of those it starts.

python -S cost.py LIMIT COMMAND ARGUMENT...
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def cost_of(command: list[str], log: Path, limit: float, place: Path) -> dict[str, float]:
    """What `main` prints of a command that writes into a log."""
    wrapped = [sys.executable, "-S", __file__, str(limit), *command]
    with log.open("wb") as said:
        answer = subprocess.run(wrapped, stdout=subprocess.PIPE, stderr=said, cwd=place, check=True).stdout
    found: dict[str, float] = json.loads(answer)
    return found


def main() -> None:
    """Prints seconds by the clock and on all cores, peak MiB of the largest process, and the exit status."""
    start = time.perf_counter()
    child = subprocess.Popen(sys.argv[2:], stdout=sys.stderr, start_new_session=True)
    timer = threading.Timer(float(sys.argv[1]), os.killpg, (child.pid, signal.SIGKILL))
    timer.start()
    _, status, usage = os.wait4(child.pid, 0)
    timer.cancel()
    found = {
        "seconds": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / 1024,
        "status": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
