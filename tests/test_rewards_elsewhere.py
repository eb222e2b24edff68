"""Every script of docs/howto/rewards_elsewhere.md runs, and pays a right answer in full."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("datasets")

from boxrl.data.samples import parse_line
from boxrl.engines.torchvision_repair import repair_torchvision
from boxrl.families import read_family
from boxrl.families.image_paths import build_image_path
from boxrl.prompts import render_target
from boxrl.rewards import easyr1, verl
from tests.test_docs import ROOT, run_page, workplace

PAGE = "docs/howto/rewards_elsewhere.md"
TEXT = (ROOT / PAGE).read_text("utf-8")
MODEL = "models/Qwen2.5-VL-3B-Instruct"

__all__ = ["workplace"]


def script(name: str) -> str:
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if f"# {name}" in c]
    return code


def settings(of: str) -> dict[str, Any]:
    """The trainer's configuration on the page."""
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (text,) = [block for block in blocks if block.startswith(f"# of {of}")]
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def gold(line: str, trainer: str, **limits: int) -> str:
    """What a perfect model writes in that trainer."""
    sample, family = parse_line(line), read_family(Path(MODEL))
    path = build_image_path(trainer, family, **limits)
    return render_target(sample, family, path.input_size_wh(sample.size_wh))


def test_trl(workplace: Path) -> None:
    repair_torchvision()
    code = script("train_trl.py").replace("max_steps=500", "max_steps=1, use_cpu=True, bf16=False")
    code = code.replace("max_completion_length=1024", "max_completion_length=16")
    names: dict[str, Any] = {}
    exec(compile(code, "train_trl.py", "exec"), names)
    assert names["trainer"].state.global_step == 1


def test_verl(workplace: Path) -> None:
    from datasets import Dataset

    exec(compile(script("verl_rows.py"), "verl_rows.py", "exec"), {})
    kwargs = settings("verl")["reward"]["custom_reward_function"]["reward_kwargs"]
    rows = list(Dataset.from_parquet("train.parquet"))
    assert len(rows) == 12
    for row in rows:
        line = row["reward_model"]["ground_truth"]
        limits = {key: row["images"][0][key] for key in ("min_pixels", "max_pixels")}
        assert {key: kwargs[key] for key in limits} == limits
        assert Path(row["images"][0]["image"]).is_file()
        text = gold(line, "verl", **limits)
        score = verl.compute_score(row["data_source"], text, line, {}, **kwargs)
        assert score["score"] == 1.5


def test_swift(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_PIXELS", "1003520")
    assert len(list(run_page(PAGE))) == 2
    rewards = ModuleType("swift.rewards")
    rewards.orms = {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", rewards)
    exec(compile(script("plugin.py"), "plugin.py", "exec"), {})
    orms: dict[str, Any] = rewards.orms
    assert list(orms) == ["boxrl_format", "boxrl_f1"]
    for line in Path("swift.jsonl").read_text("utf-8").splitlines():
        row = yaml.safe_load(line)
        text = gold(row["sample"], "swift", max_pixels=1_003_520)
        state = SimpleNamespace(global_step=1, max_steps=2)
        columns = {"sample": [row["sample"]], "response_token_ids": [[1]], "trainer_state": state}
        assert [orms[name]()([text], **columns) for name in orms] == [[1.0], [1.0]]
        assert Path("images", row["images"][0]).is_file()


def test_easyr1(workplace: Path) -> None:
    assert len(list(run_page(PAGE))) == 2
    content = settings("EasyR1")
    data, reward = content["data"], content["worker"]["reward"]
    limits = {key: data[key] for key in ("min_pixels", "max_pixels")}
    kwargs = reward["reward_function_kwargs"]
    assert {key: kwargs[key] for key in limits} == limits
    file = reward["reward_function"].replace("SITE_PACKAGES", str(Path(easyr1.__file__).parents[2]))
    assert Path(file.partition(":")[0]).is_file()
    for line in Path("easyr1.jsonl").read_text("utf-8").splitlines():
        row = yaml.safe_load(line)
        answer = {"response": gold(row["sample"], "easyr1", **limits), "response_length": 9}
        asked = answer | {"ground_truth": row[data["answer_key"]]}
        assert easyr1.compute_score(asked, **kwargs)["overall"] == 2.0
        assert row["problem"].startswith("<image>")
