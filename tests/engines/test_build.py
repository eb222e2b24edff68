"""The door of engines: engines by name, options with values, nothing heavy imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boxrl.engines import build
from boxrl.engines.build import ENGINES, EngineKind, EngineOptions, build_engine, parse_engine_arg
from boxrl.errors import UsageError
from boxrl.generation.model_folders import PACKAGED
from boxrl.generation.questions import Questions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gpu_memory_utilization=9e-1", 0.9),  # PyYAML alone reads a string
        ("tensor_parallel_size=2", 2),
        ("enforce_eager=true", True),
        ("limit={image: 1}", {"image": 1}),
        ("revision=", None),
    ],
)
def test_values_of_engine_arguments_are_read_as_those_of_recipes(text: str, value: Any) -> None:
    key, found = parse_engine_arg(text)
    assert (key, found) == (text.partition("=")[0], value)
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["dtype", "=1", "a b=1", "a={", "a={b: 1, b: 2}"])
def test_an_engine_argument_of_another_form_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="--engine-arg: ") as told:
        parse_engine_arg(text)
    assert "\n" not in str(told.value)


def test_an_unknown_engine_is_told_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="engines: transformers, vllm, openai"):
        build_engine(EngineOptions("tiny", "sglang"), "standard", Path())


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (EngineOptions("tiny", base_urls=["http://127.0.0.1:1/v1"]), "--base-url is for engine op"),
        (
            EngineOptions("tiny", "vllm", extra_body={"seed": 1}),
            "--extra-body is for engine openai",
        ),
        (
            EngineOptions("tiny", served_model_name="qwen"),
            "--served-model-name is for engine openai",
        ),
        (EngineOptions("tiny", engine_args=["seed=1"]), "--engine-arg is for engine vllm"),
        (
            EngineOptions("tiny", "openai", base_urls=["http://a/v1"], engine_args=["seed=1"]),
            "--engine-arg is for engine vllm, and engine openai does not read it; take engine vl",
        ),
    ],
)
def test_what_another_engine_reads_is_refused(options: EngineOptions, option: str) -> None:
    with pytest.raises(UsageError, match=option):
        build_engine(options, "standard", Path())


def test_an_engine_of_ones_own_joins_by_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[EngineOptions, Questions]] = []

    def echo(options: EngineOptions, questions: Questions) -> Any:
        seen.append((options, questions))
        return "engine"

    monkeypatch.setitem(build.ENGINES, "echo", EngineKind(echo, 1))
    options = EngineOptions("tiny", "echo", extra_body={"mine": 1})
    assert build_engine(options, "standard", Path("images"), "blank_image") == "engine"
    [(given, questions)] = seen
    assert given is options
    assert questions.family.name == "qwen2.5-vl"
    assert questions.control == "blank_image"


def test_importing_the_door_brings_nothing_heavy() -> None:
    code = (
        "import sys\nimport boxrl.engines.build\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'yaml', 'PIL', 'httpx2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert set(ENGINES) == {"transformers", "vllm", "openai"}


def test_a_server_of_a_known_folder_is_asked_to_leave_marks_and_its_own_sampling_out(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED["tiny"], folder)
    options = EngineOptions(str(folder), "openai", base_urls=["http://127.0.0.1:1/v1"])
    assert build_engine(options, "standard", tmp_path).defaults == {}
    (folder / "generation_config.json").write_text('{"top_k": 1, "repetition_penalty": 1.05}')
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 600, "content": "</think>", "special": True})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert build_engine(options, "standard", tmp_path).defaults == {
        "repetition_penalty": 1.0,
        "top_k": -1,
        "skip_special_tokens": False,
    }
