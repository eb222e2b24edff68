"""Samples and predictions on disk, readers of published formats, synthetic scenes."""
