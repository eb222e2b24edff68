"""The embedded tiny VLM: real Qwen2.5-VL architecture, trained on synthetic scenes."""

from boxrl.engines.torchvision_repair import repair_torchvision

repair_torchvision()
