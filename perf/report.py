"""How long the report of 5,000 predictions takes to build.

    python perf/report.py [--rounds 3] [--json]

5,000 samples of 1 to 12 boxes on JPEG images of 640 x 480 pixels, one answer each with missed,
shifted and mislabelled boxes; images are read, scaled and written beside the page. Exit status 1
where the median is above 30 s.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ makes the run folder

from tests.support.report_runs import FAMILY, write_evaluation
from timing import print_rows, spread, take_turns

from boxrl.data.files import write_json
from boxrl.data.samples import write_samples
from boxrl.prompts import render_answer
from boxrl.report import build_report
from boxrl.types import Detections, Object, Sample

SAMPLES, PHOTOS, LIMIT_S = 5000, 20, 30.0
LABELS = [f"label {number}" for number in range(80)]


def photo(seed: int) -> bytes:
    """A JPEG as large as one of COCO: smooth areas and some grain."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8))
    smooth = np.asarray(blobs.resize((640, 480), Image.Resampling.BICUBIC)).astype(int)
    grain = rng.integers(-12, 13, smooth.shape)
    file = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def draw_sample(rng: random.Random, number: int) -> Sample:
    """Boxes of random sizes, places and labels."""
    objects = []
    for _ in range(rng.choice((1, 2, 3, 5, 8, 12))):
        x, y = rng.uniform(0, 500), rng.uniform(0, 380)
        box = (x, y, x + rng.uniform(10, 139), y + rng.uniform(10, 99))
        objects.append(Object(box, rng.choice(LABELS)))
    asked = tuple(dict.fromkeys(item.label for item in objects))
    image = f"{number}.jpg"
    return Sample(f"image-{number:06d}", image, 640, 480, "detection", asked, tuple(objects))


def answer(sample: Sample) -> str:
    """Seven of ten boxes, each off by some pixels, one of five under another label."""
    rng = random.Random(sample.id)
    objects = [
        Object(
            tuple(value + rng.uniform(-4, 4) for value in item.bbox),
            item.label if rng.random() < 0.8 else rng.choice(LABELS),
        )
        for item in sample.objects
        if rng.random() < 0.7
    ]
    written = render_answer(Detections.from_objects(objects), FAMILY, sample.size_wh)
    return f"<think>I look for {sample.labels[0]}.</think>\n<answer>{written}</answer>"


def main() -> int:
    """Build the run, time the report; 1 where it takes too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        images = run / "data" / "images"
        images.mkdir(parents=True)
        photos = [photo(seed) for seed in range(PHOTOS)]
        for number in range(SAMPLES):
            (images / f"{number}.jpg").write_bytes(photos[number % PHOTOS])
        samples = [draw_sample(rng, number) for number in range(SAMPLES)]
        write_samples(run / "data" / "test.jsonl", samples)
        write_json(run / "run.json", {"name": "benchmark", "status": "done", "evals": ["after"]})
        write_evaluation(run, "after", samples, answer)
        calls = {"report": partial(build_report, run, run / "report.html")}
        seconds = spread(take_turns(calls, args.rounds)["report"], 1)
        page = (run / "report.html").stat().st_size / 2**20
        pictures = sum(file.stat().st_size for file in (run / "report_files").iterdir()) / 2**20
    row = {"predictions": SAMPLES, "seconds": seconds}
    row |= {"page, MB": round(page, 1), "pictures beside it, MB": round(pictures)}
    print_rows([row], args.json)
    return int(seconds[1] > LIMIT_S)


if __name__ == "__main__":
    raise SystemExit(main())
