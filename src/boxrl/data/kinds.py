"""What a file of annotations is, told from its first bytes: the way out of a wrong reader.

People name one format and have another. A reader's error then says what is wrong, not what the
file is; the kind that is recognised here is put behind it, with the command that reads it, or with
the page that shows how to read what boxrl has no reader for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from boxrl.errors import DataError
from boxrl.guard.files import read_head

HEAD_BYTES = 2**16
"""As much of a file as tells its kind."""

OWN_READER = "docs/howto/add_dataset.md shows how to read it in ten lines"

AS_COCO = f"export it as COCO from there; or {OWN_READER}"


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: what people call it, with an article.
        reader: key of READERS that reads it, or `samples`; "" where none does.
        holds: regular expressions that all match in its head.
        note: what else to say.
    """

    name: str
    reader: str
    holds: tuple[str, ...]
    note: str = ""


_N = r"-?\d+(?:\.\d+)?"
_ROWS = "training rows of a vision-language model"

_KINDS = (
    Kind("a tar archive, as WebDataset's", "", (r"(?s)\A.{250,257}ustar",),
         f"unpack it (tar -xf); for a .json beside every image, {OWN_READER}"),
    Kind("a TFRecord file", "", (r"image/(?:encoded|object/bbox)",), OWN_READER),
    Kind("a samples file of boxrl", "samples", (r'"task":\s*"\w+"', r'"labels":\s*\[')),
    Kind("a parquet file", "hf", (r"\APAR1",)),
    Kind("a COCO results file", "", (r"\A\s*\[\s*\{", r'"score":', r'"category_id":'),
         "boxrl coco-eval --predictions takes it"),
    Kind("an MDETR file", "odvg", (r'"tokens_positive":',)),
    Kind("an LVIS file", "lvis", (r'"neg_category_ids":',)),
    Kind("a COCO captions file", "", (r'"caption":', r'"annotations":'), "it has no boxes"),
    Kind("a LabelMe file", "labelme", (r'"shapes":', r'"(?:imagePath|shape_type)":')),
    Kind("a VIA project", "", (r'"shape_attributes":|region_shape_attributes',), OWN_READER),
    Kind("a CreateML file", "", (r'"coordinates":', r'"annotations":'), OWN_READER),
    Kind("a Labelbox export", "", (r'"data_row":',), OWN_READER),
    Kind("Supervisely", "", (r'"classTitle":',), AS_COCO),
    Kind("V7 Darwin", "", (r'"annotations":', r'"bounding_box":', r'"(?:item|image)":'), AS_COCO),
    Kind("Datumaro", "", (r'"items":', r'"label_id":'), AS_COCO),
    Kind("a SageMaker manifest", "", (r'"source-ref":',), OWN_READER),
    Kind("a VoTT project", "", (r'"boundingBox":', r'"asset":'), OWN_READER),
    Kind("BDD100K", "", (r'"box2d":',), OWN_READER),
    Kind("a FiftyOne data set", "", (r'"detections":', r'"bounding_box":'), AS_COCO),
    Kind("Ultralytics' NDJSON", "", (r'\A\{"type":\s*"dataset"',), "download it as YOLO"),
    Kind("a Label Studio export", "labelstudio", (r'"original_width":',)),
    Kind("Rex-Omni-EvalData", "rexomni", (r'"image_path":', r'"categories":', r'"gt":')),
    Kind("ODVG rows", "odvg", (r'"filename":', r'"(?:detection|grounding)":\s*\{')),
    Kind("a Hugging Face image folder", "hf", (r'"file_name":', r'"objects":\s*\{')),
    Kind("rows of VLM-R1", "vlmr1",
         (r"(?s)\A(?!.*<(?:\|box_start\||ref|box)>)", r'"conversations":\s*\[', r'"image":\s*"')),
    Kind(_ROWS, "chat", (r'"(?:messages|conversations)":\s*\[',)),
    Kind(_ROWS, "chat", (r'"prefix":', r'"suffix":')),
    Kind(_ROWS, "chat", (r'"instruction":', r'"output":')),
    Kind(_ROWS, "chat", (r'"query":', r'"response":')),
    Kind(_ROWS, "chat", (r'"problem":', r'"(?:solution|answer)":')),
    Kind("a COCO file", "coco", (r'"images":\s*\[\s*[\{\]]', r'"(?:file_name|annotations)":')),
    Kind("a list of referring expressions", "", (r'"expression":', r'"bbox":'), OWN_READER),
    Kind("CVAT for images", "cvat", (r"<annotations>", r"<image\b|<meta\b")),
    Kind("a Pascal VOC file", "voc", (r"<annotation\b[^s]",)),
    Kind("an OpenImages table", "csv", (r"\AImageID,",)),
    Kind("a table of boxes", "csv", (r"(?i)\A\ufeff?[^\n{\[<]*\bx_?min\b[^\n]*[,;\t]",)),
    Kind("VisDrone", "visdrone", (r"\A\d+,\d+,\d+,\d+,[01],\d+,-?\d+,-?\d+,?\s",)),
    Kind("KITTI", "", (rf"\A\w+ -?\d+\.\d+ \d {_N}(?: {_N}){{11}}",), OWN_READER),
    Kind("DOTA", "", (rf"\Aimagesource:|\A(?:{_N} ){{8}}[A-Za-z][\w-]* [012]\s",), OWN_READER),
    Kind("CrowdHuman", "", (r'"gtboxes":',), OWN_READER),
    Kind("YOLO's data.yaml", "yolo", (r"(?m)^names:", r"(?m)^(?:path|train|val|nc):")),
    Kind("YOLO labels", "yolo", (r"\A\d+(?: \d?\.\d+){4,}\s",)),
)  # fmt: skip


def way_out(annotations: Path, reader: str) -> str:
    """A sentence on what the annotations are and what reads them.

    Args:
        annotations: file or folder that a reader could not make samples of.
        reader: key of READERS that was used, or `samples`.

    Returns:
        Words to put behind the error; empty where the kind is that of the reader, or not known.
    """
    head = _head(annotations)
    kind = next((kind for kind in _KINDS if all(re.search(p, head) for p in kind.holds)), None)
    alike = {"chat": ("vlmr1",), "ovdeval": ("coco",), "d3": ("coco",), "lvis": ("coco",),
             "coco": ("lvis",)}  # fmt: skip
    if kind is None or kind.reader == reader or kind.reader in alike.get(reader, ()):
        return ""
    if kind.reader == "samples":
        return f"; it looks like {kind.name}, which needs no conversion"
    if not kind.reader:
        return f"; it looks like {kind.name}: {kind.note}"
    return (
        f"; it looks like {kind.name}: "
        f"boxrl data convert {kind.reader} --annotations {annotations} ..."
    )


def _head(path: Path) -> str:
    """The first characters of a file, or of the first file of annotations in a folder."""
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if _annotates(file))
        path = found[0] if found else path
    try:
        return read_head(path, HEAD_BYTES).decode("utf-8", errors="replace")
    except DataError:
        return ""


def _annotates(path: Path) -> bool:
    kinds = (".json", ".jsonl", ".xml", ".txt", ".csv", ".parquet")
    return path.suffix in kinds and path.name != "classes.txt" and not path.name.startswith(".")
