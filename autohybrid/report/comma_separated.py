"""All that was tried, for a spreadsheet: plain values, times in seconds, shares as fractions."""

from __future__ import annotations

import csv
import io

from autohybrid.plan import Plan
from autohybrid.report import columns, rows
from autohybrid.report.columns import filled


def render(plan: Plan) -> str:
    """One line for each region and each rejection that the other reports list, under a header; RFC 4180."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(["model", *(column.key for column in columns.ATTEMPT)])
    for model in plan.models:
        for values in filled(columns.ATTEMPT, rows.attempt_rows(model)).values:
            writer.writerow([model.id, *("" if value is None else value for value in values)])
    return written.getvalue().removesuffix("\r\n")
