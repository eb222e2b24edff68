"""`boxrl doctor parity` passes a healthy model and fails a corrupted path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.engines import parity, shared_prefix  # noqa: E402
from boxrl.engines.models import load  # noqa: E402
from boxrl.families import FAMILIES  # noqa: E402

from .random_models import KINDS, TOKENS, build_plain_model, build_processor  # noqa: E402

CALL = ["doctor", "parity", "--model", "tiny", "--device", "cpu", "--json"]


def test_the_packaged_model_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(CALL) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert max(found["log_prob"].values()) < 1e-4
    assert max(found["gradient"].values()) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_architectures_pass(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, _ = load("tiny", "float32", "cpu", 1)
    tokens = {name: getattr(tiny.config, name) for name in TOKENS}
    model = build_plain_model(kind, 0, tiny.config.text_config.vocab_size, tokens)
    monkeypatch.setattr(parity, "load", lambda *_: (model, build_processor(kind)))
    found = parity.check_parity(Path(kind), FAMILIES[kind], "float32", "cpu")
    assert found["ok"] is True
    assert max(found["log_prob"].values()) < 1e-4
    assert max(found["gradient"].values()) < 1e-4


def test_a_path_that_mixes_up_positions_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flat(model: Any, prompt: Any, kinds: Any, grid: Any) -> Any:
        return torch.arange(len(prompt))[None].expand(3, -1)

    monkeypatch.setattr(shared_prefix, "rope_positions", flat)
    assert main(CALL) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["log_prob"]["TRL, padded | TRL, row by row"] < 1e-4
    assert found["log_prob"]["boxrl | TRL, row by row"] > parity.LIMITS["float32"][0]
