"""Images are decoded and prepared once each, texts read once each, with the same result."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from tokenizers.processors import TemplateProcessing  # noqa: E402

from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.engines.loading import (  # noqa: E402
    load,
    load_processor,
    model_folder,
    quiet,
)
from boxrl.engines.prefix.images import count_first, row_images  # noqa: E402
from boxrl.engines.training import grpo, preprocessing  # noqa: E402
from boxrl.engines.training.preprocessing import (  # noqa: E402
    once_per_image,
    once_per_text,
    one_beginning,
)
from boxrl.engines.training.train import training_samples  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


def count_calls(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """First arguments of every call of `owner.name` from now on."""
    original, calls = getattr(owner, name), []

    def counted(first: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(first)
        return original(first, *args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize("nested", [False, True])
def test_the_features_are_those_of_every_copy(scene_folder: Path, nested: bool) -> None:
    processor = load_processor(model_folder("tiny")).image_processor
    samples = read_samples(scene_folder / "samples.jsonl")[:3]
    pictures = [Image.open(scene_folder / "images" / s.image).convert("RGB") for s in samples]
    pictures[1] = pictures[1].resize((84, 56))
    copies = [picture.copy() for picture in pictures for _ in range(4)]
    images = [[copy] for copy in copies] if nested else copies
    expected = processor(images, return_tensors="pt")
    with once_per_image(processor):
        got = processor(images, return_tensors="pt")
    assert got.keys() == expected.keys()
    for name in expected:
        assert torch.equal(got[name], expected[name])


def test_a_picture_is_read_once_however_many_rows_show_it(
    scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = load_processor(model_folder("tiny")).image_processor
    samples = read_samples(scene_folder / "samples.jsonl")[:2]
    pictures = [Image.open(scene_folder / "images" / s.image).convert("RGB") for s in samples]
    read = count_calls(Image.Image, "tobytes", monkeypatch)
    with once_per_image(processor):
        for asked in (pictures, copy.deepcopy(pictures)):  # as TRL asks
            processor([picture for picture in asked for _ in range(8)], return_tensors="pt")
    prepared = 2  # torchvision reads what it makes a tensor of
    assert len(read) <= len(pictures) * (1 + prepared)
    assert copy.deepcopy(pictures[0]) is not pictures[0]  # outside


@pytest.mark.parametrize("padded", [False, True])
def test_equal_texts_are_read_once_into_the_same_rows(
    padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = load_processor(model_folder("tiny"))
    options = {"padding": True, "return_tensors": "pt"} if padded else {}
    token, own = processor.image_token, processor.tokenizer
    pictures = [Image.new("RGB", (56 * k, 56), "red") for k in (1, 1, 2, 1, 2, 2)]
    texts = [f"{token} {word}" for word in ("cat", "cat", "cat", "a white dog", "cat", "cat")]
    expected = processor(images=pictures, text=texts, **options)
    reader = type(own)
    original, read = reader.__call__, []

    def counted(self: Any, text: Any, **kwargs: Any) -> Any:
        read.append(text)
        return original(self, text, **kwargs)

    with once_per_text(processor):
        single = processor.tokenizer("cat").input_ids
        monkeypatch.setattr(reader, "__call__", counted)
        got = processor(images=pictures, text=texts, **options)
    assert processor.tokenizer is own
    assert single == own("cat").input_ids
    assert {len(batch) for batch in read} == {3}
    assert got.keys() == expected.keys()
    for name in expected:
        same = torch.equal if torch.is_tensor(expected[name]) else list.__eq__
        assert same(got[name], expected[name])
    rows = got["input_ids"]
    assert padded or rows[0] is not rows[1]  # who changes one changes no other


def test_a_rendered_prompt_has_one_beginning_as_in_generation() -> None:
    """As Gemma's tokenizer, which begins every text with a token that the template begins, too."""
    processor = load_processor(model_folder("tiny"))
    tokenizer, begin = processor.tokenizer, "<|im_start|>"
    tokenizer.bos_token = begin
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.convert_tokens_to_ids(begin))]
    )
    chat = [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]
    expected = processor.apply_chat_template([chat], tokenize=True, return_dict=True)["input_ids"]
    text = processor.apply_chat_template([chat], tokenize=False)
    assert len(processor(text=text)["input_ids"][0]) == len(expected[0]) + 1
    with one_beginning(processor):
        assert processor(text=text)["input_ids"] == expected
        assert processor(text=["a cat"])["input_ids"] == [tokenizer("a cat")["input_ids"]]
    assert processor.tokenizer is tokenizer


def test_a_group_s_pixels_are_there_once(scene_folder: Path) -> None:
    processor = load_processor(model_folder("tiny")).image_processor
    samples = read_samples(scene_folder / "samples.jsonl")[:2]
    pictures = [Image.open(scene_folder / "images" / s.image).convert("RGB") for s in samples]
    copies = [picture for picture in pictures for _ in range(4)]
    single, all_of_them = (processor(x, return_tensors="pt") for x in (pictures, copies))
    with once_per_image(processor, 4):
        got = processor(copies, return_tensors="pt")
        mixed = processor([*copies[1:], copies[0]], return_tensors="pt")  # no groups of 4
    assert torch.equal(got["pixel_values"], single["pixel_values"])
    assert torch.equal(got["image_grid_thw"], all_of_them["image_grid_thw"])
    assert len(mixed["pixel_values"]) == len(all_of_them["pixel_values"])
    counted = count_first(got, 8, 4)
    assert counted["num_images"] == [1, 0, 0, 0] * 2
    assert torch.equal(counted["image_grid_thw"], single["image_grid_thw"])
    assert count_first(dict(mixed), 8, 4) == dict(mixed)
    images = row_images(counted, 8)
    assert [image is None for image in images] == [False, True, True, True] * 2


def test_a_training_step_prepares_each_image_once(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet()
    recipe = tiny_recipe(scene_folder, tmp_path / "run", max_steps=1, prompts_per_step=3)
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    trainer = grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))
    prepared = count_calls(type(processor.image_processor), "_preprocess", monkeypatch)
    decoded = count_calls(preprocessing, "load_image", monkeypatch)
    trainer.train()
    assert len(decoded) == 3
    assert len(prepared) == 3
