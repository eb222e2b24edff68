"""The page of a run folder: whole, incomplete, hostile."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.files import write_json
from boxrl.data.samples import read_samples, write_samples
from boxrl.errors import UsageError
from boxrl.prompts import render_target
from boxrl.report import build_report
from boxrl.report.training import training_curves
from boxrl.types import Sample
from tests.support.report_runs import (
    EVALS,
    FAMILY,
    build_run,
    evaluate_again,
    training_step,
    write_evaluation,
    write_jsonl,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"), samples=12)


class Page(HTMLParser):
    """Elements and texts of a page, and the JSON of its gallery."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._script = False
        self._json = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = tag == "script" and dict(attrs).get("id") == "payload"

    def handle_data(self, data: str) -> None:
        if self._script:
            self._json += data
        else:
            self.text += data

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self._json)
        return payload


def report(run: Path, out: Path) -> Page:
    build_report(run, out)
    return Page(out)


def test_whole_run_shows_figures_curves_and_gallery(run: Path, tmp_path: Path) -> None:
    page = report(run, tmp_path / "report.html")
    titles = [text.strip() for text in page.text.splitlines()]
    for title in ("Metrics", "Training", "Gallery", "Answers", "Thinking", "Recipe"):
        assert title in titles
    assert "Not everything is here:" not in page.text
    metrics = json.loads((run / "evals/after_greedy/metrics.json").read_text())
    compared = json.loads((run / "compare.json").read_text())["before_greedy|after_greedy"]
    f1 = compared["metrics"]["f1"]
    assert f"{metrics['blind']['mAP']:.3f}" in page.text  # the blind baseline beside the model
    assert f"{f1['difference']:+.3f}" in page.text
    assert f"{f1['low']:+.3f} to {f1['high']:+.3f}" in page.text
    assert sum(tag == "path" for tag, _ in page.elements) >= 8


def test_run_that_nobody_evaluated_says_what_it_came_to(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evals", "data"))
    facts = json.loads((copy / "run.json").read_text())
    write_json(copy / "run.json", facts | {"evals": [], "pairs": []})
    page = report(copy, tmp_path / "report.html")
    text = " ".join(page.text.split())
    assert re.search("not evaluated ?, trained with GRPO from tiny; on its own samples: rew", text)
    assert "Next: boxrl predict --model RUN/model --samples VAL.jsonl" in text
    (copy / "recipe.yaml").write_text("prompt: enhanced\nthinking: false\n")
    text = " ".join(report(copy, tmp_path / "report.html").text.split())
    assert "boxrl predict --model RUN/model --prompt enhanced --thinking off --samples" in text
    assert "not evaluated" not in report(run, tmp_path / "whole.html").text


def test_page_asks_for_nothing(run: Path, tmp_path: Path) -> None:
    page = report(run, tmp_path / "report.html")
    sources = [a[key] for _, a in page.elements for key in ("src", "href") if a.get(key)]
    assert all(source.startswith(("#", "data:")) for source in sources if source)
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    pictures = page.payload["pictures"]
    assert len(pictures) == 12
    assert all(url.startswith("data:image/webp;base64,") for url in pictures)


def test_gallery_holds_every_prediction_of_every_evaluation(run: Path, tmp_path: Path) -> None:
    payload = report(run, tmp_path / "report.html").payload
    assert [e["title"] for e in payload["evaluations"]][:2] == ["before, greedy", "after, greedy"]
    assert payload["views"] == [[0, 1], [2, 3]]
    assert len(payload["samples"]) == 12
    assert all(len(e["rows"]) == 12 for e in payload["evaluations"])
    sample = payload["samples"][0]
    first = payload["evaluations"][0]
    prompt = first["rows"]["0"]["prompt"].join(first["prompt"])
    assert prompt.startswith("Please carefully observe the image")
    assert prompt.endswith("in <answer> </answer> tags.")
    assert payload["labels"][sample["asked"][0]] in prompt


def test_right_answer_has_score_1_and_right_boxes_only(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    samples = read_samples(copy / "data" / "test.jsonl")
    write_evaluation(copy, "after_greedy", samples, lambda s: render_target(s, FAMILY))
    payload = report(copy, tmp_path / "report.html").payload
    rows = payload["evaluations"][1]["rows"].values()
    assert all(row["score"] == 1 and not row.get("missed") for row in rows)
    assert {box[5] for row in rows for box in row["boxes"]} == {"right"}


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("run.json", "run.json is missing"),
        ("metrics.jsonl", "metrics.jsonl is missing"),
        ("compare.json", "compare.json is missing"),
        ("environment.json", "environment.json is missing"),
        ("evals", "evals/before_greedy is missing"),
        ("evals/after_greedy/predictions.jsonl", "predictions.jsonl is missing"),
        ("evals/after_greedy/metrics.json", "metrics.json is missing"),
        ("data/images", "12 of 12 images are missing"),
    ],
)
def test_incomplete_run_says_what_is_missing(
    run: Path, tmp_path: Path, lost: str, named: str
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    gone = copy / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    page = report(copy, tmp_path / "report.html")
    assert "Not everything is here:" in page.text
    assert named in page.text


@pytest.mark.parametrize(
    ("damaged", "named"),
    [
        ("run.json", "run.json cannot be read"),
        ("metrics.jsonl", "metrics.jsonl:1: not JSON"),
        ("evals/after_greedy/predictions.jsonl", "predictions.jsonl:1: not JSON"),
        ("data/test.jsonl", "data/test.jsonl:1: not JSON"),
    ],
)
def test_damaged_file_is_named_with_its_line(
    run: Path, tmp_path: Path, damaged: str, named: str
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / damaged).write_text("{broken\n")
    page = report(copy, tmp_path / "report.html")
    assert named in page.text
    assert str(copy) not in page.text


def test_empty_folder_gives_a_page_and_a_foreign_one_does_not(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "evals is empty" in report(empty, tmp_path / "report.html").text
    with pytest.raises(UsageError, match="holds no run"):
        build_report(tmp_path, tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_interrupted_run_says_so_and_leaves_out_a_cut_line(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "rew')
    page = report(copy, tmp_path / "report.html")
    assert "The run is interrupted" in page.text
    assert "cannot be read" not in page.text


@pytest.mark.parametrize("nonsense", [[], 5, "text", None, {"metrics": 3}, {"flipped": [1]}])
def test_metrics_of_a_strange_form_are_passed_over(
    run: Path, tmp_path: Path, nonsense: object
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    keys = ("intervals", "blind", "protocol", "tokens", "negatives")
    strange = {"mAP": 0.5} | dict.fromkeys(keys, nonsense)
    write_json(copy / "evals" / "after_greedy" / "metrics.json", strange)
    pairs = ("before_greedy|after_greedy", "before_sampled|after_sampled")
    write_json(copy / "compare.json", dict.fromkeys(pairs, nonsense))
    facts = json.loads((copy / "run.json").read_text())
    write_json(copy / "run.json", facts | {"seconds": nonsense, "evals": nonsense})
    assert "0.500" in report(copy, tmp_path / "report.html").text


@pytest.mark.parametrize("odd", [10**400, float("nan"), 1e308, -1e308, "x", [], None])
def test_log_with_values_that_are_no_numbers_is_drawn_without_them(
    run: Path, tmp_path: Path, odd: object
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    steps = [training_step(step) for step in range(1, 21)]
    steps[4] |= dict.fromkeys(("reward", "loss", "rewards", "grad_norm"), odd)
    steps[7] |= {"loss": -1e308}
    write_jsonl(copy / "metrics.jsonl", [*steps, training_step(21) | {"step": 10**400}])
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(facts | {"seconds": odd}))
    assert "Rewards by name" in report(copy, tmp_path / "report.html").text


def test_questions_whose_answer_is_no_box(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    samples = read_samples(copy / "data" / "test.jsonl")
    count = [replace(s, task="counting", question="How many?", answer="3") for s in samples]
    write_samples(copy / "data" / "test.jsonl", count)
    for name in set(EVALS) - {"after_greedy"}:
        shutil.rmtree(copy / "evals" / name)
    said = iter(["3", "4"] * len(samples))
    write_evaluation(copy, "after_greedy", count, lambda s: f"<answer>{next(said)}</answer>")
    page = report(copy, tmp_path / "report.html")
    assert "No answer is boxes." in page.text  # they read as malformed, rightly as they are
    assert "labels" not in [attributes.get("id") for _, attributes in page.elements]
    payload = page.payload
    rows = list(payload["evaluations"][0]["rows"].values())
    assert [(row["said"], row["score"]) for row in rows[:2]] == [("3", 1), ("4", 0)]
    assert payload["samples"][0]["answer"] == "3"
    assert payload["samples"][0]["question"] == "How many?"


HOSTILE = (
    "<think></script><script>document.title='run'</script></think><answer>"
    '[{"bbox_2d": [0, 0, 50, 50], "label": "</textarea><img src=x onerror=alert(1)>"},'
    '{"bbox_2d": [0, 0, 50, 50], "label": "javascript:alert(1)"}]</answer>'
    "\x00\u202e<!-- \ud800 \u2028 {{ 7 * 7 }}"
)


def test_model_text_is_text(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    samples = read_samples(copy / "data" / "test.jsonl")
    write_evaluation(copy, "after_greedy", samples, lambda s: HOSTILE.replace("\ud800", ""))
    lines = (copy / "evals/after_greedy/predictions.jsonl").read_text().replace("<!--", "\\ud800")
    (copy / "evals/after_greedy/predictions.jsonl").write_text(lines)
    evaluate_again(copy, "after_greedy")
    clean = report(run, tmp_path / "clean.html")
    page = report(copy, tmp_path / "hostile.html")
    tags = [tag for tag, _ in page.elements if tag in ("script", "img", "textarea", "iframe")]
    assert tags == [tag for tag, _ in clean.elements if tag in ("script", "img", "textarea")]
    row = next(iter(page.payload["evaluations"][1]["rows"].values()))
    assert "</script><script>document.title='run'</script>" in row["text"]
    assert "⟨U+0000⟩⟨U+202E⟩" in row["text"]
    assert "⟨U+D800⟩" in row["text"]
    assert "{{ 7 * 7 }}" in row["text"]
    assert not re.search("[\x00\u202e\u2028]", (tmp_path / "hostile.html").read_text("utf-8"))


def test_long_completion_is_cut_and_says_so(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    samples = read_samples(copy / "data" / "test.jsonl")
    write_evaluation(copy, "after_greedy", samples, lambda s: "<think>" + "x" * 1_000_000)
    page = report(copy, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    row = next(iter(page.payload["evaluations"][1]["rows"].values()))
    assert row["text"].endswith("20,000 of 1,000,007 characters are shown")


def test_pictures_beyond_the_limit_lie_beside_the_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxrl.report.images.MAX_EMBEDDED_BYTES", 1000)
    page = report(run, tmp_path / "report.html")
    for url in page.payload["pictures"]:
        assert (tmp_path / url).is_file()
    monkeypatch.undo()
    report(run, tmp_path / "report.html")
    assert not (tmp_path / "report_files").exists()


def test_command_writes_the_page_into_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    assert main(["report", str(copy)]) == 0
    assert capsys.readouterr().out == f"report: {copy / 'report.html'}\n"
    assert (copy / "report.html").is_file()
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no such run folder" in capsys.readouterr().err


def test_metrics_have_their_protocol_before_the_second_evaluation(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "evals" / "after_greedy")
    shutil.rmtree(copy / "evals" / "after_sampled")
    page = report(copy, tmp_path / "report.html")
    assert "evals/after_greedy is missing: not evaluated yet" in page.text
    assert page.text.count("highest IoU first") == 2  # in both protocols


def test_benchmark_run_lacks_nothing(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    facts = {"name": "coco", "method": "benchmark", "status": "done", "evals": ["after_greedy"]}
    write_json(copy / "run.json", facts)
    for name in ("metrics.jsonl", "recipe.yaml", "compare.json", "environment.json"):
        (copy / name).unlink()
    page = report(copy, tmp_path / "report.html")
    assert "Not everything is here" not in page.text
    assert "Training" not in page.text.split()


def test_verdict_about_the_blind_baseline_stands_under_the_metrics(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "evals" / "after_greedy" / "metrics.json"
    metrics = json.loads(path.read_text())
    bad = {"words": "Not significantly better than the blind baseline", "beats_blind": False}
    good = {"words": "Significantly better than the control blank_image", "beats_blind": True}
    metrics["blind"]["beats_blind"] = bad
    metrics["controls"] = [{"beats_blind": good}]
    write_json(path, metrics)
    page = report(copy, tmp_path / "report.html")
    assert bad["words"] in page.text
    assert good["words"] in page.text
    assert sum(a.get("class") == "note alarm" for _, a in page.elements) == 1


def test_warnings_of_the_log_are_shown_once(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    steps = [training_step(step) for step in range(1, 31)]
    for step in (20, 25):
        steps[step - 1]["warnings"] = {"kl_exploding": "KL to the reference is 9.00"}
    write_jsonl(copy / "metrics.jsonl", steps)
    text = report(copy, tmp_path / "report.html").text
    assert text.count("KL to the reference is 9.00") == 1
    assert "step 20: KL to the reference" in text


def test_take_off_is_marked_on_rewards_and_on_length() -> None:
    flat = [training_step(1) | {"step": step} for step in range(1, 41)]
    steps = flat + [training_step(step - 40) | {"step": step} for step in range(41, 141)]
    charts = {chart.title: chart.svg for chart in training_curves(steps)}
    for title in ("Reward, weighted sum", "Rewards by name", "Completion length"):
        marks = re.findall(r'class="markname">([^<]*)<', charts[title])
        assert marks
        assert all(40 <= int(mark.split()[-1]) <= 60 for mark in marks)
    assert "markname" not in charts["Entropy"]
    assert "markname" not in "".join(chart.svg for chart in training_curves(flat))


def test_lengths_are_told_in_words(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    folder = copy / "evals" / "after_greedy"
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    lengths = [3000, 9000, *range(10, 20)]
    write_jsonl(
        folder / "predictions.jsonl",
        [row | {"n_tokens": n} for row, n in zip(rows, lengths, strict=True)],
    )
    evaluate_again(copy, "after_greedy")
    text = report(copy, tmp_path / "report.html").text
    assert "10 to 19 tokens, mean 14.5; 2 of 12 have 3,000 tokens and more." in text


def test_sample_without_prediction_is_left_out(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    half: list[Sample] = read_samples(copy / "data" / "test.jsonl")[:5]
    write_evaluation(copy, "after_greedy", half, lambda s: render_target(s, FAMILY))
    payload = report(copy, tmp_path / "report.html").payload
    assert [len(e["rows"]) for e in payload["evaluations"]] == [12, 5, 12, 12]


def test_run_without_pairs_needs_no_comparison(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((copy / "run.json").read_text())
    write_json(copy / "run.json", facts | {"pairs": []})
    (copy / "compare.json").unlink()
    assert "Not everything is here" not in report(copy, tmp_path / "report.html").text


def test_answers_are_read_as_their_evaluation_read_them(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    samples = read_samples(copy / "data" / "test.jsonl")

    def untagged(sample: Sample) -> str:
        return re.sub("</?answer>", "", render_target(sample, FAMILY))

    write_evaluation(copy, "after_greedy", samples, untagged)
    write_json(copy / "run.json", json.loads((copy / "run.json").read_text()) | {"pairs": []})
    folder = copy / "evals" / "after_greedy"
    meta = json.loads((folder / "predictions.meta.json").read_text())
    del meta["family"]
    write_json(folder / "predictions.meta.json", meta)
    files = ["--samples", str(copy / "data" / "test.jsonl"), "--family", FAMILY.name]
    files += ["--predictions", str(folder / "predictions.jsonl"), "--out", str(folder)]
    for tag, score in (("optional", 1), ("required", 0)):
        assert main(["evaluate", *files, "--answer-tag", tag, "--resamples=0"]) == 0
        page = report(copy, tmp_path / "report.html")
        assert "Not everything is here" not in page.text
        rows = page.payload["evaluations"][1]["rows"]
        scores = {rows[f"{n}"]["score"] for n, sample in enumerate(samples) if sample.objects}
        assert scores == {score}
