"""A plan as plain code: what it says, that it is tidy, and that it answers as eager does without autohybrid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import plans
import pytest
from commands import SCRIPTS, autohybrid
from exported import compared
from hypothesis import given
from hypothesis import strategies as st
from recordings import NAMES, RECORDED, ROOT, at_home, recorded

import autohybrid as ah
from autohybrid import plan
from autohybrid.exports.calls import NotInCode, answer_of, arguments_of
from autohybrid.exports.code import exported
from autohybrid.exports.options import wrapping_of
from autohybrid.exports.source import foreign_names, stretch_at

X = {"tensor": {"index": 0, "dtype": "float32", "shape": [2, "dyn"]}}
ONE = {"tuple": [{"tuple": [X]}, {"dict": {}}]}


def call_of(*args: Any, **kwargs: Any) -> Any:
    """The structure of a call."""
    return {"tuple": [{"tuple": list(args)}, {"dict": kwargs}]}


@pytest.mark.parametrize("name", NAMES)
def test_the_code_for_a_real_plan_is_as_it_was_looked_at(name: str) -> None:
    snapshot = (RECORDED / f"{name}.export.txt").read_text()
    assert ah.export(at_home(recorded(name))) == snapshot, (
        "if this is wanted: tools/record_plans.py --from tests/recorded"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_code_is_tidy(name: str, tmp_path: Path) -> None:
    file = tmp_path / "exported_code.py"
    file.write_text(ah.export(at_home(recorded(name))))
    compile(file.read_text(), str(file), "exec")
    configuration = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *configuration, str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "script", "model", "convert", "calls", "graphs"),
    [
        (
            "autoencoder",
            SCRIPTS / "autoencoder.py",
            "Autoencoder()",
            "convert_autoencoder_1",
            [
                "model.encode(paddle.full([1, 3, 40, 40], 0.3), scale=2.0)",
                "model.encode(paddle.full([1, 3, 40, 40], 0.3), scale=3.0)",
                "model.decode(paddle.full([1, 24, 40, 40], 0.1))",
                "model.decode(paddle.full([1, 24, 40, 40], 0.7))",
            ],
            2,
        ),
        ("chained", SCRIPTS / "chained.py", "Refiner()", "convert_refiner_1", ["model(paddle.ones([1, 48, 256]))"], 1),
        (
            "bad_conversions",
            SCRIPTS / "bad_conversions.py",
            "Mixed()",
            "convert_mixed_1",
            ["[paddle.to_tensor(each) for each in call(model)]"],
            5,
        ),
        (
            "tagger",
            SCRIPTS / "tagger.py",
            "Tagger()",
            "convert_tagger_1",
            [
                "model(paddle.full([1, 20], 7, 'int64'), mask=paddle.zeros([1, 1, 20, 20]))",
                "model(paddle.full([1, 30], 9, 'int64'), mask=paddle.zeros([1, 1, 30, 30]))",
                "model(paddle.full([1, 30], 9, 'int64'))",
            ],
            1,
        ),
    ],
)
def test_the_code_answers_as_eager_does_without_autohybrid(
    name: str, script: Path, model: str, convert: str, calls: list[str], graphs: int, tmp_path: Path
) -> None:
    text = ah.export(at_home(recorded(name)))
    found = compared(text, tmp_path, script=script, model=model, convert=convert, calls=calls)
    assert max(found["apart"]) < 1.0
    assert found["alike"]
    assert found["graphs"] == graphs


@pytest.mark.slow
def test_a_residual_network_as_a_whole(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from paddle.vision.models import resnet18\n")
    image = {"tensor": {"index": 0, "dtype": "float32", "shape": [1, 3, 64, 64]}}
    whole = plans.region("", call_of(image), outputs=image, engine="predictor")
    found = compared(
        ah.export(plans.whole([plans.model([whole])])),
        tmp_path,
        script=script,
        model="resnet18()",
        convert="convert_block_1",
        calls=[
            "model(paddle.ones([1, 3, 64, 64]))",
            "model(paddle.linspace(0, 1, 12288).reshape([1, 64, 64, 3]).transpose([0, 3, 1, 2]))",
        ],
    )
    assert max(found["apart"]) < 1.0
    assert found["graphs"] == 1


@pytest.mark.slow
def test_both_ways_of_a_branch_on_a_tensor_are_in_the_graph_and_answers_are_objects_of_the_users(
    tmp_path: Path,
) -> None:
    (tmp_path / "answering.py").write_text(
        "import dataclasses\n\n\n@dataclasses.dataclass\nclass Answer:\n    value: object\n    kind: str\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import paddle\nfrom answering import Answer\n\n\nclass Block(paddle.nn.Layer):\n"
        "    def forward(self, x, *, scale):\n"
        "        if x.sum() > 0:\n            y = x * scale\n        else:\n            y = x - 1\n"
        "        return Answer(y + 1, 'block')\n"
    )
    tensor = {"tensor": {"index": 0, "dtype": "float32", "shape": ["dyn", 2]}}
    outputs = {"object": {"value": tensor, "kind": {"constant": "block"}}, "class": "answering.Answer"}
    branching = plans.region("", call_of(tensor, scale={"constant": 3.0}), outputs=outputs)
    found = compared(
        ah.export(plans.whole([plans.model([branching])])),
        tmp_path,
        script=script,
        model="Block()",
        convert="convert_block_1",
        calls=[f"[model(paddle.full([{n}, 2], {sign}), scale=3.0).value]" for n in (2, 3) for sign in ("1.0", "-1.0")],
    )
    assert max(found["apart"]) < 1.0
    assert found["graphs"] == 1


@pytest.mark.slow
def test_what_the_wrapper_refuses_stays_eager_with_a_warning(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import paddle\n\n\nclass Block(paddle.nn.Layer):\n    def forward(self, x):\n"
        "        return x * len(x.tolist())\n"
    )
    whole = plans.region("", call_of({"tensor": {"index": 0, "dtype": "float32", "shape": [2, 2]}}), outputs=X)
    found = compared(
        ah.export(plans.whole([plans.model([whole])])),
        tmp_path,
        script=script,
        model="Block()",
        convert="convert_block_1",
        calls=["model(paddle.ones([2, 2]))"],
    )
    assert found == {"apart": [0.0, 0.0, 0.0], "alike": True, "graphs": 0}


def test_a_plan_without_regions_says_so() -> None:
    text = ah.export(recorded("small"))
    assert "There is no region in the plan" in text
    assert "import" not in text


@pytest.mark.slow
def test_threads_may_call_what_is_converted(tmp_path: Path) -> None:
    found = compared(
        ah.export(at_home(recorded("chained"))),
        tmp_path,
        script=SCRIPTS / "chained.py",
        model="Refiner()",
        convert="convert_refiner_1",
        calls=[
            "model(paddle.ones([1, 48, 256]))",
            "list(__import__('multiprocessing.pool').pool.ThreadPool(4).map("
            "model, [paddle.full([1, 48, 256], 0.1 * n) for n in range(12)]))",
        ],
    )
    assert max(found["apart"]) < 1.0
    assert found["graphs"] == 1


@pytest.mark.parametrize(("mode", "asked"), [("eager", True), ("same", False)])
def test_training_mode_is_asked_for_where_it_matters(mode: str, asked: bool) -> None:
    region = plans.region("", ONE, outputs=X, training_mode=mode)
    assert ("not layer.training" in ah.export(plans.whole([plans.model([region])]))) is asked


def test_blocks_that_are_alike_share_their_code() -> None:
    regions = [plans.region(f"blocks.{number}", ONE, outputs=X, measured_on="blocks.0") for number in range(3)]
    structure = [". Block", "blocks paddle.nn.layer.container.LayerList", *(f"blocks.{n} Block" for n in range(3))]
    text = ah.export(plans.whole([plans.model(regions, structure=structure)]))
    assert "for layer in [model.blocks[0], model.blocks[1], model.blocks[2]]:" in text
    assert text.count("def put_") == 1


def test_an_option_that_the_wrapper_lacks_leaves_a_region_out_where_it_may_be_for_right_answers() -> None:
    made = exported(
        plans.whole([plans.model([plans.region("", ONE, outputs=X, engine="predictor", options={"onednn": False})])])
    )
    (left,) = made.left_out
    assert "onednn=False" in left.why
    assert "# Left out, (root): onednn=False" in made.text
    assert "paddle.incubate.jit.inference(" not in made.text.partition("def convert_block_1")[2]


def test_options_become_the_wrappers_parameters_or_are_told() -> None:
    region = plans.region(
        "", ONE, engine="predictor", options={"threads": 2, "deleted_passes": ["a_pass"], "cinn": True}
    )
    found = wrapping_of(region, on_gpu=False)
    assert found.parameters == {
        "delete_pass_lists": '[*DELETED_PASSES, "inplace_pass", "a_pass"]',
        "enable_cinn": "True",
    }
    assert found.without == ["threads=2"]


def test_the_wrapper_as_an_engine_keeps_its_parameters() -> None:
    region = plans.region("", ONE, options={"precision_mode": "float16", "deleted_passes": ["inplace_pass"]})
    assert wrapping_of(region, on_gpu=True).parameters == {
        "precision_mode": "'float16'",
        "delete_pass_lists": '[*DELETED_PASSES, "inplace_pass"]',
    }


def matches(structure: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call fits the pattern for a structure; Tensors are strings here."""
    made = arguments_of(structure)
    conditions = " and ".join(made.conditions)
    code = (
        f"match args, kwargs:\n    case {made.patterns[0]}, {made.patterns[1]} if {conditions}:\n        found = True"
    )
    names = {"args": args, "kwargs": kwargs, "found": False}
    exec(code, names)
    return bool(names["found"])


@pytest.mark.parametrize(
    ("structure", "args", "kwargs"),
    [
        (call_of(X, {"constant": 2}), ("x", 2.0), {}),
        (call_of(X, {"constant": 2.0}), ("x", 2), {}),
        (call_of(X, {"constant": True}), ("x", 1), {}),
        (call_of(X, {"constant": "a"}), ("x", "b"), {}),
        (call_of(X, {"constant": None}), ("x",), {}),
        (call_of(X), ("x",), {"more": 1}),
        (call_of({"list": [X]}), (("x",),), {}),
        (call_of({"dict": {"a": X}}), ({"a": "x", "b": "y"},), {}),
        (call_of(x=X), (), {}),
    ],
)
def test_another_call_does_not_fit(structure: Any, args: Any, kwargs: Any) -> None:
    assert not matches(structure, args, kwargs)


CONSTANTS = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.none()
)
VALUES = st.recursive(
    CONSTANTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def described(value: Any) -> Any:
    """A value as a plan has it."""
    if isinstance(value, list):
        return {"list": [described(each) for each in value]}
    if isinstance(value, dict):
        return {"dict": {key: described(each) for key, each in value.items()}}
    return {"constant": value}


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), VALUES, max_size=3))
def test_a_call_fits_its_own_pattern(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert matches(
        call_of(*map(described, args), **{name: described(each) for name, each in kwargs.items()}), args, kwargs
    )


@given(VALUES)
def test_an_answer_is_put_together_again(value: Any) -> None:
    made = answer_of({"tuple": [X, described(value)]})
    assert made.taken == ("answer[0]",)
    assert eval(made.rebuilt, {"y0": "y"}) == ("y", value)


def test_objects_of_the_users_have_no_words() -> None:
    with pytest.raises(NotInCode, match="Config"):
        arguments_of(call_of({"opaque": "Config"}))
    with pytest.raises(NotInCode, match="Output"):
        answer_of({"object": {"x": X}, "class": "Output"})
    made = answer_of({"object": {"sample": X}, "class": "models.Output"})
    assert (made.taken, made.rebuilt, made.modules) == (("answer.sample",), "models.Output(sample=y0)", ("models",))


FORWARD = """\
class Net:
    def forward(self, x, y, flag=False):
        # before
        x = self.entry(x)
        for block in self.blocks:
            x, y = block(x, y)
        if flag:
            return x
        return self.exit(x, y)
"""


def stretch_of(text: str, code: str, tmp_path: Path, line: int = 2) -> Any:
    file = tmp_path / "net.py"
    file.write_text(text)
    return stretch_at(plan.Place(file=str(file), line=line, function="Net.forward"), "forward", code)


def test_statements_become_a_method(tmp_path: Path) -> None:
    found = stretch_of(FORWARD, "for block in self.blocks:\n    x, y = block(x, y)", tmp_path)
    assert found.as_method("blocks") == [
        "def blocks(self, x, y):",
        "    for block in self.blocks:",
        "        x, y = block(x, y)",
        "    return x, y",
    ]
    assert found.replaced("blocks") == ["        x, y = self.blocks(x, y)"]


def test_some_turns_of_a_loop_become_a_method(tmp_path: Path) -> None:
    found = stretch_of(FORWARD, "for block in list(self.blocks)[1:3]:\n    x, y = block(x, y)", tmp_path)
    assert found.as_method("some")[1] == "    for block in list(self.blocks)[1:3]:"
    assert [line.strip() for line in found.replaced("some")] == [
        "for block in list(self.blocks)[0:1]:",
        "x, y = block(x, y)",
        "x, y = self.some(x, y)",
        "for block in list(self.blocks)[3:]:",
        "x, y = block(x, y)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("x = self.entry(x)", "x = self.other(x)", "aren't in"),
        ("return self.exit(x, y)", "return super().exit(x, y)", "super"),
        ("    def forward", "    @decorated\n    def forward", "decorated"),
        ("return self.exit(x, y)", "return self.__exit(x, y)", "private"),
        ("x = self.entry(x)", "x = self.entry(x); z = 1", "share a line"),
    ],
)
def test_what_cannot_be_moved_is_told(old: str, new: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(NotInCode, match=why):
        stretch_of(FORWARD.replace(old, new), "x = self.entry(x)", tmp_path, line=3)


def test_a_chain_whose_source_has_changed_is_left_out_and_told(tmp_path: Path) -> None:
    script = tmp_path / "chained.py"
    script.write_text((SCRIPTS / "chained.py").read_text().replace("x = self.entry(x)", "x = self.entry(x) * 1"))
    text = plan.dump(recorded("chained")).decode().replace('"/tests/scripts/chained.py"', f'"{script}"')
    (tmp_path / "plan.json").write_text(text)
    done = autohybrid("export", "plan.json", "-o", "code.py", cwd=tmp_path)
    assert done.code == 0
    assert "entry..blocks.5, line 32 is left out: its statements aren't in" in done.err
    assert "# Left out, entry..blocks.5, line 32: its statements aren't in" in (tmp_path / "code.py").read_text()


def test_names_from_elsewhere_are_known() -> None:
    assert foreign_names("import a\n\ndef f(x):\n    return a, len(x), np, __name__\n") == {"np"}


def test_the_command_writes_to_a_file_or_the_standard_output(tmp_path: Path) -> None:
    kept = str(RECORDED / "small.json")
    shown = autohybrid("export", kept, cwd=tmp_path)
    assert (shown.code, shown.err) == (0, "")
    for words in (
        ["export", kept, "-o", "code.py"],
        ["export", "-o", "code2.py", "--plan", kept],
        ["export", "-o", "c3.py", kept],
    ):
        assert autohybrid(*words, cwd=tmp_path).code == 0
    assert {file.read_text() for file in tmp_path.glob("*.py")} == {shown.out}
    again = autohybrid("export", kept, "-o", "code.py", cwd=tmp_path)
    assert (again.code, again.err) == (
        2,
        "Error: code.py exists already. Overwrite a file with --force, or name another with -o.\n",
    )
    assert autohybrid("export", kept, "-o", "code.py", "--force", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["export"], 2, "No plan was given."),
        (["export", "nowhere.json"], 4, "The plan nowhere.json can't be read"),
        (["export", "broken.json"], 4, "The plan broken.json isn't JSON"),
        (["export", "plan.json", "script.py"], 2, "A script is only run with --static."),
        (["export", "plan.json", "--static", "out"], 2, "No script was given."),
        (["export", "plan.json", "--static", "out", "nowhere.py"], 2, "There is no script 'nowhere.py'."),
        (["export", "plan.json", "--static", "out", "-o", "code.py", "script.py"], 2, "-o is for code"),
        (["export", "plan.json", "-o", "nowhere/code.py"], 2, "can't be written"),
        (["export", "plan.json", "-o", "plan.json", "--force"], 2, "plan.json exists already."),
    ],
)
def test_a_wrong_call_is_told_and_nothing_is_written(words: list[str], code: int, told: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes((RECORDED / "chained.json").read_bytes())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "script.py").write_text("")
    before = sorted(file.name for file in tmp_path.iterdir())
    done = autohybrid(*words, cwd=tmp_path)
    assert done.code == code
    assert told in done.err
    assert "Traceback" not in done.err
    assert sorted(file.name for file in tmp_path.iterdir()) == before
