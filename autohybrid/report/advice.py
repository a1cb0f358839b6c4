"""What to run next: the very commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from autohybrid.plan import Plan
from autohybrid.report.rows import is_dry_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command for a shell, or a line of Python, and what it is for."""

    command: str
    purpose: str


def next_steps(plan: Plan, plan_file: str | None, *, in_browser: bool = False) -> list[Step]:
    """What this plan suggests to do, the most useful first.

    Args:
        plan_file: where the plan is; None when it wasn't written.
        in_browser: whether the reader looks at the page already.
    """
    script = shlex.join(plan.script.command) if plan.script else ""
    steps = []
    if is_dry_run(plan) and script:
        steps.append(Step(command=f"autohybrid profile {script}", purpose="tries what was only ranked"))
    if plan_file is None:
        return steps
    file = shlex.quote(plan_file)
    if plan.recommends_change and script:
        steps.append(Step(command=f"autohybrid run --plan {file} {script}", purpose="runs the script with this plan"))
    if plan.recommends_change:
        steps.append(
            Step(command=f"autohybrid.apply(model, plan={plan_file!r})", purpose="applies it in your own code")
        )
    if script and any(model.eager_threads is not None for model in plan.models):
        again = f"autohybrid profile --threads 1 --force -o {file} {script}"
        steps.append(Step(command=again, purpose="where a process on each core is to run it: no more threads each"))
    if not plan.complete and script:
        budget = f"{max(1.0, 2 * plan.settings.budget_seconds):.0f}"
        again = f"autohybrid profile --budget {budget} --force -o {file} {script}"
        steps.append(Step(command=again, purpose="searches on: the budget ended this search"))
    if in_browser:
        return steps
    page = shlex.quote(plan_file.removesuffix(".json") + ".html")
    steps.append(Step(command=f"autohybrid report {file} --format html -o {page}", purpose="shows it all in a browser"))
    return steps
