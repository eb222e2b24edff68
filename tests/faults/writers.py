"""Calls of every verb that writes a file at once, without a model."""

from __future__ import annotations

from pathlib import Path


def writers(site: Path, out: Path) -> dict[str, tuple[list[object], str]]:
    """Verb -> its call, and the file in `out` that it writes; `site` is of `build_site`."""
    samples = site / "scenes/samples.jsonl"
    coco = ["--annotations", site / "coco.json", "--images", site / "archive"]
    scored = ["--samples", samples, "--predictions", site / "predictions.jsonl"]
    return {
        "data convert": (["data", "convert", "coco", *coco, "--out", out / "a.jsonl"], "a.jsonl"),
        "data lint": (["data", "lint", samples, "--fix", out / "b.jsonl"], "b.jsonl"),
        "data mix": (["data", "mix", samples, "--total", "9", "--out", out / "c.jsonl"], "c.jsonl"),
        "data split": (
            ["data", "split", samples, "--train", out / "d.jsonl", "--validation", out / "v.jsonl"],
            "d.jsonl",
        ),
        "data export": (
            ["data", "export", "easyr1", samples, "--out", out / "e.jsonl"],
            "e.jsonl",
        ),
        "score": (
            ["score", "--completions", site / "completions.jsonl", "--rewards", "f1,format",
             "--out", out / "f.jsonl"],
            "f.jsonl",
        ),
        "evaluate": (
            ["evaluate", *scored, "--resamples", "10", "--out", out / "g"],
            "g/metrics.json",
        ),
        "report": (["report", site / "run", "--out", out / "h.html"], "h.html"),
    }  # fmt: skip


VERBS = tuple(writers(Path(), Path()))
