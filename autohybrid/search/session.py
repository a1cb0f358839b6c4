"""The main job after observation: a ``Profile`` becomes a ``Plan``."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import paddle

import autohybrid
from autohybrid import device, engines, plan
from autohybrid import isolation as isolated
from autohybrid.device import clock
from autohybrid.errors import SetupError
from autohybrid.isolation import Finished, Forked, InProcess, Isolation
from autohybrid.logs import LOGGER
from autohybrid.observe.profile import Profile, RootProfile
from autohybrid.runtime.fingerprint import fingerprint, structure_lines
from autohybrid.search.candidates import Candidate
from autohybrid.search.findings import Budget
from autohybrid.search.journal import Journal
from autohybrid.search.kept import Kept, conversions_kept
from autohybrid.search.options import Options
from autohybrid.search.progress import Progress, Step
from autohybrid.search.proofs import Proven
from autohybrid.search.prove import Prover
from autohybrid.search.rejections import Rejections
from autohybrid.search.search import Search
from autohybrid.search.tuning import Tuning
from autohybrid.sizes import counted


@dataclass(slots=True, kw_only=True)
class Session:
    """One search with what it needs; :meth:`make_plan` does it.

    Args:
        profile: what was observed.
        options: what the user wants.
        script: what was run, None for a callable.
        script_seconds: how long that took.
        journal: results of trials, of this run and of earlier ones.
        progress: told what is going on.
        isolation: where trials run; None finds out.
        rerun: where trials can't be isolated, try them in this process, which somebody watches and starts again.
        reproduces: whether to write scripts that show failures alone, into ``reproductions``, by file name.
        interrupted: set by Ctrl-C, or a request to terminate, while it worked: the plan says what was found until then.
    """

    profile: Profile
    options: Options
    script: plan.Script | None
    script_seconds: float
    journal: Journal = field(default_factory=Journal)
    progress: Progress = lambda _step: None
    isolation: Isolation | None = None
    rerun: bool = False
    reproduces: bool = True
    interrupted: bool = False
    reproductions: dict[str, str] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _saved: tuple[int, float] = (0, 0.0)

    def make_plan(self) -> plan.Plan:
        """Ranks, tries, chooses, confirms.

        Raises:
            SetupError: trials can't be isolated here.
            UsageError: an engine isn't known.
        """
        with conversions_kept() as kept:
            return self._plan_made(kept)

    def _plan_made(self, kept: Kept) -> plan.Plan:
        started = clock()
        budget = Budget(self.options.budget_for(self.script_seconds))
        memory = self.options.max_memory or device.available_memory() // 2
        isolation = self.isolation or self._isolation()
        search = Search(
            self.profile,
            self.options,
            isolation=isolation,
            budget=budget,
            memory=memory,
            journal=self.journal,
            progress=lambda step: self._tell(self._placed(step, search, budget)),
            kept=kept,
        )
        self._notes += _limits_of_threads(self.options)
        provers = [self._prover(root, search, isolation, budget, memory) for root in self.profile.roots]
        findings = search.rank()
        try:
            if not self.options.dry_run:
                findings = search.run(after_each=lambda: self._confirm_early(provers))
                search.lighten()
                self._tuned(search, isolation, budget, memory)
            models = self._models(search, provers)
            self._notes += search.choice.next_steps()
        except KeyboardInterrupt:
            # What was found until now is still worth a report.
            self.interrupted = True
            findings.complete = False
            self._notes.append(self._said_of_interruption(provers))
            models = self._models(search, provers)
        self._notes += [note for prover in provers for note in prover.notes]
        if self.journal.recalled:
            self._notes.append(self.journal.recalled)
        return plan.Plan(
            schema_version=plan.SCHEMA_VERSION,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            environment=environment(),
            script=self.script,
            settings=self._settings(isolation, budget),
            models=models,
            trials=findings.trials,
            search_seconds=clock() - started,
            complete=findings.complete,
            notes=[*self.profile.notes, *self._notes],
            whole_script=None,
        )

    def _tuned(self, search: Search, isolation: Isolation, budget: Budget, memory: int) -> None:
        """Improves what was found by what else the engines offer."""
        tuning = Tuning(
            search=search,
            machine=search.machine,
            isolation=isolation,
            budget=budget,
            memory=memory,
            journal=self.journal,
            progress=lambda step: self._tell(self._placed(step, search, budget)),
        )
        tuning.run()
        if tuning.races:
            self._notes.append(
                f"Options: {counted(tuning.races, 'race')} in {tuning.seconds:.0f} s, "
                f"{tuning.won} won against the defaults."
            )

    def _prover(self, root: RootProfile, search: Search, isolation: Isolation, budget: Budget, memory: int) -> Prover:
        return Prover(
            root=root,
            search=search,
            options=self.options,
            isolation=isolation,
            budget=budget,
            memory=memory,
            progress=lambda step: self._tell(self._placed(step, search, budget)),
        )

    def _tell(self, step: Step) -> None:
        LOGGER.info("%s", step)
        self.progress(step)

    def _placed(self, step: Step, search: Search, budget: Budget) -> Step:
        """The step with how far the search is."""
        number = search.findings.right_attempts
        if self._saved[0] != number:
            total = self.profile.seconds or 1.0
            saved = sum(
                root.seconds / total * sum(each.saving for each in search.chosen(root)) for root in self.profile.roots
            )
            self._saved = (number, saved)
        speedup = 1.0 / max(1e-3, 1.0 - self._saved[1])
        return replace(step, trials=search.findings.trials, spent=budget.spent, budget=budget.seconds, speedup=speedup)

    def _confirm_early(self, provers: Sequence[Prover]) -> None:
        limited = self.options.memory_budget is not None or self.options.convert_budget is not None
        if limited and len(provers) > 1:
            return  # sets of several roots, from several moments, might together exceed what they share
        for prover in provers:
            prover.confirm_early()

    def _said_of_interruption(self, provers: Sequence[Prover]) -> str:
        if any(prover.proofs.best(prover.root) for prover in provers):
            return "Interrupted: this is the best that had been confirmed until then."
        return "Interrupted before a choice was confirmed: nothing is recommended yet."

    def _models(self, search: Search, provers: Sequence[Prover]) -> list[plan.Model]:
        return [self._model(number, prover, search) for number, prover in enumerate(provers)]

    def _isolation(self) -> Isolation:
        if self.options.dry_run or self.options.isolation == "none":
            return InProcess()
        obstacle = "a GPU is in use" if device.on_gpu() else isolated.obstacle()
        if not obstacle:
            self._tell(Step(stage="checking", what="that trials can be isolated"))
            answer = Forked().run(_trivial_conversion, seconds=60.0, memory=device.available_memory())
            if isinstance(answer, Finished) and answer.value is True:
                return Forked()
            obstacle = f"a trivial conversion in a forked process failed: {answer}"
        if self.rerun:
            self._notes.append(f"Trials ran in the script's own process, started again after a crash: {obstacle}.")
            return InProcess()
        raise SetupError(
            f"Trials can't be isolated: {obstacle}.",
            "Try them in the script's own process: --rerun on the command line (the script runs again after a crash), "
            "isolation='none' from Python.",
        )

    def _settings(self, isolation: Isolation, budget: Budget) -> plan.Settings:
        return plan.Settings(
            engines=list(self.options.engines or engines.available()),
            rtol=self.options.rtol,
            atol=self.options.atol,
            min_gain=self.options.min_gain,
            budget_seconds=budget.seconds,
            isolation=isolation.name,
        )

    def _model(self, number: int, prover: Prover, search: Search) -> plan.Model:
        root = prover.root
        lines = structure_lines(root.layer)
        findings = search.findings
        proven = Proven(regions=[], confirmation=None, dropped={})
        if self.interrupted:
            proven = prover.proofs.best(root) or proven
        elif not self.options.dry_run:
            proven = prover.best()
            search.choice.settle(root, proven.attempts)
        candidates = [each for each in findings.candidates if each.root is root]
        rejected = Rejections(
            findings=findings,
            ends_of_chains=search.ends_of_chains,
            regions=proven.attempts,
            dropped=proven.dropped,
            options=self.options,
            root=root,
            script=self.script,
            reproductions=self.reproductions,
            reproduces=self.reproduces,
        )
        return plan.Model(
            id=f"{root.class_name}-{number + 1}",
            class_name=root.class_name,
            functions=sorted({kept.function for kept in root.kept}),
            places=list(root.places),
            fingerprint=fingerprint(lines),
            structure=lines,
            calls=root.calls,
            training_calls=root.training_calls,
            seconds_per_call=root.seconds / root.calls,
            share=min(1.0, root.seconds / (self.profile.seconds or 1.0)),
            ranking=[_ranked(candidate) for candidate in sorted(candidates, key=lambda c: -c.share)],
            regions=proven.regions,
            rejected=rejected.rows(candidates),
            confirmation=proven.confirmation,
            eager_threads=None if self.interrupted else prover.eager_with_threads_of(proven.regions),
        )


def _limits_of_threads(options: Options) -> list[str]:
    """That the user's own number keeps conversions from cores that are there, in a sentence, or nothing."""
    told = device.math_threads_told()
    most = device.cores_granted() if options.threads == "auto" else min(options.threads, device.cores_granted())
    if told is None or told >= most or options.dry_run or device.on_gpu():
        return []
    return [
        f"{device.MATH_THREADS}={told} was set, so no more threads than that were tried; this process may use "
        f"{counted(device.cores_granted(), 'core')}."
    ]


def _trivial_conversion() -> bool:
    """Whether a forked child can trace, convert and run anything at all."""
    layer = paddle.nn.Linear(4, 4)
    layer.eval()
    static = paddle.jit.to_static(layer, input_spec=[paddle.static.InputSpec([1, 4], "float32")], full_graph=True)
    with paddle.no_grad():
        answer = static(paddle.ones([1, 4]))
    return bool(paddle.isfinite(answer).all())


def environment() -> plan.Environment:
    """Where this process runs."""
    return plan.Environment(
        autohybrid=autohybrid.__version__,
        paddle=paddle.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=str(paddle.device.get_device()),
        processor=device.cpu_model(),
        cores=device.usable_cores(),
        math_threads=device.math_threads(),
    )


def _ranked(candidate: Candidate) -> plan.RankedLayer:
    timed = candidate.timed
    ceiling = candidate.ceiling
    return plan.RankedLayer(
        path=candidate.path,
        function=candidate.function,
        members=list(candidate.member_paths),
        class_name=candidate.class_name,
        aliases=list(timed.aliases),
        calls=timed.calls,
        inclusive_seconds=timed.inclusive,
        self_seconds=timed.own,
        share=candidate.share,
        ceiling=None if ceiling == float("inf") else ceiling,
        looks=candidate.looks,
        source=candidate.source,
        called_in=sorted(plan.spot_name(*spot) for spot in candidate.called_in),
    )
