"""The colour of each kind of box on an image."""

from boxrl.metrics.box_errors import BoxKind

COLOURS: dict[BoxKind, str] = {
    "right": "#4fe0ae",
    "classification": "#d6a6ff",
    "localization": "#9cc4ff",
    "both": "#8fd0e0",
    "duplicate": "#ffb752",
    "background": "#ff85ad",
    "crowd": "#c9cbce",
    "no_category": "#e3c7a8",
}
"""Dark text is readable on all of them."""
