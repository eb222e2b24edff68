import numpy as np
import pytest

from boxrl.boxes import iou
from boxrl.data.synthetic import LABELS, MAX_OBJECTS, World, scenes
from boxrl.types import Detections


def drawn(count: int = 60, seed: int = 3, split: str = "a"):
    return list(scenes(World(), count, seed, split))


def test_the_same_seed_draws_the_same_scenes() -> None:
    for first, second in zip(drawn(10), drawn(10), strict=True):
        assert first.sample == second.sample
        np.testing.assert_array_equal(np.asarray(first.image), np.asarray(second.image))


def test_splits_share_no_scene() -> None:
    train = {np.asarray(scene.image).tobytes() for scene in drawn(50, split="train")}
    test = {np.asarray(scene.image).tobytes() for scene in drawn(50, split="test")}
    assert not train & test


def test_boxes_are_tight_around_what_is_drawn() -> None:
    # A square is its box: inside it the colour is flat (up to noise), just outside it differs.
    for scene in drawn(40):
        pixels = np.asarray(scene.image).astype(int)
        for item in scene.sample.objects:
            if not item.label.endswith("square"):
                continue
            x1, y1, x2, y2 = (int(v) for v in item.bbox)
            colour = np.median(pixels[y1:y2, x1:x2].reshape(-1, 3), axis=0)
            for edge in (pixels[y1:y2, x1], pixels[y1:y2, x2 - 1], pixels[y1, x1:x2]):
                assert np.abs(edge - colour).max() <= 30
            assert np.abs(np.median(pixels[y1:y2, x2], axis=0) - colour).max() > 30


def test_objects_do_not_overlap_and_are_few() -> None:
    for scene in drawn():
        others = scene.sample.meta["others"]
        boxes = np.array([o.bbox for o in scene.sample.objects] + [o["bbox"] for o in others])
        overlaps = iou(boxes, boxes) - np.eye(len(boxes))
        assert 1 <= len(boxes) <= MAX_OBJECTS
        assert overlaps.max() == pytest.approx(0.0)


def test_samples_ask_for_known_labels_and_hold_only_asked_objects() -> None:
    samples = [scene.sample for scene in drawn()]
    for sample in samples:
        assert set(sample.labels) <= set(LABELS)
        assert {o.label for o in sample.objects} <= set(sample.labels)
        assert not {o["label"] for o in sample.meta["others"]} & set(sample.labels)
    assert any(not sample.objects for sample in samples)
    assert any(len(sample.labels) > 1 for sample in samples)
    assert any(len(Detections.from_objects(sample.objects)) > 1 for sample in samples)
