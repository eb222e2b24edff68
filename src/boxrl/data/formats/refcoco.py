"""RefCOCO, RefCOCO+ and RefCOCOg to samples: one per expression.

Source: github.com/lichengunc/refer. ROOT/DATASET/refs(SPLIT_BY).p, a Python 2 pickle of refs, and
ROOT/DATASET/instances.json in COCO form. Images are COCO's train2014; a ref's own `file_name` has a
suffix that no image has, so names come from instances.json. VLM-R1 publishes the same expressions
as JSON, which `vlmr1` reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxrl.data.formats.coco import read_categories, read_pictures
from boxrl.data.formats.coco_dialects import open_coco
from boxrl.data.formats.coco_joins import Key, annotation_ids, as_id, as_ids
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.pickles import read_pickle
from boxrl.data.formats.pictures import Picture
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

    picture: Picture
    instance: Instance


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
    found = ImageFolder(images)
    by_id, unusable = _annotated(folder / "instances.json", found)

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
    total = sum(len(listed) for listed in sentences if isinstance(listed, list))
    return Reading(total, rows(), images=found)


def _annotated(path: Path, images: ImageFolder) -> tuple[dict[Key, _Annotated], dict[Key, str]]:
    """Every usable annotation by its id, and why the others are not usable."""
    document = open_coco(path)
    rows = document.array("annotations")
    ids = as_ids(document.column("annotations", "id"))
    own = dict(zip(annotation_ids(ids), ids, strict=True))
    by_id: dict[Key, _Annotated] = {}
    unusable: dict[Key, str] = {
        key: "its id is given to several annotations"
        for key, count in Counter(ids).items()
        if count > 1 and key is not None
    }
    for picture in read_pictures(document, read_categories(document), images, []):
        if isinstance(picture, Picture):
            for instance in picture.instances:
                key = own.get(instance.annotation_id)
                if key is not None and key not in unusable:
                    by_id[key] = _Annotated(picture, instance)
            continue
        lost = [picture.row]
        if "image_id" not in picture.row:  # an image, with all that is annotated in it
            lost = [row for row in rows if row.get("image_id") == picture.row.get("id")]
        for row in lost:
            key = as_id(row.get("id"))
            if key is not None:
                unusable.setdefault(key, picture.reason)
    return by_id, unusable


def _samples(ref: dict[str, Any], annotated: _Annotated, where: str) -> list[Sample]:
    """One sample per sentence of the ref."""
    picture, instance = annotated
    others = [
        {"bbox": list(item.object.bbox), "label": item.object.label}
        for item in picture.instances
        if item is not instance and not item.object.iscrowd
    ]
    samples = []
    for sentence in require(ref, "sentences", list, where):
        expression = require(sentence, "sent", str, where)
        key = require(sentence, "sent_id", int, where)
        known = {name: sentence[name] for name in ("raw", "info") if name in sentence}
        meta = {
            "image_id": picture.image_id,
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
                image=picture.image,
                width=picture.size_wh[0],
                height=picture.size_wh[1],
                task="grounding",
                labels=(expression,),
                objects=(Object(instance.object.bbox, expression),),
                question=expression,
                meta=meta | ({"others": others} if others else {}),
            )
        )
    return samples
