"""Plans made by hand, and by Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from autohybrid import plan

ENVIRONMENT = plan.Environment(
    autohybrid="0.1.0",
    paddle="3.3.1",
    python="3.11.0",
    platform="Linux x86_64",
    device="cpu",
    processor="a processor",
    cores=2,
    math_threads=1,
)
SETTINGS = plan.Settings(
    engines=["incubate"], rtol=1e-3, atol=1e-5, min_gain=1.05, budget_seconds=30.0, isolation="fork"
)
EQUALITY = plan.Equality(error=1e-6, limit=1e-3, noise=0.0, scale=1.0, inputs_compared=2)
SAMPLES = plan.Samples(eager=[2e-3] * 12, hybrid=[1e-3] * 12)


def region(path: str, inputs: Any, **changes: Any) -> plan.Region:
    """A region at ``path`` that is converted for the one argument structure ``inputs``."""
    fields: dict[str, Any] = {
        "kind": "layer",
        "function": "forward",
        "members": [],
        "code": "",
        "source": None,
        "path": path,
        "aliases": [],
        "class_name": "Block",
        "source_hash": "",
        "engine": "incubate",
        "options": {},
        "inputs": [inputs],
        "outputs": None,
        "training_mode": "eager",
        "share": 0.5,
        "calls": 1.0,
        "measured_on": path,
        "equality": EQUALITY,
        "samples": SAMPLES,
        "conversion_seconds": 0.1,
        "extra_memory": 0,
    }
    return plan.Region(**{**fields, **changes})


def model(regions: list[plan.Region], **changes: Any) -> plan.Model:
    """A plan's entry for one model, by default of a structure that has the regions' paths."""
    fields: dict[str, Any] = {
        "id": "Block-1",
        "class_name": "Block",
        "functions": ["forward"],
        "places": [plan.Place(file="infer.py", line=3, function="main")],
        "fingerprint": "0" * 32,
        "structure": [". Block", *(f"{each.path} Block" for each in regions if each.path)],
        "calls": 10,
        "training_calls": 0,
        "seconds_per_call": 4e-3,
        "share": 1.0,
        "ranking": [],
        "regions": regions,
        "rejected": [],
        "confirmation": plan.Confirmation(processes=[SAMPLES, SAMPLES], equality=EQUALITY, min_gain=1.05),
        "eager_threads": None,
    }
    return plan.Model(**{**fields, **changes})


def whole(models: list[plan.Model], **changes: Any) -> plan.Plan:
    """A whole plan."""
    fields: dict[str, Any] = {
        "schema_version": plan.SCHEMA_VERSION,
        "created": "2026-01-01T00:00:00+00:00",
        "environment": ENVIRONMENT,
        "script": plan.Script(command=["infer.py"], seconds=1.0, exit_code=0),
        "settings": SETTINGS,
        "models": models,
        "trials": 1,
        "search_seconds": 2.0,
        "complete": True,
        "notes": [],
        "whole_script": None,
    }
    return plan.Plan(**{**fields, **changes})


def example() -> plan.Plan:
    """A small plan with one region and one rejection."""
    return whole(
        [
            model(
                [region("body", {"tuple": [{"tensor": {"index": 0, "dtype": "float32", "shape": ["dyn", 4]}}]})],
                rejected=[rejected("head", "wrong")],
                ranking=[ranked("")],
            )
        ]
    )


def rejected(path: str, reason: str, **changes: Any) -> plan.Rejected:
    """A rejection of the Layer at ``path``."""
    fields: dict[str, Any] = {
        "path": path,
        "function": "forward",
        "members": [],
        "class_name": "Block",
        "reason": reason,
        "detail": "answers differ",
        "hint": "",
        "share": 0.25,
        "source": plan.Place(file="/src/model.py", line=7, function="Block.forward"),
        "engine": "incubate",
        "options": {},
        "evidence": "largest error 1",
        "reproduce": "",
    }
    return plan.Rejected(**{**fields, **changes})


def ranked(path: str, **changes: Any) -> plan.RankedLayer:
    """A row of the ranking."""
    fields: dict[str, Any] = {
        "path": path,
        "function": "forward",
        "members": [],
        "class_name": "Block",
        "aliases": [],
        "calls": 1.0,
        "inclusive_seconds": 0.04,
        "self_seconds": 0.01,
        "share": 1.0,
        "ceiling": None,
        "looks": "clean",
        "source": None,
    }
    return plan.RankedLayer(**{**fields, **changes})


TEXTS = st.text(max_size=6)
SECONDS = st.floats(0.0, 1e6)
SHARES = st.floats(0.0, 1.0)
COUNTS = st.integers(0, 2**53)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OPTIONS = st.dictionaries(TEXTS, JSON_VALUES, max_size=2)
PLACES = st.builds(plan.Place, file=TEXTS, line=COUNTS, function=TEXTS)
EQUALITIES = st.builds(
    plan.Equality, error=NUMBERS, limit=NUMBERS, noise=NUMBERS, scale=NUMBERS, inputs_compared=COUNTS
)
SAMPLE_LISTS = st.lists(SECONDS, max_size=4)
SAMPLES_MADE = st.builds(plan.Samples, eager=SAMPLE_LISTS, hybrid=SAMPLE_LISTS)
PAIRS_OF_SECONDS = st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=1, max_size=4)
WHOLE_SCRIPTS = PAIRS_OF_SECONDS.map(
    lambda pairs: plan.Samples(eager=[pair[0] for pair in pairs], hybrid=[pair[1] for pair in pairs])
)
PATHS = st.sampled_from(["", "a", "a.b", "blocks.0"])
REGIONS = st.builds(
    plan.Region,
    kind=st.sampled_from(["layer", "method", "chain"]),
    path=PATHS,
    function=TEXTS,
    members=st.lists(TEXTS, max_size=2),
    code=TEXTS,
    source=st.none() | PLACES,
    aliases=st.lists(TEXTS, max_size=2),
    class_name=TEXTS,
    source_hash=TEXTS,
    engine=TEXTS,
    options=OPTIONS,
    inputs=st.lists(JSON_VALUES, max_size=2),
    outputs=JSON_VALUES,
    training_mode=st.sampled_from(["same", "eager"]),
    share=SHARES,
    calls=NUMBERS,
    measured_on=TEXTS,
    equality=EQUALITIES,
    samples=SAMPLES_MADE,
    conversion_seconds=SECONDS,
    extra_memory=COUNTS,
)
REJECTIONS = st.builds(
    plan.Rejected,
    path=TEXTS,
    function=TEXTS,
    members=st.lists(TEXTS, max_size=2),
    class_name=TEXTS,
    reason=TEXTS,
    detail=TEXTS,
    hint=TEXTS,
    share=SHARES,
    source=st.none() | PLACES,
    engine=TEXTS,
    options=OPTIONS,
    evidence=TEXTS,
    reproduce=TEXTS,
)
RANKED = st.builds(
    plan.RankedLayer,
    path=TEXTS,
    function=TEXTS,
    members=st.lists(TEXTS, max_size=2),
    class_name=TEXTS,
    aliases=st.lists(TEXTS, max_size=2),
    calls=NUMBERS,
    inclusive_seconds=SECONDS,
    self_seconds=SECONDS,
    share=SHARES,
    ceiling=st.none() | NUMBERS,
    looks=TEXTS,
    source=st.none() | PLACES,
)
CONFIRMATIONS = st.builds(
    plan.Confirmation, processes=st.lists(SAMPLES_MADE, max_size=2), equality=EQUALITIES, min_gain=NUMBERS
)
EAGER_THREADS = st.builds(plan.EagerThreads, threads=COUNTS, set_by=TEXTS, samples=SAMPLES_MADE)
MODELS = st.builds(
    plan.Model,
    id=TEXTS,
    class_name=TEXTS,
    functions=st.lists(TEXTS, max_size=2),
    places=st.lists(PLACES, max_size=2),
    fingerprint=TEXTS,
    structure=st.just([". Root", "a A", "a.b B weight:float32[2]", "blocks.0 Block"]),
    calls=COUNTS,
    training_calls=COUNTS,
    seconds_per_call=SECONDS,
    share=SHARES,
    ranking=st.lists(RANKED, max_size=2),
    regions=st.lists(REGIONS, max_size=2),
    rejected=st.lists(REJECTIONS, max_size=2),
    confirmation=st.none() | CONFIRMATIONS,
    eager_threads=st.none() | EAGER_THREADS,
)
PLANS = st.builds(
    plan.Plan,
    schema_version=st.just(plan.SCHEMA_VERSION),
    created=TEXTS,
    environment=st.builds(
        plan.Environment,
        autohybrid=TEXTS,
        paddle=TEXTS,
        python=TEXTS,
        platform=TEXTS,
        device=TEXTS,
        processor=TEXTS,
        cores=COUNTS,
        math_threads=COUNTS,
    ),
    script=st.none()
    | st.builds(plan.Script, command=st.lists(TEXTS, max_size=3), seconds=SECONDS, exit_code=st.integers(0, 255)),
    settings=st.builds(
        plan.Settings,
        engines=st.lists(TEXTS, max_size=2),
        rtol=NUMBERS,
        atol=NUMBERS,
        min_gain=NUMBERS,
        budget_seconds=NUMBERS,
        isolation=TEXTS,
    ),
    models=st.lists(MODELS, max_size=2),
    trials=COUNTS,
    search_seconds=SECONDS,
    complete=st.booleans(),
    notes=st.lists(TEXTS, max_size=2),
    whole_script=st.none() | WHOLE_SCRIPTS,
)
