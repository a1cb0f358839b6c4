"""Plans of real profiles, with the reports of them that were looked at; ``tools/record_plans.py`` renews both."""

from __future__ import annotations

from pathlib import Path

from autohybrid import plan
from autohybrid.exports.code import export
from autohybrid.report import comma_separated, markdown, table

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "recorded"

NAMES = sorted(file.stem for file in RECORDED.glob("*.json"))


def recorded(name: str) -> plan.Plan:
    """The plan of that name."""
    return plan.load(RECORDED / f"{name}.json")


def at_home(made: plan.Plan) -> plan.Plan:
    """The plan with the source files of this repository where they are."""
    text = plan.dump(made).decode()
    for folder in ("tests", "profiles"):
        text = text.replace(f'"/{folder}/', f'"{ROOT}/{folder}/')
    return plan.parse(text)


def reports(made: plan.Plan) -> dict[str, str]:
    """The reports that are kept as snapshots, by the ends of their files' names."""
    return {
        "80.txt": table.render(made),
        "160.txt": table.render(made, width=160),
        "md": markdown.render(made),
        "csv": comma_separated.render(made),
        "export.txt": export(at_home(made)).removesuffix("\n"),
    }
