"""Gold answers through prompt, parser and rewards, for every family."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.formats.coco import read_coco
from boxrl.data.samples import write_samples
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.families.syntaxes import SYNTAXES
from boxrl.prompts import PROMPTS
from boxrl.rewards import REWARDS, build_rewards
from boxrl.rewards.gold_check import validate
from boxrl.types import Object, Sample
from tests.support.archives import write_image

COCO = Path(__file__).parents[1] / "golden/coco/coco_val2014_100.json"
STANDARD = PROMPTS["standard"]


def all_but(*names):
    return build_rewards([name for name in REWARDS if name not in names])


@pytest.fixture(scope="module")
def real_samples():
    """Every image of the real annotations, a negative, a question and a count."""
    samples = list(read_coco(COCO, COCO.parent, mode="all").rows)
    regions = list(read_coco(COCO, COCO.parent, task="region").rows)[:20]
    count = Sample("c", "x.jpg", 9, 9, "counting", (), question="How many?", answer="4")
    return [*samples, replace(samples[0], id="n", objects=()), *regions, count]


def test_real_annotations_are_converted_whole(real_samples):
    detection = [s for s in real_samples if s.task == "detection" and s.id != "n"]
    boxes = [item for sample in detection for item in sample.objects]
    assert len(detection) == 100
    assert (len(boxes), sum(item.iscrowd for item in boxes)) == (839, 9)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_reward_gives_every_gold_answer_its_maximum(real_samples, family):
    outcome = validate(real_samples, family, STANDARD, all_but("native_format", "calibrated"))
    assert outcome.problems == []
    assert outcome.prompt_defects == []
    assert outcome.samples == {"detection": 101, "region": 20, "counting": 1}
    assert outcome.lowest["f1"] == 1
    assert 0.9 < outcome.ceiling["f1"] <= 1


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_gold_answers_to_makers_prompts_have_no_tags_and_earn_the_maximum(real_samples, family):
    rewards = all_but("format", "calibrated")
    outcome = validate(real_samples, family, PROMPTS["qwen-native"], rewards)
    assert outcome.problems == []


JSON_FAMILIES = [family for family in FAMILIES.values() if SYNTAXES[family.syntax].is_json]


@pytest.mark.parametrize("family", JSON_FAMILIES, ids=lambda family: family.name)
def test_gold_answers_in_compact_form_are_read_back(real_samples, family):
    rewards = all_but("native_format", "calibrated")
    outcome = validate(real_samples, family, PROMPTS["compact"], rewards)
    assert outcome.problems == []
    assert outcome.prompt_defects == []


@pytest.mark.parametrize("family", JSON_FAMILIES, ids=lambda family: family.name)
def test_gold_answers_that_state_scores_earn_the_maximum(real_samples, family):
    outcome = validate(real_samples, family, PROMPTS["scored"], all_but("native_format"))
    assert outcome.problems == []
    assert outcome.lowest["calibrated"] == 1


def test_a_family_that_writes_no_json_has_no_compact_form():
    cat = sample(Object((1, 2, 30, 40), "cat"))
    with pytest.raises(UsageError, match="compact asks for JSON, and family rex-omni writes boxes"):
        validate([cat], FAMILIES["rex-omni"], PROMPTS["compact"], build_rewards(["f1"]))


@pytest.mark.parametrize(
    ("reward", "prompt", "hint"),
    [
        ("format", "qwen-native", "prompt qwen-native asks for no tags: take native_format"),
        ("native_format", "standard", "prompt standard asks for tags"),
        ("calibrated", "standard", "prompt standard asks for no scores: take scored"),
    ],
)
def test_a_reward_of_another_form_than_the_prompts_is_told_of(reward, prompt, hint):
    cat = sample(Object((1, 2, 30, 40), "cat"))
    outcome = validate([cat], FAMILIES["plain"], PROMPTS[prompt], build_rewards([reward]))
    assert hint in outcome.problems[0].message


def sample(*objects):
    labels = tuple(dict.fromkeys(item.label for item in objects))
    return Sample("1", "a.jpg", 100, 80, "detection", labels, objects)


def test_what_a_family_cannot_write_is_a_problem():
    broken = sample(Object((1, 2, 30, 40), "a<|object_ref_end|>b"))
    rewards = build_rewards(["format"])
    outcome = validate([broken], FAMILIES["qwen2-vl"], STANDARD, rewards)
    assert not outcome.valid
    assert "was read back as" in outcome.problems[0].message


def test_boxes_that_are_written_alike_are_told():
    twins = sample(Object((1, 2, 30, 40), "a"), Object((1.1, 2, 30, 40), "a"))
    outcome = validate([twins], FAMILIES["plain"], STANDARD, build_rewards(["repetition"]))
    assert outcome.problems[0].message.endswith("two of its boxes are written alike")


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "images").mkdir()
    write_samples(tmp_path / "train.jsonl", [sample(Object((1, 2, 30, 40), "cat"))])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"name: x\nmethod: grpo\nmodel: tiny\ndata: {{train: {tmp_path}/train.jsonl, "
        f"images: {tmp_path}/images}}\nrewards: [format, {{name: f1, weight: 2}}]\n"
        "train: {prompts_per_step: 1}\n"
    )
    return path


def test_the_verb_prints_one_json_object(recipe, capsys):
    assert main(["validate", str(recipe), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["valid"]
    assert printed["family"] == "qwen2.5-vl"
    assert printed["rewards"]["f1"]["lowest"] == 1
    assert printed["missing_images"] == 1


def test_the_verb_says_how_many_images_are_missing_and_names_the_first(recipe, tmp_path, capsys):
    assert main(["validate", str(recipe)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 detection sample, answers" in out
    gone = f"no image {tmp_path / 'images/a.jpg'}"
    assert "warning: 1 of 1 image cannot be opened, and training would stop at the first: " in out
    assert gone in out and out.endswith("valid but for the images")
    write_image(tmp_path / "images/a.jpg", (100, 80))
    assert main(["validate", str(recipe)]) == 0
    assert capsys.readouterr().out.endswith("\nvalid\n")


def test_the_verb_fails_where_a_gold_answer_does_not_earn_its_maximum(recipe, tmp_path, capsys):
    twins = sample(Object((1, 2, 30, 40), "a"), Object((1, 2, 30, 40), "a"))
    write_samples(tmp_path / "train.jsonl", [twins])
    status = main(["validate", str(recipe), "rewards=[repetition]"])
    assert status == 1
    assert "error: sample '1': reward repetition" in capsys.readouterr().out


def test_validating_imports_no_torch(recipe):
    code = (
        "import sys; from boxrl.cli import main; "
        f"main(['validate', {str(recipe)!r}, '--json']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
