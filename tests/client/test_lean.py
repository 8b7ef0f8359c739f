"""httpx without its command line, whoever comes first."""

import subprocess
import sys

THREADS = """
import sys, threading
from quorate.client.lean import load_httpx
sys.setswitchinterval(1e-6)
gate, errors = threading.Barrier(8), []
def load():
    gate.wait()
    try:
        load_httpx()
        import httpx
        httpx.Client
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=load) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit("; ".join(errors) or 0)
"""


def test_threads_that_need_it_at_once_all_get_it() -> None:
    ran = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
