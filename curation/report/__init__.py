"""The report: one self-contained HTML page that shows what a dataset holds, what was left out, and why."""

from curation.report.page import write_report

__all__ = ["write_report"]
