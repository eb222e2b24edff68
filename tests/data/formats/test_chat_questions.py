"""What questions ask for: lists in any form, and sentences, which teach no absence."""

import pytest

from boxrl.data.formats.chat_questions import read_question
from tests.support.archives import boxes_of, write_image
from tests.support.chat import ANSWER, read, turns

CAT = ANSWER.replace("dog", "cat")
BOX = (10, 10, 60, 50)


@pytest.fixture
def images(tmp_path):
    write_image(tmp_path / "images/a.jpg", (200, 100))
    return tmp_path / "images"


LISTS = [
    "Detect the following objects:\n1. cat\n2. dog\nOutput JSON.",
    "Detect the following objects: 1) cat, 2) dog. Output JSON.",
    "Detect the following objects:\n- cat\n- dog",
    "Detect the following objects:\n\n* **cat**\n\n* **dog**\n\nReturn their boxes.",
    "Detect the following objects:\ncat\ndog\nOutput JSON.",
    "Detect the following objects:\ncat\ndog\nFor each of them give the box as JSON.",
    "Detect the following objects:\ncat, dog",
    "Detect the following objects: cat,\ndog",
    "Detect these classes: [cat, dog]",
    "Detect these classes: ['cat', 'dog']",
    "Detect these items: (cat; dog). Answer None where there is none.",
    "Detect the following objects: {'cat', 'dog'}",
    "Detect the following objects: a cat, a dog.",
    "Detect the following objects: cat, dog; answer in JSON",
    "Detect the following objects: cat, dog in JSON format",
    "Detect the following objects: cat, dog, and output the boxes",
    "Detect cat, dog. The box_2d should be [ymin, xmin, ymax, xmax] normalized to 0-1000.",
    "detect cat ; dog",
]


@pytest.mark.parametrize("question", LISTS)
def test_a_list_is_all_that_is_asked_for(tmp_path, images, question):
    asked = read_question(question)
    assert (asked.labels, asked.kind) == (("cat", "dog"), "list")
    if "box_2d" not in question:
        found, none = read(tmp_path, images, turns(question, CAT), turns(question, "None"))[0]
        assert (found.labels, boxes_of(found)) == (("cat", "dog"), [("cat", BOX)])
        assert (none.labels, none.is_negative) == (("cat", "dog"), True)


SENTENCES = [
    "Find the cat, please.",
    "Find the total amount due on the invoice.",
    "Where is this photo taken",
    "Find the man wearing a hat, holding a phone",
    "Locate the red car, left of the tree.",
    "Detect the car, parked.",
    "Detect the car, parked. Output the bounding box coordinates in [x0, y0, x1, y1] format.",
    "Detect whether the light is on",
    "Detect dog return boxes",
    "Detect the following objects: dog, answer area",
    "detect the cat on the table",
    "Detect the following objects: man wearing a hat, holding a phone",
    "Detect the following objects: cat, dog; if none answer None",
    "Detect the following objects: [cat, dog], bird",
    "Detect the following objects: cat - a small animal, dog",
    "Detect the following objects: report card, left of the tree",
    "Consider these objects: where is the cat?",
]


@pytest.mark.parametrize("question", SENTENCES)
def test_a_sentence_asks_for_what_the_answer_names_and_teaches_no_absence(
    tmp_path, images, question
):
    rows = turns(question, CAT), turns(question, "None"), turns(question, "[]")
    (sample,), reasons, _ = read(tmp_path, images, *rows)
    assert (sample.labels, boxes_of(sample)) == (("cat",), [("cat", BOX)])
    assert len(reasons) == 2
    for reason in reasons:
        assert "and the question is no list of labels; begin it with 'Detect the foll" in reason


@pytest.mark.parametrize("question", ["Detect cat, dog in JSON format", "detect cat, dog, please"])
def test_names_without_a_list_are_absent_only_where_nothing_is_found(tmp_path, images, question):
    found, none = read(tmp_path, images, turns(question, CAT), turns(question, "None"))[0]
    assert (found.labels, none.labels, none.is_negative) == (("cat",), ("cat", "dog"), True)


def test_a_box_without_a_label_is_that_of_a_sentence(tmp_path, images):
    bare = ANSWER.replace(', "label": "dog"', "")
    (sample,), reasons, _ = read(
        tmp_path,
        images,
        turns("Where is the cat on the table?", bare),
        turns("Find the man with a hat, on a bike", bare),
    )
    assert boxes_of(sample) == [("cat on the table", BOX)]
    assert "is not read as boxes: no label" in reasons[0]
