"""Run folders to pages that one can send to a colleague."""

from boxrl.report.page import build_report

__all__ = ["build_report"]
