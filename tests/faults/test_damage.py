"""Every kind of file that boxrl reads, cut, emptied, overwritten: one line, and nothing changed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.data.formats.test_every_format import CASES, conversion
from tests.faults.campaign import Record, assert_told, changed, snapshot
from tests.faults.warm import Warm

pytestmark = pytest.mark.slow

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut to two thirds": lambda content: content[: len(content) * 2 // 3],
    "overwritten by noise": lambda content: random.Random(0).randbytes(len(content)),
    "overwritten by zeros": lambda content: bytes(len(content)),
    "nested 200,000 deep": lambda content: b'{"a": [' * 200_000,
    "a number of 5,000 digits": lambda content: b'{"id": ' + b"9" * 5000 + b"}\n",
    "another JSON value": lambda content: b"[1, 2]\n",
}

LOCAL = "run/evals/after_greedy"
SAMPLES, IMAGES = "scenes/samples.jsonl", "scenes/images"
IMAGE = f"{IMAGES}/tests-5-00000.png"

CALLS: dict[str, tuple[str, ...]] = {
    "data stats": ("data", "stats", SAMPLES),
    "data lint": ("data", "lint", SAMPLES, "--images", IMAGES),
    "data lint --prompt": ("data", "lint", SAMPLES, "--prompt", "prompt.yaml"),
    "data convert": ("data", "convert", "coco", "--annotations", "coco.json", "--images", "archive",
                     "--out", "new.jsonl"),
    "data convert refcoco": ("data", "convert", "refcoco", "--annotations", ".", "--images",
                             "archive", "--split", "testA", "--out", "new.jsonl"),
    "score": ("score", "--completions", "completions.jsonl", "--rewards", "f1"),
    "evaluate": ("evaluate", "--samples", SAMPLES, "--predictions", "predictions.jsonl"),
    "coco-eval": ("coco-eval", "--annotations", "coco.json", "--predictions", "results.json"),
    "compare": ("compare", "run/evals/before_greedy", LOCAL, "--resamples", "10"),
    "validate": ("validate", "recipe.yaml"),
    "report": ("report", "run", "--out", "new.html"),
    "predict": ("predict", "--samples", SAMPLES, "--images", IMAGES, "--model", "model", "--limit",
                "1", "--max-new-tokens", "4", "--out", "new.jsonl"),
}  # fmt: skip

REFUSED = [
    ("data stats", SAMPLES),
    ("evaluate", "predictions.jsonl"),
    ("evaluate", "predictions.meta.json"),
    ("score", "completions.jsonl"),
    ("data convert", "coco.json"),
    ("coco-eval", "results.json"),
    ("data convert refcoco", "refcoco/refs(unc).p"),
    ("validate", "recipe.yaml"),
    ("data lint --prompt", "prompt.yaml"),
    ("compare", f"{LOCAL}/predictions.jsonl"),
]
"""Verb and the file that it cannot do without."""

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json")

PASSED_OVER = [
    "run.json", "metrics.jsonl", "environment.json", "recipe.yaml", "compare.json",
    "data/test.jsonl", "evals/after_greedy/metrics.json", "evals/after_greedy/rows.jsonl",
    "evals/after_greedy/predictions.jsonl", "evals/after_greedy/predictions.meta.json",
]  # fmt: skip
"""Of a run folder: a report is made without it, and names what is missing."""

CONTRADICTING = {
    ("evals/after_greedy/predictions.jsonl", damage)
    for damage in ("emptied", "cut to two thirds", "overwritten by zeros", "nested 200,000 deep")
}
"""What reads as fewer answers than were evaluated: a page of it would contradict itself."""


ARCHIVES = {form: (build, options) for form, build, options, _ in CASES}
"""Format -> a function that writes an archive and gives (annotations, images), and options."""


def spoil(path: Path, damage: str) -> None:
    path.write_bytes(DAMAGES[damage](path.read_bytes()))


@pytest.mark.parametrize(("verb", "file"), REFUSED)
def test_a_file_that_a_verb_cannot_do_without(
    verb: str, file: str, copy: Path, warm: Warm, record: Record
) -> None:
    assert warm.run(*CALLS[verb], cwd=copy).status == 0
    good = (copy / file).read_bytes()
    (copy / "new.jsonl").unlink(missing_ok=True)
    for damage in DAMAGES:
        if file == "recipe.yaml" and damage == "cut to two thirds":
            continue  # whole lines of YAML are a recipe again
        spoil(copy / file, damage)
        before = snapshot(copy)
        outcome = warm.run(*CALLS[verb], cwd=copy)
        assert_told(outcome)
        named = Path(file).name.partition("(")[0] in outcome.line
        assert named or "have no prediction" in outcome.line
        lost = changed(before, snapshot(copy))
        kind = Path(file).name
        record("damaged file", verb, f"{kind}, damaged in 7 ways", outcome.line, lost,
               len(before), "files")  # fmt: skip
        assert not (copy / "new.jsonl").exists()
        (copy / file).write_bytes(good)


@pytest.mark.parametrize("form", ARCHIVES)
def test_an_archive_with_a_damaged_file(
    form: str, tmp_path: Path, warm: Warm, record: Record
) -> None:
    """Each file but the images: what can be read is converted, or one line tells why not."""
    archive, call = conversion(form, *ARCHIVES[form], tmp_path)
    out = tmp_path / "out.jsonl"
    assert warm.run(*call).status == 0
    told = []
    for file in (path for path in sorted(archive.rglob("*")) if path.is_file()):
        if file.suffix in (".jpg", ".png"):
            continue
        good = file.read_bytes()
        for damage in DAMAGES:
            out.unlink(missing_ok=True)
            spoil(file, damage)
            before = snapshot(archive)
            outcome = warm.run(*call)
            assert "Traceback" not in outcome.err, (file, damage, outcome.err[-3000:])
            if outcome.status:
                assert_told(outcome)
                assert not out.exists()
                told.append(outcome.line)
            lost = changed(before, snapshot(archive))
            how = f"{form}: each annotation file, damaged in 7 ways"
            record("damaged file", "data convert", how, outcome.line, lost, len(before), "files")
        file.write_bytes(good)
    assert told


@pytest.mark.parametrize("file", PASSED_OVER)
def test_a_report_is_made_of_what_is_left(
    file: str, copy: Path, warm: Warm, record: Record
) -> None:
    good = (copy / "run" / file).read_bytes()
    for damage in DAMAGES:
        spoil(copy / "run" / file, damage)
        before = snapshot(copy)
        outcome = warm.run(*CALLS["report"], cwd=copy)
        if (file, damage) in CONTRADICTING:
            assert_told(outcome, "has changed since")
            (copy / "new.html").touch()
        else:
            assert outcome.status == 0, outcome.err
        lost = changed(before, snapshot(copy))
        record("damaged file", "report", f"RUN/{file}, damaged in 7 ways", outcome.line, lost,
               len(before), "files")  # fmt: skip
        (copy / "new.html").unlink()
        (copy / "run" / file).write_bytes(good)


def test_images_are_judged_by_lint_and_named_by_predict(
    copy: Path, warm: Warm, record: Record
) -> None:
    good = (copy / IMAGE).read_bytes()
    for damage in ("emptied", "cut to two thirds", "overwritten by noise", "missing"):
        if damage == "missing":
            (copy / IMAGE).unlink()
        else:
            spoil(copy / IMAGE, damage)
        before = snapshot(copy)
        for verb in ("data lint", "predict"):
            outcome = warm.run(*CALLS[verb], cwd=copy)
            assert outcome.status == 1, outcome.err
            assert "Traceback" not in outcome.err
            assert "tests-5-00000.png" in outcome.err + outcome.out
            lost = changed(before, snapshot(copy))
            how = "an image is missing" if damage == "missing" else "an image, damaged in 3 ways"
            record("damaged file", verb, how, outcome.line, lost, len(before), "files")
            for left in copy.glob("new.*"):
                left.unlink()
        (copy / IMAGE).write_bytes(good)


@pytest.mark.parametrize("file", MODEL_FILES)
def test_a_damaged_model_folder(file: str, copy: Path, warm: Warm, record: Record) -> None:
    good = (copy / "model" / file).read_bytes()
    for damage in ("emptied", "cut to two thirds", "overwritten by noise", "another JSON value"):
        spoil(copy / "model" / file, damage)
        before = snapshot(copy)
        outcome = warm.run(*CALLS["predict"], cwd=copy)
        assert_told(outcome, "model")
        lost = changed(before, snapshot(copy))
        record("damaged file", "predict", f"MODEL/{file}, damaged in 4 ways", outcome.line, lost,
               len(before), "files")  # fmt: skip
        (copy / "model" / file).write_bytes(good)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
             "trainer_state.json", "training_args.bin"]
)  # fmt: skip
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    file: str, site: Path, tmp_path: Path, warm: Warm, record: Record
) -> None:
    """Training goes on from step 2 instead of 4."""
    small = ("train.max_steps=4", "train.save_steps=2", f"out={tmp_path / 'run'}")
    assert warm.run("train", site / "recipe.yaml", *small).status == 0
    last = tmp_path / "run" / "checkpoints" / "checkpoint-4"
    spoil(last / file, "cut to two thirds")
    outcome = warm.run("train", site / "recipe.yaml", *small, "--resume")
    assert outcome.status == 0, outcome.err[-3000:]
    steps = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    record("damaged file", "train", f"CHECKPOINT/{file} cut", outcome.line, [], len(steps), "steps")
    assert len(steps) == 4


@pytest.mark.parametrize("file", ["run.json", "recipe.yaml", "metrics.jsonl"])
def test_a_damaged_run_folder_is_resumed_or_told_of(
    file: str, site: Path, tmp_path: Path, warm: Warm, record: Record
) -> None:
    small = ("train.max_steps=2", "train.save_steps=1", f"out={tmp_path / 'run'}")
    assert warm.run("train", site / "recipe.yaml", *small).status == 0
    good = (tmp_path / "run" / file).read_bytes()
    for damage in ("emptied", "overwritten by noise", "another JSON value"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-2")
        spoil(tmp_path / "run" / file, damage)
        before = snapshot(tmp_path / "run" / "checkpoints")
        outcome = warm.run("train", site / "recipe.yaml", *small, "--resume")
        assert "Traceback" not in outcome.err, outcome.err[-3000:]
        assert outcome.status in ((0,) if file == "metrics.jsonl" else (1, 2))
        lost = changed(before, snapshot(tmp_path / "run" / "checkpoints"))
        (tmp_path / "run" / "checkpoints" / "checkpoint-2").mkdir(exist_ok=True)
        record("damaged file", "train --resume", f"RUN/{file}, damaged in 3 ways", outcome.line,
               lost, len(before), "files")  # fmt: skip
        (tmp_path / "run" / file).write_bytes(good)
