"""`boxrl doctor`: what is installed, what is missing, on which machine; whose pay is summed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from boxrl import environment
from boxrl.cli import main
from boxrl.environment import (
    describe_environment,
    describe_package,
    describe_torch,
    is_within,
    read_constraints,
    read_requirements,
)

ROOT = Path(__file__).parents[2]
RUN = "from boxrl.cli import main; sys.exit(main(sys.argv[1:]))"


def without(*packages: str) -> str:
    """Code that hides packages, as if they were not installed."""
    return f"""
import importlib.abc, importlib.util, sys
HIDDEN = {packages!r}
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
found = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n.split(".")[0] in HIDDEN else found(n, *a)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("version", "bounds", "inside"),
    [
        ("2.9", ">=2.9", True),
        ("2.10.1+cpu", ">=2.9,<3", True),
        ("2.8.9", ">=2.9", False),
        ("3.0", ">=2.9,<3", False),
        ("2.0", ">=2.0.0", True),
        ("2", "<2.0", False),
        ("1.17.0", "<1.17,>=1.16", False),
        ("5.0rc1", "", True),
    ],
)
def test_versions_are_compared_number_by_number(version: str, bounds: str, inside: bool) -> None:
    assert is_within(version, bounds) is inside


def test_a_package_tells_its_version_and_the_tested_one() -> None:
    row = describe_package("PyYAML >=6.0; python_version >= '3.11'", read_constraints())
    assert row["name"] == "PyYAML"
    assert row["wanted"] == ">=6.0"
    assert row["ok"] is True
    assert row["tested"].startswith("6.")


def test_a_package_that_is_missing_or_too_old_is_not_ok() -> None:
    missing = describe_package("no-such-package>=1", {})
    assert (missing["version"], missing["tested"], missing["ok"]) == (None, None, False)
    assert describe_package("numpy>=1000", {})["ok"] is False


def test_a_wheels_metadata_says_what_the_checkout_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.setattr(environment, "CHECKOUT", ROOT)
    assert (
        read_requirements() == {"base": project["dependencies"]} | project["optional-dependencies"]
    )
    lines = [*project["dependencies"], 'torch>=2.9; extra == "train"', "vllm>=1; extra == 'vllm'"]
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    wanted = read_requirements()
    assert wanted["base"] == project["dependencies"]
    assert [describe_package(line, {})["name"] for line in wanted["train"]] == ["torch"]
    assert [describe_package(line, {})["wanted"] for line in wanted["vllm"]] == [">=1"]
    assert wanted["demo"] == []


def test_the_constraints_travel_with_the_wheel() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    inside = build["build"]["targets"]["wheel"]["force-include"]
    assert inside["constraints.txt"] == "boxrl/constraints.txt"
    assert (ROOT / "constraints.txt").is_file()


def test_a_build_under_another_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("json")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: spec)
    brought = {"vllm": ["numpy"], "torch": ["torch"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: brought)
    version = environment.installed_version("vllm")
    assert version is not None
    assert version == environment.installed_version("numpy")
    assert environment.installed_version("no-such-package") == "unknown"


def test_doctor_alone_looks_at_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in ("hotcoco", "boxrl[train]", "gradio", "memory:", "disk here:", "torch"):
        assert word in said


@pytest.mark.parametrize("call", [["doctor", "env", "--json"], ["doctor", "--json"]])
def test_json_is_one_object(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True
    assert facts["install"] is None
    assert facts["machine"]["memory_gib"] > facts["machine"]["memory_available_gib"] > 0
    for name, extra in facts["extras"].items():
        assert extra["install"] == (None if extra["installed"] else f'pip install "boxrl[{name}]"')


def test_missing_extras_are_told_and_nothing_of_them_is_imported() -> None:
    hidden = without("torch", "transformers", "trl", "vllm", "gradio", "torchvision")
    result = run(hidden + RUN, "doctor", "env")
    assert result.returncode == 0, result.stderr
    for extra in ("train", "vllm", "demo"):
        assert f'pip install "boxrl[{extra}]"' in result.stdout
    assert "torch: missing" in result.stdout


@pytest.mark.parametrize("package", ["hotcoco", "rich", "numpy", "pydantic"])
def test_a_missing_base_package_fails_with_its_install_line(package: str) -> None:
    hidden = without(package, "torch")
    result = run(hidden + RUN, "doctor", "env")
    assert result.returncode == 1
    said = f"boxrl: {package}: missing or too old; run: pip install boxrl"
    assert result.stderr == said + "\n"
    assert "memory:" in result.stdout
    as_json = run(hidden + RUN, "doctor", "env", "--json")
    facts = json.loads(as_json.stdout)
    assert as_json.returncode == 1
    assert facts["ok"] is False
    assert facts["install"] == "pip install boxrl"
    assert [row["name"] for row in facts["base"] if not row["ok"]] == [package]


def test_a_torch_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.13:\\n not here')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + RUN
    result = run(code, "doctor", "env")
    assert result.returncode == 0, result.stderr
    assert "torch: cannot be imported (OSError: libcudart.so.13: not here)" in result.stdout


def test_a_torchvision_for_another_torch_is_told_to_be_repaired(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "import torch\ntorch.library.register_fake('torchvision::nms')(lambda *a: None)"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + RUN
    result = run(code, "doctor", "env")
    assert result.returncode == 0, result.stderr
    assert "torchvision: built for another torch; repaired in memory" in result.stdout


def test_torch_tells_its_device() -> None:
    torch = pytest.importorskip("torch")
    facts = describe_torch()
    assert facts["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert len(facts["gpus"]) == torch.cuda.device_count()
    assert facts["torchvision"] in ("missing", "works", "repaired")


def test_a_gpu_is_told_with_its_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts: dict[str, Any] = describe_environment() | {
        "torch": {
            "device": "cuda",
            "cuda": "13.0",
            "gpus": [{"name": "NVIDIA H200", "memory_gib": 139.8, "free_gib": 100.0}],
            "torchvision": "repaired",
        }
    }
    monkeypatch.setattr(environment, "describe_environment", lambda: facts)
    assert main(["doctor", "env"]) == 0
    said = capsys.readouterr().out
    assert "torch: runs on cuda, built for CUDA 13.0" in said
    assert "gpu: NVIDIA H200, 139.8 GiB, 100.0 GiB free" in said
    assert "torchvision: built for another torch; repaired" in said


@pytest.mark.parametrize(
    ("named", "shown"),
    [([], {"ap", "od_length", "weighted_sum", "f1"}), (["--rewards=f1,ap"], {"f1", "ap", "sum"})],
)
def test_rewards_are_summed_where_they_are_named(
    named: list[str], shown: set[str], scene_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["doctor", "rewards", "--json", "--limit=2", *named]
    assert main([*command, "--samples", str(scene_folder / "samples.jsonl")]) == 0
    assert set(json.loads(capsys.readouterr().out)["rewards"]) == shown
