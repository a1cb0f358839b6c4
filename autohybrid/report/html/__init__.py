"""The plan as one HTML file that opens anywhere, without a network."""

from autohybrid.report.html.page import render

__all__ = ["render"]
