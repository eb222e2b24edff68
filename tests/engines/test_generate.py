"""Generation with transformers on the packaged tiny VLM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from boxrl.cli import main  # noqa: E402
from boxrl.data.predictions import read_predictions  # noqa: E402
from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.engines.generate import Generator  # noqa: E402
from boxrl.engines.loading import banned_token_ids, load  # noqa: E402
from boxrl.engines.tiny.tokenizer import build_tokenizer  # noqa: E402
from boxrl.errors import DataError  # noqa: E402
from boxrl.families import FAMILIES, read_family  # noqa: E402
from boxrl.generation.marks import reader  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from boxrl.generation.predict import Sampling  # noqa: E402
from boxrl.generation.questions import Questions, load_image  # noqa: E402
from boxrl.parsing.answers import find_answer  # noqa: E402
from boxrl.prompts import build_prompt  # noqa: E402


def call(scene_folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "predict",
        *("--samples", str(scene_folder / "samples.jsonl")),
        *("--images", str(scene_folder / "images")),
        *("--model", "tiny-taught", "--out", str(out), "--max-new-tokens", "64", *more),
    ]


def test_greedy_answers_do_not_depend_on_the_batch(scene_folder: Path, tmp_path: Path) -> None:
    assert main(call(scene_folder, tmp_path / "a.jsonl", "--batch-size", "5")) == 0
    assert main(call(scene_folder, tmp_path / "b.jsonl", "--batch-size", "12")) == 0
    a, b = read_predictions(tmp_path / "a.jsonl"), read_predictions(tmp_path / "b.jsonl")
    assert len(a) == 12
    assert {k: v.completion for k, v in a.items()} == {k: v.completion for k, v in b.items()}
    assert all(row.input_size_wh == (112, 112) for row in a.values())


def test_a_second_run_generates_only_what_is_missing(scene_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    assert main(call(scene_folder, out)) == 0
    whole = out.read_text()
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:7]) + lines[7][:20])
    assert main(call(scene_folder, out)) == 0
    assert sorted(out.read_text().splitlines()) == sorted(whole.splitlines())


def test_a_changed_setting_is_refused(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    assert main(call(scene_folder, out, "--limit", "2")) == 0
    assert main(call(scene_folder, out, "--limit", "2", "--prompt", "enhanced")) == 2
    assert "prompt: 'standard' there, 'enhanced' now" in capsys.readouterr().err


def test_an_image_of_another_size_than_the_sample_says_is_refused(
    scene_folder: Path, tmp_path: Path
) -> None:
    sample = read_samples(scene_folder / "samples.jsonl")[0]
    path = scene_folder / "images" / sample.image
    assert load_image(path, sample).size == (224, 224)
    with pytest.raises(DataError, match="224 x 224 pixels, the sample says 200 x 224"):
        load_image(path, replace(sample, width=200))
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="is damaged"):
        load_image(tmp_path / "cut.png", sample)


def test_image_tokens_are_never_sampled() -> None:
    model, processor = load("tiny")
    family = read_family(model_folder("tiny"))
    banned = banned_token_ids(processor, family)
    names = processor.tokenizer.convert_ids_to_tokens(banned)
    assert {"<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"} == set(names)
    inputs = processor.apply_chat_template(
        [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": Image.new("RGB", (112, 112))},
                        {"type": "text", "text": "?"},
                    ],
                }
            ]
        ],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )
    torch.manual_seed(0)
    output = model.generate(
        **inputs,
        do_sample=True,
        temperature=50.0,  # nearly uniform over the vocabulary
        top_k=0,
        max_new_tokens=400,
        min_new_tokens=400,
        suppress_tokens=banned,
    )
    new = output[0, inputs["input_ids"].shape[1] :]
    assert len(set(new.tolist())) > 100
    assert not torch.isin(new, torch.tensor(banned)).any()


def test_marks_that_are_special_tokens_stay_in_the_text() -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens(
        {"extra_special_tokens": ["<|channel>", "<channel|>", "<loc0007>"]}
    )
    text = "<|channel>thought\none<channel|>None<loc0007><|im_end|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "thought\noneNone"
    said = reader(tokenizer, FAMILIES["gemma4"])(ids)
    assert said == "<|channel>thought\none<channel|>None"
    assert find_answer(said).answer == "None"
    assert reader(tokenizer, FAMILIES["paligemma"])(ids).endswith("None<loc0007>")


def test_nothing_is_sampled_by_the_settings_of_the_model_folder(scene_folder: Path) -> None:
    model, processor = load("tiny-taught")
    family, prompt = read_family(model_folder("tiny-taught")), build_prompt("standard")
    generator = Generator(model, processor, Questions(family, prompt, scene_folder / "images"))
    samples = read_samples(scene_folder / "samples.jsonl")[:1]
    calls = [Sampling(max_new_tokens=48), Sampling(max_new_tokens=16, temperature=1.5, n=2)]

    def completions() -> list[list[str]]:
        return [[row.completion for row in generator.answer(samples, call)] for call in calls]

    expected = completions()
    own = {"min_p": 0.99, "no_repeat_ngram_size": 1, "repetition_penalty": 3.0, "num_beams": 3}
    only_pads = {"eos_token_id": processor.tokenizer.pad_token_id}  # the tokenizer's ends, too
    model.generation_config.update(**own, **only_pads)
    generator = Generator(model, processor, generator.questions)
    assert completions() == expected
    assert model.generation_config.min_p == 0.99  # where it is saved, it is as it was
