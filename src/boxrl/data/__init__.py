"""Samples and predictions on disk, their formats, subsets, lint and synthetic scenes."""
