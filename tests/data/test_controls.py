"""Questions with the labels taken away."""

import pytest

from boxrl.data.controls import apply_control
from boxrl.errors import UsageError
from boxrl.types import Object, Sample


def samples(**meta):
    cat = Object((0, 0, 5, 5), "cat")
    asked = Sample("1", "a.jpg", 9, 9, "detection", ("cat",), (cat,), meta=meta)
    return [asked, Sample("2", "b.jpg", 9, 9, "detection", ("dog", "bird", "fox"))]


def test_absent_labels_are_known_to_be_absent():
    drawn = {apply_control(samples(), "absent_labels", seed)[0].labels for seed in range(30)}
    assert drawn == {("dog",), ("bird",), ("fox",)}
    drawn = {
        apply_control(samples(unverified=["Dog"]), "absent_labels", n)[0].labels for n in range(9)
    }
    assert ("dog",) not in drawn
    known = {"unverified": ["dog"], "verified_absent": ["dog", "fox"]}
    drawn = {apply_control(samples(**known), "absent_labels", seed)[0].labels for seed in range(9)}
    assert drawn == {("fox",)}
    with pytest.raises(UsageError, match="known to be absent"):
        apply_control(samples(verified_absent=[]), "absent_labels", 0)
