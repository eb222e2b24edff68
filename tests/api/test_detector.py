"""`boxrl.load(...).ask(...)`: one image, one question, boxes in the image's own pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import boxrl
from boxrl.api.detector import Detector, build_question
from boxrl.data.predictions import Prediction
from boxrl.engines.build import EngineOptions
from boxrl.errors import DataError, MissingExtra, UsageError
from boxrl.families import build_family
from boxrl.generation.chat_template import Thinking
from boxrl.generation.predict import Draw, Keep, Sampling
from boxrl.generation.questions import Questions
from boxrl.prompts import PROMPTS

BOX = '<think>a cat</think>\n<answer>[{"bbox_2d": [10, 5, 60, 45], "label": "cat"}]</answer>'
HOSTILE = BOX.replace("cat", "<img src=x onerror=alert(1)>\u202e")


class Speaker:
    """An engine that says one thing after another."""

    versions: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *completions: str, opened: bool = False) -> None:
        thinking = Thinking(opened=opened)
        self.questions = Questions(
            build_family("plain"), PROMPTS["standard"], Path("nowhere"), thinking=thinking
        )
        self.completions = completions
        self.asked: list[Any] = []

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        for number, draw in enumerate(wanted):
            self.asked.append((draw.sample, self.questions.image(draw.sample), sampling))
            text = self.completions[number % len(self.completions)]
            keep([Prediction(draw.id, text, 7, "stop")])


def speaker(*completions: str, **options: Any) -> Detector:
    return Detector(EngineOptions("speaker"), Speaker(*completions, **options))


IMAGE = Image.new("RGB", (100, 50), "#808080")


def test_an_answer_holds_boxes_thought_and_text() -> None:
    answer = speaker(BOX).ask(IMAGE, "cat, dog")
    assert answer.detections.boxes.tolist() == [[10, 5, 60, 45]]
    assert answer.detections.labels == ("cat",)
    assert (answer.thinking, answer.completion) == ("a cat", BOX)
    assert "cat; dog" in answer.question
    assert repr(answer) == ("<Answer: 1 box; parse status ok; 7 tokens>\n  'cat' at 10, 5, 60, 45")


def test_a_thought_that_the_prompt_opened_is_no_answer() -> None:
    text = '[{"bbox_2d": [1, 1, 9, 9], "label": "dog"}] no</think>' + BOX.partition("\n")[2]
    answer = speaker(text, opened=True).ask(IMAGE, "cat")
    assert answer.detections.labels == ("cat",)
    assert answer.thinking is not None
    assert answer.thinking.endswith("no")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"temperature": -1.0}, "temperature -1.0; expected 0 or more"),
        ({"temperature": 1e-9}, "temperature 1e-09; expected 0, which is greedy, or 0.01 to 100"),
        ({"temperature": 1e9}, "expected 0, which is greedy, or 0.01 to 100"),
        ({"seed": 2**32}, "seed 4294967296; expected less than 4294967296"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"max_new_tokens": 0}, "max_new_tokens 0; expected 1 or more"),
        ({"seed": -1}, "seed -1"),
        ({"n": "2"}, "n '2'; expected a whole number, 1 or more"),
        ({"max_new_tokens": 2.5}, "max_new_tokens 2.5; expected a whole number"),
        ({"temperature": "hot"}, "temperature 'hot'; expected a number, 0 or more"),
        ({"prompt": Path("standrd")}, "unknown prompt 'standrd'"),
    ],
)
def test_sampling_out_of_its_range_is_refused(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        speaker(BOX).ask(IMAGE, "cat", **setting)


def test_several_answers_need_a_temperature() -> None:
    detector = speaker(BOX, "<answer>None</answer>")
    answers = detector.ask(IMAGE, "cat", n=2, temperature=1.0)
    assert [answer.parsed.status for answer in answers] == ["ok", "empty"]
    with pytest.raises(UsageError, match="greedy ones are all the same"):
        detector.ask(IMAGE, "cat", n=2)


def test_labels_and_sentences_become_samples() -> None:
    labels = build_question(" red circle,cat ;  big\tdog\ncat,, ", None, (9, 8))
    assert (labels.task, labels.labels) == ("detection", ("red circle", "cat", "big dog"))
    assert build_question(["a, b", " c "], None, (9, 8)).labels == ("a, b", "c")
    assert build_question(np.array(["Cat", " cat", "dog"]), None, (9, 8)).labels == ("Cat", "dog")
    sentence = build_question(None, "the cat,\nleft; of it ", (9, 8))
    assert sentence.task == "grounding"
    assert sentence.question == "the cat, left; of it"
    assert sentence.labels == ("the cat, left; of it",)


@pytest.mark.parametrize(
    ("labels", "question", "said"),
    [
        (None, None, "nothing to look for"),
        (" , ", None, "nothing to look for"),
        ([], None, "nothing to look for"),
        (None, " ", "nothing to look for"),
        ("cat", "the cat", "both labels and a question"),
        (["cat", 7], None, "labels: expected names, got int 7"),
        (7, None, "labels: expected names, got int 7"),
        ({"cat"}, None, "labels: expected names, got set {'cat'}; name them in a list"),
        (None, 7, "question: expected one sentence, got int 7"),
    ],
)
def test_a_question_that_asks_nothing_is_refused(labels: Any, question: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_question(labels, question, (9, 8))


def test_images_come_from_paths_and_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50)).save(tmp_path / "turned.jpg", exif=exif)
    detector = speaker(BOX)
    detector.ask(tmp_path / "turned.jpg", "cat")
    detector.ask(str(tmp_path / "turned.jpg"), "cat")
    detector.ask(Image.open(tmp_path / "turned.jpg"), "cat")
    sizes = [sample.size_wh for sample, _, _ in detector.engine.asked]  # type: ignore[attr-defined]
    assert sizes == [(50, 100)] * 3


def test_a_samples_file_is_named_by_its_path() -> None:
    with pytest.raises(UsageError, match="expected the path of a samples file, got list"):
        speaker(BOX).predict([], "images", "out.jsonl")  # type: ignore[arg-type]


def test_an_image_whose_file_is_cut_is_told(tmp_path: Path) -> None:
    """Pillow opens it, and fails when it is shown."""
    Image.effect_noise((90, 90), 50).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-900])
    with Image.open(tmp_path / "cut.jpg") as cut, pytest.raises(DataError, match="cannot be read"):
        speaker(BOX).ask(cut, "cat")
    with pytest.raises(DataError, match="0 x 9 has no pixels"):
        speaker(BOX).ask(Image.new("RGB", (0, 9)), "cat")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("no.png", "no image no.png; the working directory is"),
        (np.zeros((9, 9, 3)), "PIL image or a path, got ndarray"),
    ],
)
def test_what_is_no_image_is_told(image: Any, said: str) -> None:
    with pytest.raises((DataError, UsageError), match=re.escape(said)):
        speaker(BOX).ask(image, "cat")


def test_a_notebook_shows_boxes_and_runs_nothing_of_the_model() -> None:
    shown = speaker(HOSTILE).ask(IMAGE, "cat")._repr_html_()
    assert '<img src="data:image/webp;base64,' in shown
    assert shown.count("<img") == 1
    assert "&lt;img src=x" in shown
    assert "\u202e" not in shown
    assert "<script" not in shown


def test_supervision_gets_boxes_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = speaker(BOX).ask(IMAGE, "cat")
    with pytest.raises(UsageError, match="pip install supervision"):
        answer.to_supervision()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(
        __import__("sys").modules, "supervision", SimpleNamespace(Detections=SimpleNamespace)
    )
    found = answer.to_supervision()
    assert found.xyxy.tolist() == [[10, 5, 60, 45]]
    assert (found.class_id.tolist(), found.data["class_name"].tolist()) == ([0], ["cat"])


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(UsageError, match="no option 'devise'; did you mean device"):
        boxrl.load("tiny", devise="cpu")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"extra_body": '{"top_k": 1}'}, "extra_body is .*: expected `dict`, got `str`"),
        ({"base_urls": "http://127.0.0.1:8000/v1"}, "base_urls is .*: expected `list`, got `str`"),
        ({"concurrency": "4"}, "concurrency is '4': expected `int`, got `str`"),
        ({"api_key_env": None}, "api_key_env is None: expected `str`, got `None`"),
    ],
)
def test_an_option_of_another_kind_is_told(option: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"load: {said}"):
        boxrl.load("someone", "openai", family="plain", **option)


def test_without_torch_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else find(name)
    )
    with pytest.raises(MissingExtra) as caught:
        boxrl.load("tiny")
    (line,) = caught.value._render_traceback_()  # what a notebook shows
    assert line.endswith('run: pip install "boxrl[train]"')
    assert "\n" not in line


def test_the_tiny_vlm_answers_files_and_images(scene_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    detector = boxrl.load("tiny-taught", device="cpu")
    samples = boxrl.read_samples(str(scene_folder / "samples.jsonl"))
    out = detector.predict(
        scene_folder / "samples.jsonl", scene_folder / "images", tmp_path / "p.jsonl",
        max_new_tokens=96,
    )  # fmt: skip
    evaluation = boxrl.evaluate(samples, out, resamples=20)
    assert evaluation.metrics["protocol"]["model"] == "tiny-taught"
    assert evaluation.metrics["f1"] > 0.5
    assert "mean F1" in evaluation._repr_html_()
    sample = samples[0]
    answer = detector.ask(scene_folder / "images" / sample.image, sample.labels)
    row = evaluation.rows[0]
    assert answer.detections.boxes.tolist() == row.detections.boxes.tolist()
    earned = boxrl.score(
        [answer.completion],
        [[{"bbox": item.bbox, "label": item.label} for item in sample.objects]],
        ["f1"],
        family=detector.family,
        sizes=[sample.size_wh],
    )
    assert earned["f1"] == [row.f1]
