"""Counting: how many are there.

Source: huggingface.co/datasets/vikhyatk/CountBenchQA, allenai/pixmo-count. Both are parquet; the
images of PixMo-Count are addresses and have to be fetched, named by `image_sha256`.
"""

from __future__ import annotations

from boxrl.benchmarks.record import Benchmark, Part

_EXACT = "Share of counts that are exactly right; an answer that is no number is wrong."

COUNTING = (
    Benchmark(
        "countbench",
        "CountBenchQA: two to ten of something in a photograph",
        "clevr",
        (
            Part(
                "test",
                ("data/test*.parquet", "*.parquet", "metadata.jsonl", "*.jsonl"),
                ("images", "."),
            ),
        ),
        "accuracy",
        f"{_EXACT} The question is the data set's own.",
    ),
    Benchmark(
        "pixmo_count",
        "PixMo-Count: how many of a label, test split",
        "clevr",
        (
            Part(
                "test",
                ("data/test*.parquet", "test*.parquet", "metadata.jsonl", "*.jsonl"),
                ("images", "."),
            ),
        ),
        "accuracy",
        f"{_EXACT} The data set has labels and no questions; boxrl asks `How many LABEL are there "
        "in the image?`. Images whose address is dead must be left out of the file, and the number "
        "of questions be told with the figure.",
    ),
)
