"""A process that has imported torch and forks a child per call: seconds saved at each."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.faults.campaign import MAIN, Outcome, environment, read_output

SERVER = f"""
import json, os, sys, traceback
import boxrl.engines.generate, boxrl.engines.training.train
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(path, os.O_RDWR), number)
        os.chdir(job["cwd"])
        sys.argv = ["boxrl", *job["arguments"]]
        status = 1
        try:
            exec({MAIN!r})
        except SystemExit as error:
            status = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Warm:
    """Runs calls one after the other; `run` is that of `campaign`, without its options."""

    def __init__(self) -> None:
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def run(self, *arguments: object, cwd: Path | None = None) -> Outcome:
        """`boxrl ARGUMENTS` to its end, in `cwd`."""
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            job = {
                "arguments": list(map(str, arguments)),
                "cwd": str(cwd or Path.cwd()),
                "out": out.name,
                "err": err.name,
            }
            print(json.dumps(job), file=self.process.stdin, flush=True)
            status = int(self.process.stdout.readline())
            return Outcome(status, read_output(out), read_output(err))

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
