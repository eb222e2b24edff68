"""Every value of every JSON file that boxrl reads, one after the other, replaced by an odd one."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from boxrl.cli import main
from tests.data.formats.test_every_format import conversion
from tests.faults.campaign import Outcome, Record, changed, snapshot
from tests.faults.test_damage import ARCHIVES, CALLS, LOCAL, SAMPLES
from tests.faults.warm import Warm
from tests.support.report_runs import write_jsonl

pytestmark = pytest.mark.slow

HUGE = 10**400
VALUES: tuple[Any, ...] = (
    HUGE, -HUGE, 1e308, -1, 2**53 + 1, float("nan"), float("inf"), True, None, "x", "\ud800",
    [], {}, [HUGE], {"a": HUGE},
)  # fmt: skip
"""What JSON can hold, and Python's reader takes, in any place."""


def dump_json(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


KINDS: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    ".json": (json.loads, dump_json),
    ".jsonl": (json.loads, dump_json),
    ".yaml": (yaml.safe_load, dump_json),
    ".p": (pickle.loads, pickle.dumps),
    ".pkl": (pickle.loads, pickle.dumps),
}
"""How a file is read and written; of JSON lines, the last one."""

TOLD = re.compile(r"^(boxrl: .|\S+: \d+ rows?, [1-9]\d* error|[1-9]\d* problem)", re.MULTILINE)
"""The error, or what lint or validate counted; behind it may stand what to do next."""

JUDGE = ("evaluate", "--samples", SAMPLES, "--predictions", "predictions.jsonl",
         "--resamples", "10")  # fmt: skip
VERBS = CALLS | {
    "data lint": ("data", "lint", SAMPLES),
    "evaluate": JUDGE,
    "compare": ("compare", "first", "second", "--resamples", "10"),
    "report RUN RUN": ("report", "run", "other", "--out", "new.html"),
    "watch": ("watch", "run"),
}
FILES = [
    *[(verb, SAMPLES) for verb in ("data stats", "data lint", "evaluate")],
    *[("evaluate", f"predictions.{end}") for end in ("jsonl", "meta.json")],
    ("score", "completions.jsonl"),
    ("coco-eval", "coco.json"),
    ("coco-eval", "results.json"),
    ("validate", "recipe.yaml"),
    *[("compare", f"second/{name}") for name in ("metrics.json", "rows.jsonl")],
    *[("report", f"run/{name}.json") for name in ("run", "environment", "compare")],
    ("report", "run/metrics.jsonl"),
    ("report", "run/data/test.jsonl"),
    *[("report", f"{LOCAL}/predictions.{end}") for end in ("jsonl", "meta.json")],
    *[("report", f"{LOCAL}/{name}") for name in ("metrics.json", "rows.jsonl")],
    *[("report RUN RUN", f"run/{name}") for name in ("run.json", "metrics.jsonl")],
    *[("watch", f"run/{name}") for name in ("run.json", "metrics.jsonl", "completions.jsonl")],
]
"""Verb, and the file that is given odd values."""


def odd_files(path: Path) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Write the file once per place and odd value, which are given; of JSON lines, in the last."""
    content = path.read_bytes()
    load, dump = KINDS[path.suffix]
    lines = content.splitlines(keepends=True) if path.suffix == ".jsonl" else [content]
    before, value = b"".join(lines[:-1]), load(lines[-1])
    for place in places(value):
        for odd in VALUES:
            path.write_bytes(before + dump(replaced(value, place, odd)))
            yield place, odd
    path.write_bytes(content)


def places(content: Any) -> Iterator[tuple[Any, ...]]:
    """Paths to every value of a JSON value, itself first; of a list to its first two."""
    yield ()
    if isinstance(content, list):
        content = dict(enumerate(content[:2]))
    for key, inner in content.items() if isinstance(content, dict) else ():
        yield from ((key, *place) for place in places(inner))


def replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of the content with the value at the place."""
    if not place:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[place[0]] = replaced(content[place[0]], place[1:], value)
    return copy


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `boxrl WORDS` in this process; a traceback would end the test."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # its own way
        status = main([str(word) for word in words])
        outcome = Outcome(status, *capsys.readouterr())
        assert not status or TOLD.search(outcome.err + outcome.out), outcome
        return outcome

    return run


def seen(outcomes: Sequence[Outcome]) -> str:
    """What the user saw at the last refusal, or where nothing was refused at the end."""
    return next((o.line for o in reversed(outcomes) if o.status), outcomes[-1].line)


@pytest.fixture
def files(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two evaluations, a second run and a sampled completion."""
    monkeypatch.chdir(copy)
    for name in ("first", "second"):
        assert main([*JUDGE, "--out", name]) == 0
    shutil.copytree(copy / "run", copy / "other")
    sampled = {"step": 1, "id": "a", "completion": "none", "rewards": {"f1": 0.5}}
    write_jsonl(copy / "run/completions.jsonl", [sampled])
    return copy


@pytest.mark.parametrize(("verb", "file"), FILES)
def test_an_odd_value_is_told_of_or_passed_over(
    verb: str, file: str, files: Path, call: Callable[..., Outcome], record: Record
) -> None:
    assert call(*VERBS[verb]).status == 0
    before = snapshot(files)
    outcomes = [call(*VERBS[verb]) for _ in odd_files(files / file)]
    lost = set(changed(before, snapshot(files))) - {"new.html", "new.jsonl"}
    record("odd value", verb, f"{file}: one value replaced", seen(outcomes), sorted(lost),
           len(before), "files", len(outcomes))  # fmt: skip


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer_config.json"])
def test_an_odd_value_in_a_model_folder(file: str, copy: Path, warm: Warm, record: Record) -> None:
    before, outcomes = snapshot(copy), []
    for place in odd_files(copy / "model" / file):
        (copy / "new.jsonl").unlink(missing_ok=True)
        outcomes.append(warm.run(*VERBS["predict"], cwd=copy))
        assert "Traceback" not in outcomes[-1].err, (place, outcomes[-1])
        assert not outcomes[-1].status or TOLD.search(outcomes[-1].err), (place, outcomes[-1])
    lost = set(changed(before, snapshot(copy))) - {"new.jsonl"}
    record("odd value", "predict", f"MODEL/{file}: one value replaced", seen(outcomes),
           sorted(lost), len(before), "files", len(outcomes))  # fmt: skip


@pytest.mark.usefixtures("pickles_read_here")
@pytest.mark.parametrize("form", ["coco", "ovdeval", "lisa", "clevr", "vlmr1", "refcoco", "d3"])
def test_an_odd_value_in_an_archive(
    form: str, tmp_path: Path, call: Callable[..., Outcome], record: Record
) -> None:
    archive, words = conversion(form, *ARCHIVES[form], tmp_path)
    out = tmp_path / "out.jsonl"
    assert call(*words).status == 0
    before, outcomes = snapshot(archive), []
    for file in (path for path in sorted(archive.rglob("*")) if path.suffix in KINDS):
        for place in odd_files(file):
            out.unlink(missing_ok=True)
            outcomes.append(call(*words))
            assert out.exists() is not bool(outcomes[-1].status), (file, place, outcomes[-1])
    lost = changed(before, snapshot(archive))
    record("odd value", "data convert", f"{form}: one value of an annotation file replaced",
           seen(outcomes), lost, len(before), "files", len(outcomes))  # fmt: skip
