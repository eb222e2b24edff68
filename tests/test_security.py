"""Images made to start programs or to fill the memory; docs/security.md names the other tests."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image, features

from boxrl.cli import main
from boxrl.config import load_recipe
from boxrl.data.images import (
    FORMATS,
    MAX_PIXELS,
    PEAK_BYTES_PER_PIXEL,
    check_pixels,
    read_header,
    read_image,
)
from boxrl.errors import DataError, RecipeError
from boxrl.generation.model_folders import model_folder
from boxrl.generation.questions import load_image
from boxrl.types import Sample
from tests.support.report_runs import build_run

ROOT = Path(__file__).parents[1]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


def png(width: int, height: int) -> bytes:
    """A PNG that declares that size and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sample(size_wh: tuple[int, int]) -> Sample:
    return Sample("1", "a.png", *size_wh, task="detection", labels=("cat",), objects=())


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(100_000, 100_000))
    with pytest.raises(DataError, match=f"more than {MAX_PIXELS:,} pixels"):
        read_header(path, "row")
    with pytest.raises(DataError, match=f"more than {MAX_PIXELS:,} pixels"):
        load_image(path, sample((100_000, 100_000)))


def test_only_listed_formats_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(EPS)
    with Image.open(path) as image:
        assert image.format == "EPS"
    for read in (read_header, check_pixels):
        with pytest.raises(DataError, match="not a readable image"):
            read(path, "row")
    with pytest.raises(DataError, match="not a readable image"):
        load_image(path, sample((9, 9)))


@pytest.mark.parametrize("kind", FORMATS)
def test_listed_formats_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (9, 7), (250, 0, 0)).save(path, kind)
    assert read_header(path, "row").size_wh == (9, 7)
    assert load_image(path, sample((9, 7))).size == (9, 7)


def test_every_image_is_opened_with_the_list() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for call in re.findall(r"Image\.open\(.*", path.read_text("utf-8")):
            assert "formats=FORMATS" in call, f"{path}: {call}"


def named_tests() -> list[tuple[str, list[tuple[str, str]]]]:
    """(threat, its tests as (file, name)) of every row of the threat model's table."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    table = page[page.index("| threat |") : page.index("## What remains")]
    rows = []
    for line in table.splitlines()[2:]:
        if not line.startswith("| "):
            continue
        threat, *_, tests = (cell.strip() for cell in line.strip("| ").split(" | "))
        found, file = [], ""
        for part in re.findall(r"`([^`]+)`", tests):
            path, _, name = part.partition("::")
            file = path if path.endswith(".py") else file
            name = name or ("" if path.endswith(".py") else path)
            found += [(file, name)] if name else []
        rows.append((threat, found or [(file, "")]))
    return rows


def test_every_row_of_the_threat_model_names_tests_that_exist() -> None:
    rows = named_tests()
    assert len(rows) > 20
    for threat, tests in rows:
        assert tests != [("", "")], threat
        for file, name in tests:
            assert (ROOT / file).is_file(), (threat, file)
            assert f"def {name}" in (ROOT / file).read_text("utf-8"), (threat, file, name)


@pytest.mark.slow
def test_every_test_of_the_threat_model_passes() -> None:
    """Those that need a browser or gradio are left out where these are missing."""
    ids = sorted({f"{f}::{n}" if n else f for _, tests in named_tests() for f, n in tests})
    marks = "not gpu and not vllm and not browser"
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, *ids]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "unfold to more than 100,000 values"),
        ("train: &a {trl: *a}\n", "unfold to more than"),
        ("name: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("[" * 100_000, "recursion"),
        ("seed: " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_a_hostile_recipe_is_one_mistake(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said) as raised:
        load_recipe(path)
    assert len(raised.value.mistakes) == 1
    assert len(str(raised.value)) < 1000


@pytest.fixture
def evil_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose recipe names the function of a module that leaves a mark when it is imported."""
    run = build_run(tmp_path / "run", samples=3)
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nx = len\n"
    (tmp_path / "evil.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    rewards = '[format, "evil:x", "antigravity:x", {name: "os:system"}, "builtins:print"]'
    recipe = f"name: a\nmethod: grpo\nmodel: tiny\ndata: {{synthetic: {{}}}}\nrewards: {rewards}\n"
    (run / "recipe.yaml").write_text(recipe)
    return run


def test_reading_a_run_imports_nothing_that_it_names(
    evil_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, out = evil_run / "evals/before_greedy/predictions.jsonl", tmp_path / "e"
    for call in (
        ["report", evil_run],
        ["report", evil_run, evil_run, "--out", tmp_path / "two.html"],
        ["watch", evil_run],
        ["compare", evil_run, evil_run, "--out", tmp_path / "three.html"],
        ["evaluate", "--samples", evil_run / "data/test.jsonl", "--predictions", answers],
        ["evaluate", "--samples", evil_run / "data/test.jsonl", "--predictions", answers,
         "--out", out, "--resamples", 0],
        ["doctor", "env"],
    ):  # fmt: skip
        assert main([str(word) for word in call]) == 0, capsys.readouterr().err
        assert not (tmp_path / "ran").exists(), call
    assert "antigravity" not in sys.modules
    page = (evil_run / "report.html").read_text("utf-8")
    assert "reward evil:x is not computed: a report runs no code that a run names" in page


def test_exporting_a_run_imports_nothing_that_it_names(evil_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copytree(model_folder("tiny"), evil_run / "model")
    assert main(["export", str(evil_run), "--out", str(tmp_path / "plain")]) == 0
    assert (tmp_path / "plain" / "config.json").is_file()
    assert not (tmp_path / "ran").exists()


def test_training_imports_what_its_recipe_names(evil_run: Path, tmp_path: Path) -> None:
    """The one door: the user's own command."""
    main(["validate", str(evil_run / "recipe.yaml")])
    assert (tmp_path / "ran").exists()


KINDS: dict[str, tuple[str, str]] = {
    "JPEG": ("RGB", "a.jpg"),
    "PNG": ("RGB", "a.png"),
    "PNG of 16 bits": ("I;16", "a.png"),
    "PNG with alpha": ("RGBA", "a.png"),
    "WebP": ("RGB", "a.webp"),
    "AVIF": ("RGB", "a.avif"),
    "GIF": ("P", "a.gif"),
    "TIFF of floats": ("F", "a.tiff"),
}
PEAK = """
import sys
from pathlib import Path
from boxrl.data.images import check_pixels, read_image
def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024
path = Path(sys.argv[1])
before = peak()
check_pixels(path, "x")
read_image(path, "x", 640)
read_image(path, "x")
print(peak() - before)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_takes_no_more_memory_than_is_reckoned(kind: str, tmp_path: Path) -> None:
    mode, name = KINDS[kind]
    path = tmp_path / name
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    Image.new(mode, (3000, 3000)).save(path, **({"speed": 10} if "avif" in name else {}))
    with Image.open(path) as image:
        found = [PEAK_BYTES_PER_PIXEL.get(str(k), 8) for k in (image.format, image.mode)]
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < max(found) * 3000 * 3000 + 24 * 2**20


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((13_000, 13_000), "declares more than 134,217,728 pixels"),
        ((1, 178_000_000), "declares more than 134,217,728 pixels"),
        ((1, 100_000), "a side of more than 65,536"),
        ((100_000, 2), "a side of more than 65,536"),
        ((0, 9), "not a readable image"),
    ],
)
def test_images_of_odd_shapes_are_refused_by_their_header(
    size: tuple[int, int], said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(*size))
    for read in (read_header, check_pixels, read_image):
        with pytest.raises(DataError, match=said):
            read(tmp_path / "a.png", "row")


def test_formats_that_take_more_memory_may_have_fewer_pixels(tmp_path: Path) -> None:
    """WebP's decoder holds four copies of the picture."""
    Image.new("L", (8200, 8200)).save(tmp_path / "a.webp", quality=1, method=0)
    with pytest.raises(DataError, match="declares more than 67,108,864 pixels"):
        read_header(tmp_path / "a.webp", "row")


def test_a_page_decodes_one_large_picture_at_a_time(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (3000, 3000), (number, 9, 9)).save(tmp_path / f"{number}.webp", method=0)
    code = PEAK.partition("path = ")[0] + (
        "from boxrl.report.images import read_thumbnails\n"
        "paths = sorted(Path(sys.argv[1]).glob('*.webp'))\nbefore = peak()\n"
        "found = read_thumbnails(paths)\nassert all(found) and len(found) == 6\n"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 3000 * 3000 + 40 * 2**20
