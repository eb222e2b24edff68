"""The tiny VLM that sees before it is asked: prompts of one image share the image's tokens."""

from __future__ import annotations

from itertools import islice

import pytest

torch = pytest.importorskip("torch")

from boxrl.data.synthetic import CELL_PX, GRID_PX, WORLDS, scenes  # noqa: E402
from boxrl.engines.prefix.shared_prefix import pack  # noqa: E402
from boxrl.engines.prefix.trees import find_trees, why_apart  # noqa: E402
from boxrl.engines.tiny.model import PACKAGED, build_model, build_processor  # noqa: E402
from boxrl.engines.tiny.teach import Encoder  # noqa: E402
from boxrl.engines.tiny.teach_image_first import build_image_first_processor  # noqa: E402
from boxrl.engines.tiny.tokenizer import IMAGE_TOKEN  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from boxrl.prompts import PROMPTS, render_messages  # noqa: E402

IMAGE_TOKENS = (GRID_PX // CELL_PX) ** 2


def rows_of_one_image(processor, count):  # type: ignore[no-untyped-def]
    """The rows of `count` prompts of one image, one completion of a token each."""
    drawn = list(islice(scenes(WORLDS["fours"], 4, 0, "share"), count))
    texts = [
        processor.apply_chat_template(
            render_messages(scene.sample, PROMPTS["standard"]), add_generation_prompt=True
        )
        for scene in drawn
    ]
    images = [[scene.image] for scene in drawn]
    inputs = dict(processor(images, texts, padding=True, padding_side="left", return_tensors="pt"))
    ends = torch.full((count, 1), processor.tokenizer.eos_token_id)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ends], 1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(ends)], 1)
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(ends)], 1)
    return split_rows(inputs, 1)


@pytest.mark.parametrize("count", [2, 4])
def test_prompts_of_one_image_compute_its_tokens_once(count: int) -> None:
    processor = build_image_first_processor()
    model = build_model(processor.tokenizer, 0)
    rows, groups = rows_of_one_image(processor, count), [[row] for row in range(count)]
    (tree,) = find_trees(model, rows, groups)
    assert len(tree.groups) == count
    assert tree.shared is not None
    assert tree.shared > IMAGE_TOKENS
    inputs, _ = pack(model, rows, groups)
    image = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    assert int(inputs["input_ids"].eq(image).sum()) == IMAGE_TOKENS
    assert len(inputs["image_grid_thw"]) == 1


def test_under_the_packaged_template_they_do_not() -> None:
    processor = build_processor()
    rows = rows_of_one_image(processor, 2)
    model = build_model(processor.tokenizer, 0)
    assert why_apart(model, rows, [[0], [1]]) == "their text stands before the image"


def test_the_saved_model_keeps_its_template(tmp_path) -> None:  # type: ignore[no-untyped-def]
    build_image_first_processor().save_pretrained(tmp_path)
    from transformers import AutoProcessor

    (scene,) = scenes(WORLDS["standard"], 1, 0, "order")
    processor = AutoProcessor.from_pretrained(tmp_path)
    text = processor.apply_chat_template(render_messages(scene.sample, PROMPTS["standard"]))
    assert text.index(IMAGE_TOKEN) < text.index(scene.sample.labels[0])
    taught = Encoder(PACKAGED, processor).prompt_ids(scene, PROMPTS["standard"])
    image = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    assert taught.index(image) < 8
