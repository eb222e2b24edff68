"""Pickles of public archives, read without running anything.

A pickle is a program. None is run here: `boxrl.guard.unpickling` reads the plain data that it
makes, in a process of its own. Where an archive also comes as JSON, take that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import boxrl
from boxrl.data.files import no_cycle_search
from boxrl.errors import DataError
from boxrl.guard.files import read_bytes
from boxrl.guard.unpickling.answers import CPU_SECONDS, MEMORY_BYTES, opened

MOST_BYTES = 256 * 2**20
"""Of a file. 50,000 refs in RefCOCO's form have 30 MB."""

PATIENCE_S = 5 * CPU_SECONDS
"""How long a file may take on a busy machine."""

READER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from boxrl.guard.unpickling.answers import main; main()"
)
"""By its path and not by `-m`: a notebook may have found boxrl where a new Python does not look."""


@no_cycle_search()
def read_pickle(path: Path) -> Any:
    """The content of a pickle of Python 2 or 3, tuples and arrays as lists.

    A string of Python 2 is read as UTF-8 or, where it is none, as Latin-1.

    Raises:
        DataError: no such file, damaged, too large, or it asks for more than plain data; nothing
            that it asks for has been run.
    """
    content = read_bytes(path, MOST_BYTES)
    try:
        return opened(answer_of(content))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def answer_of(content: bytes) -> bytes:
    """What a process of its own makes of a pickle, for `opened`.

    Raises:
        DataError: it came to no end within its limits.
    """
    place = str(Path(boxrl.__file__).parents[1])
    command = [sys.executable, "-P", "-c", READER, place]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"not read within {PATIENCE_S} seconds") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DataError(
            f"the process that read it ended with status {done.returncode} ({last:.80}); it may "
            f"take {CPU_SECONDS} seconds and {MEMORY_BYTES >> 30} GiB"
        )
    return done.stdout
