"""One self-contained page that shows what a study found, and how far to trust it."""

from cotrain.report.page import write_front_report, write_report

__all__ = ["write_front_report", "write_report"]
