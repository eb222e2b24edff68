"""What the phantom GPU counts, and what it refuses as CUDA does."""

from __future__ import annotations

import copy
import gc
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from . import guard  # noqa: E402
from .gpu import GIB, phantom_gpu  # noqa: E402
from .tensor import Phantom  # noqa: E402

MIB = 2**20


def test_there_is_no_gpu_outside_the_block() -> None:
    assert not torch.cuda.is_available() and not torch.accelerator.is_available()
    with phantom_gpu(devices=2, memory=24 * GIB):
        assert torch.cuda.is_available() and torch.accelerator.is_available()
        assert torch.cuda.device_count() == 2
        assert torch.cuda.mem_get_info() == (24 * GIB, 24 * GIB)
    assert not torch.cuda.is_available() and not torch.accelerator.is_available()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.ones(1, device="cuda")


def test_devices_do_not_mix() -> None:
    with phantom_gpu(devices=2):
        one, other = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
        for operand in (other, torch.ones(3)):
            with pytest.raises(RuntimeError, match="to be on the same device"):
                one + operand
        assert (one + torch.tensor(2.0)).tolist() == [3] * 3  # CUDA takes numbers of the host
        assert one[torch.tensor([0, 2])].tolist() == [1, 1]  # and indices
        assert (one + other.to(one.device)).device.index == 0
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            one.numpy()


def test_the_current_device_takes_what_names_no_index() -> None:
    with phantom_gpu(devices=3) as gpu:
        torch.cuda.set_device(2)
        assert torch.ones(1, device="cuda").device.index == 2
        with torch.cuda.device(1):
            assert gpu.device_index_of(torch.nn.Linear(2, 2).to("cuda")) == 1
        assert torch.cuda.current_device() == torch.accelerator.current_device_index() == 2
        assert torch.tensor([1, 2], device="cuda:0").device.index == 0


def test_memory_is_counted_while_a_tensor_lives() -> None:
    with phantom_gpu(devices=2, floats="hollow") as gpu:
        first = torch.empty(MIB, device="cuda:1")
        view = first[10:].view(2, -1)  # takes none
        second = first * 2
        assert (gpu.held(0), gpu.held(1), gpu.peak_bytes) == (0, 8 * MIB, 8 * MIB)
        del first, second
        gc.collect()
        assert gpu.bytes == 4 * MIB  # the view holds it
        del view
        gc.collect()
        assert (gpu.bytes, gpu.peak(1)) == (0, 8 * MIB)
        gpu.reset()
        assert gpu.peak_bytes == 0


def test_activations_are_held_for_the_backward_pass() -> None:
    layers = torch.nn.Sequential(*[torch.nn.Linear(256, 256, bias=False) for _ in range(4)])
    with phantom_gpu(floats="hollow") as gpu:
        layers.to("cuda")
        inputs = torch.empty(1024, 256, device="cuda")
        with torch.no_grad():
            gpu.reset()
            layers(inputs)
            without = gpu.peak_bytes
        gpu.reset()
        layers(inputs).sum().backward()
        # Without gradients two of the four outputs are alive at a time; with them, every input.
        assert gpu.peak_bytes - without >= 2 * MIB
        assert all(p.grad.device.index == 0 for p in layers.parameters())


def test_a_device_that_is_full_says_so_as_cuda_does() -> None:
    with phantom_gpu(memory=GIB, floats="hollow"):
        held = torch.empty(GIB // 6, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory\. .* 1\.00 GiB"):
            held * held


def test_kernels_syncs_and_uploads_are_counted_by_line() -> None:
    with phantom_gpu() as gpu:
        numbers = torch.arange(6).to("cuda")
        square = (numbers.view(2, 3) * 2).sum()
        assert (gpu.kernels, sum(gpu.uploads.values()), sum(gpu.syncs.values())) == (3, 1, 0)
        assert square.item() == 30 and numbers[numbers > 3].tolist() == [4, 5]
        assert sum(gpu.syncs.values()) == 3  # the number, the length of the selection, the list
        assert all(line.startswith("phantom/test_gpu.py:") for line in gpu.syncs)


def test_hollow_numbers_are_guessed_where_the_host_reads_them() -> None:
    with phantom_gpu(floats="hollow") as gpu:
        assert torch.ones(3, device="cuda").sum().item() == 0.5
        assert sum(gpu.guesses.values()) == 1
        assert torch.ones(3, dtype=torch.long, device="cuda").tolist() == [1, 1, 1]


def test_autocast_and_checkpointing_work() -> None:
    layer = torch.nn.Linear(4, 4)
    inputs = torch.randn(2, 4)
    with phantom_gpu():
        layer.to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            out = torch.utils.checkpoint.checkpoint(layer, inputs.to("cuda"), use_reentrant=False)
        assert out.dtype == torch.bfloat16
        out.sum().backward()
        assert layer.weight.grad.dtype == torch.float32


def test_parameters_stay_themselves_when_they_move_are_cast_and_copied() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.tied = layer.weight
    weight, before = layer.weight, layer.weight.detach().clone()
    with phantom_gpu():
        layer.to("cuda")
        assert layer.weight is weight is layer.tied and isinstance(weight, torch.nn.Parameter)
        layer.weight.data = layer.weight.data.to(torch.float64)
        assert (layer.weight + 1).dtype == torch.float64
        twin = copy.deepcopy(layer)
        assert twin.weight is twin.tied is not weight and isinstance(twin.weight, Phantom)
        assert isinstance(twin.weight, torch.nn.Parameter)
        saved = io.BytesIO()
        torch.save(layer.state_dict(), saved)
        saved.seek(0)
        assert torch.load(saved, map_location="cuda:0")["weight"].device.index == 0
        layer.to("cpu")
        assert layer.weight is weight is layer.tied and torch.equal(weight.float(), before)
    saved.seek(0)
    assert torch.equal(torch.load(saved)["weight"].float(), before)


def test_without_a_compiler_the_reason_is_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(guard, "library", None)
    assert "torch was imported before" in (guard.load() or "")
    call = f"from tests.phantom import guard; print(guard.load(guard.Path({str(tmp_path)!r})))"
    done = subprocess.run(
        [sys.executable, "-c", call], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout == "needs a C++ compiler, one of c++, g++, clang++; none is on PATH\n"
