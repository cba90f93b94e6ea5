from __future__ import annotations

import os
import subprocess
import sys

from localai.node.testing.processors import keep_to, usable_processors

SHOW = """
import os, subprocess, sys, threading
started, told = threading.Event(), threading.Event()
def run():
    started.set()
    told.wait()
    print(*os.sched_getaffinity(0), flush=True)
thread = threading.Thread(target=run)
thread.start()
started.wait()
print("ready", flush=True)
input()
told.set()
thread.join()
subprocess.run([sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"])
"""


def test_all_threads_and_children_stay_there() -> None:
    last = usable_processors()[-1]
    with subprocess.Popen([sys.executable, "-c", SHOW], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        keep_to(process.pid, {last})
        assert process.communicate("\n")[0].split() == [str(last)] * 2
    assert last in os.sched_getaffinity(0)
