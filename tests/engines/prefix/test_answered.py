"""Packed samples, and questions that share an image, give TRL's own loss, figures and gradients."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn.utils.rnn import pad_sequence  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from boxrl.engines.prefix import answered as prefix_answered  # noqa: E402
from boxrl.engines.prefix import attention as prefix_attention  # noqa: E402
from boxrl.engines.prefix import kernels, shared_prefix  # noqa: E402
from boxrl.engines.prefix.answered import pack_answered, split_answered  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from tests.support.architectures import (  # noqa: E402
    ARCHITECTURES,
    GRIDS,
    IMAGE,
    VISION_END,
    VISION_START,
    VOCABULARY,
    draw_image,
)
from tests.support.random_models import KINDS, adapt, build_plain_model  # noqa: E402
from tests.support.trl_sft import loss_of_trl  # noqa: E402
from tests.support.varlen import reference_varlen  # noqa: E402

ANSWERS = (9, 1, 4, 7, 2, 5)
SHOWN = (0, 1, 0, 2, 1, 0)
"""Image of each sample: three of one, two of another, one alone, scattered."""


def build_model(kind: str) -> Any:
    model = build_plain_model(kind)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    return model


def build_samples(kind: str, image_first: bool = True) -> dict[str, Any]:
    """As TRL's collator leaves them: padded on the right, labels on answers."""
    generator = torch.Generator().manual_seed(0)

    def words(count: int) -> Tensor:
        return torch.randint(10, VOCABULARY, (count,), generator=generator)

    pictures = [draw_image(kind, number, generator) for number in range(3)]
    start, common = words(3), words(2)
    rows, labels, types = [], [], []
    for row, (shown, length) in enumerate(zip(SHOWN, ANSWERS, strict=True)):
        image = torch.tensor([VISION_START, *[IMAGE] * pictures[shown][0], VISION_END])
        question, answer = words(2 + row % 3), words(length)
        parts = [start, image, common, question] if image_first else [start, question, image]
        prompt = torch.cat(parts)
        rows.append(torch.cat([prompt, answer]))
        labels.append(torch.cat([torch.full_like(prompt, -100), answer]))
        kinds = torch.cat([(prompt == IMAGE).long(), torch.zeros_like(answer)])
        if kind.startswith("paligemma"):  # 1 is what is answered
            kinds = (labels[-1] != -100).long()
        types.append(kinds)

    def pad(parts: list[Tensor], value: int = 0) -> Tensor:
        return pad_sequence(parts, True, value)

    inputs: dict[str, Any] = {
        "input_ids": pad(rows), "labels": pad(labels, -100),
        "attention_mask": pad([torch.ones_like(row) for row in rows]),
    }  # fmt: skip
    shown = [pictures[number][1] for number in SHOWN]
    inputs |= {name: torch.cat([picture[name] for picture in shown]) for name in shown[0]}
    if kind in GRIDS or kind == "gemma4":
        inputs["mm_token_type_ids"] = pad(types)
    elif kind.startswith(("gemma3", "paligemma")):
        inputs["token_type_ids"] = pad(types)
    return inputs


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def packed(model: Any, inputs: dict[str, Any], shown: Any = SHOWN) -> dict[str, Any]:
    return pack_answered(model, split_answered(model, inputs, torch.tensor(shown)))


def assert_equal_to_trl(model: Any, inputs: dict[str, Any], items: int | None = None) -> Any:
    """Returns the layout of the packed row."""
    expected, figures = loss_of_trl(model, inputs, items)
    wanted = gradients(model, expected)
    enable(model)
    ours = packed(model, inputs)
    loss, own_figures = loss_of_trl(model, ours, items)
    found = gradients(model, loss)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert own_figures == pytest.approx(figures, rel=1e-5)
    assert found.keys() == wanted.keys()
    total = sum(gradient.square().sum() for gradient in wanted.values())
    error = sum((found[name] - gradient).square().sum() for name, gradient in wanted.items())
    assert (error / total).sqrt() < 1e-5
    # Biases of keys have no gradient but rounding.
    least = 1e-2 * max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        scale = gradient.abs().max().clamp(min=least)
        assert ((found[name] - gradient).abs().max() / scale) < 1e-4, name
    return ours["shared_prefix"]


def sharing(layout: Any) -> list[int]:
    """Samples behind each beginning."""
    return [len(block.spans) for block in layout.blocks if block.answers]


SEES_ITSELF = ("paligemma", "paligemma 2")
"""Their image tokens see the question, so questions share none."""


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_loss_figures_and_gradients_equal_trl(kind: str) -> None:
    layout = assert_equal_to_trl(build_model(kind), build_samples(kind))
    assert sharing(layout) == ([1] * 6 if kind in SEES_ITSELF else [3, 2, 1])


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5"])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_equal_with_lora_and_gradient_checkpointing(kind: str) -> None:
    model = adapt(build_model(kind))
    assert_equal_to_trl(model, build_samples(kind), items=77)


@pytest.mark.parametrize("kind", KINDS)
def test_the_varlen_form_equals_trl(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_attention, "takes_varlen", lambda *_: True)
    monkeypatch.setattr(kernels, "varlen_attn", reference_varlen)
    assert_equal_to_trl(build_model(kind), build_samples(kind))


def test_questions_before_their_image_are_packed_alone() -> None:
    layout = assert_equal_to_trl(build_model("qwen3-vl"), build_samples("qwen3-vl", False))
    assert sharing(layout) == [1] * 6


def test_samples_that_were_cut_before_their_answer_count_as_tokens_alone() -> None:
    inputs = build_samples("qwen2.5-vl")
    inputs["labels"][2] = inputs["labels"][3] = -100
    assert_equal_to_trl(build_model("qwen2.5-vl"), inputs)


def test_equal_questions_with_different_answers_part_where_the_first_is_learned() -> None:
    inputs = build_samples("qwen2.5-vl")
    first = int((inputs["labels"][0] != -100).int().argmax())
    ids, learned = inputs["input_ids"], inputs["labels"][0, first:].clone()
    ids[2, :first], inputs["mm_token_type_ids"][2] = ids[0, :first], inputs["mm_token_type_ids"][0]
    ids[2, first : first + 2] = inputs["input_ids"][0, first : first + 2]  # the answers begin alike
    learned[4:] = -100
    inputs["labels"][2], inputs["attention_mask"][2] = -100, 0
    inputs["labels"][2, first : first + 4] = ids[2, first : first + 4]
    inputs["attention_mask"][2, : first + 4] = 1
    assert_equal_to_trl(build_model("qwen2.5-vl"), inputs)


def test_there_is_no_padding_and_no_image_twice() -> None:
    inputs, model = build_samples("qwen2.5-vl"), build_model("qwen2.5-vl")
    enable(model)
    alone, shared = packed(model, inputs, range(6)), packed(model, inputs)
    # Of every sample the last token predicts nothing.
    assert alone["input_ids"].numel() == int(inputs["attention_mask"].sum()) - 6
    assert len(alone["image_grid_thw"]) == 6 and len(shared["image_grid_thw"]) == 3
    text = 3 + 2 + 2 - 1  # what stands before the image, its borders, what all questions begin with
    saved = 2 * (text + 16) + (text + 9)  # of the last token each question has its own
    assert alone["input_ids"].numel() - shared["input_ids"].numel() == saved


# --- controls: the comparison sees what is wrong ----------------------------------------------


def difference(model: Any, inputs: dict[str, Any], **patched: Any) -> float:
    expected, _ = loss_of_trl(model, inputs, None)
    enable(model)
    with pytest.MonkeyPatch.context() as patch:
        for name, (owner, value) in patched.items():
            patch.setattr(owner, name, value)
        got, _ = loss_of_trl(model, packed(model, inputs), None)
    return abs((got - expected).item())


def flat(model: Any, prompt: Tensor, *_: Any) -> Tensor:
    return torch.arange(len(prompt))[None].expand(3, -1)


def causal(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **others: Any) -> Any:
    options = {"scaling": others["scaling"], "is_causal": True}
    return prefix_attention.ALL_ATTENTION_FUNCTIONS["sdpa"](
        module, query, key, value, None, **options
    )[0]


def test_wrong_positions_are_seen() -> None:
    model, inputs = build_model("qwen2.5-vl"), build_samples("qwen2.5-vl")
    assert difference(model, inputs, rope_positions=(shared_prefix, flat)) > 1e-2


def test_samples_that_see_each_other_are_seen() -> None:
    model, inputs = build_model("qwen2.5-vl"), build_samples("qwen2.5-vl")
    assert difference(model, inputs, attend_by_block=(prefix_attention, causal)) > 1e-2


def test_images_that_see_no_question_are_seen() -> None:
    model, inputs = build_model("paligemma"), build_samples("paligemma")
    beginning = (prefix_answered, lambda model, rows, same: 23)
    assert difference(model, inputs, find_beginning=beginning) > 1e-3
