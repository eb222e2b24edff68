"""Prompts: texts and placement; gold answers."""

from dataclasses import replace

import pytest

from boxrl.data.lint.prompts import lint_rendered
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.prompts import (
    ENHANCED,
    PROMPTS,
    STANDARD,
    Prompt,
    build_prompt,
    render_messages,
    render_problem,
    render_target,
    render_text,
)
from boxrl.types import Object, Sample

DOGS = Sample(
    id="1", image="a.jpg", width=1000, height=500, task="detection", labels=("dog", "cat"),
    objects=(Object((100, 50, 300, 250), "dog"), Object((0, 0, 9, 9), "dog", iscrowd=True)),
)  # fmt: skip
REGION = Sample(
    id="2", image="a.jpg", width=1000, height=500, task="region", labels=("dog", "cat"),
    objects=(Object((100, 50, 300, 250), "dog"),), answer="dog",
)  # fmt: skip
COUNT = Sample(
    id="3", image="a.jpg", width=9, height=9, task="counting", labels=(),
    question="How many?", answer="4",
)  # fmt: skip


def test_the_standard_detection_prompt_is_the_seeds_with_its_missing_space_put_in():
    assert render_text(DOGS, PROMPTS["standard"]) == (
        "Please carefully observe the image and detect the following targets: dog; cat. Output "
        "each detected target's bbox coordinates in JSON format. The format of the bbox "
        'coordinates is: ```json\n[{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}, '
        '{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}]\n```. If there are no such '
        "targets in the image, simply respond with None. Output the thinking process in <think> "
        "</think> and final answer in <answer> </answer> tags."
    )


def test_a_prompt_shows_the_form_that_its_family_answers_in():
    text = render_problem(DOGS, family=FAMILIES["gemma"])
    assert '{"box_2d": [y1, x1, y2, x2], "label": "target name"}' in text
    assert "<loc_y1><loc_x1>" in render_problem(DOGS, family=FAMILIES["paligemma"])


@pytest.mark.parametrize(
    ("name", "system", "user"),
    [
        ("enhanced", None, f"{{problem}} {ENHANCED}"),
        ("enhanced@user-suffix", None, f"{{problem}} {ENHANCED}"),
        ("enhanced@user-prefix", None, f"{ENHANCED}\n{{problem}}"),
        ("enhanced@system", ENHANCED, "{problem}"),
        ("standard@both", STANDARD, f"{{problem}} {STANDARD}"),
    ],
)
def test_the_instruction_stands_where_it_is_placed(name, system, user):
    messages = render_messages(DOGS, build_prompt(name))
    assert messages[-1]["content"][0] == {"type": "image"}
    problem = render_problem(DOGS)
    assert messages[-1]["content"][1]["text"] == user.format(problem=problem)
    first = messages[0]["content"][0].get("text") if len(messages) == 2 else None
    assert first == system


def test_a_region_is_asked_for_in_the_models_coordinates():
    assert "region [100, 50, 300, 250]? Options: dog; cat." in render_problem(REGION)
    assert "region [100, 100, 300, 500]?" in render_problem(REGION, family=FAMILIES["qwen3-vl"])


def test_questions_keep_their_own_words():
    assert render_problem(COUNT) == "How many?"
    assert render_target(COUNT, FAMILIES["plain"]).endswith("<answer>4</answer>")


def test_crowd_regions_are_in_no_gold_answer():
    assert render_target(DOGS, FAMILIES["plain"]).count("bbox_2d") == 1


def test_a_prompt_for_scores_shows_them_and_its_gold_answers_state_them():
    prompt = PROMPTS["scored"]
    assert '"label": "target name", "score": score}' in render_text(DOGS, prompt)
    assert render_target(DOGS, FAMILIES["plain"], prompt=prompt).endswith(
        '[{"bbox_2d": [100, 50, 300, 250], "label": "dog", "score": 1.00}]\n```</answer>'
    )
    stated = replace(DOGS, meta={"scores": [0.256, 1]})  # the second one is the crowd's
    assert '"score": 0.26}]' in render_target(stated, FAMILIES["plain"], prompt=prompt)
    with pytest.raises(UsageError, match="form scored asks for JSON, and family internvl"):
        render_text(DOGS, replace(prompt, name="mine"), FAMILIES["internvl"])


@pytest.mark.parametrize(
    ("instruction", "opened", "expected"),
    [
        ("", False, "None"),
        ("", True, "<think>0 dog, 0 cat</think>\nNone"),
        ("Think in <think> </think>.", False, "<think>0 dog, 0 cat</think>\nNone"),
        ("Answer in <answer> </answer>.", False,
         "<think>0 dog, 0 cat</think>\n<answer>None</answer>"),
    ],
)  # fmt: skip
def test_gold_answers_have_the_tags_that_the_prompt_asks_for(instruction, opened, expected):
    nothing = Sample("a", "a.png", 10, 10, "detection", ("dog", "cat"))
    prompt = Prompt("mine", instruction)
    assert render_target(nothing, FAMILIES["plain"], prompt=prompt, opened=opened) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "qwen-native",
            "Locate every instance that belongs to the following categories: 'dog, cat'. Report "
            "bbox coordinates in JSON format.",
        ),
        (
            "gemini-native",
            "Detect dog, cat. The box_2d should be [ymin, xmin, ymax, xmax] normalized to 0-1000.",
        ),
        (
            "internvl-native",
            "Please detect and label all <ref>dog</ref>,<ref>cat</ref> in the image.",
        ),
        (
            "rex-native",
            "Detect dog, cat. Output the bounding box coordinates in [x0, y0, x1, y1] format.",
        ),
        (
            "locate-native",
            "Locate all the instances that matches the following description: dog</c>cat.",
        ),
        (
            "lfm2-native",
            "Inspect the image and detect the dog, cat. Provide result as a valid JSON: "
            '[{"label": str, "bbox": [x1,y1,x2,y2]}, ...]. Coordinates must be normalized to 0-1.',
        ),
        ("paligemma-native", "detect dog ; cat"),
        ("deepseek-native", "<|ref|>dog<|/ref|>; <|ref|>cat<|/ref|>."),
    ],
)
def test_a_model_is_asked_in_its_makers_words(name, text):
    assert render_text(DOGS, build_prompt(name)) == text


@pytest.mark.parametrize(
    ("prompt", "family"),
    [
        ("qwen-native", "qwen3-vl"), ("gemini-native", "gemini-2"), ("internvl-native", "internvl"),
        ("glm-native", "glm-4.6v"), ("rex-native", "rex-omni"), ("locate-native", "locateanything"),
        ("lfm2-native", "lfm2-vl"), ("minicpm-native", "minicpm-v-4.5"),
        ("deepseek-native", "deepseek-vl2"), ("paligemma-native", "paligemma"),
        ("florence-native", "florence-2"),
    ],
)  # fmt: skip
def test_makers_prompts_have_no_defects_in_their_family(prompt, family):
    assert lint_rendered(DOGS, PROMPTS[prompt], FAMILIES[family]) == []
