"""Verbs."""

from __future__ import annotations

from typing import Any


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
