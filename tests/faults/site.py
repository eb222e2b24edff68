"""One of every file that boxrl reads, small, in one folder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

from boxrl.config import dump_recipe
from boxrl.data.predictions import Prediction, meta_path, render_prediction
from boxrl.data.samples import read_samples
from boxrl.families import FAMILIES
from boxrl.generation.model_folders import PACKAGED
from boxrl.prompts import render_target
from tests.data.formats import test_formats
from tests.support.archives import coco_document, write_image, write_json
from tests.support.recipes import tiny_recipe
from tests.support.report_runs import build_run

PNG = "scenes/images/tests-0.png"


def build_site(folder: Path, scenes: Path) -> Path:
    """FOLDER with samples, predictions, completions, archives, a recipe, a model and a run."""
    shutil.copytree(scenes, folder / "scenes")
    samples = read_samples(scenes / "samples.jsonl")
    family = FAMILIES["qwen2.5-vl"]
    predictions = folder / "predictions.jsonl"
    answers = [Prediction(s.id, render_target(s, family), 9, "stop") for s in samples]
    predictions.write_text("".join(render_prediction(answer) + "\n" for answer in answers))
    settings = {"family": "qwen2.5-vl", "samples": "scenes/samples.jsonl"}
    write_json(meta_path(predictions), settings | {"prompt": "standard"})
    rows = [
        {
            "id": sample.id,
            "completion": answer.completion,
            "objects": [{"bbox": list(o.bbox), "label": o.label} for o in sample.objects],
            "width": sample.width,
            "height": sample.height,
        }
        for sample, answer in zip(samples, answers, strict=True)
    ]
    (folder / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "coco.json", coco_document(), indent=1)
    write_json(
        folder / "results.json",
        [{"image_id": 1, "category_id": 18, "bbox": [10, 20, 100, 50], "score": 0.5}],
    )
    test_formats.refer_folder(folder, "refcoco", "refs(unc).p")
    (folder / "refcoco/refs(unc).p").write_bytes(pickle.dumps(test_formats.refs(), protocol=2))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_image(folder / "archive" / name)
    (folder / "prompt.yaml").write_text("placement: system\ndetect: 'Find {labels}. {output}'\n")
    recipe = tiny_recipe(folder / "scenes", folder / "out", max_completion_length=96)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    shutil.copytree(PACKAGED["tiny"], folder / "model")
    build_run(folder / "run", samples=6, steps=10)
    return folder
