"""`boxrl doctor parity` passes a healthy model and fails a corrupted path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.engines.prefix import shared_prefix  # noqa: E402
from boxrl.engines.training import parity  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.support.random_models import KINDS, save_folder  # noqa: E402

PAIRS = {
    "boxrl | TRL, row by row",
    "TRL, padded | TRL, row by row",
    "boxrl | TRL, padded",
}
CALL = ["doctor", "parity", "--model", "tiny", "--device", "cpu", "--json"]


def test_the_packaged_model_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(CALL) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert max(found["log_prob"].values()) < 1e-4
    assert max(found["gradient"].values()) < 1e-4


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5"])
def test_folders_of_the_architectures_pass(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_folder(kind, tmp_path)
    assert main([*CALL[:3], str(tmp_path), *CALL[4:]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert set(found["log_prob"]) == set(found["gradient"]) == PAIRS
    assert max(found["log_prob"].values()) < 1e-4
    assert max(found["gradient"].values()) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_suffix_that_does_not_see_its_prompt_fails(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The shared prefix's attention, broken; TRL's own ways never meet it."""
    original = shared_prefix.Layout.mask

    def blind(self: Any, number: int, kind: str) -> Any:
        mask = original(self, number, kind).clone()
        mask[..., : sum(span.length for span in self.blocks[number].context)] = False
        return mask

    monkeypatch.setattr(shared_prefix.Layout, "mask", blind)
    save_folder(kind, tmp_path)
    assert main([*CALL[:3], str(tmp_path), *CALL[4:-1]]) == 1
    told = capsys.readouterr().out
    assert "TRL, padded | TRL, row by row" in told
    assert told.endswith("do not train; report this model\n")


def test_a_path_that_mixes_up_positions_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flat(model: Any, prompt: Any, kinds: Any, grid: Any) -> Any:
        return torch.arange(len(prompt))[None].expand(3, -1)

    monkeypatch.setattr(shared_prefix, "rope_positions", flat)
    assert main(CALL) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["log_prob"]["TRL, padded | TRL, row by row"] < 1e-4
    assert found["log_prob"]["boxrl | TRL, row by row"] > parity.LIMITS[0]


HALF = [*CALL, "--dtype", "bfloat16"]


def test_half_precision_is_compared_with_half_precision(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(HALF) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dtype"] == "bfloat16"
    assert found["gradient"]["TRL, padded | TRL, row by row"] > 1e-3  # it rounds
    assert found["allowed"]["gradient"] < 0.1


def test_a_token_too_many_is_seen_through_the_rounding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every suffix sees one token that it should not: its own next one."""
    original = shared_prefix.Layout.mask

    def leaking(self: Any, number: int, kind: str) -> Any:
        mask = original(self, number, kind)
        seen = sum(span.length for span in self.blocks[number].context)
        return mask | torch.ones_like(mask).tril(seen + 1)

    monkeypatch.setattr(shared_prefix.Layout, "mask", leaking)
    assert main(HALF) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["gradient"]["boxrl | TRL, row by row"] > 2 * found["allowed"]["gradient"]


def test_an_attention_that_the_machine_does_not_run_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*CALL, "--attention", "varlen"]) == 2
    assert "varlen trains on a GPU only, got a CPU" in capsys.readouterr().err


def test_no_gradient_outlives_its_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    models = []
    load = parity.load

    def kept(*args: Any) -> Any:
        models.append(load(*args)[0])
        return models[0], load(*args)[1]

    monkeypatch.setattr(parity, "load", kept)
    folder = model_folder("tiny")
    parity.check_parity(folder, read_family(folder, None), "float32", "cpu")
    assert all(p.grad is None for p in models[0].parameters())
