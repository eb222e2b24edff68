"""Writes a line of written.jsonl; runs under Python 2.7 and 3, with numpy 1 and 2.

    python2.7 write.py >> written.jsonl     # with numpy 1.16.6
    python3 write.py >> written.jsonl       # with numpy 1.26.4, then with numpy 2.4.6

`test_names.py` has what should be read from them.
"""

# ruff: noqa: UP010, UP018
from __future__ import unicode_literals

import base64
import collections
import json
import pickle
import sys

import numpy as np

OBJECTS = np.empty(2, dtype=str("O"))
OBJECTS[0], OBJECTS[1] = [1, 2], str("a")
CONTENT = {
    "text": "caf\xe9 \U0001f600",
    "string": 'it\'s "quoted"\n\t\\\x7f',
    "truths": [True, False, None],
    "numbers": [0, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**63) - 1, 2**70, 0.1, 1e300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, (4,))],
    "set": set([1, 2]),
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "scalars": [np.int64(-7), np.uint8(200), np.float32(0.5), np.float64(0.1), np.bool_(True)],
    "floats": [np.array([10.5, -2.0]), np.array([[0.5]], np.float32), np.array(3.0)],
    "wholes": np.arange(-2, 2, dtype=str("i2")),
    "other order": np.arange(3, dtype=str(">i4")),
    "by column": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "part": np.arange(12).reshape(3, 4)[:, ::2],
    "truths of numpy": np.array([True, False]),
    "none": [np.zeros((0, 4)), np.zeros((2, 0))],
    "texts": np.array(["a", "b\xe9"]),
    "bytes": np.array([b"a", b"\xff\x00b"]),
    "objects": OBJECTS,
}

if __name__ == "__main__":
    row = {"python": sys.version.split()[0], "numpy": np.__version__, "pickles": []}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        written = pickle.dumps(CONTENT, protocol)
        row["pickles"].append(base64.b64encode(written).decode())
    sys.stdout.write(json.dumps(row) + str("\n"))
