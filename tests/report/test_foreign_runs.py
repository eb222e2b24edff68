"""Run folders that somebody sent: nothing outside of them is shown, waited for or written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.files import write_json
from boxrl.errors import DataError
from boxrl.runs import Run
from tests.support.report_runs import build_run

SECRET = "the-reader's-own-words"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("sent"), samples=3, steps=4)


@pytest.fixture
def run(sent: Path, tmp_path: Path) -> Path:
    """A copy of the run, beside what its reader would not show."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "words").write_text(f"instruction: {SECRET}\n")
    shutil.copy(tmp_path / "mine" / "words", tmp_path / "mine" / "p.yaml")
    for path in sorted((sent / "data" / "images").iterdir()):
        Image.new("RGB", (224, 224), (200, 30, 40)).save(tmp_path / "mine" / path.name)
    return shutil.copytree(sent, tmp_path / "run", symlinks=True)


def page_of(run: Path, *options: str) -> str:
    assert main(["report", str(run), "--out", str(run.parent / "page.html"), *options]) == 0
    return (run.parent / "page.html").read_text("utf-8")


def pictures(page: str) -> list[str | None]:
    payload = page.partition('id="payload">')[2].partition("</script>")[0]
    found: list[str | None] = json.loads(payload)["pictures"]
    return found


def set_meta(run: Path, **facts: object) -> None:
    for path in run.glob("evals/*/predictions.meta.json"):
        write_json(path, json.loads(path.read_text()) | facts)
    for path in run.glob("evals/*/metrics.json"):
        metrics = json.loads(path.read_text())
        for name in facts.keys() & (metrics.get("files") or {}).keys():
            metrics["files"][name] = {"path": facts[name]}
        write_json(path, metrics)


def link(name: str) -> Callable[[Path], None]:
    def put(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(run.parent / "mine" / "words")

    return put


def prompt_by_path(run: Path) -> None:
    set_meta(run, prompt=str(run.parent / "mine" / "p.yaml"))


def prompt_by_climbing(run: Path) -> None:
    set_meta(run, prompt="../mine/p.yaml")


def prompt_from_a_directory(run: Path) -> None:
    set_meta(run, prompt="p.yaml", cwd=str(run.parent / "mine"))


def linked_evaluation(run: Path) -> None:
    shutil.copytree(run / "evals", run.parent / "mine" / "evals")
    for path in (run.parent / "mine" / "evals").glob("*/metrics.json"):
        path.write_text(path.read_text().replace('"n"', f'"{SECRET}"'))
    shutil.rmtree(run / "evals")
    (run / "evals").symlink_to(run.parent / "mine" / "evals")


def without_files(run: Path) -> None:
    """As 0.1.0 wrote it, with answers that lie elsewhere."""
    folder = run / "evals" / "after_greedy"
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("files", None)
    write_json(folder / "metrics.json", metrics)
    lines = (folder / "predictions.jsonl").read_text()
    (run.parent / "mine" / "a.jsonl").write_text(lines.replace("<answer>", f"{SECRET}<answer>"))
    (folder / "predictions.jsonl").unlink()
    (folder / "predictions.jsonl").symlink_to(run.parent / "mine" / "a.jsonl")


WORDS = {
    "answers of 0.1.0": without_files,
    "recipe.yaml": link("recipe.yaml"),
    "run.json": link("run.json"),
    "environment.json": link("environment.json"),
    "compare.json": link("compare.json"),
    "metrics.jsonl": link("metrics.jsonl"),
    "metrics.json": link("evals/after_greedy/metrics.json"),
    "rows.jsonl": link("evals/after_greedy/rows.jsonl"),
    "predictions.jsonl": link("evals/after_greedy/predictions.jsonl"),
    "predictions.meta.json": link("evals/after_greedy/predictions.meta.json"),
    "a prompt by its path": prompt_by_path,
    "a prompt above the run": prompt_by_climbing,
    "a prompt where the run says it was made": prompt_from_a_directory,
    "evals": linked_evaluation,
}


@pytest.mark.parametrize("what", WORDS)
def test_words_from_outside_stand_on_no_page(
    what: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WORDS[what](run)
    out = run.parent / "page.html"
    status = main(["report", str(run), "--out", str(out)])
    told = capsys.readouterr()
    page = out.read_text("utf-8") if status == 0 else ""
    assert SECRET not in page + told.out + told.err
    said = ("leads out of", "outside of the run", "has changed since")
    assert any(words in page + told.err for words in said)


@pytest.mark.parametrize("what", ["recipe.yaml", "run.json", "metrics.jsonl"])
def test_words_from_outside_are_not_watched(
    what: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WORDS[what](run)
    assert main(["watch", str(run)]) == 1
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    assert "leads out of" in told.err


@pytest.mark.parametrize("what", ["metrics.json", "rows.jsonl", "evals"])
def test_words_from_outside_are_not_compared(
    what: str, sent: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WORDS[what](run)
    assert main(["compare", str(sent), str(run), "--resamples", "10"]) == 1
    assert "leads out of" in capsys.readouterr().err


def images_by_path(run: Path) -> None:
    set_meta(run, images=str(run.parent / "mine"))


def images_by_climbing(run: Path) -> None:
    set_meta(run, images="../mine")


def test_pictures_of_other_proportions_are_not_drawn_under_boxes(run: Path) -> None:
    images_by_path(run)
    mine = run.parent / "mine"
    for path, side in zip(
        sorted(mine.glob("*.*g")), ((100, 224), (56, 56), (224, 224)), strict=True
    ):
        Image.new("RGB", side).save(path)
    page = page_of(run, "--images", str(mine))
    assert len(pictures(page)) == 2  # a smaller copy is shown
    assert "shown without a picture: the image has other proportions" in page


def linked_images(run: Path) -> None:
    shutil.rmtree(run / "data" / "images")
    (run / "data" / "images").symlink_to(run.parent / "mine")


def each_image_a_link(run: Path) -> None:
    for path in (run / "data" / "images").iterdir():
        path.unlink()
        path.symlink_to(run.parent / "mine" / path.name)


@pytest.mark.parametrize(
    "put", [images_by_path, images_by_climbing, linked_images, each_image_a_link]
)
def test_pictures_from_outside_stand_on_no_page(put: Callable[[Path], None], run: Path) -> None:
    assert all(pictures(page_of(run)))
    put(run)
    assert not any(pictures(page_of(run)))


def test_pictures_from_outside_are_shown_where_they_are_named_or_known(
    run: Path, tmp_path: Path
) -> None:
    images_by_path(run)
    page = page_of(run)
    assert f"--images {tmp_path / 'mine'} shows them" in page
    assert all(pictures(page_of(run, "--images", str(tmp_path / "mine"))))
    set_meta(run, images=None)  # predictions of another tool name no images
    assert all(pictures(page_of(run, "--images", str(tmp_path / "mine"))))
    shutil.move(run / "data" / "images", tmp_path / "moved")
    set_meta(run, images="../../data/images")
    assert not any(pictures(page_of(run)))
    assert all(pictures(page_of(run, "--images", str(tmp_path / "moved"))))
    shutil.move(tmp_path / "moved", run / "data" / "images")
    shutil.copytree(run / "data" / "images", tmp_path / "known")
    for folder in run.glob("evals/*"):
        write_json(folder / "predictions.meta.json", json.loads(
            (folder / "predictions.meta.json").read_text()) | {"images": str(tmp_path / "known")}
        )  # fmt: skip
        (folder / "metrics.json").unlink()
        (folder / "rows.jsonl").unlink()
        assert main(["evaluate", "--samples", str(run / "data/test.jsonl"), "--resamples", "0",
                     "--predictions", str(folder / "predictions.jsonl"),
                     "--out", str(folder)]) == 0  # fmt: skip
    assert all(pictures(page_of(run)))
    Image.new("RGB", (224, 224)).save(next((tmp_path / "known").iterdir()), "PNG")
    assert not any(pictures(page_of(run)))


IN_AN_EVALUATION = ("metrics.json", "rows.jsonl", "predictions.jsonl", "predictions.meta.json")
PARTS = (
    *("run.json", "environment.json", "recipe.yaml", "metrics.jsonl", "compare.json"),
    *("completions.jsonl", *(f"evals/after_greedy/{name}" for name in IN_AN_EVALUATION)),
)


@pytest.fixture(scope="module")
def piped(sent: Path, tmp_path_factory: pytest.TempPathFactory) -> CompletedProcess[str]:
    """One process that reads the run with one part after the other a pipe."""
    runs = {}
    for part in PARTS:
        runs[part] = str(shutil.copytree(sent, tmp_path_factory.mktemp("piped") / "run"))
        Path(runs[part], part).unlink(missing_ok=True)
        os.mkfifo(Path(runs[part], part))
    code = (
        "from boxrl.cli import main\n"
        f"for part, run in {runs}.items():\n"
        f"    for call in ['report'], ['watch'], ['compare', {str(sent)!r}]:\n"
        "        main([*call, run, *(['--resamples', '10'] if len(call) > 1 else [])])\n"
        "        print('over:', part, flush=True)\n"
    )
    call = [sys.executable, "-c", code]
    return subprocess.run(call, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("part", PARTS)
def test_pipes_are_not_waited_for(part: str, piped: CompletedProcess[str]) -> None:
    assert piped.returncode == 0, piped.stderr[-2000:]
    assert piped.stdout.splitlines().count(f"over: {part}") == 3
    assert "Traceback" not in piped.stderr


def test_a_prompt_that_is_a_pipe_is_not_waited_for(run: Path) -> None:
    os.mkfifo(run / "p.yaml")
    set_meta(run, prompt="p.yaml")
    page_of(run)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/random", "laughs"])
def test_a_recipe_that_fills_the_memory_does_not(target: str, run: Path) -> None:
    (run / "recipe.yaml").unlink()
    if target == "laughs":
        (run / "recipe.yaml").write_text(f"{LAUGHS}rewards: *j\ntrain: {{max_steps: *j}}\n")
    else:
        (run / "recipe.yaml").symlink_to(target)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "from boxrl.cli import main\n"
        "for verb in ('report', 'watch'): print(verb, main([verb, sys.argv[1]]))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    call = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "memory" not in done.stderr
    assert "\nwatch " in f"\n{done.stdout}"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 30


@pytest.mark.parametrize("name", ["model", "data", "checkpoints", "deep/er/link", "metrics.jsonl"])
def test_no_run_goes_on_where_a_link_leads_out_of_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    facts = {"name": "a", "method": "sft", "model": "tiny"}
    with Run(tmp_path / "run", "name: a\n", facts, resume=False):
        pass
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="leads out of"):
        Run(tmp_path / "run", "name: a\n", facts, resume=True)
    assert not list((tmp_path / "other").iterdir())
    link.unlink()
    link.symlink_to(tmp_path / "run")
    with Run(tmp_path / "run", "name: a\n", facts, resume=True):
        pass
