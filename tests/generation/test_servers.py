"""What an OpenAI-compatible server is asked, and how its answers become rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.predictions import meta_path, read_predictions
from boxrl.data.samples import read_samples
from boxrl.families import build_family
from boxrl.generation.predict import Sampling, predict
from boxrl.generation.questions import GREY, Questions
from boxrl.parsing import parse
from boxrl.prompts import PROMPTS
from boxrl.types import Sample
from tests.support.chat_server import chat_server, completion, image_of
from tests.support.served import call, endpoint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "needs --base-url"),
        (("--base-url", "localhost:8000"), "expected a URL such as"),
        (("--base-url", "http://me:secret@127.0.0.1/v1"), "holds a password"),
        (("--base-url", "http://127.0.0.1:9/v1", "--n", "2"), "add --temperature"),
        (("--base-url", "http://127.0.0.1:9/v1", "--extra-body", "[1]"), "expected a JSON object"),
        (("--extra-body", '{"seed": 5}'), "holds seed; say it as --seed"),
        (("--extra-body", '{"n": 2}'), "holds n; say it as --n"),
        (("--base-url", "http://127.0.0.1:9/v1", "--family", "none"), "unknown family 'none'"),
    ],
)
def test_a_wrong_call_is_one_line(
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert main(call(scene_folder, tmp_path / "p.jsonl", *options)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "secret" not in error
    assert not list(tmp_path.iterdir())


def test_the_family_of_a_server_is_never_guessed(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = call(scene_folder, tmp_path / "p.jsonl", "--base-url", "http://127.0.0.1:9/v1")
    del arguments[3:5]
    assert main(arguments) == 2
    assert "name it with --family" in capsys.readouterr().err


def tiny_reply(body: dict[str, Any]) -> str:
    """The reply of a server that shows every image as the tiny model does, in 16 tokens."""
    reply = json.loads(completion(body))
    reply["usage"]["prompt_tokens"] = 66
    return json.dumps(reply)


def test_a_model_folder_gives_family_limits_and_banned_tokens(
    scene_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.jsonl"
    arguments = call(scene_folder, out, "--served-model-name", "mine", "--limit", "2")
    del arguments[3:5]
    arguments[arguments.index("served")] = "tiny"
    with chat_server(lambda number, body: tiny_reply(body)) as server:
        assert main([*arguments, "--base-url", server.url]) == 0
    meta = json.loads(meta_path(out).read_text())
    assert (meta["family"], meta["max_pixels"], meta["model"]) == ("qwen2.5-vl", 12740, "tiny")
    assert meta["versions"]["servers"] == server.url
    assert server.bodies[-1]["model"] == "mine"
    assert set(server.bodies[-1]["logit_bias"].values()) == {-100}
    assert len(server.bodies[-1]["logit_bias"]) == 4
    assert image_of(server.bodies[-1]).size == (224, 224)
    assert read_predictions(out).popitem()[1].input_size_wh == (112, 112)


def test_a_server_that_is_not_the_folders_model_is_told_of(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = call(scene_folder, tmp_path / "p.jsonl", "--limit", "2")
    del arguments[3:5]
    arguments[arguments.index("served")] = "tiny"
    with chat_server() as server:  # whose images have no limits
        arguments += ["--base-url", server.url]
        assert main(arguments) == 2
        limits = "--min-pixels 12544 --max-pixels 12740"
        assert f"name them: {limits}" in capsys.readouterr().err
        assert main([*arguments, *limits.split()]) == 0
        assert image_of(server.bodies[-1]).size == (112, 112)


def test_without_a_model_folder_images_are_sent_in_the_size_that_the_frame_assumes(
    samples: list[Sample], scene_folder: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (300, 100)).save(large)
    sample = replace(samples[0], image=large.name, width=300, height=100, objects=())
    with chat_server() as server:
        for knows_size, size in ((False, (308, 112)), (True, (300, 100))):
            engine = endpoint(scene_folder, server, knows_size=knows_size)
            engine.questions = Questions(build_family("qwen2.5-vl"), PROMPTS["standard"], tmp_path)
            predict(engine, [sample], tmp_path / f"{knows_size}.jsonl", Sampling(), {})
            assert image_of(server.bodies[-1]).size == size


def test_images_are_shown_as_every_engine_shows_them(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    turned = Image.new("RGB", (30, 20), (250, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    turned.save(tmp_path / "plain.jpg")
    turned.convert("P").save(tmp_path / "palette.png")
    asked = [
        replace(samples[0], id=name, image=name, width=size[0], height=size[1], objects=())
        for name, size in (
            ("turned.jpg", (20, 30)),
            ("plain.jpg", (30, 20)),
            ("palette.png", (30, 20)),
        )
    ]
    with chat_server() as server:
        for control in (None, "blank_image"):
            engine = endpoint(scene_folder, server)
            engine.questions = replace(engine.questions, images=tmp_path, control=control)
            for sample in asked:
                out = tmp_path / f"{sample.id}-{control}.jsonl"
                predict(engine, [sample], out, Sampling(), {})
                shown = image_of(server.bodies[-1])
                expected = GREY if control else turned.getpixel((0, 0))
                assert shown.size == sample.size_wh
                assert shown.getexif().get(0x0112, 1) == 1
                assert shown.format == ("JPEG" if sample.id == "plain.jpg" and not control
                                        else "PNG")  # fmt: skip
                pixel = shown.convert("RGB").getpixel((0, 0))
                assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) < 8


def test_extra_body_adds_to_every_request_and_removes_from_it(
    scene_folder: Path, tmp_path: Path
) -> None:
    extra = '{"max_tokens": null, "max_completion_tokens": 7}'
    with chat_server() as server:
        assert main(call(scene_folder, tmp_path / "p", "--limit", "1", "--base-url", server.url,
                         "--extra-body", extra)) == 0  # fmt: skip
    assert all(body["max_completion_tokens"] == 7 for body in server.bodies)
    assert not any("max_tokens" in body for body in server.bodies)


def test_a_seed_that_a_server_refuses_can_be_left_out(scene_folder: Path, tmp_path: Path) -> None:
    with chat_server() as server:
        options = ("--base-url", server.url, "--n", "2", "--temperature", "1", "--limit", "1")
        without = ("--extra-body", '{"seed": null}')
        assert main(call(scene_folder, tmp_path / "p.jsonl", *options, *without)) == 0
    assert not any("seed" in body for body in server.bodies)


def test_several_draws_have_rows_and_seeds_of_their_own(scene_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        options = ("--base-url", server.url, "--n", "3", "--temperature", "1", "--limit", "2")
        assert main(call(scene_folder, out, *options)) == 0
        first = out.read_text()
        lines = first.splitlines(keepends=True)
        out.write_text("".join(lines[:2] + lines[4:]))
        assert main(call(scene_folder, out, *options)) == 0
    assert out.read_text() == first
    ids = [sample.id for sample in read_samples(scene_folder / "samples.jsonl")[:2]]
    assert list(read_predictions(out)) == [f"{i}#{k}" for i in ids for k in range(3)]
    assert len({row.completion for row in read_predictions(out).values()}) == 6
    assert len(server.bodies) == 1 + 6 + 1 + 2


def test_each_box_gets_the_mean_of_its_coordinate_tokens(
    scene_folder: Path, tmp_path: Path, samples: list[Sample]
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        engine = endpoint(scene_folder, server)
        predict(engine, samples, out, Sampling(logprobs=True), {})
    for row in read_predictions(out).values():
        text = row.completion
        box, _ = parse(text, build_family("plain"), (224, 224)).items[0]
        start = text.index(str(list(map(int, box))))
        end = text.index("]", start)
        digits = [k for k in range(start, end) if text[k].isdigit()]
        assert row.box_logprobs == pytest.approx([-sum(digits) / len(digits) / 100])
        assert row.n_tokens == len(text) + 1
