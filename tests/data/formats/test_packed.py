"""Annotations packed by gzip are read as they are unpacked; damage and bombs are one line."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from boxrl.data.files import MAX_LINE_BYTES, read_lines
from boxrl.data.formats import READERS
from boxrl.errors import DataError
from boxrl.types import Sample
from tests.support.archives import rows_of

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"


def packed(path: Path, folder: Path) -> Path:
    out = folder / f"{path.name}.gz"
    out.write_bytes(gzip.compress(path.read_bytes()))
    return out


@pytest.mark.parametrize(
    ("file", "reader", "options"),
    [
        ("ms_swift_v2/rows.jsonl", "chat", {"family": "qwen2.5-vl"}),
        ("qwen_finetune/rows.json", "chat", {"family": "qwen2-vl"}),
        ("odvg/train.jsonl", "odvg", {}),
        ("mdetr/final_mixed_train.json", "odvg", {}),
        ("label_studio/export.json", "labelstudio", {}),
    ],
)
def test_packed_files_give_the_same_samples(tmp_path: Path, file: str, reader: str, options):
    source = GOLDEN / file
    for beside in source.parent.glob("label_map.json"):
        shutil.copy(beside, tmp_path)
    plain = rows_of(READERS[reader](source, GOLDEN, **options))
    assert plain and all(isinstance(row, Sample) for row in plain)
    assert plain == rows_of(READERS[reader](packed(source, tmp_path), GOLDEN, **options))


def test_a_cut_or_endless_file_is_one_line(tmp_path: Path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    with pytest.raises(DataError, match=r"rows.jsonl.gz:1: a gzip file that cannot be read"):
        list(read_lines(path))
    path.write_bytes(gzip.compress(b"0" * 63 * 2**20 + b"\n" + b"0" * (MAX_LINE_BYTES - 1)))
    with pytest.raises(DataError, match="unpacks to too much"):
        list(read_lines(path))
