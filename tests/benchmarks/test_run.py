"""A named benchmark with a model: from an archive's layout to its table in one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.benchmarks import build_benchmark  # noqa: E402
from boxrl.benchmarks.run import run_benchmark  # noqa: E402
from boxrl.benchmarks.tables import describe  # noqa: E402
from boxrl.cli import main  # noqa: E402
from boxrl.engines.answers import AnswerOptions  # noqa: E402
from boxrl.engines.build import EngineOptions  # noqa: E402
from boxrl.generation.predict import Sampling  # noqa: E402
from tests.support.archives import IMAGES, coco_document, write_image, write_json  # noqa: E402


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """COCO's layout with two images."""
    write_json(tmp_path / "annotations" / "instances_val2017.json", coco_document())
    for image in IMAGES:
        write_image(tmp_path / "val2017" / image["file_name"], (image["width"], image["height"]))
    return tmp_path


def test_the_tiny_vlm_answers_a_benchmark_and_a_second_call_only_scores(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["benchmark", "run", "coco_pos_1", "--model=tiny", f"--data-root={root}"]
    call += [f"--out={root / 'out'}", "--json", "--resamples=0"]
    call += ["--predict-options=--max-new-tokens 48"]
    assert main(call) == 0
    result = json.loads(capsys.readouterr().out)  # one JSON object and nothing else
    assert result["parts"]["coco_pos_1"]["n"] == 2
    assert result["parts"]["coco_pos_1"]["protocol"]["model"] == "tiny"
    answers = root / "out" / "predictions.jsonl"
    first = answers.stat().st_mtime_ns
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert answers.stat().st_mtime_ns == first


def test_a_damaged_image_is_named_with_its_sample(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "val2017" / "a.jpg").write_bytes(b"no image")
    call = ["benchmark", "run", "coco_pos_1", "--model=tiny", f"--data-root={root}"]
    assert main([*call, f"--out={root / 'out'}", "--predict-options=--max-new-tokens 9"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "1 completion ended in error, for example " in told
    assert "a.jpg" in told


def test_a_benchmark_runs_from_python_and_prints_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = AnswerOptions(EngineOptions("tiny"), Sampling(max_new_tokens=48))
    outcome = run_benchmark(build_benchmark("coco_pos_1"), root, root / "out", options, resamples=0)
    assert capsys.readouterr().out == ""
    assert outcome.parts["coco_pos_1"].metrics["n"] == 2
    assert outcome.table == []  # its one evaluation says it all
    assert json.loads((root / "out" / "benchmark.json").read_text()) == json.loads(
        json.dumps(describe(outcome))
    )
    again = run_benchmark(
        build_benchmark("coco_pos_1"), root, root / "again", root / "out" / "predictions.jsonl",
        resamples=0,
    )  # fmt: skip
    assert again.summary == outcome.summary
    settings = json.loads((root / "out" / "predictions.meta.json").read_text())
    assert settings["versions"]["torchvision"]
    assert settings["versions"]["image_processor"] == "Qwen2VLImageProcessor"


@pytest.mark.parametrize(
    "options", ["--samples x", "--limit 3", "--model other", "--engine vllm '", "--nothing"]
)
def test_predict_options_are_those_of_asking_a_model(
    options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["benchmark", "run", "coco", "--model=tiny", "--data-root=d", "--out=o"]
    with pytest.raises(SystemExit) as stopped:
        main([*call, f"--predict-options={options}"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "--predict-options" in told
    assert told.count("\n") == 1
