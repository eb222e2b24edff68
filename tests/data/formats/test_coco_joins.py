"""Annotations to images by what their ids say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from boxrl.data.formats import coco_joins
from boxrl.data.formats.coco_joins import join

KINDS: dict[str, list[Any]] = {
    "numbers": [*range(-3, 9)],
    "large numbers": [*range(2**63 - 3, 2**63 + 3)],
    "texts and numbers": [1, "1", "a", 2.0, None, True, 2.5],
}


@pytest.mark.parametrize("kind", KINDS)
def test_many_annotations_are_joined_as_few_are(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = KINDS[kind]
    images, annotations = [*ids[:4], ids[0]], random.Random(kind).choices(ids, k=200)
    few = join(images, annotations)
    assert few.mine and few.strays and few.repeated
    monkeypatch.setattr(coco_joins, "MANY", 0)
    assert join(images, annotations) == few
