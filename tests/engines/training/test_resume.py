"""An interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from boxrl.config import Recipe, dump_recipe  # noqa: E402
from boxrl.engines.training import callbacks as training_log  # noqa: E402
from boxrl.engines.training.checkpoints import (  # noqa: E402
    cut_back,
    is_complete,
    last_whole,
    rows_begun,
)
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.train import train  # noqa: E402
from boxrl.errors import DataError, UsageError  # noqa: E402
from boxrl.progress import progress_bar  # noqa: E402
from boxrl.runs import Run  # noqa: E402
from tests.engines.training.test_train import build_trainer  # noqa: E402
from tests.support.quick import quick_among  # noqa: E402
from tests.support.random_models import save_folder  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

SHORT = {"prompts_per_step": 2, "num_generations": 2, "max_completion_length": 8}
"""Where it does not matter what is learned."""

FACTS = {"name": "tiny", "method": "grpo", "model": "tiny"}
SETTINGS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "LoRA and a reference": {"lora": {"r": 4, "alpha": 8}, "beta": 0.1},
    "SFT": {"method": "sft"},
    "LoRA": {"lora": {"r": 4, "alpha": 8}},
    "in the second epoch": {"prompts_per_step": 6, "save_steps": 3},
    "Qwen3.5": {"kind": "qwen3.5", "lora": {"r": 4, "alpha": 8}},
    "a reference that follows": {
        "beta": 0.3,
        "trl": {"sync_ref_model": True, "ref_model_sync_steps": 2},
    },
    "in the middle of a generation": {"save_steps": 3, "trl": {"num_iterations": 2}},
}


class Killed(BaseException):
    """Ends a run as a kill would: nothing catches it."""


def run(recipe: Recipe, resume: bool = False) -> None:
    with Run(recipe.out, dump_recipe(recipe), FACTS, resume):
        train(recipe)


def rows(out: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    lines = (out / name).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time_s"} for line in lines]


def assert_same_rows(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(got) == len(expected)
    for row, other in zip(got, expected, strict=True):
        assert row.pop("warnings", {}) == other.pop("warnings", {})
        rewards, others = row.pop("rewards"), other.pop("rewards")
        assert rewards == pytest.approx(others, rel=1e-4)
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6)


def run_until_killed(recipe: Recipe, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = training_log.MetricsLog.on_log

    def on_log(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        original(self, args, state, *rest, **kwargs)
        if state.global_step == step:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training_log.MetricsLog, "on_log", on_log)
        run(recipe)


@pytest.fixture(scope="module")
def whole_of(
    scene_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[dict[str, Any], Path]]:
    """Of a setting the options, and the folder of a run of five steps that nothing interrupted."""

    @cache
    def train_whole(setting: str) -> tuple[dict[str, Any], Path]:
        folder = tmp_path_factory.mktemp("whole")
        options = {"max_steps": 5, "save_steps": 2, "learning_rate": 1e-3, **SETTINGS[setting]}
        if kind := options.pop("kind", None):
            options["model"] = str(save_folder(kind, folder / kind))
        run(tiny_recipe(scene_folder, folder / "run", **options))
        return options, folder / "run"

    return train_whole


@pytest.mark.parametrize("setting", quick_among(SETTINGS, "GRPO", "SFT"))
def test_a_killed_run_gives_the_same_figures(
    setting: str, whole_of: Any, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, whole = whole_of(setting)
    recipe = tiny_recipe(scene_folder, tmp_path / "killed", **options)
    run_until_killed(recipe, 4, monkeypatch)
    assert len(rows(recipe.out)) == 4
    run(recipe, resume=True)
    assert_same_rows(rows(recipe.out), rows(whole))
    if recipe.method == "grpo":
        assert rows(recipe.out, "completions.jsonl") == rows(whole, "completions.jsonl")


@pytest.mark.parametrize("setting", quick_among(["GRPO", "SFT"], "SFT"))
def test_a_resumed_run_may_take_fewer_prompts_at_a_time(
    setting: str, whole_of: Any, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, whole = whole_of(setting)
    recipe = tiny_recipe(scene_folder, tmp_path / "killed", **options)
    run_until_killed(recipe, 3, monkeypatch)
    run(tiny_recipe(scene_folder, recipe.out, micro_batch_prompts=1, **options), resume=True)
    # Two figures of the log are means over micro-batches, whatever their numbers of tokens.
    averages = {"entropy": 0.0, "token_accuracy": 0.0}
    got, expected = ([row | averages for row in rows(out)] for out in (recipe.out, whole))
    assert_same_rows(got, expected)


def test_a_generation_is_gone_on_with_in_the_micro_batches_that_it_has(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that begins a generation may be cut anew, one in the middle of it may not."""
    options = {**SHORT, "max_steps": 4, "save_steps": 1, "trl": {"num_iterations": 2}}
    recipe = tiny_recipe(scene_folder, tmp_path / "border", **options)
    run_until_killed(recipe, 3, monkeypatch)
    shutil.copytree(recipe.out, tmp_path / "middle")
    shutil.rmtree(tmp_path / "middle" / "checkpoints" / "checkpoint-2")
    middle, border = (
        tiny_recipe(scene_folder, tmp_path / name, micro_batch_prompts=1, **options)
        for name in ("middle", "border")
    )
    told = r"checkpoint-1: stopped in the middle of a generation.*the micro_batch_prompts and pro"
    with pytest.raises(UsageError, match=told):
        run(middle, resume=True)
    assert len(rows(middle.out)) == 3
    run(border, resume=True)
    assert [row["step"] for row in rows(border.out)] == [1, 2, 3, 4]
    last = last_whole(border.out / "checkpoints")
    assert last is not None and rows_begun(last) == 4  # of the run, not of its second half


def keep_pending(folder: Path, processes: int, batches: int) -> Path:
    """A checkpoint in whose generation micro-batches of two rows are left."""
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 1, "train_batch_size": 2}')
    (folder / "optimizer.pt").touch()
    for process in range(processes):
        inputs = [{"prompt_ids": torch.zeros(2, 3)} for _ in range(batches)]
        torch.save({"step": 1, "inputs": inputs}, folder / f"generation_{process}.pt")
    return folder


@pytest.mark.parametrize(
    ("processes", "batches", "micro", "goes_on"),
    [
        (1, 4, 1, True),
        (2, 4, 1, False),
        (1, 2, 1, False),
        (1, 4, 2, False),
        (0, 0, 1, True),
        (0, 0, 4, False),
    ],
)
def test_a_generation_is_refused_by_other_micro_batches_and_other_processes(
    processes: int, batches: int, micro: int, goes_on: bool, scene_folder: Path, tmp_path: Path
) -> None:
    trl = {"steps_per_generation": 4}
    options = {**SHORT, "prompts_per_step": 4, "max_steps": 4, "micro_batch_prompts": micro}
    if micro == 4:
        trl = {"steps_per_generation": 2}  # a step that was a whole generation is half of one
    trainer = build_trainer(tiny_recipe(scene_folder, tmp_path / "run", trl=trl, **options))
    folder = keep_pending(tmp_path / "checkpoint-1", processes, batches)
    with nullcontext() if goes_on else pytest.raises(UsageError, match="is cut into other micro"):
        trainer.take_up(folder)


@pytest.mark.parametrize(
    ("lost", "words"),
    [("optimizer.pt", "holds no state of the optimizer"), ("reference.pt", "holds no reference")],
)
def test_a_checkpoint_that_lacks_what_its_steps_build_on_is_refused(
    lost: str, words: str, scene_folder: Path, tmp_path: Path
) -> None:
    """transformers goes on: the schedule from its first step, the KL term from the start model."""
    trl = {"sync_ref_model": True, "ref_model_sync_steps": 1}
    trainer = build_trainer(tiny_recipe(scene_folder, tmp_path / "run", beta=0.1, trl=trl, **SHORT))
    folder = keep_pending(tmp_path / "checkpoint-1", 0, 0)
    (folder / "reference.pt").touch()
    trainer.take_up(folder)
    (folder / lost).unlink()
    with pytest.raises(UsageError, match=words):
        trainer.take_up(folder)


@pytest.mark.parametrize(("written", "goes_on"), [(1, True), (4, False)])
def test_so_is_one_whose_end_others_reached_before_the_first_came_back(
    written: int, goes_on: bool, scene_folder: Path, tmp_path: Path
) -> None:
    """Of a run begun in micro-batches of one prompt, half a generation of which is one of four."""
    options = {**SHORT, "prompts_per_step": 4, "max_steps": 4, "trl": {"steps_per_generation": 8}}
    first, other = (
        tiny_recipe(scene_folder, tmp_path / "run", micro_batch_prompts=micro, **options)
        for micro in (1, written)
    )
    trainer = build_trainer(first)
    trainer.recipe = dump_recipe(first)
    folder = keep_pending(tmp_path / "checkpoint-1", 0, 0)
    (folder / "recipe.yaml").write_text(dump_recipe(other))
    with nullcontext() if goes_on else pytest.raises(UsageError, match="is cut into other micro"):
        trainer.take_up(folder)


def test_ctrl_c_ends_the_step_and_keeps_it(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", max_steps=3, save_steps=50, **SHORT)
    original = training_log.MetricsLog.on_log

    def interrupt(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        original(self, args, state, *rest, **kwargs)
        if state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training_log.MetricsLog, "on_log", interrupt)
        run(recipe)
    assert json.loads((recipe.out / "run.json").read_text())["status"] == "interrupted"
    assert [row["step"] for row in rows(recipe.out)] == [1, 2]
    last = last_whole(recipe.out / "checkpoints")
    assert last is not None and last.name == "checkpoint-2"
    run(recipe, resume=True)
    assert [row["step"] for row in rows(recipe.out)] == [1, 2, 3]


TWO_STEPS = {"max_steps": 2, "save_steps": 1, **SHORT}


@pytest.fixture(scope="module")
def trained(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps, with a checkpoint of each."""
    recipe = tiny_recipe(scene_folder, tmp_path_factory.mktemp("trained") / "run", **TWO_STEPS)
    run(recipe)
    return recipe.out


@pytest.fixture
def finished(trained: Path, scene_folder: Path, tmp_path: Path) -> Recipe:
    """The recipe of `trained`, in a folder of the test's own."""
    shutil.copytree(trained, tmp_path / "run")
    return tiny_recipe(scene_folder, tmp_path / "run", **TWO_STEPS)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(finished: Recipe, tmp_path: Path) -> None:
    recipe = finished
    folder = recipe.out / "checkpoints"
    assert last_whole(folder) == folder / "checkpoint-2"
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
        damaged = tmp_path / name / "checkpoint-2"
        shutil.copytree(folder, damaged.parent)
        content = (damaged / name).read_bytes()
        (damaged / name).write_bytes(content[: len(content) // 2])
        assert not is_complete(damaged)
        assert last_whole(damaged.parent) == damaged.parent / "checkpoint-1"
    (folder / "checkpoint-2" / "trainer_state.json").unlink()
    run(recipe, resume=True)
    assert [row["step"] for row in rows(recipe.out)] == [1, 2]


def test_a_checkpoint_of_another_recipe_is_refused(finished: Recipe, scene_folder: Path) -> None:
    other = tiny_recipe(scene_folder, finished.out, **TWO_STEPS, beta=0.1)
    with pytest.raises(UsageError, match=r"another recipe: train\.beta: 0\.0, now 0\.1; "):
        run(other, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"learning_rate": 1e-3},
            r"another recipe: train\.learning_rate: 0\.001, now 0\.01; remove",
        ),
        ({"lora": {"r": 2}}, r"another recipe: .*train\.lora\.r: 2, now unset"),
        (None, r"holds no recipe\.yaml, so no run of boxrl wrote it; remove it"),
    ],
)
def test_a_checkpoint_put_there_from_another_run_is_refused(
    change: Any, words: str, finished: Recipe, scene_folder: Path, tmp_path: Path
) -> None:
    recipe = finished
    there = recipe.out / "checkpoints" / "checkpoint-2"
    if change is None:
        (there / "recipe.yaml").unlink()
    else:
        other = tiny_recipe(scene_folder, tmp_path / "other", **TWO_STEPS | change)
        run(other)
        shutil.rmtree(there)
        shutil.copytree(other.out / "checkpoints" / "checkpoint-2", there)
    with pytest.raises(UsageError, match=rf"checkpoint-2: .*{words}"):
        run(recipe, resume=True)
    shutil.rmtree(there)  # as the message says
    run(recipe, resume=True)
    assert [row["step"] for row in rows(recipe.out)] == [1, 2]


@pytest.mark.parametrize("setting", quick_among(["GRPO", "SFT", "LoRA"], "GRPO", "SFT"))
def test_a_finished_run_is_trained_further(
    setting: str, whole_of: Any, scene_folder: Path, tmp_path: Path
) -> None:
    options, whole = whole_of(setting)
    options = {**options, "save_steps": 50}
    grown = tmp_path / "grown"
    run(tiny_recipe(scene_folder, grown, **options | {"max_steps": 2}))
    run(tiny_recipe(scene_folder, grown, **options), resume=True)
    assert_same_rows(rows(grown), rows(whole))
    assert "max_steps: 5" in (grown / "recipe.yaml").read_text()
    assert json.loads((grown / "run.json").read_text())["status"] == "done"
    shorter = tiny_recipe(scene_folder, grown, **options | {"max_steps": 3})
    with pytest.raises(UsageError, match=r"another recipe: train\.max_steps: 5, now 3"):
        run(shorter, resume=True)
    other = tiny_recipe(scene_folder, grown, **options | {"max_steps": 6, "learning_rate": 0.1})
    with pytest.raises(UsageError, match=r"another recipe: train\.learning_rate: 0\.001, now 0"):
        run(other, resume=True)


def test_a_run_folder_goes_on_where_it_was_moved_to(finished: Recipe, tmp_path: Path) -> None:
    recipe = finished
    moved = recipe.model_copy(update={"out": tmp_path / "large"})
    shutil.move(recipe.out, moved.out)
    shutil.rmtree(moved.out / "checkpoints" / "checkpoint-2")
    run(moved, resume=True)
    assert [row["step"] for row in rows(moved.out)] == [1, 2]


def test_a_log_loses_later_rows_and_a_line_cut_short(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert cut_back(log, 2) == [{"step": 1}, {"step": 2}]
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shrink(path: Path) -> None:
    Image.open(path).resize((30, 20)).save(path)


@pytest.mark.parametrize(
    ("method", "damage", "words"),
    [
        ("grpo", Path.unlink, "--images names the folder"),
        ("grpo", cut, "truncated"),
        ("sft", cut, "truncated"),
        ("sft", shrink, "30 x 20 pixels, the sample says"),
    ],
)
def test_an_image_spoilt_in_the_middle_is_named_and_repaired(
    method: str,
    damage: Any,
    words: str,
    scene_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "scenes"
    shutil.copytree(scene_folder, folder)
    options = {**SHORT, "max_steps": 3, "save_steps": 1}
    recipe = tiny_recipe(folder, tmp_path / "run", method=method, **options)
    original = training_log.MetricsLog.on_log

    def spoil(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        original(self, args, state, *rest, **kwargs)
        if state.global_step == 1:
            for path in (folder / "images").iterdir():
                damage(path)

    told = rf"stopped at step [12] \(sample '.*\.png.*{words}.*checkpoint-[12] with --resume"
    with monkeypatch.context() as patch, pytest.raises(DataError, match=told):
        patch.setattr(training_log.MetricsLog, "on_log", spoil)
        run(recipe)
    shutil.copytree(scene_folder, folder, dirs_exist_ok=True)
    run(recipe, resume=True)
    assert [row["step"] for row in rows(recipe.out)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (OSError(28, "No space left on device"), DataError, "No space left on device"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed"), DataError, "StreamWriter"),
        (torch.OutOfMemoryError("CUDA out of memory"), UsageError, "out of GPU memory at step 2"),
    ],
)
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(
    error: Exception,
    expected: type[Exception],
    words: str,
    scene_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**SHORT, "max_steps": 3, "save_steps": 1}
    recipe = tiny_recipe(scene_folder, tmp_path / "run", **options)
    save = BoxGRPOTrainer._save_checkpoint

    def fail_at_two(self: Any, *args: Any) -> None:
        if self.state.global_step == 2:
            (Path(self.args.output_dir) / "checkpoint-2").mkdir()
            raise error
        save(self, *args)

    with monkeypatch.context() as patch, pytest.raises(expected, match=words):
        patch.setattr(BoxGRPOTrainer, "_save_checkpoint", fail_at_two)
        run(recipe)
    last = last_whole(recipe.out / "checkpoints")
    assert last is not None and last.name == "checkpoint-1"
    run(recipe, resume=True)
    assert [row["step"] for row in rows(recipe.out)] == [1, 2, 3]


@pytest.mark.parametrize(
    "row",
    [
        {"step": 1},
        {"step": 1, "time_s": "x"},
        {"step": 1, "time_s": None},
        {"step": 1, "time_s": True},
        {"step": 1, "time_s": 1e999},
        {"step": 1, "time_s": 1.0, "reward": "much"},
        {"step": 1, "time_s": 1.0, "kl": [1]},
        {"step": 1, "time_s": 1.0, "warnings": 3},
    ],
)
def test_a_row_that_no_training_wrote_is_told_of(row: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text(json.dumps(row) + "\n")
    said = pytest.raises(DataError, match=r"step 1: \w+ is ")
    with progress_bar("train", 9) as bar, said as told:
        training_log.MetricsLog(log, bar, 100, step=5)
    assert "\n" not in str(told.value)
