"""The prompt run once per group: caches, attention, packed rows."""

from boxrl.engines.torchvision_repair import repair_torchvision

repair_torchvision()
