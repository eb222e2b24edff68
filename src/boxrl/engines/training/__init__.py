"""Trainers, checkpoints, memory and launches around TRL."""

from boxrl.engines.torchvision_repair import repair_torchvision

repair_torchvision()
