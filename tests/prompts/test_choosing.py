"""Prompts by name, and templates of one's own."""

from dataclasses import replace

import pytest

from boxrl.errors import UsageError
from boxrl.prompts import PROMPTS, build_prompt, render_problem
from boxrl.types import Sample

DOGS = Sample(
    id="1", image="a.jpg", width=1000, height=500, task="detection", labels=("dog", "cat"),
)  # fmt: skip


def test_a_prompt_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("instruction: Think in <think> </think>.\nplacement: system\n"
                    "detect: 'Find {label_list}. {output}'\n")  # fmt: skip
    prompt = build_prompt(str(path))
    assert (prompt.name, prompt.placement) == (str(path), "system")
    assert render_problem(DOGS, prompt).startswith("Find ['dog', 'cat']. Output each")
    assert prompt.ground == PROMPTS["standard"].ground


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("- a", "expected a mapping"),
        ("instruction: 3", "expected a mapping of texts"),
        ("instuction: x", "unknown field 'instuction'; fields: instruction, placement"),
        ("detect: 'Find {label}'", r"unknown placeholder {label}; known: {label_list}, {labels}"),
        ("detect: 'Find {labels'", "write {{ and }} for braces"),
        ("placement: top", "unknown placement 'top'; placements: user-suffix"),
        ("form: dense", "unknown form 'dense'; forms: family, compact, scored"),
        ("ground: Find it.", "ground: has no {expression}, so that every question would be"),
        ("label: <b>thing</b>", "label: has no {label}, so that every question would be the same"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_prompt_file_is_told_with_what_would_be_right(tmp_path, content, reason):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        build_prompt(str(path))
    assert str(caught.value).startswith(str(path))
    assert reason in str(caught.value)


@pytest.mark.parametrize("wrong", [{"placement": "prefix"}, {"form": "Compact"}])
def test_a_prompt_made_in_python_is_checked_as_well(wrong):
    """Else its instruction would stand behind, and its boxes be written as the family does."""
    with pytest.raises(UsageError, match=f"standard: unknown {next(iter(wrong))} "):
        replace(PROMPTS["standard"], **wrong)


@pytest.mark.parametrize("name", ["polite", "standard@top", "no.yaml"])
def test_unknown_prompts_are_refused(name):
    with pytest.raises(UsageError):
        build_prompt(name)
