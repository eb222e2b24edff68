"""The only room that imports torch: models, generation, SFT, GRPO, the embedded tiny VLM."""

from importlib.util import find_spec

from boxrl.engines.torchvision_repair import repair_torchvision

# Before anything here imports transformers, which a broken torchvision takes down with it.
HAS_TORCHVISION = find_spec("torch") is not None and repair_torchvision()
