"""RefCOCO, RefCOCO+ and RefCOCOg to samples: one per expression.

Source: github.com/lichengunc/refer. ROOT/DATASET/refs(SPLIT_BY).p, a Python 2 pickle of refs, and
ROOT/DATASET/instances.json in COCO form. Images are COCO's train2014; a ref's own `file_name` has a
suffix that no image has, so names come from instances.json. VLM-R1 publishes the same expressions
as JSON, which `vlmr1` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxrl.data.formats.coco import id_shift, open_coco, read_categories, read_pictures
from boxrl.data.formats.pickles import read_pickle
from boxrl.data.formats.reading import Reading, Rejected, require
from boxrl.data.subsets import Instance
from boxrl.errors import DataError, UsageError
from boxrl.types import Object, Sample

SPLIT_BY = {
    "refcoco": ("unc", "google"),
    "refcoco+": ("unc",),
    "refcocog": ("umd", "google"),
}


def read_refcoco(
    annotations: Path,
    images: Path,
    *,
    dataset: Literal["refcoco", "refcoco+", "refcocog"] = "refcoco",
    split_by: Literal["unc", "google", "umd"] = "unc",
    split: str = "val",
) -> Reading:
    """Samples of one split.

    Args:
        annotations: ROOT, which holds a folder per data set.
        images: folder of COCO's train2014 images.
        dataset: which of the three.
        split_by: who split it; google and umd differ in whether images are shared by splits.
        split: `train`, `val`, `testA`, `testB`; `test` takes every split with "test" in its name.

    Raises:
        UsageError: a data set that was never split that way, or a split without refs.
        DataError: files missing, damaged or of another form. A bad ref is a `Rejected`.
    """
    if split_by not in SPLIT_BY[dataset]:
        known = " or ".join(SPLIT_BY[dataset])
        raise UsageError(f"{dataset} has no split by {split_by!r}; --split-by takes {known}")
    return read_refs(annotations / dataset, f"refs({split_by}).p", images, split)


class _Annotated(NamedTuple):
    """An annotation with the image that it is in."""

    image: dict[str, Any]
    size_wh: tuple[int, int]
    instance: Instance
    others: list[Instance]


def read_refs(folder: Path, refs_file: str, images: Path, split: str) -> Reading:
    """Samples of a split of a `refer` folder.

    Args:
        folder: holds `refs_file` and instances.json.
        refs_file: the pickle of refs.
        images: folder that the images' `file_name` starts from.
        split: its name; `test` takes every split that has "test" in its name.

    Raises:
        UsageError, DataError: see `read_refcoco`.
    """
    path = folder / refs_file
    refs = read_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise DataError(f"{path}: expected a list of refs, got {type(refs).__name__}")
    splits = sorted({str(ref.get("split")) for ref in refs})
    wanted = {name for name in splits if name == split or (split == "test" and "test" in name)}
    if not wanted:
        raise UsageError(f"{path}: no split {split!r}; splits: {', '.join(splits)}")
    chosen = [ref for ref in refs if str(ref.get("split")) in wanted]
    by_id, unusable = _annotated(folder / "instances.json", images)

    def rows() -> Iterator[Sample | Rejected]:
        for ref in chosen:
            where = f"{path}: ref {ref.get('ref_id')!r:.40}"
            try:
                key = require(ref, "ann_id", int, where)
                if key not in by_id:
                    reason = unusable.get(key, "it is not in instances.json")
                    raise DataError(f"{where}: no annotation {key}: {reason}")
                yield from _samples(ref, by_id[key], where)
            except DataError as error:
                yield Rejected(str(error), ref)

    sentences = [ref.get("sentences") for ref in chosen]
    return Reading(sum(len(found) for found in sentences if isinstance(found, list)), rows())


def _annotated(path: Path, images: Path) -> tuple[dict[int, _Annotated], dict[int, str]]:
    """Every usable annotation by its id, and why the others are not usable."""
    document = open_coco(path)
    shift = id_shift(document)
    by_id: dict[int, _Annotated] = {}
    unusable: dict[int, str] = {}
    for picture in read_pictures(document, read_categories(document), images):
        if isinstance(picture, Rejected):
            if isinstance(picture.row.get("id"), int):
                unusable[picture.row["id"]] = picture.reason
            continue
        for instance in picture.instances:
            others = picture.instances
            by_id[instance.annotation_id - shift] = _Annotated(
                picture.row, picture.size_wh, instance, others
            )
    return by_id, unusable


def _samples(ref: dict[str, Any], annotated: _Annotated, where: str) -> list[Sample]:
    """One sample per sentence of the ref."""
    image, size_wh, instance, everything = annotated
    others = [
        {"bbox": list(item.object.bbox), "label": item.object.label}
        for item in everything
        if item is not instance and not item.object.iscrowd
    ]
    samples = []
    for sentence in require(ref, "sentences", list, where):
        expression = require(sentence, "sent", str, where)
        key = require(sentence, "sent_id", int, where)
        known = {name: sentence[name] for name in ("raw", "info") if name in sentence}
        meta = {
            "image_id": image["id"],
            "ref_id": ref.get("ref_id"),
            "annotation_ids": [instance.annotation_id],
            "areas": [instance.area],
            "category": instance.object.label,
            "split": ref.get("split"),
            **known,
        }
        samples.append(
            Sample(
                id=str(key),
                image=image["file_name"],
                width=size_wh[0],
                height=size_wh[1],
                task="grounding",
                labels=(expression,),
                objects=(Object(instance.object.bbox, expression),),
                question=expression,
                meta=meta | ({"others": others} if others else {}),
            )
        )
    return samples
