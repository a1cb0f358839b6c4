"""Regions as static models on disk: what the manifest says is enough to run them with Paddle Inference alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paddle
import plans
import pytest
from commands import SCRIPTS, Run, autohybrid
from exported import told_by
from paddle import nn
from recordings import RECORDED

import autohybrid as ah
from autohybrid import plan
from autohybrid.errors import ScriptError
from autohybrid.runtime.fingerprint import fingerprint, structure_lines

_INFERENCE = """
from pathlib import Path
from paddle import inference

folder = Path({models!r})
manifest = json.loads((folder / "manifest.json").read_text())

def put_together(part, outputs):
    # An answer as the manifest describes it.
    (kind, inner), *_ = part.items()
    if kind == "tensor":
        return outputs[inner["output"]]
    if kind == "constant":
        return inner
    if kind == "dict":
        return {{key: put_together(each, outputs) for key, each in inner.items()}}
    return {{"list": list, "tuple": tuple}}[kind](put_together(each, outputs) for each in inner)

def ran(region, arguments):
    files = [str(folder / region["directory"] / region["files"][each]) for each in ("model", "parameters")]
    config = inference.Config(*files)
    config.enable_memory_optim(False)
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(region["config"]["threads"])
    for name in region["config"]["deleted_passes"]:
        config.delete_pass(name)
    predictor = inference.create_predictor(config)
    for given in region["inputs"]:
        tensor = arguments[given["argument"]]
        assert [size for size in given["shape"] if size != -1] == [
            size for size, wanted in zip(tensor.shape, given["shape"]) if wanted != -1
        ]
        predictor.get_input_handle(given["name"]).copy_from_cpu(tensor.numpy())
    predictor.run()
    found = {{}}
    for each in region["outputs"]:
        value = predictor.get_output_handle(each["name"]).copy_to_cpu()
        assert str(value.dtype) == each["dtype"]
        assert len(value.shape) == len(each["shape"])
        assert all(wanted in (-1, size) for size, wanted in zip(value.shape, each["shape"]))
        found[each["name"]] = paddle.to_tensor(value)
    return put_together(region["answer"], found)

script = loaded({script!r}, "script")
paddle.seed({seed})
model = eval({model!r}, vars(script))
model.eval()
worst = []
regions = {{each["region"]: each for each in manifest["regions"]}}
for name, arguments, expected in {calls!r}:
    arguments = eval(arguments, {{"paddle": paddle}})
    with paddle.no_grad():
        eager = eval(expected, dict(arguments, paddle=paddle), {{"model": model}})
    worst.append(apart(eager, ran(regions[name], arguments)))
told(worst=worst, regions=sorted(regions))
"""


def static(name: str, here: Path, *more: str) -> Run:
    """Runs ``autohybrid export --static`` with a recorded plan and its script."""
    return autohybrid(
        "export", RECORDED / f"{name}.json", "--static", "models", *more, SCRIPTS / f"{name}.py", cwd=here
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "seed", "calls"),
    [
        (
            "autoencoder",
            "Autoencoder()",
            0,
            [
                ("encode()", "{'image': paddle.full([1, 3, 40, 40], 0.3)}", "model.encode(image, scale=2.0)"),
                ("decode()", "{'latent': paddle.full([1, 24, 40, 40], 0.2)}", "model.decode(latent)"),
            ],
        ),
        (
            "chained",
            "Refiner()",
            7,
            [
                (
                    "entry..blocks.5, line 32",
                    "{'x': paddle.full([1, 48, 256], 0.2)}",
                    "paddle.nn.Sequential(model.entry, *model.blocks)(x)",
                )
            ],
        ),
        (
            "tagger",
            "Tagger()",
            0,
            [
                (
                    "embed..head, line 19",
                    f"{{'mask': paddle.zeros([1, 1, {n}, {n}]), 'tokens': paddle.full([1, {n}], 3, 'int64')}}",
                    "model(tokens, mask=mask)",
                )
                for n in (17, 33)
            ],
        ),
    ],
)
def test_static_models_answer_as_eager_does_without_autohybrid(
    name: str, model: str, seed: int, calls: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    done = static(name, tmp_path)
    assert done.code == 0, done.err
    assert "autohybrid: wrote models/manifest.json." in done.err
    found = told_by(
        _INFERENCE.format(
            models=str(tmp_path / "models"),
            script=str(SCRIPTS / f"{name}.py"),
            model=model,
            seed=seed,
            calls=calls,
        ),
        tmp_path,
    )
    assert max(found["worst"]) < 1.0
    assert found["regions"] == sorted({region for region, _, _ in calls})


@pytest.mark.slow
def test_the_manifest_says_what_is_varying_and_what_is_built_in(tmp_path: Path) -> None:
    assert static("autoencoder", tmp_path).code == 0
    again = static("autoencoder", tmp_path)
    assert (again.code, again.error_lines) == (
        2,
        ["Error: models isn't empty. Overwrite an earlier export with --force, or name another."],
    )
    manifest = json.loads((tmp_path / "models" / "manifest.json").read_text())
    (encode,) = [each for each in manifest["regions"] if each["function"] == "encode"]
    assert encode["constants"] == {"scale": {"constant": 2.0}}
    assert [each["argument"] for each in encode["inputs"]] == ["image"]
    assert "inplace_pass" in encode["config"]["deleted_passes"]
    assert 0.0 < encode["error"]["largest"] < 1e-3
    (tmp_path / "models" / "notes.txt").write_text("mine")
    assert static("autoencoder", tmp_path, "--force").code == 0
    assert (tmp_path / "models" / "notes.txt").exists()


def test_a_directory_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "notes.txt").write_text("mine")
    done = static("autoencoder", tmp_path, "--force")
    assert done.code == 2
    assert "not from an earlier export" in done.err
    (tmp_path / "file").write_text("")
    done = autohybrid("export", RECORDED / "chained.json", "--static", "file", SCRIPTS / "chained.py", cwd=tmp_path)
    assert (done.code, done.err) == (2, "Error: file is a file. Name a directory.\n")


def test_a_plan_without_regions_writes_nothing(tmp_path: Path) -> None:
    done = autohybrid("export", RECORDED / "small.json", "--static", "models", SCRIPTS / "idle.py", cwd=tmp_path)
    assert done.code == 0
    assert "has no region: nothing is written" in done.err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("raise SystemExit(7)\n", "script.py failed with exit code 7; nothing was written."),
        ("import paddle\n\npaddle.nn.Linear(2, 2)(paddle.ones([1, 2]))\n", "script.py calls no model of the plan."),
        ("import os\n\nos._exit(5)\n", "The process of script.py ended by itself (exit code 5)."),
    ],
)
def test_a_script_that_has_nothing_to_write_is_told(script: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(script)
    done = autohybrid("export", RECORDED / "chained.json", "--static", "models", "script.py", cwd=tmp_path)
    assert done.code == 3
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "models").exists()


class Pair(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.eval()

    def forward(self, x: Any, more: Any = None) -> Any:
        return {"sum": self.one(x) + more["add"][0], "x": x}


def planned(model: Any, engine: str, inputs: Any) -> plan.Plan:
    """A plan with the whole model as a region."""
    lines = structure_lines(model)
    entry = plans.model([plans.region("", inputs, engine=engine)], fingerprint=fingerprint(lines), structure=lines)
    return plans.whole([entry])


@pytest.mark.parametrize("engine", ["predictor", "incubate"])
def test_from_python_nested_arguments_and_inputs_handed_through_have_names(engine: str, tmp_path: Path) -> None:
    model = Pair()
    tensor = {"dtype": "float32", "shape": ["dyn", 4]}
    inputs = {
        "tuple": [
            {"tuple": [{"tensor": {"index": 0, **tensor}}]},
            {"dict": {"more": {"dict": {"add": {"list": [{"tensor": {"index": 1, **tensor}}]}}}}},
        ]
    }
    with ah.applied(model, planned(model, engine, inputs)):
        written = ah.export_static(model, tmp_path / "models")
    assert written.left_out == []
    (region,) = json.loads((tmp_path / "models" / "manifest.json").read_text())["regions"]
    assert region["directory"] == written.directories[0]
    assert [(each["argument"], each["shape"]) for each in region["inputs"]] == [
        ("x", [-1, 4]),
        ("more['add'][0]", [-1, 4]),
    ]
    assert [each["shape"] for each in region["outputs"]] == [[-1, 4]]
    assert region["answer"]["dict"]["sum"] == {"tensor": {"output": region["outputs"][0]["name"]}}
    assert region["answer"]["dict"]["x"] == {"tensor": {"input": region["inputs"][0]["name"]}}


class Stops(nn.Layer):  # type: ignore[misc]
    """Looks at values on its way, so that its graph is for those inputs only that go the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.LayerList([nn.Linear(4, 4) for _ in range(2)])
        self.eval()

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
            if bool((x.max() > 100).item()):
                break
        return x


def test_what_must_be_so_for_an_answer_to_count_is_in_the_manifest(tmp_path: Path) -> None:
    model = Stops()
    tensor = {"tensor": {"index": 0, "dtype": "float32", "shape": [2, 4]}}
    inputs = {"tuple": [{"tuple": [tensor]}, {"dict": {}}]}
    with ah.applied(model, planned(model, "predictor", inputs)):
        ah.export_static(model, tmp_path / "models")
    (region,) = json.loads((tmp_path / "models" / "manifest.json").read_text())["regions"]
    assert len(region["outputs"]) == 1
    assert [each["value"] for each in region["guards"]] == [False, False]
    assert not {each["name"] for each in region["guards"]} & {each["name"] for each in region["outputs"]}


def test_a_model_without_regions_has_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="the model has none"):
        ah.export_static(Pair(), tmp_path / "models")


def test_a_region_that_stays_eager_is_told(tmp_path: Path) -> None:
    class Drawing(nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x + paddle.rand([1])

    model = Drawing()
    inputs = {"tuple": [{"tuple": [{"tensor": {"index": 0, "dtype": "float32", "shape": [2]}}]}, {"dict": {}}]}
    refused = pytest.raises(ScriptError, match="No region of the plan could be written")
    with ah.applied(model, planned(model, "predictor", inputs)), refused:
        ah.export_static(model, tmp_path / "models")
