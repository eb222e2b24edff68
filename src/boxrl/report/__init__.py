"""Run folders to pages that one can send to a colleague."""

from boxrl.report.build import build_comparison, build_report

__all__ = ["build_comparison", "build_report"]
