"""What needs no torch leaves it unloaded where it is installed, and works where it is not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.chat_server import chat_server

SOURCE = Path(__file__).parents[1] / "src"
HEAVY = ("torch", "torchvision", "transformers", "trl", "datasets", "peft", "accelerate", "vllm")
CHECKED = f"""
import sys
def check(what):
    if loaded := set({HEAVY!r}) & set(sys.modules):
        sys.exit(f"{{what}} loads {{loaded}}")
"""
installed = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("torchvision")), reason="needs torch and torchvision"
)

WITHOUT = f"""
import importlib.abc, importlib.util, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n.split(".")[0] in {HEAVY!r} else find_spec(n, *a)
"""
RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *arguments], capture_output=True, text=True
    )


def outside_engines() -> list[str]:
    """Every module but those of the package with torch."""
    files = sorted(SOURCE.rglob("*.py"))
    names = [".".join(file.relative_to(SOURCE).with_suffix("").parts) for file in files]
    return [
        name.removesuffix(".__init__")
        for name in names
        if not name.startswith("boxrl.engines.") or name == "boxrl.engines.__init__"
    ]


def test_the_import_contracts_keep_torch_out_of_every_package_but_engines() -> None:
    tools = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text("utf-8"))["tool"]
    layers, *forbidden = tools["importlinter"]["contracts"]
    packages = {f"boxrl.{name}" for layer in layers["layers"] for name in layer.split(" | ")}
    named = {name for contract in forbidden for name in contract["source_modules"]}
    assert named == packages - {"boxrl.engines", "boxrl.__main__"}
    for contract in forbidden:
        assert set(contract["forbidden_modules"]) == set(HEAVY)


@installed
def test_every_module_outside_engines_leaves_torch_unloaded() -> None:
    modules = [name for name in outside_engines() if not name.endswith("__main__")]
    code = f"import importlib\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
    code += "    check(name)\n"
    result = subprocess.run([sys.executable, "-c", CHECKED + code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(modules) > 100


@installed
def test_verbs_that_need_no_torch_leave_it_unloaded(scene_folder: Path, tmp_path: Path) -> None:
    samples, answers = scene_folder / "samples.jsonl", tmp_path / "run" / "predictions.jsonl"
    finished = tmp_path / "finished.jsonl"
    finished.write_text('{"id": "a", "completion": "[]", "objects": []}\n')
    several, evals = tmp_path / "several.jsonl", tmp_path / "run" / "evals" / "val"
    with chat_server() as server:
        ask = (
            f"predict --samples {samples} --images {scene_folder / 'images'} "
            f"--model served --family qwen2.5-vl --engine openai --base-url {server.url}"
        )
        calls = [
            "validate quickstart data.synthetic.train=2",
            f"{ask} --out {answers}",
            f"{ask} --out {several} --n 2 --temperature 1",
            f"evaluate --samples {samples} --predictions {answers} --out {evals}",
            f"pass-at-k --samples {samples} --predictions {several}",
            f"compare {evals} {evals}",
            f"score --completions {finished} --rewards f1,ap",
            f"data lint {samples}",
            f"data stats {samples}",
            f"doctor rewards --samples {samples}",
            "benchmark list",
        ]
        code = "from boxrl.cli import main\nfor call in sys.argv[1:]:\n"
        code += "    if main(call.split()): sys.exit(call)\n    check(call)\n"
        result = subprocess.run(
            [sys.executable, "-c", CHECKED + code, *calls], capture_output=True, text=True
        )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "module",
    [
        "boxrl.rewards", "boxrl.data.samples", "boxrl.data.synthetic", "boxrl.metrics",
        "boxrl.evaluate", "boxrl.report", "boxrl.config", "boxrl.cli", "boxrl.parsing",
        "boxrl.generation.predict", "boxrl.generation.endpoint", "boxrl.benchmarks",
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


@pytest.mark.parametrize("missing", ["torch", "torchvision", "trl"])
def test_each_missing_package_of_the_extra_is_told(missing: str, tmp_path: Path) -> None:
    hidden = WITHOUT.replace(repr(HEAVY), repr((missing,)))
    code = "from boxrl.cli import main; sys.exit(main(sys.argv[1:]))"
    call = ["quickstart", "--out", str(tmp_path / "r")]
    result = subprocess.run(
        [sys.executable, "-c", hidden + code, *call], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.endswith('run: pip install "boxrl[train]"\n')
    assert result.stderr.count("\n") == 1


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
