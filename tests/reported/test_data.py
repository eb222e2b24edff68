"""Annotation files as people were reported to have them, through the command line, box by box.

tests/golden/data/expected.json lists every folder with its reports, its calls and what they write.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.samples import read_samples
from boxrl.types import Sample

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
CASES: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


def shown(sample: Sample) -> str:
    """Id, image, size, what is asked for, and the boxes; a crowd region has a star."""
    asked = sample.question or ", ".join(sample.labels)
    boxes = [
        f"{item.label}{'*' * item.iscrowd} {' '.join(f'{round(v, 2):g}' for v in item.bbox)}"
        for item in sample.objects
    ]
    size = f"{sample.width}x{sample.height}"
    return f"{sample.id}: {sample.image} {size}: {asked} | {'; '.join(boxes)}"


def written_by(call: list[str]) -> Path:
    return Path(call[1 + call.index("--fix" if "--fix" in call else "--out")])


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_right_or_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(path.suffix == ".parquet" for path in (GOLDEN / name).iterdir()):
        pytest.importorskip("pyarrow")
    shutil.copytree(GOLDEN / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    for step in CASES[name]["steps"]:
        call = shlex.split(step["call"])
        if step.get("exit") and "--out" in call:
            written_by(call).unlink(missing_ok=True)
        assert main(call) == step.get("exit", 0), step["call"]
        out, err = capsys.readouterr()
        for text in step.get("says", ()):
            assert text in out + err, step["call"]
        if "mAP" in step:
            assert json.loads(out)["mAP"] == pytest.approx(step["mAP"])
        if "samples" in step:
            assert [shown(s) for s in read_samples(written_by(call))] == step["samples"]
        elif step.get("exit") and "--out" in call:
            assert not written_by(call).exists(), step["call"]


def test_every_folder_is_listed() -> None:
    folders = {path.name for path in GOLDEN.iterdir() if path.is_dir()}
    assert folders == set(CASES)
