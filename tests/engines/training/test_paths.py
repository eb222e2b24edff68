"""The first micro-batch is also scored and differentiated by TRL's path; they have to agree."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import dump_recipe  # noqa: E402
from boxrl.engines.prefix import attention, shared_prefix  # noqa: E402
from boxrl.engines.training import paths, trainer_mixin  # noqa: E402
from boxrl.engines.training.batches import (  # noqa: E402
    fill_images,
    find_groups,
    keep_first_images,
    split_rows,
    take_rows,
)
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.paths import (  # noqa: E402
    compare_paths,
    rounding_anew,
    sample_weights,
    without_dropout,
)
from boxrl.engines.training.train import train  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.runs import Run  # noqa: E402
from tests.support.architectures import ARCHITECTURES  # noqa: E402
from tests.support.random_models import build_batch, build_model  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


def run(scenes: Path, out: Path, shared: bool | str, **options: Any) -> list[dict[str, Any]]:
    engine = {"shared_prefix": shared, **options.pop("engine", {})}
    recipe = tiny_recipe(scenes, out, engine=engine, **options)
    with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
        train(recipe)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "time_s"} for row in rows]


@pytest.fixture
def wrong_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(model: Any, prompt: Any, types: Any, grid: Any) -> Any:
        return torch.arange(len(prompt))[None].expand(3, -1)

    monkeypatch.setattr(shared_prefix, "rope_positions", flat)


@pytest.mark.usefixtures("wrong_positions")
def test_a_path_that_differs_stops_the_run(scene_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"first micro-batch differ.*report this model"):
        run(scene_folder, tmp_path / "run", shared=True)


@pytest.mark.usefixtures("wrong_positions")
def test_or_gives_way_to_the_path_of_trl(scene_folder: Path, tmp_path: Path) -> None:
    first, second = run(scene_folder, tmp_path / "run", shared="if_exact")
    assert "takes TRL's path: log-probabilities" in first.pop("warnings")["trl_path"]
    assert "warnings" not in second


@pytest.fixture
def wrong_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probabilities are right, and what a token learns of the keys it saw is lost."""
    attend = attention.attend_by_block

    def forgetful(module: Any, query: Any, key: Any, *args: Any, **options: Any) -> Any:
        return attend(module, query, key.detach(), *args, **options)

    monkeypatch.setattr(attention, "attend_by_block", forgetful)


@pytest.mark.usefixtures("wrong_gradients")
@pytest.mark.parametrize(
    "options",
    [{}, {"lora": {"r": 4, "alpha": 8}, "beta": 0.1}, {"engine": {"dtype": "bfloat16"}}],
    ids=["full", "LoRA and KL", "half precision"],
)
def test_gradients_that_differ_stop_the_run(
    options: dict[str, Any], scene_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"gradients of the first micro-batch differ.*report"):
        run(scene_folder, tmp_path / "run", True, **options)


@pytest.mark.usefixtures("wrong_gradients")
def test_or_give_way_to_those_of_trl(scene_folder: Path, tmp_path: Path) -> None:
    first, second = run(scene_folder, tmp_path / "run", "if_exact")
    assert "takes TRL's path: gradients" in first["warnings"]["trl_path"]
    assert "warnings" not in second


def test_gradients_are_compared_when_there_are_any(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old log-probabilities are scored before, without."""
    backwards = []
    original = trainer_mixin.compare_first

    def counted(*args: Any, **options: Any) -> Any:
        backwards.append(options["backwards"])
        return original(*args, **options)

    monkeypatch.setattr(trainer_mixin, "compare_first", counted)
    run(scene_folder, tmp_path / "run", True, trl={"num_iterations": 2})
    assert backwards == [False, True]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # while scoring
def test_gradients_that_are_not_compared_are_told_of(scene_folder: Path, tmp_path: Path) -> None:
    options = {
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}
    }  # fmt: skip
    first, second = run(scene_folder, tmp_path / "run", True, trl=options)
    assert "not compared, for reentrant checkpointing" in first["warnings"]["gradients"]
    assert "warnings" not in second


@pytest.mark.parametrize("sharded", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_nor_are_they_where_weights_are_dealt_out(sharded: str) -> None:
    args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    trainer = SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=False, args=args)
    assert BoxGRPOTrainer._why_undifferentiated(trainer) is None
    setattr(trainer, sharded, True)
    assert "a part of the weights" in BoxGRPOTrainer._why_undifferentiated(trainer)


def test_layers_are_computed_again_while_nothing_is_dropped() -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Dropout()])
    layers[0].gradient_checkpointing = True
    with without_dropout(layers):
        assert [layer.training for layer in layers] == [True, False]
    assert all(module.training for module in layers.modules())
    with torch.no_grad(), without_dropout(layers.eval()):
        assert not any(module.training for module in layers.modules())
    assert not layers.training


def test_layers_round_anew_within_the_block_alone() -> None:
    batch = build_batch("qwen2.5-vl", 1, 2, (3, 3))
    model = build_model("qwen2.5-vl")

    @torch.no_grad()
    def score() -> Any:
        return model(input_ids=batch.input_ids, **batch.images).logits

    plain = score()
    with rounding_anew(model, torch.bfloat16):
        anew = score()
    assert torch.equal(score(), plain)
    assert 1e-4 < float((anew - plain).norm() / plain.norm()) < 2e-2


def test_a_sample_of_weights_is_the_same_every_time_and_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paths, "NUMBERS", 30)
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 4) for _ in range(6)))
    chosen = sample_weights(model)
    assert list(chosen) == list(sample_weights(model))
    assert 18 < sum(weight.numel() for weight in chosen.values()) <= 30


def test_a_path_that_is_the_same_is_compared_once(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = BoxGRPOTrainer._check_first

    def counted(self: Any, *args: Any) -> None:
        calls.append(original(self, *args))
        assert self._checked and not self._inexact
        assert self.model.training

    monkeypatch.setattr(BoxGRPOTrainer, "_check_first", counted)
    assert all("warnings" not in row for row in run(scene_folder, tmp_path / "run", True))
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_rows_get_the_images_of_their_group_back(kind: str) -> None:
    batch = build_batch(kind, 2, 3, (4, 2, 5))
    split = dict(batch.inputs)
    counts = batch.images.get("num_tiles") or [1] * 6
    if "image_grid_thw" in split:
        counts = split["image_grid_thw"].prod(-1).tolist()
    for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes"):
        if name in split:
            split[name] = list(split[name].split(counts))
    for name in ("image_grid_thw", "image_position_ids"):
        if name in split:
            split[name] = list(split[name].split(1))
    kept = {
        name: torch.cat(x) if isinstance(x, list) and torch.is_tensor(x[0]) else x
        for name, x in keep_first_images(split, 3, 6).items()
    }
    assert kept["num_images"] == [1, 0, 0, 1, 0, 0]
    filled = fill_images(kept)
    for name, value in batch.inputs.items():
        assert torch.equal(torch.as_tensor(filled[name]), torch.as_tensor(value)), name
    few = take_rows(kept, [0, 1])
    assert len(few["input_ids"]) == 2 and few["num_images"] == [1, 1]
    assert torch.equal(few["pixel_values"], fill_images(few)["pixel_values"])


def test_rows_of_one_prompt_and_image_are_a_group() -> None:
    batch = build_batch("qwen2.5-vl", 2, 3, (4, 2, 5))
    rows = split_rows(batch.inputs, batch.n_completion)
    assert find_groups(rows) == [0, 0, 0, 3, 3, 3]
    assert find_groups(rows.between(1, 5)) == [0, 0, 2, 2]
    first = [image if row in (0, 3) else None for row, image in enumerate(rows.images)]
    assert find_groups(rows._replace(images=first)) == [0, 0, 0, 3, 3, 3]
    alike = rows.prompt_ids[:1].expand(6, -1), rows.prompt_mask[:1].expand(6, -1)
    same = rows._replace(prompt_ids=alike[0], prompt_mask=alike[1])
    assert find_groups(same._replace(images=rows.images[:1] * 6)) == [0] * 6
    # A sample that comes twice: no process may have a forward pass less for it.
    assert find_groups(same._replace(images=rows.images[:1] * 6), 3) == [0, 0, 0, 3, 3, 3]
    assert find_groups(rows._replace(images=first), 3) == [0, 0, 0, 3, 3, 3]
    assert find_groups(rows.between(1, 5), 3) == [0, 0, 2, 2]
    other = {name: x + 1 if x.is_floating_point() else x for name, x in rows.images[0].items()}
    assert find_groups(same._replace(images=[*rows.images[:1] * 2, *[other] * 4])) == [
        0, 0, 2, 2, 2, 2,
    ]  # fmt: skip
    assert find_groups(same._replace(images=[None] * 6)) == [0] * 6
    assert find_groups(rows._replace(images=[None] * 6)) == [0, 0, 0, 3, 3, 3]


@pytest.mark.parametrize(("processes", "at_once"), [(1, 1), (2, 4)])
def test_processes_compare_in_as_many_forward_passes_each(processes: int, at_once: int) -> None:
    """One that has two prompts of an image compares other rows than one that has none."""
    asked = []

    def score(model: Any, inputs: Any, n: int, size: int) -> list[None]:
        asked.append(size)
        return [None]

    accelerator = SimpleNamespace(num_processes=processes)
    trainer = SimpleNamespace(accelerator=accelerator, _score_by_trl=score)
    BoxGRPOTrainer._score_plainly(trainer, None, {"input_ids": torch.zeros(4, 9)}, 3)  # type: ignore[arg-type]
    assert asked == [at_once]


def test_nothing_is_said_of_completions_that_are_all_masked() -> None:
    batch = build_batch("qwen2.5-vl", 1, 2, (3, 3))
    batch.attention_mask[:, -3:] = 0
    scores = torch.zeros(2, 3)
    found = compare_paths(scores, batch.inputs, lambda part, n: scores[:, :n], torch.float32)
    assert found.tolist() == [0.0, pytest.approx(1e-4)]
