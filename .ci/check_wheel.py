"""Whether a wheel holds every tracked file of the package, the recipes and the constraints.

    python .ci/check_wheel.py boxrl-0.1.0-py3-none-any.whl

Exit status 1 and the list where a file is missing, or one is there that nobody put under git.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def list_tracked() -> set[str]:
    """What belongs into the wheel, as paths inside it."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "src/boxrl", "recipes", "constraints.txt"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    paths = [line.removeprefix("src/boxrl/") for line in listed.stdout.splitlines()]
    return {f"boxrl/{path}" for path in paths}


def main() -> int:
    """Compare the two lists."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        held = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    tracked = list_tracked()
    for name in sorted(tracked ^ held):
        print(f"{name}: {'missing' if name in tracked else 'not under git'}", file=sys.stderr)
    print(f"{Path(sys.argv[1]).name}: {len(held)} files")
    return int(tracked != held)


if __name__ == "__main__":
    sys.exit(main())
