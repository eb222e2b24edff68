"""The device guard of `guard.cpp`: compiled once into a cache folder, loaded before torch."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("guard.cpp")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "boxrl-tests"
COMPILERS = ("c++", "g++", "clang++")

library: Any = None
"""The loaded guard: phantom_show, phantom_current and the like; None until `load`."""


def load(cache: Path = CACHE) -> str | None:
    """Load the guard, compiling it where the cache has none; why it cannot be loaded, or None.

    Torch looks for hooks of CUDA once, as it is imported: the guard must be there before.
    """
    global library
    if library is not None:
        return None
    if "torch" in sys.modules:
        return "torch was imported before the phantom GPU; run: pytest tests/phantom"
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "needs torch"
    folder = Path(spec.origin).parent
    if (folder / "lib" / "libtorch_cuda.so").exists():
        return "torch is built for a real GPU; the phantom one needs a CPU build"
    compiled = cache / f"phantom_guard_{_fingerprint()}.so"
    if not compiled.exists():
        reason = _compile(folder, compiled)
        if reason:
            return reason
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(folder / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(compiled), mode=ctypes.RTLD_GLOBAL)
    # A thread of autograd that still lets go of a tensor when Python ends takes the process down.
    atexit.register(time.sleep, 0.2)
    return None


def _fingerprint() -> str:
    """Of all that the compiled guard depends on."""
    version = importlib.metadata.version("torch")
    return hashlib.sha256(SOURCE.read_bytes() + version.encode()).hexdigest()[:16]


def _compile(torch: Path, compiled: Path) -> str | None:
    """Compile `guard.cpp` against torch's headers; why that failed, or None."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return f"needs a C++ compiler, one of {', '.join(COMPILERS)}; none is on PATH"
    compiled.parent.mkdir(parents=True, exist_ok=True)
    include = torch / "include"
    with tempfile.TemporaryDirectory(dir=compiled.parent) as folder:
        output = Path(folder) / compiled.name
        command = [
            compiler, "-O1", "-shared", "-fPIC", "-std=c++20", f"-I{include}",
            f"-I{include / 'torch/csrc/api/include'}", str(SOURCE), "-o", str(output),
            f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{compiler} cannot compile {SOURCE.name}: {done.stderr.strip()[:300]}"
        output.replace(compiled)  # whole, whichever of several processes compiles
    return None
