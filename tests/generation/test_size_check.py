"""A server that shows images in a size of its own is told of, with limits that it keeps to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.predictions import meta_path, read_predictions
from boxrl.data.samples import write_samples
from tests.support.chat_server import ChatServer, chat_server, image_of
from tests.support.detectors import SIZES, by_count, by_side, perfect, write_scenes

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_samples(folder / "samples.jsonl", write_scenes(folder / "images"))
    return folder


def samples_of(folder: Path) -> list:
    from boxrl.data.samples import read_samples

    return read_samples(folder / "samples.jsonl")


def call(folder: Path, out: Path, server: ChatServer, *more: str) -> list[str]:
    family = () if "--family" in more else ("--family", "qwen2.5-vl")
    return [
        "predict", "--engine", "openai", "--model", "served", "--base-url", server.url, *family,
        *("--samples", str(folder / "samples.jsonl"), "--images", str(folder / "images")),
        *("--out", str(out), *more),
    ]  # fmt: skip


def m_ap(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> float:
    capsys.readouterr()
    arguments = ["--samples", str(folder / "samples.jsonl"), "--predictions", str(out), "--json"]
    assert main(["evaluate", *arguments, "--resamples", "0"]) == 0
    value: float = json.loads(capsys.readouterr().out)["mAP"]
    return round(value, 9)


def named_in(error: str) -> list[str]:
    """The options that an error names behind its last colon."""
    return re.findall(r"--(?:min|max)-pixels|\d+", error.rpartition("name them:")[2])


def test_a_server_that_resizes_as_the_model_is_asked_at_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server(perfect(samples_of(data), by_count())) as server:
        assert main(call(data, out, server)) == 0
        # The plain question, then a small, a middle, the largest, widest and smallest image.
        assert len(server.bodies) <= 1 + 6 + len(SIZES)
    assert m_ap(data, out, capsys) == 1.0


CAPS = {
    "count below, 1.0 M": by_count(high=1_003_520),
    "count below, 0.4 M": by_count(high=401_408),
    "count below, 0.1 M": by_count(high=100_352),
    "count above, 0.2 M": by_count(low=200_704),
    "count above, 0.3 M": by_count(low=262_144),
    "count, between": by_count(low=65_536, high=1_003_520),
    "side below, 1024": by_side(longest=1024),
    "side below, 1568": by_side(longest=1568),
    "side below, 2048": by_side(longest=2048),
    "side above, 224": by_side(shortest=224),
}


@pytest.mark.parametrize("show", CAPS.values(), ids=CAPS)
def test_a_server_with_limits_of_its_own_is_refused_with_limits_that_fit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], show: object
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server(perfect(samples_of(data), show)) as server:
        assert main(call(data, out, server)) == 2
        error = capsys.readouterr().err
        assert "it has limits of its own" in error
        assert len(error.split("boxrl: ")) == 2
        assert not out.is_file() or not out.read_text()
        assert main(call(data, out, server, *named_in(error))) == 0
    assert m_ap(data, out, capsys) == 1.0
    meta = json.loads(meta_path(out).read_text())
    named = dict(zip(named_in(error)[::2], map(int, named_in(error)[1::2]), strict=True))
    assert meta["max_pixels"] == named.get("--max-pixels", 12_845_056)
    assert meta["min_pixels"] == named.get("--min-pixels", 3136)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"high": 1_003_520}, "--max-pixels 1003520"),
        ({"high": 1_000_000}, "--max-pixels 1000000"),
        ({"high": 401_408}, "--max-pixels 401408"),
        ({"low": 262_144}, "--min-pixels 262144"),
        ({"low": 65_536, "high": 1_003_520}, "--min-pixels 65536 --max-pixels 1003520"),
    ],
)
def test_a_usual_limit_is_named_as_it_is(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    limits: dict[str, int],
    named: str,
) -> None:
    with chat_server(perfect(samples_of(data), by_count(**limits))) as server:
        assert main(call(data, tmp_path / "p.jsonl", server)) == 2
    assert capsys.readouterr().err.endswith(f"name them: {named}\n")


def test_limits_that_a_server_does_not_keep_to_are_refused_too(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server(perfect(samples_of(data), by_count(high=401_408))) as server:
        assert main(call(data, tmp_path / "p", server, "--max-pixels", "1003520")) == 2
        assert "name them: --max-pixels" in capsys.readouterr().err


def test_limits_reach_the_request_where_the_server_takes_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    detector = perfect(samples_of(data), by_count(high=401_408), takes_limits=True)
    with chat_server(detector) as server:
        assert main(call(data, out, server, "--max-pixels", "1003520")) == 0
    asked = server.bodies[-1]["mm_processor_kwargs"]
    assert asked == {"min_pixels": 3136, "max_pixels": 1_003_520}
    assert m_ap(data, out, capsys) == 1.0


@pytest.mark.parametrize(
    ("show", "takes_limits", "whole"),
    [
        (by_count(high=1_003_520), False, True),
        (by_count(), True, True),
        (by_count(low=1, high=12_000_000), False, False),
        (by_side(longest=2048), False, False),
    ],
    ids=["keeps to them", "is told them", "has none", "has others"],
)
def test_files_are_sent_whole_to_a_server_that_keeps_to_the_named_limits(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    show: object,
    takes_limits: bool,
    whole: bool,
) -> None:
    out = tmp_path / "p.jsonl"
    detector = perfect(samples_of(data), show, takes_limits=takes_limits)
    limit = 1_003_520 if whole else 401_408
    with chat_server(detector) as server:
        assert main(call(data, out, server, "--max-pixels", f"{limit}")) == 0
        sent = {image_of(body).size for body in server.bodies[-len(SIZES) :]}
    assert (max(map(max, sent)) == 4000) == whole
    assert m_ap(data, out, capsys) == 1.0


def test_a_file_over_the_request_limit_is_shown_within_the_named_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photo(tmp_path), tmp_path / "p.jsonl"
    options = ("--max-pixels", "50176", "--max-request-mb", "0.3")
    with chat_server(perfect(samples_of(folder), by_count(high=50_176))) as server:
        assert main(call(folder, out, server, *options)) == 0
        assert image_of(server.bodies[-1]).size == (252, 168)
    assert m_ap(folder, out, capsys) == 1.0


@pytest.mark.parametrize(
    ("hides", "said"),
    [("usage", "does not tell usage.prompt_tokens"), ("images", "does not count images in usage")],
)
def test_a_server_that_hides_its_counts_needs_named_limits(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], hides: str, said: str
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server(perfect(samples_of(data), by_count(high=1_003_520), hides=hides)) as server:
        assert main(call(data, out, server)) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.split("boxrl: ")) == 2
        assert main(call(data, out, server, "--max-pixels", "1003520")) == 0
    assert m_ap(data, out, capsys) == 1.0


def test_counts_that_no_limit_explains_are_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = iter(range(10**6))
    odd = lambda size: (28 * (1 + 7 * next(numbers) % 50), 28)  # noqa: E731
    with chat_server(perfect(samples_of(data), odd)) as server:
        assert main(call(data, tmp_path / "p.jsonl", server)) == 2
    assert "no limits fit its counts" in capsys.readouterr().err


# --- grid frames -------------------------------------------------------------------------------


def photo(folder: Path, size: tuple[int, int] = (1500, 1100)) -> Path:
    """A JPEG of noise, which a PNG would blow up, and its sample."""
    samples = write_scenes(folder / "images", [size])
    noise = Image.effect_noise(size, 60).convert("RGB")
    noise.save(folder / "images/0.png", "JPEG", quality=80)  # told by its content, not its name
    write_samples(folder / "samples.jsonl", samples)
    return folder


def sent_bytes(server: ChatServer) -> bytes:
    import base64

    url = server.bodies[-1]["messages"][-1]["content"][0]["image_url"]["url"]
    return base64.b64decode(url.partition(",")[2])


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen2-vl", "internvl", "glm-4v", "plain"])
def test_a_frame_that_needs_no_resizing_sends_the_file_as_it_is(
    tmp_path: Path, family: str
) -> None:
    folder = photo(tmp_path)
    with chat_server() as server:
        assert main(call(folder, tmp_path / "p.jsonl", server, "--family", family)) == 0
    assert sent_bytes(server) == (folder / "images/0.png").read_bytes()
    meta = json.loads(meta_path(tmp_path / "p.jsonl").read_text())
    assert meta["max_pixels"] is None  # the host's own, which nobody here knows


def test_a_named_limit_shrinks_what_is_beyond_it_in_any_frame(tmp_path: Path) -> None:
    folder = photo(tmp_path)
    options = ("--family", "qwen3-vl", "--max-pixels")
    with chat_server() as server:
        assert main(call(folder, tmp_path / "a.jsonl", server, *options, "401408")) == 0
        assert image_of(server.bodies[-1]).size == (736, 512)
        assert main(call(folder, tmp_path / "b.jsonl", server, *options, "4000000")) == 0
        assert image_of(server.bodies[-1]).size == (1500, 1100)


def test_a_request_over_the_limit_is_not_sent_but_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photo(tmp_path)
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        options = ("--family", "qwen3-vl", "--max-request-mb", "0.2")
        assert main(call(folder, out, server, *options)) == 1
        assert len(server.bodies) == 1  # the plain question alone
    (row,) = read_predictions(out).values()
    assert "more than --max-request-mb 0.2" in (row.error or "")
    assert "sample '0': its image makes a request of" in capsys.readouterr().err


def test_an_image_that_cannot_be_shown_costs_its_own_row_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = write_scenes(tmp_path / "images", [(640, 480), (1093, 5), (800, 600)])
    write_samples(tmp_path / "samples.jsonl", samples)
    out = tmp_path / "p.jsonl"
    with chat_server(perfect(samples, by_count())) as server:
        assert main(call(tmp_path, out, server)) == 1
    rows = read_predictions(out)
    assert [row.finish_reason for row in rows.values()] == ["stop", "error", "stop"]
    assert "sample '1': image of 1093 x 5 pixels" in (rows["1"].error or "")
