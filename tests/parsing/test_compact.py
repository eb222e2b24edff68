"""Boxes under their labels: `{"cat":[[...],...]}`, the form of the prompt `compact`."""

import numpy as np
import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.prompts import PROMPTS, render_output, render_target
from boxrl.types import Asked, Object, Sample

PLAIN = FAMILIES["plain"]
CAT, DOG, COW = (1.0, 2.0, 30.0, 40.0), (5.0, 6.0, 7.0, 8.0), (9.0, 9.0, 20.0, 20.0)
ASKED = Asked(("cat", "Dog"))


def read(answer, asked=ASKED):
    found = parse(f"<answer>{answer}</answer>", PLAIN, (100, 100), asked=asked)
    boxes = [tuple(box) for box in found.detections.boxes.tolist()]
    return found.status, list(zip(found.detections.labels, boxes, strict=True))


@pytest.mark.parametrize(
    ("answer", "status", "items"),
    [
        ('{"cat":[[1,2,30,40],[5,6,7,8]]}', "ok", [("cat", CAT), ("cat", DOG)]),
        ('{"cat":[[1,2,30,40]],"dog":[[5,6,7,8]]}', "ok", [("cat", CAT), ("dog", DOG)]),
        ('```json\n{"cat": [[1, 2, 30, 40]], "dog": []}\n```', "ok", [("cat", CAT)]),
        ('{"cat":[[1,2,30,40]],"cow":[[9,9,20,20]]}', "ok", [("cat", CAT), ("cow", COW)]),
        ('so {"cat":[[9,9,20,20]]}, no: {"cat":[[1,2,30,40]]}', "ok", [("cat", CAT)]),
        ('{"cat":[]}', "empty", []),
        ('{"boxes":[[1,2,30,40]]}', "malformed", []),  # no label that was asked for
        ('{"cat":[[1,2,30]]}', "malformed", []),
        ('{"cat":[1,2,30,40]}', "malformed", []),
        ('{"cat":[[1,2,30,40],[5,6', "malformed", []),  # cut
    ],
)
def test_reading(answer, status, items):
    assert read(answer) == (status, items)


def test_without_knowing_what_was_asked_every_key_is_a_label():
    assert read('{"cow":[[9,9,20,20]]}', None) == ("ok", [("cow", COW)])


def test_a_label_stands_once_with_all_of_its_boxes():
    objects = (Object(CAT, "cat"), Object(DOG, 'a "dog"'), Object(COW, "cat"))
    sample = Sample("a", "a.png", 100, 100, "detection", ("cat", 'a "dog"'), objects)
    text = render_target(sample, PLAIN, prompt=PROMPTS["compact"])
    compact = r'{"cat":[[1,2,30,40],[9,9,20,20]],"a \"dog\"":[[5,6,7,8]]}'
    assert text.endswith(f"<answer>{compact}</answer>")
    found = parse(text, PLAIN, (100, 100), asked=Asked.from_sample(sample)).detections
    assert found.labels == ("cat", "cat", 'a "dog"')
    np.testing.assert_array_equal(found.boxes, [CAT, COW, DOG])


def test_the_prompt_shows_the_form():
    assert '{"target name":[[y1,x1,y2,x2],[y1,x1,y2,x2]]}' in render_output(
        FAMILIES["gemma"], "compact"
    )
