"""From cells to tables, verdicts, sections and pictures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from boxrl.cli.experiment import print_outcome
from boxrl.experiments import grid
from boxrl.experiments.definition import experiments_folder, load_experiment
from boxrl.experiments.learning import draw_learning, learning_figures
from boxrl.experiments.markdown import claim_words, render_markdown, table_rows
from boxrl.experiments.outcome import flatten, summarize_outcome
from boxrl.experiments.run import run_experiment

from .files import FakeCells, write_experiment


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("outcome")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "POLL_S", 0.01)
        experiment = load_experiment(write_experiment(folder))
        run_experiment(experiment, [0, 1, 2], folder / "out", folder, workers=2, launch=FakeCells())
    content: dict[str, Any] = json.loads((folder / "out" / "results.json").read_text())
    return content | {"cells_run": 12}


def test_differences_are_paired_by_seed(outcome: dict[str, Any]) -> None:
    better, longer, alike = outcome["claims"]
    # mAP rises with the seed in either arm, their difference does not.
    assert outcome["columns"][0]["ours"]["ap"]["high"] > 0.51
    assert better["difference"]["values"] == pytest.approx([0.1] * 3)
    assert better["difference"]["low"] == pytest.approx(0.1)
    assert [better["status"], longer["status"], alike["status"]] == [
        "held",
        "undecided",
        "not tested",
    ]


def test_take_offs_are_compared_as_parts_of_the_training_as_the_blog_saw_them() -> None:
    # The blog: step 65 against 15, 4.3 times as late; ours at step 10 would be 33 steps later.
    structure = load_experiment(experiments_folder() / "prompt_structure.yaml", check_files=False)

    def judged(standard: list[float]) -> str:
        steps = {"standard": standard, "enhanced": [10.0] * len(standard)}
        cells = {
            arm: {seed: {"learning": {"accuracy.half_rise": value}} for seed, value in enumerate(v)}
            for arm, v in steps.items()
        }
        [sooner] = [
            claim
            for claim in summarize_outcome(structure, cells)["claims"]
            if claim["figure"] == "accuracy.half_rise"
        ]
        return str(sooner["status"])

    assert judged([9.0, 11.0, 10.5, 10.0]) == "smaller"
    assert judged([5.0, 70.0, 90.0, 8.0]) == "undecided"
    assert judged([40.0, 44.0, 42.0, 43.0]) == "held"


def test_a_share_is_compared_with_what_was_left_to_gain_too() -> None:
    # The blog's precision rose from 71.32 to 76.95, a fifth of what was left: .012 at .94.
    rewards = load_experiment(experiments_folder() / "rewards.yaml", check_files=False)

    def judged(gains: list[float]) -> str:
        arms = {"weighted_sum": [0.94] * len(gains), "+ cosine": [0.94 + gain for gain in gains]}
        cells = {
            arm: {k: {"in_domain greedy": {"precision@0.5": x}} for k, x in enumerate(values)}
            for arm, values in arms.items()
        }
        claims = summarize_outcome(rewards, cells)["claims"]
        [raised] = [claim for claim in claims if claim["says"] == "Adding cosine raises precision."]
        return str(raised["status"])

    assert judged([-0.005, 0.0, 0.005, 0.001]) == "smaller"
    assert judged([-0.02, 0.02, 0.01, 0.0]) == "undecided"  # up to .03: less than .056 of the blog


def test_a_claim_is_told_in_words_beside_the_seeds_own_number(outcome: dict[str, Any]) -> None:
    better, longer, alike = (claim_words(claim) for claim in outcome["claims"])
    assert better.startswith("mAP (in_domain, greedy), ap minus ap50: +10.0 [+10.0, +10.0]")
    assert better.endswith("over 3 seeds; the blog: +0.3")
    assert longer.startswith("tokens.mean (in_domain, greedy), ap50 minus ap")
    assert alike.endswith("alike means within 1.0")


def test_the_seeds_numbers_have_a_column_of_their_own(outcome: dict[str, Any]) -> None:
    heads, rows = table_rows(outcome)
    assert heads == ["arm", "mAP, blog", "mAP", "tokens", "format takes off"]
    by_arm = {row[0]: row[1:] for row in rows}
    assert by_arm["ap"][:2] == ["27.4", "51.0 [48.5, 53.5]"]
    assert by_arm["untrained"][0] == ""
    assert by_arm["untrained"][3] == "-"  # has no learning curve
    assert by_arm["(blind baseline)"][:2] == ["", "30.0"]


def test_the_section_holds_question_table_verdicts_and_command(outcome: dict[str, Any]) -> None:
    text = render_markdown(outcome, {"format": "format.svg"})
    assert text.startswith("## 4.1 Rewards\n\nWhich reward?\n")
    assert "3 seeds (0, 1, 2), 10 training steps, tested on in_domain: 2 scenes" in text
    assert "- AP beats AP50. **Held**: mAP" in text
    assert "`boxrl experiment run small --seeds 0,1,2`" in text
    assert "![format](format.svg)" in text


def test_the_table_fits_eighty_columns(
    outcome: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_outcome(outcome)
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert "51.0 [48.5, 53.5]" in printed
    assert "AP beats AP50." in printed


def test_curves_are_pictures_that_stand_alone(outcome: dict[str, Any]) -> None:
    pictures = draw_learning(outcome["curves"])
    assert set(pictures) == {"format", "accuracy"}
    for picture in pictures.values():
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert all(f">{arm}<" in pictures["format"] for arm in ("ap", "ap50", "later"))


def test_a_curve_is_start_half_of_its_rise_and_plateau() -> None:
    rows = [
        {"step": step, "rewards": {"format": 0.4 if step <= 20 else 1.0, "ap": 0.1}}
        for step in range(1, 101)
    ]
    figures = learning_figures(rows, ["format", "ap"])
    assert figures["format.start"] == 0.4
    assert figures["format.plateau"] == 1.0
    assert figures["format.half_rise"] == 21
    assert figures["accuracy.plateau"] == pytest.approx(0.1)
    assert "accuracy.half_rise" not in figures  # a flat curve rises nowhere


def test_rows_where_a_reward_did_not_apply_are_left_out() -> None:
    rows = [{"step": 1, "rewards": {"ap": None}}, {"step": 2, "rewards": {"ap": 0.5}}]
    assert learning_figures(rows, ["ap"]) == {"accuracy.start": 0.5, "accuracy.plateau": 0.5}


def test_what_is_learned_a_minute_is_the_rise_by_the_time_of_all_steps() -> None:
    rows = [
        {"step": k, "time_s": 5.0 + 3 * k, "rewards": {"ap": 0.2 if k < 15 else 0.8}}
        for k in range(1, 21)
    ]
    figures = learning_figures(rows, ["ap"])
    assert figures["seconds_per_step"] == 3.0
    assert figures["accuracy.per_minute"] == pytest.approx(0.6)


def test_groups_that_earned_alike_are_a_share_of_all_steps() -> None:
    rows = [{"step": k, "zero_variance": share} for k, share in enumerate((0.0, 0.25, 0.5), 1)]
    assert learning_figures(rows, ["f1"]) == {"zero_variance": 0.25}


def test_nested_metrics_are_flat_under_dotted_names() -> None:
    metrics = {"mAP": 0.5, "precision@0.5": 1, "tokens": {"mean": 2.0, "max": None}, "x": True}
    assert flatten(metrics) == {"mAP": 0.5, "precision@0.5": 1, "tokens.mean": 2.0}
