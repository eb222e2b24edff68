"""Rewards of the user's own: a module beside the command is found, where the command names it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.samples import write_samples
from boxrl.data.synthetic import World, scenes

RUN = "import sys; from boxrl.cli import main; sys.exit(main(sys.argv[1:]))"
OWN = "def half(completion, target):\n    return 0.5\n"
RECIPE = """name: mine
method: grpo
model: tiny
data: {train: train.jsonl, images: images}
rewards: [f1, REWARD]
train: {prompts_per_step: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """my_rewards.py, and what the verbs read."""
    (tmp_path / "my_rewards.py").write_text(OWN)
    (tmp_path / "images").mkdir()
    drawn = list(scenes(World(), 3, seed=5, split="train"))
    for scene in drawn:
        scene.image.save(tmp_path / "images" / scene.sample.image)
    write_samples(tmp_path / "train.jsonl", [scene.sample for scene in drawn])
    row = {"id": "1", "completion": "<answer>[]</answer>", "objects": []}
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("REWARD", "my_rewards:half"))
    return tmp_path


def boxrl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as pip installs it: without the current folder on sys.path."""
    call = [sys.executable, "-P", "-c", RUN, *words]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def beside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`folder` as the current one, and `sys.path` as in `boxrl`, in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        sys, "path", [place for place in sys.path if place not in ("", str(folder))]
    )
    sys.modules.pop("my_rewards", None)  # of another test
    yield
    sys.modules.pop("my_rewards", None)


def test_a_reward_module_beside_the_command_is_found(folder: Path) -> None:
    words = "score --completions c.jsonl --rewards f1,my_rewards:half --json"
    result = boxrl(folder, *words.split())
    assert "my_rewards:half" in json.loads(result.stdout)["rewards"], result.stderr


@pytest.mark.parametrize(
    "call",
    [
        "doctor rewards --samples train.jsonl --rewards my_rewards:half --json",
        "validate recipe.yaml --json",
        "validate quickstart rewards=[my_rewards:half] data.synthetic.train=2 --json",
    ],
)
@pytest.mark.usefixtures("beside")
def test_every_verb_finds_the_reward_module(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(call.split())
    said = capsys.readouterr()
    assert "cannot be imported" not in said.err
    assert "my_rewards:half" in json.loads(said.out)["rewards"], said.err


@pytest.mark.usefixtures("beside")
def test_training_finds_the_reward_module_of_its_recipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    assert main(["train", "recipe.yaml", "--dry-run"]) in (0, None), capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        "score --completions c.jsonl --rewards f1",
        "doctor rewards --samples train.jsonl --rewards f1",
        "validate quickstart data.synthetic.train=2",
        "data stats train.jsonl",
        "benchmark list",
    ],
)
def test_the_folder_stays_off_the_path_where_no_module_is_named(
    folder: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", list(path))
    monkeypatch.chdir(folder)
    assert main(call.split()) in (0, None)
    assert sys.path == path


def test_what_is_installed_comes_before_what_lies_beside_the_command(folder: Path) -> None:
    (folder / "json.py").write_text("raise SystemExit('the json of the folder')")
    result = boxrl(folder, "score", "--completions", "c.jsonl", "--rewards", "my_rewards:half")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ("f2", "did you mean f1?"),
        ("F1,AP,od_lenght", "did you mean f1, ap, od_length?"),
        ("nothing_like_it_at_all!", "or my_pkg.my_module:function"),
    ],
)
def test_an_unknown_reward_is_told_with_the_nearest_name(
    folder: Path,
    names: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["score", "--completions", "c.jsonl", "--rewards", names]) == 2
    assert capsys.readouterr().err.endswith(f"{hint}\n")
    recipe = RECIPE.replace("REWARD", names.partition(",")[0])
    (folder / "recipe.yaml").write_text(recipe)
    assert main(["validate", "recipe.yaml"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("boxrl: recipe.yaml: 1 mistake")
    assert hint.partition(",")[0].rstrip("?") in told


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        ("score --completions c.jsonl --rewards f1 --family qwen2.5", "did you mean qwen2.5-vl?"),
        ("benchmark list ovdevl", "did you mean ovdeval?"),
        ("data lint train.jsonl --prompt standart", "did you mean standard?"),
        ("validate quikstart", "did you mean quickstart?"),
        ("validate quickstart data.synthetic.world=smal", "did you mean small?"),
    ],
)
def test_every_unknown_name_is_told_with_the_nearest(
    folder: Path,
    call: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(call.split()) == 2
    assert capsys.readouterr().err.endswith(f"{hint}\n")
