"""What images cost in tokens, per family and pixel limit."""

import json

import pytest

from boxrl.cli import main
from boxrl.data.stats import count_tokens
from boxrl.families import FAMILIES, build_family


def test_tokens_of_each_family_at_several_limits():
    found = count_tokens([(4000, 3000), (640, 480)])
    qwen = found["qwen2.5-vl"]
    limited = build_family("qwen2.5-vl", max_pixels=401_408)
    tokens = [limited.count_image_tokens(size) for size in ((4000, 3000), (640, 480))]
    assert qwen["401408"] == {"mean": sum(tokens) / 2, "max": max(tokens)}
    assert qwen["own"]["max"] == 143 * 107
    assert list(qwen) == ["200704", "401408", "1003520", "own"]
    assert found["gemma"] == {"own": {"mean": 256, "max": 256}}
    assert set(found) == {name for name, f in FAMILIES.items() if f.resizing != "unknown"}


def test_a_shape_that_a_family_refuses_is_left_out_of_its_figures():
    found = count_tokens([(1093, 5), (640, 480)])
    assert found["qwen3-vl"]["own"] == {"mean": 300, "max": 300}
    assert count_tokens([(1093, 5)])["qwen3-vl"]["own"] == {"mean": 0, "max": 0}


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_data_stats_shows_them(tmp_path, capsys, option):
    row = {
        "id": "1", "image": "a.jpg", "width": 640, "height": 480, "task": "detection",
        "labels": ["cat"], "objects": [],
    }  # fmt: skip
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["data", "stats", str(tmp_path / "s.jsonl"), *option]) == 0
    out = capsys.readouterr().out
    if option:
        assert json.loads(out)["image_tokens"]["qwen3-vl"]["own"] == {"mean": 300, "max": 300}
    else:
        assert "300 / 300" in out
