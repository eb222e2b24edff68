"""Rows in the forms of chat, and what the format makes of them."""

import json

from boxrl.data.formats.chat import read_chat
from boxrl.data.formats.reading import Rejected
from boxrl.types import Sample

ANSWER = '```json\n[{"bbox_2d": [10, 10, 60, 50], "label": "dog"}]\n```'


def read(tmp_path, images, *rows, family="plain", name="rows.jsonl"):
    """(samples, reasons, what was told)."""
    path = tmp_path / name
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines if name.endswith("l") else json.dumps(list(rows)))
    reading = read_chat(path, images, family=family)
    found = list(reading.rows)
    samples = [row for row in found if isinstance(row, Sample)]
    return samples, [row.reason for row in found if isinstance(row, Rejected)], reading.told()


def turns(*texts, image="a.jpg", **more):
    """A row in Qwen's form: human and gpt in turn."""
    who = ("human", "gpt") * len(texts)
    said = [{"from": name, "value": text} for name, text in zip(who, texts, strict=False)]
    return {"image": image, "conversations": said, **more}
