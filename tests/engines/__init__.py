"""A torchvision for another torch takes transformers down with it; boxrl repairs it first."""

from __future__ import annotations

from importlib.util import find_spec

from boxrl.engines.torchvision_repair import repair_torchvision

if find_spec("torch"):
    repair_torchvision()
