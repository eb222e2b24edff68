import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boxrl import boxes as boxes_module
from boxrl.boxes import (
    area,
    clip,
    giou,
    iou,
    order_corners,
    overlaps,
    scale,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

COORDINATES = st.integers(0, 50).map(float)
ANY_BOXES = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=COORDINATES)
BOXES = ANY_BOXES.map(order_corners)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),  # the same box
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),  # the same one-pixel box: no +1 anywhere
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),  # half overlap
        ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),  # touching edges share nothing
        ([0, 0, 4, 4], [1, 1, 3, 3], 0.25),  # contained
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # no area, no overlap
        ([0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25], 0.5),  # boxes smaller than a pixel
    ],
)
def test_iou_of_one_pair(a: list[float], b: list[float], expected: float) -> None:
    assert iou(np.array([a], float), np.array([b], float))[0, 0] == pytest.approx(expected)


@given(BOXES, BOXES)
def test_iou_is_symmetric_and_in_range(a: np.ndarray, b: np.ndarray) -> None:
    overlaps = iou(a, b)
    assert overlaps.shape == (len(a), len(b))
    assert ((overlaps >= 0) & (overlaps <= 1)).all()
    np.testing.assert_array_equal(overlaps, iou(b, a).T)


@given(BOXES)
def test_a_box_with_area_overlaps_itself_fully(boxes: np.ndarray) -> None:
    np.testing.assert_array_equal(np.diag(iou(boxes, boxes)), area(boxes) > 0)


@given(BOXES)
def test_xywh_is_undone_by_xyxy(boxes: np.ndarray) -> None:
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)


@given(ANY_BOXES)
def test_clipped_boxes_lie_in_the_image(boxes: np.ndarray) -> None:
    inside = clip(order_corners(boxes), (20, 10))
    assert ((inside >= 0) & (inside <= [20, 10, 20, 10])).all()


def test_scale_moves_each_axis_by_its_own_ratio() -> None:
    scaled = scale(np.array([[1.0, 2.0, 3.0, 4.0]]), (10, 20), (20, 10))
    np.testing.assert_array_equal(scaled, [[2.0, 1.0, 6.0, 2.0]])


@pytest.mark.parametrize("plain_pairs", [0, 150])  # numpy alone, plain Python
@given(BOXES, BOXES, st.sampled_from([1e-9, 0.25, 1 / 3, 0.5, 1.0]))
def test_overlaps_are_the_large_entries_of_iou(
    plain_pairs: int, a: np.ndarray, b: np.ndarray, lowest: float
) -> None:
    ious = iou(a, b)
    expected = [(i, j, ious[i, j]) for i, j in np.argwhere(ious >= lowest).tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, "MAX_PLAIN_PAIRS", plain_pairs)
        assert overlaps(a, b, lowest) == expected


@given(BOXES, BOXES)
def test_giou_never_exceeds_iou_and_tells_disjoint_boxes_apart(
    a: np.ndarray, b: np.ndarray
) -> None:
    generalised = giou(a, b)
    assert (generalised <= iou(a, b) + 1e-12).all()
    assert (generalised >= -1).all()
    np.testing.assert_allclose(np.diag(giou(a, a))[area(a) > 0], 1.0)


def test_giou_falls_with_distance() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    near, far = giou(box, np.array([[10.0, 0, 20, 10], [90, 0, 100, 10]]))[0]
    assert (near, far) == pytest.approx((0.0, -0.8))
