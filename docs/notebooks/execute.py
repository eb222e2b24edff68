"""Runs the notebooks of this folder; `make notebooks` keeps what they show, tests throw it away."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
TIMEOUT_S = 300
"""Of one cell, on a busy machine."""

PASSING = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def execute(path: Path, work: Path) -> Any:
    """The notebook with what its cells show; raises where one fails.

    Args:
        path: the .ipynb.
        work: the working directory of its cells.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(work)}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [tidy(output) for output in cell.outputs if is_kept(output)]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def is_kept(output: Any) -> bool:
    """Whether it is worth a place in the repository: progress and warnings are not."""
    return output.get("name") != "stderr"


def tidy(output: Any) -> Any:
    """The output without what changes from run to run."""
    if output.output_type == "stream":
        output.text = PASSING.sub("", output.text)
    data = output.get("data", {})
    for name in ("text/plain", "image/jpeg"):  # beside a picture or a table
        if len(data) > 1:
            data.pop(name, None)
    return output


def main() -> None:
    """Run the named notebooks, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="without .ipynb (default: all)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder that they are written to")
    args = parser.parse_args()
    names = args.names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        with tempfile.TemporaryDirectory(prefix="boxrl-notebook-") as work:
            notebook = execute(FOLDER / f"{name}.ipynb", Path(work))
        nbformat.write(notebook, args.out / f"{name}.ipynb")
        print(f"{name}: {len(notebook.cells)} cells", file=sys.stderr)


if __name__ == "__main__":
    main()
