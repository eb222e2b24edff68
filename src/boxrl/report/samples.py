"""Samples as one page: what a model will be asked and taught, before it is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.convert import reason_kind, rejected_path
from boxrl.data.files import read_lines
from boxrl.data.samples import image_path, read_samples
from boxrl.data.stats import LIMITS, describe
from boxrl.errors import DataError, tally
from boxrl.families import Family
from boxrl.guard.files import parse_json_object
from boxrl.guard.texts import visible
from boxrl.prompts import Prompt, render_messages, render_target
from boxrl.report.gallery import (
    MAX_LABEL,
    prompt_text,
    rounded,
    script_json,
    shared_ends,
    without_none,
)
from boxrl.report.images import fits, misfits, place_thumbnails, read_thumbnails
from boxrl.report.page import write_html
from boxrl.types import Object, Sample

MOST_LABELS, MOST_REASONS = 200, 20
"""Labels, and kinds of reasons, that a page lists."""

LABEL_COLUMNS = ("boxes", "asked", "negatives")

MOST_NAMES = 12
"""Labels that are named where a sample tells what is not known of its image."""

Table = list[tuple[Any, ...]]


class Reason(NamedTuple):
    """Why rows of the source are no samples.

    Attributes:
        rows: how many have a reason of this kind.
        example: the first of them.
    """

    rows: int
    example: str


def build_samples_page(
    samples_file: Path,
    images: Path,
    out: Path,
    prompt: Prompt,
    family: Family,
    *,
    limit: int,
    seed: int = 0,
) -> list[str]:
    """Write the page of a samples file.

    Args:
        samples_file: the samples; FILE.rejected.jsonl beside it tells what became none.
        images: folder of their images. One that is missing, leads out of it or cannot be read is
            an empty ground, and counted.
        out: the HTML file. Pictures that are too large to embed lie in `OUT_files/` beside it.
        prompt: in whose words samples are asked for.
        family: in whose frame and syntax gold answers are written.
        limit: most samples of the gallery; figures are of all.
        seed: of the draw, where there are more.

    Returns:
        A sentence for everything that the page lacks, as it stands there.

    Raises:
        DataError: the file is no samples file; nothing is written.
    """
    samples = read_samples(samples_file)
    shown = draw_shown(samples, limit, seed)
    rows = _Rows(images, prompt, family)
    payload = rows.payload(shown)
    read = read_thumbnails(rows.pictures)
    pictures = place_thumbnails(read, out)
    notes = list(_notes(samples, shown, seed, images, rows.absent, read.count(None)))
    notes += misfits(rows.misfits)
    figures = describe(samples)
    reasons, rejected = read_reasons(rejected_path(samples_file))
    labels = [(name, *map(n.get, LABEL_COLUMNS)) for name, n in figures["labels"].items()]
    write_html(
        "samples.html.j2",
        out,
        ["scene.js", "samples.js"],
        script_json({**payload, "pictures": pictures}),
        title=samples_file.name,
        facts=_facts(figures, family),
        notes=notes,
        tasks=list(figures["tasks"]),
        without_pictures=all(url is None for url in pictures),
        labels=labels[:MOST_LABELS],
        labels_left=max(0, len(labels) - MOST_LABELS),
        sizes=_sizes(figures),
        limits=[f"at most {limit:,} px" for limit in LIMITS],
        tokens=_tokens(figures),
        reasons=reasons[:MOST_REASONS],
        rejected=rejected,
        rejected_file=rejected_path(samples_file).name,
    )
    return notes


def draw_shown(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """At most `limit` of the samples, drawn at random, in their order."""
    if len(samples) <= limit:
        return list(samples)
    places = random.Random(seed).sample(range(len(samples)), limit)
    return [samples[place] for place in sorted(places)]


def read_reasons(path: Path) -> tuple[list[Reason], int]:
    """What `convert --on-error skip` left out.

    Args:
        path: FILE.rejected.jsonl, or none.

    Returns:
        The kinds of reasons, the commonest first, and the number of rows.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for number, line in read_lines(path) if path.is_file() else ():
        try:
            row = parse_json_object(line, f"{path}:{number}") if isinstance(line, bytes) else {}
            reason = str(row["reason"])
        except (DataError, KeyError):
            reason = "this line of the file cannot be read"
        counts[reason_kind(reason)] += 1
        first.setdefault(reason_kind(reason), reason)
    reasons = [Reason(count, first[kind]) for kind, count in counts.most_common()]
    return reasons, counts.total()


class _Rows:
    """Samples as the page's script reads them; its short keys are explained where they stand."""

    def __init__(self, images: Path, prompt: Prompt, family: Family) -> None:
        self.images, self.prompt, self.family = images, prompt, family
        self.labels: dict[str, int] = {}
        self.pictures: list[Path] = []
        self.absent = self.misfits = 0
        self._numbers: dict[Path, int] = {}

    def payload(self, samples: Sequence[Sample]) -> dict[str, Any]:
        prompts = [prompt_text(render_messages(s, self.prompt, self.family)) for s in samples]
        start, end = shared_ends(prompts)
        rows = [
            self._row(sample) | {"prompt": prompt[len(start) : len(prompt) - len(end)]}
            for sample, prompt in zip(samples, prompts, strict=True)
        ]
        return {"labels": list(self.labels), "samples": rows, "prompt": (start, end)}

    def _row(self, sample: Sample) -> dict[str, Any]:
        others = [
            Object(tuple(item["bbox"]), item["label"], bool(item.get("iscrowd")))
            for item in sample.meta.get("others", ())
        ]
        return without_none(
            {
                "id": visible(sample.id, MAX_LABEL),
                "w": sample.width,
                "h": sample.height,
                "task": sample.task,
                "negative": int(sample.is_negative),
                "asked": [self._label(label) for label in sample.labels],
                "question": sample.question and visible(sample.question),
                # x1, y1, x2, y2, label, 1 for a crowd region
                "targets": [self._box(item) for item in sample.objects],
                "others": [self._box(item) for item in others],
                "gold": visible(self._gold(sample)),
                "facts": list(_sample_facts(sample)),
                "picture": self._picture(sample),
            }
        )

    def _gold(self, sample: Sample) -> str:
        try:
            return render_target(sample, self.family)
        except DataError as error:  # an image that the family cannot be shown
            return f"(none: {error})"

    def _label(self, label: str) -> int:
        return self.labels.setdefault(visible(label, MAX_LABEL), len(self.labels))

    def _box(self, item: Object) -> list[Any]:
        return [*rounded(item.bbox), self._label(item.label), int(item.iscrowd)]

    def _picture(self, sample: Sample) -> int | None:
        try:
            path = image_path(self.images, sample)
        except (DataError, OSError):
            self.absent += 1
            return None
        if not fits(path, sample.size_wh):
            self.misfits += 1
            return None
        if path not in self._numbers:
            self._numbers[path] = len(self.pictures)
            self.pictures.append(path)
        return self._numbers[path]


def _sample_facts(sample: Sample) -> Iterator[tuple[str, str]]:
    """What else the file says about a sample, as (name, value) for people."""
    yield "image", visible(sample.image, MAX_LABEL)
    yield "size", f"{sample.width:,} x {sample.height:,} px"
    yield "task", sample.task
    for key, name in (("mode", "mode"), ("subset", "subset"), ("image_id", "image id")):
        if isinstance(sample.meta.get(key), (str, int)):
            yield name, visible(str(sample.meta[key]), MAX_LABEL)
    for key, name in (
        ("unverified", "not asked, because not all is known"),
        ("verified_absent", "looked for and not found"),
        ("unexhausted", "annotated in part"),
    ):
        if names := sample.meta.get(key):
            more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
            yield name, visible("; ".join(names[:MOST_NAMES]), MAX_LABEL) + more


def _notes(
    samples: Sequence[Sample],
    shown: Sequence[Sample],
    seed: int,
    images: Path,
    absent: int,
    unreadable: int,
) -> Iterator[str]:
    if len(shown) < len(samples):
        yield (
            f"the gallery shows {len(shown):,} of {len(samples):,} samples, drawn by seed {seed}; "
            "figures are of all"
        )
    if absent:
        yield f"{absent:,} of {len(shown):,} samples have no image under {images}"
    if unreadable:
        yield f"{tally(unreadable, 'image')} cannot be read; boxrl data lint --images names them"


def _facts(figures: dict[str, Any], family: Family) -> list[tuple[str, str]]:
    spread = figures["boxes_per_sample"]
    tasks = ", ".join(f"{count:,} {task}" for task, count in figures["tasks"].items())
    return [
        ("samples", f"{figures['samples']:,}"),
        ("tasks", tasks),
        ("images", f"{figures['images']:,}"),
        ("labels", f"{len(figures['labels']):,}"),
        ("boxes", f"{figures['boxes']:,}"),
        ("crowd regions", f"{figures['crowd']:,}"),
        ("negatives", f"{figures['negatives']:,}"),
        ("boxes a sample", f"{spread['min']} to {spread['max']}, median {spread['median']}"),
        ("gold answers as", family.name),
    ]


def _sizes(figures: dict[str, Any]) -> Table:
    """(size class, boxes, share of all)."""
    words = {
        "small": "small, under 32² px",
        "medium": "medium",
        "large": "large, from 96² px",
        "tiny": "of these under 0.5 % of the image",
    }
    whole = max(1, figures["boxes"])
    return [(words[key], count, count / whole) for key, count in figures["sizes"].items()]


def _tokens(figures: dict[str, Any]) -> Table:
    """(family, [(mean, max) for each largest area, then the family's own limits])."""
    columns = (*map(str, LIMITS), "own")
    return [
        (family, [(found[c]["mean"], found[c]["max"]) if c in found else None for c in columns])
        for family, found in figures["image_tokens"].items()
    ]
