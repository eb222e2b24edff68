"""vLLM's importance ratio out of the training forward: TRL's own with one pass less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from transformers import PrinterCallback  # noqa: E402
from trl.trainer import grpo_trainer as trl_grpo  # noqa: E402

from boxrl.engines.loading import load, quiet  # noqa: E402
from boxrl.engines.training import grpo  # noqa: E402
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.importance import Correction, has_dropout  # noqa: E402
from boxrl.engines.training.train import training_samples  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.engines.training.test_vllm_sync import PlayedVllm  # noqa: E402
from tests.support.quick import quick_among  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

WIDTH = 12
MODES: dict[str, dict[str, Any]] = {
    "sequence_mask": {},
    "sequence_truncate": {"loss_type": "grpo"},
    "token_truncate": {"loss_type": "vespo", "vllm_importance_sampling_clip_min": 0.9},
    "token_mask": {"loss_type": "cispo", "vllm_importance_sampling_clip_max": 1.2},
}


class Sampler(PlayedVllm):
    """Answers of uneven length, with log-probabilities near those that it is given."""

    near: Iterator[Tensor] = iter(())

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> Any:
        generator = torch.Generator().manual_seed(len(prompts[0]))
        lengths = [2 + row % (WIDTH - 1) for row in range(len(prompts))]
        ids = [torch.randint(20, 90, (n,), generator=generator).tolist() for n in lengths]
        logps = 0.2 * torch.randn(len(ids), max(lengths), generator=generator)
        near = next(self.near, None)
        logps = logps if near is None else near + logps
        logps[1, 0] = torch.nan  # vLLM gave none
        sampled = [[[x] for x in row[:n].tolist()] for row, n in zip(logps, lengths, strict=True)]
        seen = [self._expand(row, image[0]) for row, image in zip(prompts, images, strict=True)]
        return seen, ids, sampled, None


def build(scenes: Path, out: Path, near: Sequence[Tensor] = (), **trl: Any) -> Any:
    lora = trl.pop("lora", None)
    options = {"optim": "sgd", "use_vllm": True, **trl}
    recipe = tiny_recipe(
        scenes, out, micro_batch_prompts=2, max_completion_length=WIDTH, trl=options, lora=lora
    )
    quiet()
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl_grpo, "VLLMGeneration", Sampler)
        trainer = grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))
    trainer.vllm_generation.near = iter(near)
    trainer.remove_callback(PrinterCallback)
    trainer.reward_funcs = [letters] * len(trainer.reward_funcs)
    return trainer


def letters(completions: Any, **_: Any) -> list[float]:
    return [float(len(completion[0]["content"]) % 5) for completion in completions]


def with_own_pass(*args: Any, **options: Any) -> Any:
    """The trainer of `build` that leaves the ratio to TRL."""
    trainer = build(*args, **options)
    assert trainer._correction is not None
    trainer._correction = None
    return trainer


def outcome(trainer: Any) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Change of every weight over two steps, and what was logged."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return {n: p.detach() - before[n] for n, p in trainer.model.named_parameters()}, rows


@pytest.fixture(scope="module")
def near(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Tensor]:
    """Log-probabilities of the completions of two generations, as TRL's own pass has them."""
    found: list[Tensor] = []
    score = BoxGRPOTrainer._get_per_token_logps_and_entropies

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = score(self, *args, **kwargs)
        if not torch.is_grad_enabled():
            found.append(result[0])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoxGRPOTrainer, "_get_per_token_logps_and_entropies", noted)
        outcome(with_own_pass(scene_folder, tmp_path_factory.mktemp("near") / "run"))
    return found


def relative_error(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    total = sum(change.square().sum() for change in expected.values()).sqrt()
    error = sum((got[n] - expected[n]).square().sum() for n in expected).sqrt()
    assert total > 1e-4
    return float(error / total)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of every forward pass whether it is learned from."""
    found: list[bool] = []
    score = BoxGRPOTrainer._score_packed

    def counted(self: Any, *args: Any) -> Any:
        found.append(torch.is_grad_enabled())
        return score(self, *args)

    monkeypatch.setattr(BoxGRPOTrainer, "_score_packed", counted)
    yield found


@pytest.mark.parametrize("mode", quick_among(MODES, "sequence_mask"))
def test_weights_and_figures_are_those_of_trls_own_pass(
    mode: str, near: list[Tensor], scene_folder: Path, tmp_path: Path, passes: list[bool]
) -> None:
    options = {"vllm_importance_sampling_mode": mode, **MODES[mode]}
    expected, rows = outcome(with_own_pass(scene_folder, tmp_path / "trl", near, **options))
    assert passes == [False, True, True] * 2
    passes.clear()
    got, own_rows = outcome(build(scene_folder, tmp_path / "ours", near, **options))
    assert passes == [True, True] * 2
    assert relative_error(got, expected) < 1e-5
    names = {name for name in rows[0] if name.startswith("sampling/")} | {"loss", "grad_norm"}
    assert len(names) == 7
    for row, own in zip(rows, own_rows, strict=True):
        assert {name: own[name] for name in names} == pytest.approx(
            {name: row[name] for name in names}, rel=1e-4, abs=1e-6
        )


def test_a_ratio_that_is_left_out_is_seen(
    near: list[Tensor], scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = outcome(build(scene_folder, tmp_path / "ours", near))
    monkeypatch.setattr(Correction, "ratio", lambda self, trained, *_: torch.ones_like(trained))
    got, _ = outcome(build(scene_folder, tmp_path / "none", near))
    assert relative_error(got, expected) > 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"num_iterations": 2},
        {"steps_per_generation": 4},
        {"vllm_importance_sampling_correction": False},
        {"lora": {"r": 2, "alpha": 4, "dropout": 0.1}},
    ],
    ids=str,
)
def test_what_one_pass_does_not_serve_keeps_trls_own(
    options: dict[str, Any], scene_folder: Path, tmp_path: Path
) -> None:
    assert build(scene_folder, tmp_path / "run", **options)._correction is None


def test_dropout_is_found_in_layers_and_in_attention() -> None:
    layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0))
    assert not has_dropout(layer)
    layer[0].attention_dropout = 0.1
    assert has_dropout(layer)
    assert has_dropout(nn.Sequential(nn.Dropout(0.1)))
