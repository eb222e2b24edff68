"""`--help` of every verb: what each option does, its default, an example that works."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxrl.cli import build_parser, main
from boxrl.data.files import write_json
from boxrl.data.formats import READERS
from boxrl.data.predictions import PredictionsFile
from boxrl.data.samples import write_samples
from boxrl.data.synthetic import World, scenes
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.prompts import render_target
from boxrl.types import Sample
from tests.support.evaluations import prediction

PARSED = (
    "quickstart", "demo", "doctor parity", "init", "train", "export", "predict", "verify",
    "benchmark run", "experiment run",
    *(f"data convert {name}" for name in READERS if name != "coco"),
)  # fmt: skip
"""Verbs whose example needs torch, a server or an archive: held against the parser alone."""

EVALUATED = ("runs/val", "runs/before", "runs/after", "runs/train-grpo/evals/val")

Parser = argparse.ArgumentParser


def walk(parser: Parser, words: str = "") -> Iterator[tuple[str, Parser]]:
    """(`data convert`, its parser), parents first, without aliases."""
    yield words, parser
    for group in parser._subparsers._group_actions if parser._subparsers else ():
        known = set()
        for name, child in (group.choices or {}).items():
            if id(child) not in known:
                known.add(id(child))
                yield from walk(child, f"{words} {name}".strip())


VERBS = dict(walk(build_parser()))
EVERY_VERB = pytest.mark.parametrize("words", VERBS, ids=lambda words: words or "boxrl")


def said(parser: Parser, action: argparse.Action) -> str:
    """The help of an option as `--help` prints it, on one line."""
    return parser._get_formatter()._expand_help(action) if action.help else ""


@pytest.mark.parametrize("words", [words for words in VERBS if words])
def test_every_verb_stands_in_a_file_of_its_name(words: str) -> None:
    verb = words.partition(" ")[0].replace("-", "_")
    assert callable(importlib.import_module(f"boxrl.cli.{verb}").add_verb)
    home = "convert" if words.startswith(("data convert", "data export")) else verb
    run = VERBS[words].get_default("run")
    prints_its_help = run == VERBS[words]._print_help  # type: ignore[attr-defined]
    assert prints_its_help or run.__module__ == f"boxrl.cli.{home}"


@EVERY_VERB
def test_every_option_has_a_help_text(words: str) -> None:
    actions = [action for action in VERBS[words]._actions if action.dest != argparse.SUPPRESS]
    assert [action.option_strings or action.dest for action in actions if not action.help] == []


@EVERY_VERB
def test_every_default_is_shown(words: str) -> None:
    parser, hidden = VERBS[words], []
    for action in parser._actions:
        default = action.default
        if default is None or default is False or default in ([], (), "", argparse.SUPPRESS):
            continue
        text = said(parser, action)
        value = text.rpartition("(default: ")[2].rstrip(")")
        if value != str(default) and (not isinstance(default, float) or float(value) != default):
            hidden.append((action.option_strings, default, text))
    assert hidden == []


def example_of(words: str) -> str:
    """The last paragraph of the help: one command."""
    *_, head, example = VERBS[words].format_help().rstrip().split("\n")
    assert head == "example:"
    return example.strip()


@EVERY_VERB
def test_help_ends_with_an_example_of_the_verb(words: str) -> None:
    example = example_of(words)
    assert example.startswith(f"boxrl {words}".rstrip())
    args = build_parser().parse_args(shlex.split(example.partition(" > ")[0])[1:])
    assert not hasattr(args.run, "__self__"), "the example only prints a help"


def write_recipe(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(
        "name: mine\nmethod: grpo\nmodel: tiny\nrewards: [f1]\n"
        "data: {train: train.jsonl, images: images}\ntrain: {prompts_per_step: 4}\n"
    )


def write_predictions(folder: Path, samples: list[Sample]) -> None:
    """Gold answers: one per sample, in two evaluations, and two per sample."""
    family = FAMILIES["qwen2.5-vl"]
    settings = {"family": family.name, "prompt": "standard"}
    gold = {sample.id: render_target(sample, family) for sample in samples}
    for name in EVALUATED:
        path = folder / name / "predictions.jsonl"
        rows = [prediction(key, text) for key, text in gold.items()]
        PredictionsFile(path, settings).append(rows)
    draws = [prediction(f"{key}#{n}", text) for key, text in gold.items() for n in range(4)]
    PredictionsFile(folder / "draws.jsonl", settings | {"n": 4}).append(draws)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "images").mkdir()
    for split in ("train", "val", "coco", "d3"):
        drawn = list(scenes(World(), 6, seed=5, split=split))
        for scene in drawn:
            scene.image.save(folder / "images" / scene.sample.image)
        samples = [scene.sample for scene in drawn]
        write_samples(folder / f"{split}.jsonl", samples)
        assert main(["data", "export", "coco", str(folder / f"{split}.jsonl"), "--out",
                     str(folder / f"instances_{split}.json")]) in (0, None)  # fmt: skip
        if split == "val":
            write_predictions(folder, samples)
    for name in EVALUATED:
        call = ["--samples", f"{folder / 'val.jsonl'}", "--out", f"{folder / name}"]
        call += ["--predictions", f"{folder / name / 'predictions.jsonl'}", "--resamples", "20"]
        assert main(["evaluate", *call]) in (0, None)
    truth = json.loads((folder / "instances_val.json").read_text())
    boxes = [{key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
             for row in truth["annotations"]]  # fmt: skip
    (folder / "results.json").write_text(json.dumps(boxes))
    finished = {"id": "1", "completion": "<answer>[]</answer>", "objects": []}
    (folder / "completions.jsonl").write_text(json.dumps(finished) + "\n")
    write_recipe(folder)
    facts = {"name": "mine", "method": "grpo", "model": "tiny", "status": "done"}
    write_json(folder / "runs/train-grpo/run.json", facts | {"evals": ["val"], "pairs": []})
    return folder


@pytest.mark.parametrize("words", [w for w in VERBS if w not in ("", *PARSED)])
def test_the_example_of_a_verb_runs(
    words: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(workplace, tmp_path / "work"))
    assert main(shlex.split(example_of(words))[1:]) in (0, None)


@pytest.mark.parametrize("words", ["", "data", "data convert", "benchmark", "experiment"])
def test_a_command_without_its_verb_prints_its_help(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().out == VERBS[words].format_help()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("predict --n 0", "boxrl predict: argument --n: expected an integer >= 1, got '0'"),
        ("evaluate --samples s", "boxrl evaluate: the following arguments are required: --pred"),
        ("train", "boxrl train: the following arguments are required: RECIPE; see boxrl train"),
        ("data lint f --imgs d", "boxrl: unrecognized arguments: --imgs"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(
    call: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(call.split())
    told = capsys.readouterr().err
    assert (stopped.value.code, told.count("\n")) == (2, 1)
    assert told.startswith(line) and told.endswith("--help\n")


@pytest.mark.parametrize("call", ["--debug data stats FILE", "data stats FILE --debug"])
def test_debug_shows_the_traceback_before_and_behind_the_verb(call: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        main(call.replace("FILE", str(tmp_path / "none.jsonl")).split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evalute"], "invalid choice: 'evalute'; did you mean evaluate?; see boxrl --help"),
        (["data", "lnit"], "did you mean lint?"),
        (["evaluate", "--confidence", "logprobs"], "did you mean logprob?"),
        (["xyzzy"], "(choose from"),
    ],
)
def test_a_word_that_is_spelt_wrong_is_told_with_the_right_one(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_help_takes_under_half_a_second() -> None:
    took = []
    for _ in range(3):
        began = os.times()
        subprocess.run([sys.executable, "-m", "boxrl", "predict", "--help"], capture_output=True)
        ended = os.times()  # the child's own seconds: the machine may be busy
        took.append(sum(ended[2:4]) - sum(began[2:4]))
    assert min(took) < 0.5
