"""Whatever a command writes, it destroys no input, no other file and nothing behind a link."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.files import write_atomic
from boxrl.data.predictions import PredictionsFile
from boxrl.errors import BoxrlError, DataError, UsageError
from boxrl.guard.outputs import check_outputs
from tests.support.report_runs import build_run

Call = tuple[list[str], list[str]]
"""A command, and the files that it writes."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    build_run(folder / "run", samples=3)
    row = '{"id": "1", "completion": "<answer>None</answer>", "objects": []}\n'
    (folder / "c.jsonl").write_text(row)
    (folder / "recipe.yaml").write_text(
        "name: a\nmethod: sft\nmodel: tiny\ndata: {synthetic: {}}\nout: trained\n"
    )
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SAMPLES, ANSWERS = "run/data/test.jsonl", "run/evals/after_greedy/predictions.jsonl"
EVALUATE = f"evaluate --samples {SAMPLES} --predictions {ANSWERS} --resamples 0 --out"
CALLS: dict[str, tuple[str, list[str]]] = {
    "score": ("score --completions c.jsonl --rewards f1 --out o.jsonl", ["o.jsonl"]),
    "report": ("report run --out o.html", ["o.html"]),
    "report by default": ("report run", ["run/report.html"]),
    "report of two": ("report run run --out o.html", ["o.html"]),
    "report --export": (
        "report run --out p.html --export o",
        [
            f"o/after_greedy/{name}"
            for name in ("annotations.json", "predictions.json", "boxes.csv")
        ],
    ),
    "compare": ("compare run run --out o.html", ["o.html"]),
    "evaluate": (f"{EVALUATE} o", ["o/metrics.json", "o/rows.jsonl"]),
    "mix": (f"data mix {SAMPLES} --out o.jsonl", ["o.jsonl"]),
    "split": (
        f"data split {SAMPLES} --share 0.4 --train t.jsonl --validation v.jsonl",
        ["t.jsonl", "v.jsonl"],
    ),
    "export coco": (f"data export coco {SAMPLES} --out o.json", ["o.json"]),
    "export vlmr1": (f"data export vlmr1 {SAMPLES} --out o.jsonl", ["o.jsonl"]),
    "export ms-swift": (f"data export ms-swift {SAMPLES} --out o.jsonl", ["o.jsonl"]),
    "export easyr1": (f"data export easyr1 {SAMPLES} --out o.jsonl", ["o.jsonl"]),
    "convert": (
        "data convert coco --annotations coco.json --images run/data/images --mode all "
        "--out o.jsonl",
        ["o.jsonl", "o.rejected.jsonl"],
    ),
    "write-config": (
        "train recipe.yaml --launch accelerate --num-processes 2 --write-config o.yaml",
        ["o.yaml"],
    ),
}


def call(name: str, work: Path) -> int:
    if name == "convert":
        assert main(["data", "export", "coco", SAMPLES, "--out", "coco.json"]) == 0
    if name == "write-config":
        pytest.importorskip("torch")
    return main(CALLS[name][0].split())


def put_other(path: Path) -> None:
    path.write_text("my own notes\n")


def put_json(path: Path) -> None:
    path.write_text('{"mine": true}\n')


def put_link(path: Path) -> None:
    path.symlink_to(Path.cwd() / "target")


@pytest.mark.parametrize("put", [put_other, put_json, put_link])
@pytest.mark.parametrize("name", CALLS)
def test_a_file_of_another_kind_and_a_link_are_left_alone(
    name: str, put: Callable[[Path], None], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "target").write_text("my own target\n")
    for file in CALLS[name][1]:
        path = work / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        put(path)
        before = path.read_bytes()
        assert call(name, work) in (1, 2), file
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert str(path.name) in said
        assert path.read_bytes() == before
        assert (work / "target").read_text() == "my own target\n"
        path.unlink()


@pytest.mark.parametrize("name", CALLS)
def test_a_command_replaces_what_it_wrote_itself(name: str, work: Path) -> None:
    paths = [work / file for file in CALLS[name][1]]
    assert call(name, work) == 0
    written = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    assert written
    assert call(name, work) == 0
    assert all(path.stat().st_mtime_ns != when for path, when in written.items())


@pytest.mark.parametrize(
    "words",
    [
        "score --completions c.jsonl --rewards f1 --out c.jsonl",
        "score --completions c.jsonl --rewards f1 --out hard.jsonl",
        "report run --out run/metrics.jsonl",
        f"report run --out {SAMPLES}",
        f"compare run run --out {SAMPLES}",
        f"data mix {SAMPLES} --out {SAMPLES}",
        f"data split {SAMPLES} --train t.jsonl --validation run/../{SAMPLES}",
        f"data split {SAMPLES} --train t.jsonl --validation ./t.jsonl",
        f"data export coco {SAMPLES} --out {SAMPLES}",
        f"data lint {SAMPLES} --fix {SAMPLES}",
        f"predict --samples {SAMPLES} --images run/data/images --model tiny --out {SAMPLES}",
        f"evaluate --samples {SAMPLES} --predictions rows.jsonl --out .",
    ],
)
def test_no_input_is_written_over(
    words: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.link("c.jsonl", "hard.jsonl")
    shutil.copy(ANSWERS, "rows.jsonl")
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert main(words.split()) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_pictures_that_lie_where_a_page_would_put_its_own_stay(work: Path) -> None:
    (work / "o_files").mkdir()
    (work / "o_files" / "1.jpeg").write_text("mine")
    assert main(["report", "run", "--out", "o.html"]) == 2
    assert (work / "o_files" / "1.jpeg").read_text() == "mine"


def test_an_export_stays_in_its_folder(work: Path) -> None:
    """The names of evaluations are the run's own words."""
    shutil.copytree("run/evals/after_greedy", "evil")
    text = Path("run/run.json").read_text().replace('"after_greedy"', '"../../evil"')
    Path("run/run.json").write_text(text)
    main(["report", "run", "--out", "p.html", "--export", "deep/er/o"])
    assert not list(work.glob("deep/**/annotations.json")) or not (work / "deep/evil").exists()
    assert not (work / "evil" / "annotations.json").exists()
    assert "evil" not in {path.name for path in work.joinpath("deep").rglob("*")}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(DataError, match="is a link"), write_atomic(tmp_path / "link"):
        pass
    with pytest.raises(DataError, match="is a link"):
        PredictionsFile(tmp_path / "link", {})
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(DataError, match="is a link"):
        check_outputs([(tmp_path / "dangling", "page")], [])
    assert (tmp_path / "target").read_text() == "mine"


def test_an_empty_file_may_be_written_over(tmp_path: Path) -> None:
    for content in ("", "\n", "[]", "{}\n"):
        (tmp_path / "a").write_text(content)
        check_outputs([(tmp_path / "a", "samples")], [])
    (tmp_path / "a").write_text("[1]")
    with pytest.raises(UsageError, match="remove it"):
        check_outputs([(tmp_path / "a", "samples")], [])
    with pytest.raises(BoxrlError, match="is a folder"):
        check_outputs([(tmp_path, "samples")], [])
