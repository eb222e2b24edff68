"""The tiny VLM that reads its instruction: its words, wordings and start."""

from __future__ import annotations

import random
import re

import pytest

torch = pytest.importorskip("torch")

from boxrl.data.synthetic import World, scenes  # noqa: E402
from boxrl.engines.tiny.onward import OnwardTeacher  # noqa: E402
from boxrl.engines.tiny.teach_reading import (  # noqa: E402
    ReadingEncoder,
    build_reading_processor,
    build_reading_tokenizer,
)
from boxrl.engines.tiny.tokenizer import build_tokenizer  # noqa: E402
from boxrl.engines.tiny.wordings import (  # noqa: E402
    DECIDING,
    FORMS,
    add_noise,
    draw_prompt,
    draw_wording,
)
from boxrl.prompts import DIRECT, ENHANCED, OUTPUT, PROMPTS, REC, STANDARD, render_text  # noqa: E402

DRAWS = 300


def test_shipped_instructions_are_read_word_by_word() -> None:
    tokenizer = build_reading_tokenizer()
    for text in (STANDARD, ENHANCED, REC, DIRECT):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) >= len(text.split())
    # The packaged models' tokenizer takes each for one.
    assert len(build_tokenizer()(STANDARD)["input_ids"]) == 1


def test_the_missing_space_changes_one_word() -> None:
    tokenizer = build_reading_tokenizer()
    (scene,) = scenes(World(), 1, 0, "space")
    texts = (render_text(scene.sample, PROMPTS[name]) for name in ("standard", "missing_space"))
    with_space, without = (tokenizer.tokenize(text) for text in texts)
    differing = [pair for pair in zip(with_space, without, strict=True) if pair[0] != pair[1]]
    assert differing == [("Ġ" + OUTPUT.split()[0], OUTPUT.split()[0])]


@pytest.mark.parametrize("form", FORMS)
def test_held_out_wordings_are_never_taught(form: str) -> None:
    rng = random.Random(0)
    taught = {draw_wording(form, rng) for _ in range(DRAWS)}
    held_out = {draw_wording(form, rng, held_out=True) for _ in range(DRAWS)}
    assert len(taught) > 20 < len(held_out) * 4
    assert not taught & held_out


@pytest.mark.parametrize("form", FORMS)
def test_noise_leaves_what_decides_the_form(form: str) -> None:
    def deciding(text: str) -> list[str]:
        words = re.findall(r"</?\w+>|\w+", text)
        return [w for w in words if w.startswith("<") or w.lower() in DECIDING]

    rng, changed = random.Random(1), 0
    for _ in range(DRAWS):
        text = draw_wording(form, rng)
        noisy = add_noise(text, rng)
        assert deciding(noisy) == deciding(text)
        changed += noisy != text
    assert changed > DRAWS / 2


def test_the_share_of_system_messages_is_that_asked_for() -> None:
    rng = random.Random(2)
    for share in (0.0, 0.2, 1.0):
        drawn = [draw_prompt("think", rng, share).placement for _ in range(DRAWS)]
        assert drawn.count("system") / DRAWS == pytest.approx(share, abs=0.08)


def is_asked(instruction: str, text: str) -> bool:
    """Whether the completion has the form that the instruction, without noise or not, asks for."""
    if "<answer>" in text:
        return "<answer>" in instruction and "JSON" not in instruction
    return "JSON" in instruction or "raw" in instruction


def test_gold_answers_have_the_asked_form_and_faulty_ones_often_another() -> None:
    encoder, rng = ReadingEncoder(0.0), random.Random(3)
    drawn = list(scenes(World(p_absent=0.0), DRAWS // 3, 3, "forms"))
    gold, faulty = (
        [is_asked(prompt.instruction, text) for prompt, text in pairs]
        for pairs in ([encoder.ask(s.sample, rng, bad) for s in drawn] for bad in (False, True))
    )
    assert all(gold)
    assert 0.5 < sum(faulty) / len(faulty) < 0.9  # of .42 faults of form some look alike here


def test_the_reading_model_starts_as_the_packaged_one() -> None:
    teacher = OnwardTeacher(0, build_reading_processor())
    from boxrl.engines.loading import load

    start, processor = load("tiny-taught")
    embeddings, before = (model.get_input_embeddings().weight for model in (teacher.model, start))
    for token in ("red", "<think>", "None", ", 17"):
        row = teacher.tokenizer(token)["input_ids"]
        old = processor.tokenizer(token)["input_ids"]
        assert len(row) == len(old) == 1
        assert torch.equal(embeddings[row], before[old])
    layers = "model.language_model.layers.4.mlp.up_proj.weight"
    assert torch.equal(teacher.model.state_dict()[layers], start.state_dict()[layers])
    encoder, rng = ReadingEncoder(0.5), random.Random(4)
    loss = teacher.loss("read", encoder.batch([encoder.row(rng, True) for _ in range(2)]))
    loss.backward()
    assert torch.isfinite(loss)
