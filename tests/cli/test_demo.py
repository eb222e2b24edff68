"""One image, one question, one answer; the page needs gradio, what it shows does not."""

from __future__ import annotations

import asyncio
import gc
import http.client
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from boxrl.api.answers import Answer
from boxrl.cli import main
from boxrl.data.predictions import Prediction
from boxrl.data.samples import read_samples
from boxrl.demo import FRAMES, ask, describe_frame, known_question, score_answer
from boxrl.errors import DataError, UsageError
from boxrl.families import build_family
from boxrl.families.record import Frame
from boxrl.generation.predict import Draw, Keep, Sampling
from boxrl.generation.questions import Questions
from boxrl.prompts import PROMPTS
from boxrl.report.draw import DETECTIONS_SIDE, draw_detections
from boxrl.types import Detections, Object
from tests.support.chat_server import answer as server_answer
from tests.support.chat_server import chat_server, image_of

WITHOUT_GRADIO = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "gradio" else find_spec(name, *a)
from boxrl.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Parrot:
    """An engine that always says the same, and keeps what it was shown."""

    versions: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, completion: str, error: str | None = None) -> None:
        self.questions = Questions(build_family("plain"), PROMPTS["standard"], Path("nowhere"))
        self.completion, self.error = completion, error
        self.shown: list[tuple[str, Image.Image]] = []

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        for draw in wanted:
            part = {"type": "image"}
            text = self.questions.messages(draw.sample, part)[-1]["content"][1]["text"]
            self.shown.append((text, self.questions.image(draw.sample)))
            reason = "error" if self.error else "stop"
            keep([Prediction(draw.id, self.completion, 7, reason, error=self.error)])


def put(completion: str, image: Image.Image | None = None, **options: Any) -> Answer:
    options = {"text": "cat, dog", "kind": "labels", "prompt": PROMPTS["standard"]} | options
    image = image or Image.new("RGB", (100, 50))
    return ask(Parrot(completion), image=image, sampling=Sampling(), **options)


BOX = '<think>a cat</think>\n<answer>[{"bbox_2d": [10, 5, 60, 45], "label": "cat"}]</answer>'


@pytest.mark.parametrize("kind", ["labels", "sentence"])
def test_an_empty_question_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match=f"write {kind}, for example"):
        put(BOX, text=" \n\t", kind=kind)


def test_the_answer_is_read_in_the_images_own_pixels() -> None:
    answer = put(BOX)
    assert answer.thinking == "a cat"
    assert answer.completion == BOX
    assert answer.parsed.detections.boxes.tolist() == [[10, 5, 60, 45]]
    assert answer.draw().size == (DETECTIONS_SIDE, DETECTIONS_SIDE // 2)
    assert answer.summary == "1 box; parse status ok; 7 tokens"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16"])
def test_the_model_sees_the_image_whatever_its_mode(mode: str) -> None:
    engine = Parrot(BOX)
    image = Image.new(mode, (100, 50))
    ask(engine, PROMPTS["none"], image, "cat", "labels", Sampling())
    ((text, shown),) = engine.shown
    assert "cat" in text
    assert np.array_equal(np.asarray(shown), np.asarray(image.convert("RGB")))


def test_every_prompt_is_put_and_the_engine_is_left_as_it_was() -> None:
    engine = Parrot(BOX)
    before = engine.questions
    image = Image.new("RGB", (100, 50))
    for prompt in PROMPTS.values():
        answer = ask(engine, prompt, image, "cat", "labels", Sampling())
        assert answer.question.endswith(prompt.instruction)
        assert engine.shown[-1][0] == answer.question
    assert engine.questions is before


def test_an_error_of_the_engine_is_told() -> None:
    engine = Parrot("", "it broke")
    with pytest.raises(DataError, match="it broke"):
        ask(engine, PROMPTS["none"], Image.new("RGB", (9, 9)), "cat", "labels", Sampling())


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("<answer>None</answer>", "the model says there are none; parse status empty"),
        ("<answer>what?</answer>", "0 boxes; parse status malformed"),
        ('[{"bbox_2d": [1, 1, 2, 2], "label": "cat"}]', "no answer tag, the whole text was read"),
        ('<answer>[{"bbox_2d": [9, 9, 2, 2], "label": "a"}, 3]</answer>', "1 unusable item dropped; corners of 1"),  # noqa: E501
    ],
)  # fmt: skip
def test_the_summary_says_how_the_answer_read(completion: str, said: str) -> None:
    assert said in put(completion).summary


def test_a_cut_answer_is_said_to_be_cut() -> None:
    assert put(BOX).summary.endswith("7 tokens")
    cut = replace(put(BOX), finish_reason="length")
    assert cut.summary.endswith("7 tokens, cut at the limit")


def test_boxes_are_drawn_where_they_are_and_labels_tell_colours() -> None:
    image = Image.new("RGB", (200, 100), "#808080")
    boxes = np.array([[20.0, 20, 80, 80], [120, 20, 180, 80]])
    same = draw_detections(image, Detections(boxes, ("cat", "Cat ")), 400)
    other = draw_detections(image, Detections(boxes, ("cat", "dog")), 400)
    assert same.getpixel((40, 100)) == same.getpixel((240, 100))
    assert other.getpixel((40, 100)) == same.getpixel((40, 100))
    assert other.getpixel((240, 100)) != other.getpixel((40, 100))
    for inside in ((100, 100), (300, 100), (200, 190)):
        assert other.getpixel(inside) == (128, 128, 128)


def test_boxes_thinner_than_a_pixel_and_hostile_labels_are_drawn() -> None:
    boxes = np.array([[5.0, 5.0, 5.001, 5.001], [0, 0, 4000, 2]])
    label = "\u202e\x00<script>" + "x" * 5000
    for size in ((4000, 2), (1, 3000)):
        drawn = draw_detections(Image.new("RGB", size), Detections(boxes, (label, "")), 100)
        assert max(drawn.size) == 100
        assert min(drawn.size) >= 1


def test_the_tiny_vlm_finds_the_shapes(scene_folder: Path) -> None:
    pytest.importorskip("torch")
    from boxrl.engines.generate import Generator
    from boxrl.engines.loading import load
    from boxrl.families import read_family
    from boxrl.generation.model_folders import model_folder

    family = read_family(model_folder("tiny-taught"))
    questions = Questions(family, PROMPTS["standard"], Path("nowhere"))
    engine = Generator(*load("tiny-taught"), questions)
    sample = read_samples(scene_folder / "samples.jsonl")[0]
    with Image.open(scene_folder / "images" / sample.image) as image:
        text = "; ".join(sample.labels)
        sampling = Sampling(max_new_tokens=64)
        answers = [
            ask(engine, PROMPTS["standard"], image, text, "labels", sampling) for _ in range(2)
        ]
    assert answers[0].completion == answers[1].completion
    assert answers[0].thinking is not None
    assert answers[0].parsed.readable
    assert answers[0].n_tokens > 1


def test_a_server_is_asked_with_the_images_own_bytes() -> None:
    from boxrl.generation.endpoint import Endpoint
    from boxrl.generation.servers import Servers

    image = Image.effect_noise((64, 48), 80).convert("RGB")
    with chat_server() as server:
        questions = Questions(build_family("plain"), PROMPTS["standard"], Path("nowhere"))
        engine = Endpoint(questions, Servers([server.url], timeout_s=20.0), "served")
        sampling = Sampling(temperature=1.0, seed=3)
        answer = ask(engine, PROMPTS["rec"], image, "left one", "sentence", sampling)
    body = server.bodies[-1]
    assert answer.completion == server_answer(body)
    assert body["temperature"] == 1.0
    assert body["messages"][-1]["content"][1]["text"] == answer.question
    assert np.array_equal(np.asarray(image_of(body)), np.asarray(image))


def test_the_frame_says_at_which_size_the_model_sees_the_image() -> None:
    limited = build_family("qwen2.5-vl", min_pixels=12_544, max_pixels=12_740)
    said = describe_frame(limited, (224, 224))
    assert "224 x 224 px, seen at 112 x 112 px (limits: 12,544 to 12,740 px)" in said
    assert said.endswith("in pixels of the image as the model sees it")
    assert "grid from 0 to 1,000" in describe_frame(build_family("qwen3-vl"), (640, 480))
    assert "no pixel limits" in describe_frame(build_family("plain"), (640, 480))
    assert "200" in describe_frame(limited, (5000, 2))  # the processor's refusal, in its words
    assert set(FRAMES) == set(get_args(Frame))


def test_rewards_of_a_known_scene_come_with_their_parts() -> None:
    objects = [Object((10, 5, 60, 45), "cat"), Object((0, 0, 9, 9), "cow")]
    asked = known_question("cat, dog", (100, 50), objects)
    assert [item.label for item in asked.objects] == ["cat"]
    found = dict(score_answer(put(BOX), asked))
    assert found["f1"] == found["f1: IoU .75"] == found["weighted_sum: position"] == 1
    assert dict(score_answer(put("<answer>None</answer>"), asked))["f1"] == 0


def test_a_missing_gradio_names_the_install_line() -> None:
    command = [sys.executable, "-c", WITHOUT_GRADIO, "demo", "--model", "tiny"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert 'pip install "boxrl[demo]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if gradio were installed; calls that are refused never reach it."""
    from importlib.machinery import ModuleSpec

    import boxrl.cli.demo as verb

    find = verb.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: ModuleSpec(name, None) if name == "gradio" else find(name, *a),
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "no/such", "--base-url", "http://127.0.0.1:1/v1"], "name it with --family"),
        (["--model", "tiny", "--max-new-tokens", "0"], "at least 1, got 0"),
        (["--model", "tiny", "--prompt", "polite"], "unknown prompt 'polite'"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_served(
    no_page: None, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    assert main(["demo", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # gradio's own, about pandas
def test_the_page_answers_with_hostile_text_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    client = pytest.importorskip("gradio_client")
    from boxrl.cli.demo import build_page, open_page

    hostile = BOX.replace("a cat", "<script>alert(1)</script>\u202e").replace('"cat"', '"<img>"')
    Image.new("RGB", (100, 50)).save(tmp_path / "image.png")
    page = build_page(Parrot(hostile), "parrot", PROMPTS, 64)
    url = open_page(page, None)
    try:
        asking = client.Client(url, verbose=False)
        image = client.handle_file(tmp_path / "image.png")
        said = asking.predict(image, "labels", "cat", "rec", "sampled", api_name="/ask")
        with pytest.raises(Exception, match="nothing to look for"):
            asking.predict(image, "labels", " ", "rec", "greedy", api_name="/ask")
    finally:
        page.close()
    del asking
    close_loops()
    picture, summary, frame, rewards, boxes, thinking, raw, asked = said
    assert picture.startswith('<img src="data:image/webp;base64,') and picture.count("<") == 1
    assert frame.startswith("100 x 50 px; family plain")
    assert rewards["data"] == [["what is right is known of the examples only", ""]]
    assert summary == "1 box; parse status ok; 7 tokens"
    assert thinking == "<script>alert(1)</script>⟨U+202E⟩"
    assert boxes["data"] == [["<img>", 10, 5, 60, 45]]
    assert "<answer>" in raw
    assert asked.endswith(PROMPTS["rec"].instruction)


@pytest.fixture
def open_page() -> Iterator[int]:
    """The port of a page that is open."""
    pytest.importorskip("gradio")
    from boxrl.cli.demo import build_page, open_page

    kept = list(Image.ID)
    page = build_page(Parrot(BOX), "parrot", PROMPTS, 64)
    yield int(open_page(page, None).rstrip("/").rpartition(":")[2])
    page.close()
    Image.ID[:] = kept
    del page
    close_loops()


def close_loops() -> None:
    """Gradio leaves event loops open, one of them the current: they would complain elsewhere."""
    asyncio.get_event_loop_policy().get_event_loop().close()
    asyncio.set_event_loop(None)
    gc.collect()


def request(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, dict(answer.headers)
    finally:
        connection.close()


UPLOAD = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\nabc\r\n--x--\r\n"
)
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


FOREIGN: dict[str, dict[str, str]] = {
    "rebound": {"Host": "evil.example:{port}"},
    "rebound page": {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    "other origin": {"Host": "127.0.0.1:{port}", "Origin": "http://evil.example"},
    "no origin": {"Host": "127.0.0.1:{port}", "Origin": "null"},
    "other port": {"Host": "127.0.0.1:1"},
}


@pytest.mark.filterwarnings("ignore")
def test_the_page_answers_no_other_page(open_page: int) -> None:
    for headers in FOREIGN.values():
        sent = {name: value.format(port=open_page) for name, value in headers.items()}
        for path in ("/", "/config", "/gradio_api/info", "/gradio_api/queue/data"):
            for method in ("GET", "HEAD"):
                assert request(open_page, method, path, sent)[0] == 403, (headers, path)
        for path in ("upload", "call/ask", "queue/join", "run/ask"):
            asked = (open_page, "POST", f"/gradio_api/{path}", sent | MULTIPART, UPLOAD)
            status, answered = request(*asked)
            assert status == 403, (headers, path)
            assert "evil" not in answered.get("Access-Control-Allow-Origin", "")


@pytest.mark.filterwarnings("ignore")
def test_the_page_takes_images_from_itself_up_to_a_size(open_page: int) -> None:
    own = {"Host": f"localhost:{open_page}", "Origin": f"http://localhost:{open_page}"}
    assert request(open_page, "GET", "/", own)[0] == 200
    upload = "/gradio_api/upload"
    assert request(open_page, "POST", upload, own | MULTIPART, UPLOAD)[0] == 200
    large = own | MULTIPART | {"Content-Length": str(300 * 2**20)}
    assert request(open_page, "POST", upload, large, b"")[0] == 413
    chunked = own | MULTIPART | {"Transfer-Encoding": "chunked"}
    assert request(open_page, "POST", upload, chunked, b"0\r\n\r\n")[0] == 411


@pytest.mark.filterwarnings("ignore")
def test_the_page_opens_the_listed_formats_only(open_page: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(tmp_path / "a.png")
