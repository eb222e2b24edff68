"""Kill -9 at random moments: what was finished stays, and the same command goes on."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from boxrl.config import dump_recipe
from tests.experiments.test_killed_grid import command, logs
from tests.faults.campaign import (
    Record,
    changed,
    end,
    run,
    snapshot,
    start,
    wait_for_lines,
    whole_lines,
)
from tests.faults.kills import (
    hostile,
    kill_again_and_again,
    kill_at_step,
    many_samples,
    rows,
    same_rows,
)
from tests.support.archives import write_json
from tests.support.chat_server import chat_server
from tests.support.recipes import tiny_recipe

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    ("engine", "copies", "kills"), [("openai", 16, 20), ("transformers", 16, 20)]
)
def test_predict(
    engine: str, copies: int, kills: int, scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, copies)
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    with chat_server(hostile(0.25, 2), delay_s=0.2) as server:
        options = {
            "openai": ["--model", "served", "--family", "plain", "--base-url", server.url,
                       "--timeout", 1, "--concurrency", 4],
            "transformers": ["--model", "tiny", "--batch-size", 4, "--max-new-tokens", 64,
                             "--logprobs"],
        }[engine]  # fmt: skip
        call: list[object] = ["predict", "--engine", engine, "--samples", samples,
                              "--images", tmp_path / "images", *options]  # fmt: skip
        assert run(*call, "--out", whole).status == 0
        seen = kill_again_and_again([*call, "--out", killed], killed, kills)
        last = run(*call, "--out", killed)
    assert last.status == 0, last.err
    assert killed.read_bytes() == whole.read_bytes()
    assert len(seen) >= kills * 3 / 4
    kept = set(killed.read_text().splitlines())
    for lines in seen:
        finished = [row for row in lines if '"finish_reason": "error"' not in row]
        lost = [row for row in finished if row not in kept]
        how = f"kill -9 while it writes, --engine {engine}"
        record("kill -9", "predict", how, last.line, lost, len(finished), "rows")


def test_convert(tmp_path: Path, record: Record) -> None:
    """What stood there stays until the new file is whole."""
    size = {"width": 9, "height": 9}
    box = {"category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    ids = range(1, 40_001)
    document = {
        "images": [{"id": k, "file_name": f"{k}.jpg", **size} for k in ids],
        "annotations": [{"id": k, "image_id": k, **box} for k in ids],
        "categories": [{"id": 1, "name": "cat"}],
    }
    annotations = write_json(tmp_path / "coco.json", document)
    call = ["data", "convert", "coco", "--annotations", annotations, "--images", tmp_path, "--out"]
    whole, out = tmp_path / "whole.jsonl", tmp_path / "samples.jsonl"
    assert run(*call, whole).status == 0
    out.write_text("what stood there before\n")
    before, partial = snapshot(tmp_path), tmp_path / ".samples.jsonl.partial"
    dice, lost = random.Random(3), []
    for _ in range(10):
        partial.unlink(missing_ok=True)
        process = start(*call, out)
        while not partial.exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.1))
        end(process)
        assert process.returncode == -signal.SIGKILL
        lost.append(changed(before, snapshot(tmp_path)))
    last = run(*call, out)
    assert last.status == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()
    for names in lost:
        how = "kill -9 while it writes over an older file"
        record("kill -9", "data convert", how, last.line, names, len(before), "files")


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_train(method: str, scene_folder: Path, tmp_path: Path, record: Record) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "killed", method=method, max_steps=9,
                         save_steps=2, learning_rate=1e-3, prompts_per_step=2)  # fmt: skip
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_recipe(recipe))
    assert run("train", written, f"out={tmp_path / 'whole'}").status == 0
    log = tmp_path / "killed" / "metrics.jsonl"
    call: list[object] = ["train", written]
    dice = random.Random(time.time())
    seen = []
    for step in sorted(dice.sample(range(1, 9), 3)):
        seen.append(kill_at_step(call, log, step))
        call = ["train", written, "--resume"]
    told = run("train", written)
    assert told.status == 2
    assert "--resume" in told.line
    assert run(*call).status == 0
    final = rows(log)
    assert not same_rows(final, rows(tmp_path / "whole" / "metrics.jsonl"))
    for before in seen:
        how = f"kill -9 at a random step, then --resume, {method}"
        record("kill -9", "train", how, told.line, same_rows(final, before), len(before), "steps")


def test_quickstart(tmp_path: Path, record: Record) -> None:
    """Kills in each part of the chain: first evaluation, training, last evaluation."""
    text = (RECIPES / "quickstart.yaml").read_text()
    small = {"train: 2000": "train: 40", "test: 300": "test: 130", "max_steps: 200": "max_steps: 8",
             "save_steps: 25": "save_steps: 3", "steps: 8": "steps: 8"}  # fmt: skip
    for old, new in small.items():
        text = text.replace(old, new)
    (tmp_path / "small.yaml").write_text(text)
    first = (
        "import boxrl.config as c; from pathlib import Path; "
        f"c.find_recipe = lambda name: Path({str(tmp_path / 'small.yaml')!r})"
    )
    out = tmp_path / "run"
    call = ["quickstart", "--out", out]
    seen: dict[Path, list[list[str]]] = {}
    for name, lines in (
        ("evals/before_greedy/predictions.jsonl", 64),
        ("evals/before_sampled/predictions.jsonl", 64),
        ("metrics.jsonl", 2),
        ("metrics.jsonl", 5),
        ("evals/after_greedy/predictions.jsonl", 64),
    ):
        process = start(*call, first=first)
        wait_for_lines(process, out / name, lines)
        end(process)
        seen.setdefault(out / name, []).append(whole_lines(out / name))
        call = ["quickstart", "--out", out, "--resume"]
    last = run(*call, first=first)
    assert last.status == 0, last.err
    assert (out / "report.html").is_file()
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    for path, kills in seen.items():
        for kept in kills:
            if path.name == "metrics.jsonl":
                lost = same_rows(rows(path), [json.loads(line) for line in kept])
            else:
                lost = sorted(set(kept) - set(whole_lines(path)))
            how = f"kill -9 in {path.relative_to(out)}, then --resume"
            record("kill -9", "quickstart", how, last.line, lost, len(kept), "rows")


def test_experiment(tmp_path: Path, record: Record) -> None:
    """Kill -9 of the whole grid while its cells train."""
    call = command(tmp_path)[3:]
    process = start(*call)
    while not any(len(whole_lines(log)) >= 3 for log in logs(tmp_path)):
        assert process.poll() is None
        time.sleep(0.05)
    end(process)
    before = {log: rows(log) for log in logs(tmp_path)}
    last = run(*call)
    assert last.status == 0, last.err[-3000:]
    assert json.loads(last.out)["cells_run"] <= 2
    lost = [step for log, steps in before.items() for step in same_rows(rows(log), steps)]
    count = sum(map(len, before.values()))
    how = "kill -9 while two cells train"
    record(
        "kill -9", "experiment run", how, last.err.strip().splitlines()[-1], lost, count, "steps"
    )
