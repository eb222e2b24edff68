"""Defects of prompts."""

import pytest

from boxrl.data.lint.prompts import lint_labels, lint_prompt, lint_rendered
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.families.syntaxes import SYNTAXES
from boxrl.prompts import NATIVE, OUTPUT, PROMPTS
from boxrl.types import Object, Sample

DOGS = Sample(
    id="1", image="a.jpg", width=100, height=80, task="detection", labels=("dog", "red cup"),
    objects=(Object((1, 2, 30, 40), "dog"),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("detect: person sit on motorcycle.Output each target.", "missing-space"),
        ("detect it!Output each target.", "missing-space"),
        ("detect  it.", "doubled-space"),
        ("detect it (all of them.", "unbalanced"),
        ("detect it) now.", "unbalanced"),
        ("detect [a, b).", "unbalanced"),
        ("in <think> tags.", "unbalanced"),
        ("in <think> </think> and <reason> </reason> tags.", "unknown-tag"),
        ("like ```json\n[]", "unbalanced"),
        ("detect ['dog', cat's'].", "odd-quoting"),
        ("detect ['dog, 'cat'].", "odd-quoting"),
        ('as [{"bbox_2d": [x1, y1, x2], "label": "target name"}]', "unreadable-example"),
        ('as [{"box": [x1, y1, x2, y2], "label": "target name"}]', "unreadable-example"),
    ],
)
def test_each_defect_is_found(text, rule):
    assert rule in [defect.rule for defect in lint_prompt(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Detect the dog, i.e., the animal. Version 2.5 of it... See example.com. Output all!",
        "Detect the following: ['d1', \"d2's\"]. Fine?",
        OUTPUT,
        "in <think> </think> and <answer> </answer> tags",
        "<image>\nDetect 3.5 px wide things (all).",
    ],
)
def test_good_prompts_have_no_defects(text):
    assert lint_prompt(text) == []


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
@pytest.mark.parametrize(
    "prompt", [p for p in PROMPTS.values() if p not in NATIVE], ids=lambda prompt: prompt.name
)
def test_every_prompt_of_ours_is_clean_in_every_family_but_the_seeds_defect(prompt, family):
    if prompt.form in ("compact", "scored") and not SYNTAXES[family.syntax].is_json:
        with pytest.raises(UsageError, match="asks for JSON"):
            lint_rendered(DOGS, prompt, family)
        return
    defects = ["missing-space"] if prompt.name == "missing_space" else []
    assert [defect.rule for defect in lint_rendered(DOGS, prompt, family)] == defects


def test_the_wrong_familys_example_cannot_be_read():
    assert [d.rule for d in lint_prompt(OUTPUT, FAMILIES["gemma"])] == ["unreadable-example"]


@pytest.mark.parametrize(
    ("label", "rule"),
    [(" dog", "label-spacing"), ("red\ncup", "label-spacing"), ("'dog'", "odd-quoting")],
)
def test_labels(label, rule):
    assert [defect.rule for defect in lint_labels(["cat", label])] == [rule]
