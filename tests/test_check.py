"""A plan measured again: ``bench`` and ``check``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import paddle
import plans
import pytest
from commands import autohybrid

import autohybrid as ah
from autohybrid import plan
from autohybrid.plan.measurement import Measurement, ModelMeasured, ScriptMeasured
from autohybrid.report import measurement as shown
from autohybrid.report.measurement import Checked, gates

FASTER = plan.Samples(eager=[2.0] * 12, hybrid=[1.0] * 12)
SLOWER = plan.Samples(eager=[1.0] * 12, hybrid=[2.0] * 12)
FEW = plan.Samples(eager=[2.0] * 3, hybrid=[1.0] * 3)


def _measured(samples: plan.Samples | None, script: plan.Samples | None = None, **changes: object) -> Measurement:
    proof = samples and plan.Confirmation(processes=[samples], equality=plans.EQUALITY, min_gain=1.05)
    fields = {
        "id": "Net-1",
        "regions": 1,
        "calls": 10,
        "called": True,
        "confirmation": proof,
        "problem": "" if proof else "it wasn't called",
        "differs": False,
        "changed": [],
        "conversion_seconds": 3.0,
        **changes,
    }
    return Measurement(
        min_gain=1.05,
        environment=plans.ENVIRONMENT,
        models=[msgspec.convert(fields, ModelMeasured)] if fields.pop("some", True) else [],
        script=ScriptMeasured(warm=script, cold=script),
        notes=[],
    )


def _fell(found: Measurement, objective: str = "steady", least: float = 1.05) -> list[str]:
    checked = Checked(gates=gates(found, min_speedup=least, objective=objective), measurement=found)
    assert checked.passed == (bool(checked.gates) and not [gate for gate in checked.gates if not gate.holds])
    return [gate.name for gate in checked.gates if not gate.holds]


def test_what_is_faster_and_equal_passes() -> None:
    assert _fell(_measured(FASTER)) == []
    assert _fell(_measured(FASTER, FASTER), "script") == []


def test_each_gate_falls() -> None:
    assert _fell(_measured(SLOWER)) == ["faster"]
    assert _fell(_measured(FASTER), least=3.0) == ["faster"]
    assert _fell(_measured(None, differs=True)) == ["equal"]
    assert _fell(_measured(None)) == ["applies"]


def test_what_is_unclear_or_not_measured_does_not_pass() -> None:
    assert _fell(_measured(FEW)) == ["faster"]
    assert "(inconclusive)" in str(gates(_measured(FEW), min_speedup=1.05, objective="steady")[-1])
    assert _fell(_measured(FASTER), "script") == ["faster"]
    assert _fell(_measured(FASTER, FEW), "script") == ["faster"]


def test_no_error_is_claimed_where_the_root_could_not_be_compared() -> None:
    unlike = msgspec.structs.replace(plans.EQUALITY, error=0.0, inputs_compared=0)
    proof = plan.Confirmation(processes=[FASTER], equality=unlike, min_gain=1.05)
    equal = gates(_measured(FASTER, confirmation=proof), min_speedup=1.05, objective="steady")[1]
    assert equal.holds
    assert equal.detail == "its regions are; it answers otherwise each time, in eager too"


def test_a_plan_without_regions_does_not_pass() -> None:
    found = msgspec.structs.replace(_measured(FASTER), models=[])
    assert not Checked(gates=gates(found, min_speedup=1.0, objective="steady"), measurement=found).passed


def test_each_objective_gates_its_own_verdict() -> None:
    assert _fell(_measured(FASTER, SLOWER)) == []
    assert _fell(_measured(FASTER, SLOWER), "script") == ["faster"]


def test_the_two_verdicts_are_in_every_format() -> None:
    found = _measured(FASTER, SLOWER, changed=["body"])
    for text in (shown.as_table(found), shown.as_markdown(found)):
        flat = " ".join(text.split())
        assert "Steady, Net-1: faster, 2.00x" in flat
        assert "pays after 4 calls, this script makes 10" in flat
        assert "This script, warm (conversions from the store): slower, 0.50x" in flat
        assert "the source of body has changed" in flat
    assert all(len(line) <= 80 for line in shown.as_table(found).splitlines())
    content = json.loads(shown.as_json(found))
    assert content["models"][0]["derived"]["verdict"] == "faster"
    assert content["script"]["cold"]["derived"]["verdict"] == "slower"
    assert [row["verdict"] for row in csv.DictReader(io.StringIO(shown.as_csv(found)))] == [
        "", "faster", "", "slower", "", "slower"
    ]  # fmt: skip


class _Net(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        parts = [(paddle.nn.Conv2D(8, 8, 3, padding=1), paddle.nn.BatchNorm2D(8), paddle.nn.ReLU()) for _ in range(8)]
        self.blocks = paddle.nn.Sequential(*[layer for part in parts for layer in part])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.blocks(x)


@pytest.fixture(scope="module")
def made() -> tuple[_Net, paddle.Tensor, plan.Plan]:
    net, x = _Net(), paddle.rand([1, 8, 16, 16])
    net.eval()
    return net, x, ah.profile(net, x, options=ah.Options(budget=60.0, engines=("predictor",)))


def test_a_real_plan_passes_and_a_worse_one_does_not(made: tuple[_Net, paddle.Tensor, plan.Plan]) -> None:
    net, x, good = made
    assert good.recommends_change
    passed = ah.check(net, x, plan=good)
    assert passed.passed, str(passed)
    model = good.models[0]
    blocks = [
        msgspec.structs.replace(model.regions[0], path=f"blocks.{number}", class_name="Layer", kind="layer")
        for number in range(24)
    ]
    worse = msgspec.structs.replace(good, models=[msgspec.structs.replace(model, regions=blocks)])
    found = ah.check(net, x, plan=worse)
    assert not found.passed
    assert [gate.name for gate in found.gates if not gate.holds] in (["faster"], ["applies"])
    assert found.measurement.models[0].changed == [each.path for each in blocks]


def test_a_plan_of_another_structure_does_not_apply(made: tuple[_Net, paddle.Tensor, plan.Plan]) -> None:
    other = paddle.nn.Linear(16, 4)
    other.eval()
    found = ah.check(other, made[1], plan=made[2])
    assert [(gate.name, gate.holds) for gate in found.gates] == [("applies", False)]


SCRIPT = "import paddle\nnet = paddle.nn.Linear(4, 4)\nnet.eval()\nnet(paddle.ones([1, 4]))\n"


@pytest.mark.parametrize("command", ["bench", "check"])
@pytest.mark.parametrize(
    ("content", "script", "code", "said"),
    [
        (None, SCRIPT, 4, "plan.json"),
        ("{", SCRIPT, 4, "plan.json"),
        ('{"schema_version": 99}', SCRIPT, 4, "99"),
        ("good", "raise SystemExit(7)", 3, "exit code 7"),
        ("good", "print('nothing')", 3, "No Layer was called"),
        ("good", None, 2, "There is no script"),
    ],
)
def test_bad_input_is_told(
    command: str, content: str | None, script: str | None, code: int, said: str, tmp_path: Path
) -> None:
    if content == "good":
        plan.save(plans.example(), tmp_path / "plan.json")
    elif content is not None:
        (tmp_path / "plan.json").write_text(content)
    if script is not None:
        (tmp_path / "infer.py").write_text(script)
    found = autohybrid(command, "--plan", "plan.json", "infer.py", cwd=tmp_path)
    assert found.code == code, found.err
    assert said in found.err
    assert "Traceback" not in found.err


def test_a_plan_of_another_model_is_an_error_of_bench_and_a_gate_of_check(tmp_path: Path) -> None:
    plan.save(plans.example(), tmp_path / "plan.json")
    (tmp_path / "infer.py").write_text("open('runs', 'a').write('.')\n" + SCRIPT)
    bench = autohybrid("bench", "--plan", "plan.json", "--rerun", "infer.py", cwd=tmp_path)
    assert (bench.code, bench.out) == (4, "")
    assert (tmp_path / "runs").read_text() == ".", "not run again to be measured as a whole"
    check = autohybrid("check", "--plan", "plan.json", "infer.py", cwd=tmp_path)
    assert check.code == 1
    assert "FAILED  applies  Block-1: it wasn't called; called were: Linear" in check.out
    assert "The environment isn't the plan's" in check.err


def test_bench_overwrites_nothing(tmp_path: Path) -> None:
    plan.save(plans.example(), tmp_path / "plan.json")
    (tmp_path / "infer.py").write_text(SCRIPT)
    before = (tmp_path / "plan.json").read_bytes()
    assert autohybrid("bench", "-o", "plan.json", "infer.py", cwd=tmp_path).code == 2
    assert (tmp_path / "plan.json").read_bytes() == before


def test_a_plan_without_regions_is_a_sentence_too() -> None:
    nothing = msgspec.structs.replace(_measured(FASTER), models=[], script=None)
    for text in (shown.as_table(nothing), shown.as_markdown(nothing), shown.as_html(nothing)):
        assert "Nothing was measured: the plan has no region." in text
