"""Everything outside engines/ works where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HIDDEN = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "vllm")
WITHOUT = f"""
import importlib.abc, importlib.util, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n.split(".")[0] in {HIDDEN!r} else find_spec(n, *a)
"""
RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "module",
    [
        "boxrl.rewards", "boxrl.data.samples", "boxrl.data.synthetic", "boxrl.metrics",
        "boxrl.evaluate", "boxrl.report", "boxrl.config", "boxrl.cli", "boxrl.parsing",
    ],
)  # fmt: skip
def test_modules_import_without_torch(module: str) -> None:
    result = run(f"import {module}")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "verb", [("train", str(RECIPE)), ("quickstart",)], ids=lambda verb: verb[0]
)
def test_a_missing_extra_names_the_install_line(verb: tuple[str, ...], tmp_path: Path) -> None:
    out = [f"out={tmp_path / 'r'}"] if verb[0] == "train" else ["--out", str(tmp_path / "r")]
    result = run("from boxrl.cli import main; sys.exit(main(sys.argv[1:]))", *verb, *out)
    assert result.returncode == 2
    assert 'pip install "boxrl[train]"' in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "r").exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import contextlib\n"
        "from boxrl.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pydantic', 'rich', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "quickstart" in result.stdout
