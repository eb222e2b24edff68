"""Readers of published formats, one file per format.

A reader is a function `(annotations, images, *, options) -> Reading`; docs/howto/add_dataset.md
shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable

from boxrl.data.formats.chat import read_chat
from boxrl.data.formats.clevr import read_clevr
from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.csv_tables import read_csv
from boxrl.data.formats.cvat import read_cvat
from boxrl.data.formats.d3 import read_d3
from boxrl.data.formats.hf import read_hf
from boxrl.data.formats.labelme import read_labelme
from boxrl.data.formats.labelstudio import read_labelstudio
from boxrl.data.formats.lisa import read_lisa
from boxrl.data.formats.lvis import read_lvis
from boxrl.data.formats.odvg import read_odvg
from boxrl.data.formats.ovdeval import read_ovdeval
from boxrl.data.formats.reading import Reading
from boxrl.data.formats.refcoco import read_refcoco
from boxrl.data.formats.refgta import read_refgta
from boxrl.data.formats.rexomni import read_rexomni
from boxrl.data.formats.visdrone import read_visdrone
from boxrl.data.formats.vlmr1 import read_vlmr1
from boxrl.data.formats.voc import read_voc
from boxrl.data.formats.yolo import read_yolo

READERS: dict[str, Callable[..., Reading]] = {
    "coco": read_coco,
    "ovdeval": read_ovdeval,
    "d3": read_d3,
    "refcoco": read_refcoco,
    "refgta": read_refgta,
    "lisa": read_lisa,
    "clevr": read_clevr,
    "vlmr1": read_vlmr1,
    "yolo": read_yolo,
    "voc": read_voc,
    "lvis": read_lvis,
    "hf": read_hf,
    "chat": read_chat,
    "labelme": read_labelme,
    "labelstudio": read_labelstudio,
    "cvat": read_cvat,
    "csv": read_csv,
    "odvg": read_odvg,
    "rexomni": read_rexomni,
    "visdrone": read_visdrone,
}
"""Readers by the name of their format."""
