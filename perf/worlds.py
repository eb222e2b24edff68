"""What the synthetic worlds hold: prints the table and draws the picture of docs/worlds.md.

python perf/worlds.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from PIL import Image, ImageDraw

from boxrl.data.synthetic import WORLDS, Scene, World, scenes
from boxrl.types import Sample

COUNT = 400
TILE, SHOWN, TEXT = 168, 4, 14
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "worlds.png"
HEAD = (
    "| world | task | image, px | shapes per scene | objects per positive sample "
    "| area of an object, % of the image | negatives |\n|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print one row per world, then draw the picture."""
    print(HEAD)
    for name, world in WORLDS.items():
        print(describe(name, [scene.sample for scene in scenes(world, COUNT, 0, "stats")]))
    rows = [draw_row(name, world) for name, world in WORLDS.items()]
    height = rows[0].height
    picture = Image.new("RGB", (rows[0].width, height * len(rows)), "white")
    for number, row in enumerate(rows):
        picture.paste(row, (0, number * height))
    picture.quantize(128).save(PICTURE, optimize=True)


def describe(name: str, samples: Sequence[Sample]) -> str:
    """A line of the table: means with ranges, the median area of the asked objects."""
    shapes = [len(s.objects) + len(s.meta["others"]) for s in samples]
    asked = [len(s.objects) for s in samples if s.objects]
    areas = [
        100 * (x2 - x1) * (y2 - y1) / sample.width / sample.height
        for sample in samples
        for x1, y1, x2, y2 in (item.bbox for item in sample.objects)
    ]
    negatives = 1 - len(asked) / len(samples)
    return (
        f"| `{name}` | {samples[0].task} | {samples[0].width} "
        f"| {mean(shapes):.1f} ({min(shapes)} to {max(shapes)}) "
        f"| {mean(asked):.2f} (at most {max(asked)}) "
        f"| {median(areas):.1f} ({min(areas):.2f} to {max(areas):.2f}) | {negatives:.2f} |"
    )


def draw_row(name: str, world: World) -> Image.Image:
    """Scenes of a world side by side, each above its question."""
    row = Image.new("RGB", (SHOWN * TILE, TILE + 4 * TEXT), "white")
    pen = ImageDraw.Draw(row)
    pen.text((2, 0), name, fill="black")
    for number, scene in enumerate(scenes(world, SHOWN, 0, "picture")):
        row.paste(draw_tile(scene), (number * TILE, TEXT))
        answer = f"\n{scene.sample.answer}" if scene.sample.answer else ""
        asked = ";\n".join(scene.sample.labels[:2]) + (" ..." if scene.sample.labels[2:] else "")
        pen.text((number * TILE + 2, TILE + TEXT), asked + answer, fill="black", spacing=1)
    return row


def draw_tile(scene: Scene) -> Image.Image:
    """The scene with its targets boxed, on white ground."""
    side = TILE - 6
    tile = scene.image.resize((side, side), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(tile)
    for item in scene.sample.objects:
        x1, y1, x2, y2 = (value * side / scene.sample.width for value in item.bbox)
        pen.rectangle((x1 - 1, y1 - 1, x2, y2), outline="magenta", width=2)
    return tile


if __name__ == "__main__":
    main()
