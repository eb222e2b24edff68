"""Chat templates of model folders: who opens the thought, and who can be told not to think."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.errors import UsageError
from boxrl.generation.chat_template import (
    ChatTemplate,
    Thinking,
    read_chat_template,
    read_thinking,
)
from boxrl.generation.model_folders import PACKAGED

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|image_pad|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS = PLAIN + "{% if add_generation_prompt %}<think>\n{% endif %}"
SWITCHED = PLAIN + (
    "{% if add_generation_prompt %}{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}"
)


def folder_with(path: Path, template: str) -> Path:
    (path / "chat_template.jinja").write_text(template)
    return path


@pytest.mark.parametrize(
    ("template", "switch", "expected"),
    [
        (PLAIN, None, Thinking()),
        (OPENS, None, Thinking(None, True)),
        (SWITCHED, None, Thinking(None, True)),
        (SWITCHED, True, Thinking(True, True)),
        (SWITCHED, False, Thinking(False, False)),
    ],
)
def test_the_template_tells_whether_completions_begin_in_the_thought(
    tmp_path: Path, template: str, switch: bool | None, expected: Thinking
) -> None:
    assert read_thinking(folder_with(tmp_path, template), switch) == expected


@pytest.mark.parametrize("switch", [True, False])
def test_a_template_without_a_switch_cannot_be_told(tmp_path: Path, switch: bool) -> None:
    with pytest.raises(UsageError, match=r"chat_template.jinja: has no switch for thinking"):
        read_thinking(folder_with(tmp_path, OPENS), switch)


@pytest.mark.parametrize(
    "template", ["{% for %}", "{{ raise_exception('no images') }}", "{{ a.b }}"]
)
def test_a_template_that_cannot_be_rendered_is_one_line(tmp_path: Path, template: str) -> None:
    with pytest.raises(UsageError, match=r"chat_template.jinja: the chat template cannot be"):
        read_thinking(folder_with(tmp_path, template))


@pytest.mark.parametrize("name", ["chat_template.json", "tokenizer_config.json"])
def test_templates_stand_in_any_of_a_folder_s_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"chat_template": OPENS}))
    assert read_thinking(tmp_path).opened


def test_of_several_templates_the_default_one_counts(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": OPENS}, {"name": "default", "template": PLAIN}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert not read_thinking(tmp_path).opened


def test_a_folder_without_a_template_and_no_folder_say_nothing(tmp_path: Path) -> None:
    assert read_thinking(tmp_path) == read_thinking(None) == Thinking()


def test_it_renders_what_transformers_renders() -> None:
    transformers = pytest.importorskip("transformers")
    folder = PACKAGED["tiny"]
    template = read_chat_template(folder)
    assert template is not None
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a cat"}]}]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert template.render(messages) == theirs


def test_blocks_of_what_the_model_writes_and_json_are_those_of_transformers() -> None:
    """As in the template of LFM2.5-VL."""
    marked = "{% generation %}{% set own = m.name %}{{ own | tojson }}<|end|>{% endgeneration %}"
    template = ChatTemplate("{% for m in messages %}" + marked + "{% endfor %}", "here")
    messages = [{"role": "assistant", "name": "<é>"}]
    assert template.render(messages) == '"<é>"<|end|>'


def test_what_is_special_is_stated_and_nothing_else() -> None:
    assert Thinking().settings == Thinking().template_arguments == {}
    assert Thinking(False).settings == {"thinking": False}
    assert Thinking(None, True).settings == {"opens_thought": True}
    assert Thinking(False).template_arguments == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (PLAIN.replace("add_generation_prompt", "false"), "opens no answer for the model"),
        (PLAIN.replace("<|image_pad|>", ""), "drops images"),
        (PLAIN.replace("{{ c['text'] }}", ""), "drops the user's text"),
    ],
)
def test_a_template_that_drops_what_is_asked_is_refused(tmp_path, template, fault):
    with pytest.raises(UsageError, match=f"chat_template.jinja: the chat template {fault}"):
        read_thinking(folder_with(tmp_path, template))


def test_a_template_that_always_opens_the_answer_is_taken(tmp_path):
    always = (
        "{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}\n"
        "{% endfor %}{% if messages[-1].role == 'user' %}assistant: {% endif %}"
    )
    assert read_thinking(folder_with(tmp_path, always)) == Thinking()


def test_a_template_that_drops_the_system_message_is_refused_where_there_is_one(tmp_path):
    users = PLAIN.replace("{% for m in messages %}", "{% for m in messages if m.role == 'user' %}")
    folder = folder_with(tmp_path, users)
    assert read_thinking(folder) == Thinking()
    with pytest.raises(UsageError, match="drops the system message"):
        read_thinking(folder, system=True)
    assert read_thinking(folder_with(tmp_path, PLAIN), system=True) == Thinking()


def test_a_template_that_takes_the_system_message_as_text_alone_is_refused(tmp_path):
    """As that of GLM-4.1V: the model would read [{'type': 'text', 'text': ...}]."""
    as_text = "{% if m['role'] == 'system' %}{{ m['content'] }}{% else %}"
    template = PLAIN.replace("{% for c", as_text + "{% for c").replace(
        "{% endfor %}<|im_end|>", "{% endfor %}{% endif %}<|im_end|>"
    )
    folder = folder_with(tmp_path, template)
    assert read_thinking(folder) == Thinking()
    with pytest.raises(UsageError, match="writes the system message as a list of parts; place"):
        read_thinking(folder, system=True)


@pytest.mark.parametrize(
    ("template", "prompt", "fault"),
    [
        (PLAIN.replace("add_generation_prompt", "false"), "standard", "opens no answer"),
        (PLAIN.replace("<|image_pad|>", ""), "standard", "drops images"),
        (
            PLAIN.replace("in messages %}", "in messages if m['role'] == 'user' %}"),
            "enhanced@system",
            "drops the system message",
        ),
    ],
)
def test_a_bad_template_is_one_line_before_anything_is_generated(
    tmp_path: Path,
    scene_folder: Path,
    capsys: pytest.CaptureFixture[str],
    template: str,
    prompt: str,
    fault: str,
) -> None:
    folder, out = tmp_path / "model", tmp_path / "p.jsonl"
    shutil.copytree(PACKAGED["tiny"], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    folder_with(folder, template)
    call = ["predict", "--samples", scene_folder / "samples.jsonl", "--prompt", prompt,
            "--images", scene_folder / "images", "--model", folder, "--out", out]  # fmt: skip
    assert main([str(word) for word in call]) == 2
    said = capsys.readouterr().err
    assert f"the chat template {fault}" in said
    assert len(said.splitlines()) == 1
    assert not out.exists()
