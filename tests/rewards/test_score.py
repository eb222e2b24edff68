"""`build_reward` and `score`: names, settings, bad input."""

import pickle
from typing import Any

import numpy as np
import pytest

from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import REWARDS, build_reward, score
from boxrl.types import Completion, Target

CAT = '<think>1 cat</think><answer>[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]</answer>'
TARGET = [{"bbox": [0, 0, 10, 20], "label": "Cat"}]


def half(completion: Completion, target: Target, *, factor: float = 0.5) -> float:
    """A reward as a user would write it."""
    return factor * len(completion.parsed.detections)


def test_score_gives_one_value_per_completion_and_reward() -> None:
    values = score([CAT, "None", CAT], [TARGET, [], TARGET], ["iou", "format"])
    assert values == {"iou": [0.5, 0.0, 0.5], "format": [1.0, 0.0, 1.0]}


def test_sizes_and_lengths_may_be_arrays_and_answers_must_be_texts() -> None:
    arrays = {"sizes": np.array([[100, 50]]), "n_tokens": np.array([9])}
    lists = {"sizes": [(100, 50)], "n_tokens": [9]}
    calls = [score([CAT], [TARGET], ["iou", "cosine"], **given) for given in (arrays, lists)]
    assert calls[0] == calls[1]
    for completion in (None, [{"role": "assistant", "content": CAT}]):
        with pytest.raises(DataError, match=r"completions\[0\]: expected the text of an answer"):
            score([completion], [TARGET], ["iou"])


def test_a_sorted_table_is_read_row_by_row() -> None:
    pandas = pytest.importorskip("pandas")
    right = [{"bbox": [0, 0, 10, 10], "label": "cat"}]
    table = pandas.DataFrame({"text": [CAT] * 2, "objects": [right] * 2, "length": [0, 1024]})
    table = table[::-1]
    values = score(table.text, table.objects, ["cosine"], n_tokens=table.length)
    assert values["cosine"] == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("n_tokens", [float("nan"), -700, 9.5, [1, 2, 3], "9"])
def test_a_length_that_is_no_number_of_tokens_names_its_row(n_tokens: Any) -> None:
    assert score([CAT], [TARGET], ["cosine"], n_tokens=[9.0]) == score(
        [CAT], [TARGET], ["cosine"], n_tokens=[9]
    )
    with pytest.raises(DataError, match=r"n_tokens\[1\]: expected a number of tokens"):
        score([CAT] * 2, [TARGET] * 2, ["cosine"], n_tokens=[None, n_tokens])


def test_boxes_are_clipped_where_the_size_is_known() -> None:
    wide = CAT.replace("10, 10]", "99, 10]")
    objects = [{"bbox": [0, 0, 10, 10], "label": "cat"}]
    assert score([wide, wide], [objects] * 2, ["iou"], sizes=[None, (10, 10)]) == {
        "iou": [pytest.approx(10 / 99), 1.0]
    }


def test_a_family_brings_boxes_from_its_frame() -> None:
    objects = [{"bbox": [0, 0, 10, 10], "label": "cat"}]
    sizes = [(1000, 1000), (2000, 1000)]
    assert score([CAT] * 2, [objects] * 2, ["iou"], sizes=sizes, family="qwen3-vl") == {
        "iou": [pytest.approx(1.0), pytest.approx(0.5)]
    }
    seen = score(
        [CAT], [objects], ["iou"],
        sizes=[(56, 56)], input_sizes=[(28, 28)], family=FAMILIES["qwen2.5-vl"],
    )  # fmt: skip
    assert seen == {"iou": [pytest.approx(0.25)]}
    with pytest.raises(DataError, match=r"sizes\[1\]: expected \(width, height\) in pixels, got "):
        score([CAT] * 2, [objects] * 2, ["iou"], sizes=[(10, 10), (10, 0)])
    with pytest.raises(DataError, match=r"sizes\[1\]: no width and height, which family 'gemma'"):
        score([CAT] * 2, [objects] * 2, ["iou"], sizes=[(10, 10), None], family="gemma")


def test_crowd_objects_are_no_targets() -> None:
    crowd = [{"bbox": [0, 0, 9, 9], "label": "cat", "iscrowd": True}]
    assert score(["<answer>None</answer>"], [crowd], ["ap"]) == {"ap": [1.0]}


def test_rewards_that_do_not_apply_are_none() -> None:
    assert score([CAT], [TARGET], ["choice", "count", "cosine"]) == {
        "choice": [None],
        "count": [None],
        "cosine": [None],
    }


def test_no_completions_have_no_rewards() -> None:
    assert score([], [], ["format", "f1"]) == {"format": [], "f1": []}


def test_lengths_come_from_the_caller() -> None:
    right = [{"bbox": [0, 0, 10, 10], "label": "cat"}]
    values = score([CAT, CAT, CAT], [right, right, TARGET], ["cosine"], n_tokens=[0, 1024, 0])
    assert values["cosine"] == pytest.approx([1.0, 0.5, -0.5])


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([{"bbox": [5, 5, 5, 9], "label": "a"}], "objects[1]: bbox [5, 5, 5, 9] has zero width"),
        ([{"bbox": [9, 5, 5, 9], "label": "a"}], "objects[1]: bbox [9, 5, 5, 9] has flipped"),
        ([{"bbox": [0, 0, 700, 9], "label": "a"}], "leaves the image of 640 x 480"),
        ([{"bbox": [0, 0, float("nan"), 9], "label": "a"}], "four finite numbers"),
        ([{"bbox": [0, 0, True, 9], "label": "a"}], "four finite numbers"),
        ([{"bbox": ["0", 0, 9, 9], "label": "a"}], "four finite numbers"),
        ([{"bbox": [0, 0, 10**400, 9], "label": "a"}], "objects[1]: bbox"),
        ([{"bbox": [0, 0, 9], "label": "a"}], "four finite numbers"),
        ([{"bbox": None, "label": "a"}], "four finite numbers"),
        ([{"label": "a"}], "four finite numbers"),
        ([{"bbox": [0, 0, 9, 9]}], "objects[1]: an object needs a bbox and a label"),
        (["cat"], "objects[1]: an object needs"),
        (7, "objects[1]: objects must be a list"),
    ],
)
def test_a_broken_target_names_its_row(objects: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        score([CAT, CAT], [TARGET, objects], ["ap"], sizes=[None, (640, 480)])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("od_lenght", f"unknown reward 'od_lenght'; rewards: {', '.join(REWARDS)}, or my_pkg"),
        (
            {"name": "weighted_sum", "iou_treshold": 0.5},
            "reward 'weighted_sum' has no argument 'iou_treshold'; it takes: "
            "iou_threshold, alpha, beta, gamma, match_labels",
        ),
        ({"name": "format", "strict": True}, "reward 'format' has no argument 'strict'; it takes"),
        (
            {"name": "weighted_sum", "match_labels": "befor"},
            "reward 'weighted_sum': match_labels is 'befor'; expected one of 'after', 'before'",
        ),
        ({"name": "ap", "thresholds": []}, "reward 'ap' cannot work with {'thresholds': []}"),
        ({"name": "cosine", "max_length": 0}, "reward 'cosine' cannot work with {'max_length': 0}"),
        ({"name": "weighted_sum", "alpha": "x"}, "cannot work with {'alpha': 'x'}"),
        ({"name": "weighted_sum", "alpha": -1}, "alpha is -1; expected a weight of 0 or more"),
        ({"name": "f1", "thresholds": [50, 75]}, "50 is no IoU; expected a number above 0"),
        ({"name": "calibrated", "iou_threshold": 0}, "0 is no IoU"),
        ({"name": "repetition", "near_iou": 90}, "90 is no IoU"),
        (
            {"name": "progressive_f1", "schedule": [[0, 0.5], [500, 0.75]]},
            "its schedule starts at 0, 500; expected ascending shares of the training steps",
        ),
        (
            {"name": "progressive_f1", "schedule": [[0.5, 0.75], [0, 0.5]]},
            "its schedule starts at 0.5, 0;",
        ),
        ({"name": "cosine", "threshold": 70}, "threshold is 70; expected 0 to 1"),
        ({"name": "cosine", "wrong": [0.5]}, "cannot work with {'wrong': [0.5]}"),
        ({"name": "cosine", "exceed": "x"}, "paid 'x'; expected a finite number"),
        ({"alpha": 1.0}, "has no name; rewards:"),
        ("no_such_module:reward", "cannot be imported"),
        ("math:no_such_function", "cannot be imported"),
        ("math:pi", "is a float, not a function"),
    ],
)
def test_a_wrong_spec_says_what_there_is(spec: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        build_reward(spec)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"completions": {"a": CAT}}, "completions: expected a list, one per row, got dict"),
        ({"completions": CAT}, "completions: expected a list, one per row, got str"),
        ({"objects": {"a": TARGET}}, "objects: expected a list, one per row, got dict"),
        ({"objects": []}, "0 objects for 1 completions"),
        ({"n_tokens": [1, 2]}, "2 n_tokens for 1 completions"),
        ({"sizes": []}, "0 sizes for 1 completions"),
        ({"input_sizes": []}, "0 input_sizes for 1 completions"),
        ({"family": "qwen"}, "unknown family 'qwen'; families: plain"),
        ({"rewards": ["ap", {"name": "ap"}]}, "duplicate reward in ap, ap"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: dict[str, Any], message: str) -> None:
    call = {"completions": [CAT], "objects": [TARGET], "rewards": ["ap"], **arguments}
    with pytest.raises(UsageError) as error:
        score(**call)
    assert message in str(error.value)


def test_a_reward_of_ones_own_by_its_import_path() -> None:
    reward = build_reward({"name": f"{__name__}:half", "factor": 3.0})
    assert reward(Completion(CAT, parse(CAT, FAMILIES["plain"], None)), Target.from_sample) == 3.0  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(reward)) == reward


def paid(completion: Completion, target: Target, *, what: Any = None) -> Any:
    """A reward that pays anything."""
    return what


def test_what_a_reward_of_ones_own_pays_is_a_number() -> None:
    """TRL takes NaN for a reward that does not apply, and other trainers add it up."""

    def pay(what: Any) -> float | None:
        return score([CAT], [TARGET], [{"name": f"{__name__}:paid", "what": what}])[
            f"{__name__}:paid"
        ][0]

    values = [pay(what) for what in (np.float32(0.5), np.array([0.5]), np.bool_(True), 1, None)]
    assert values == [0.5, 0.5, 1.0, 1.0, None]
    assert {type(value) for value in values} == {float, type(None)}
    for wrong in (float("nan"), np.float64("inf"), "1.0", [1.0], np.array([0.5, 0.5])):
        with pytest.raises(UsageError, match=r"paid' paid .*; expected a finite number, or None"):
            pay(wrong)


def moved(completion: Completion, target: Target) -> float:
    """A reward that turns its target into COCO's boxes, in place."""
    target.detections.boxes[:, 2:] -= target.detections.boxes[:, :2]
    return 1.0


def test_no_reward_can_move_the_boxes_that_others_read() -> None:
    with pytest.raises(ValueError, match="read-only"):
        score([CAT], [TARGET], [f"{__name__}:moved", "f1"])


def test_annotations_that_only_a_type_checker_sees_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(half.__annotations__, "factor", "SeenByTypeCheckers")
    assert build_reward({"name": f"{__name__}:half", "factor": 3.0}).settings == {"factor": 3.0}


def test_settings_change_the_value() -> None:
    wrong_label = [{"bbox": [0, 0, 10, 10], "label": "dog"}]
    after, before = (
        score([CAT], [wrong_label], [{"name": "weighted_sum", "match_labels": when}])
        for when in ("after", "before")
    )
    assert (after, before) == ({"weighted_sum": [pytest.approx(0.3)]}, {"weighted_sum": [0.0]})
