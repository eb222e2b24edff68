"""Remembered shapes are those that torch finds."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.training import shapes  # noqa: E402
from boxrl.engines.training.shapes import mapped, run_on_meta, tensors_of  # noqa: E402

aten = torch.ops.aten


def empty(*size: int, dtype: Any = torch.float32) -> Any:
    return torch.empty(size, dtype=dtype, device="meta")


def told(out: Any) -> Any:
    return [(x.shape, x.stride(), x.dtype, x.device.type) for x in tensors_of(out)], type(out)


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_found", {})


CALLS = [
    (aten.mm.default, (empty(3, 4), empty(4, 5))),
    (aten.mm.default, (empty(3, 4), empty(5, 4).t())),
    (aten.add.Tensor, (empty(3, 4).t(), empty(4, 3))),  # keeps the order of strides
    (aten.add.Tensor, (empty(3), empty(3, dtype=torch.float16))),
    (aten.add.Tensor, (empty(3, dtype=torch.int64), 1)),
    (aten.add.Tensor, (empty(3, dtype=torch.int64), 1.0)),
    (aten.cat.default, ([empty(2, 3), empty(4, 3)],)),
    (aten.native_layer_norm.default, (empty(2, 3), [3], empty(3), empty(3), 1e-6)),
]


def test_the_second_result_is_like_the_first() -> None:
    for _ in range(2):
        for func, args in CALLS:
            assert told(run_on_meta(func, args, {})) == told(func(*args)), func
    assert len(shapes._found) == len(CALLS)


def test_results_are_made_anew() -> None:
    one, other = (run_on_meta(aten.neg.default, (empty(3),), {}) for _ in range(2))
    assert one.untyped_storage()._cdata != other.untyped_storage()._cdata


def test_views_and_writes_stay_what_they_are() -> None:
    source = empty(3, 4)
    view = run_on_meta(aten.transpose.int, (source, 0, 1), {})
    assert view.untyped_storage()._cdata == source.untyped_storage()._cdata
    assert run_on_meta(aten.zero_.default, (source,), {}) is source
    assert not shapes._found


def test_trees_keep_their_shape() -> None:
    tree = {"a": [empty(1), 2], "b": (empty(3), None)}
    assert [x.shape[0] for x in tensors_of(tree)] == [1, 3]
    assert mapped(len, tree) == {"a": [1, 2], "b": (3, None)}
