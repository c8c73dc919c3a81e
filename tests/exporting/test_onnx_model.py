"""ONNX: onnxruntime gives fewscan's probabilities and the script its masks, in 2D and 3D, folds included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import fewscan
from fewscan.data.assembler import largest
from fewscan.data.cases import collect_cases
from fewscan.data.patches import cut
from fewscan.data.plans.base import Plan
from fewscan.data.preprocess import load_canvas
from fewscan.errors import ConfigError, DataError
from fewscan.exporting import graph, onnx_model, reference
from fewscan.exporting.base import Source
from fewscan.exporting.pipeline import write_pipeline
from fewscan.inference.model import load_model
from fewscan.inference.predictor import Predictor
from fewscan.io.files import read_json
from fewscan.io.scans import read_mask, write_scan
from fewscan.networks.atlas import AtlasNetwork, AtlasNetworkSettings
from fewscan.run_folder import RunFolder
from support.scans import disc, geometry, oblique, slice_plan
from support.terminals import Notes
from support.untrained_runs import SLICES, WINDOWS, save_run

pytestmark = pytest.mark.usefixtures("no_shape_hook")
GRIDS = {"thick": geometry((4, 20, 24)), "oblique": oblique((6, 22, 18)), "large": geometry((3, 60, 64))}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    generator = np.random.default_rng(3)
    for name, where in GRIDS.items():
        image = generator.normal(size=where.shape) + 2.0 * disc(where.shape, 6)
        write_scan(folder / f"{name}_0000.nii.gz", image.astype(np.float32), where)
    return folder


def exported(folder: Path, run: Path) -> Path:
    return fewscan.export(run, "onnx", output=folder / "exported")


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of three folds in 2D, and what was exported of it."""
    folder = tmp_path_factory.mktemp("slices")
    run = save_run(folder / "run", SLICES, folds=3)
    return run, exported(folder, run)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run in 3D, of two folds, and what was exported of it."""
    folder = tmp_path_factory.mktemp("volumes")
    run = save_run(folder / "run", WINDOWS, folds=2, normalisation="instance")
    return run, exported(folder, run)


def our_probabilities(run: Path, scan: Path) -> np.ndarray:
    """Of the run's own networks on the scan's grid, before they are rounded to be written."""
    networks, card = load_model(run, torch.device("cpu"))
    plan: Plan = card.plan
    canvas, where = load_canvas(collect_cases([scan], plan.reading)[0], plan)
    seen: list[np.ndarray] = []

    def decode(probs: np.ndarray) -> np.ndarray:
        seen.append(probs)
        return largest(probs)

    def look(plan: Plan, canvas: np.ndarray) -> bool:
        seen.clear()
        assembler = plan.assembler(where, decode)
        for start in plan.starts(plan.canvas_shape(where)):
            patch = torch.from_numpy(cut(canvas, start[None], plan.size))
            assembler.add(Predictor(networks).probabilities(patch).numpy(), start[None])
        return assembler.finish().is_cut_off

    if look(plan, canvas):
        plan = plan.covering(where)
        look(plan, load_canvas(collect_cases([scan], plan.reading)[0], plan)[0])
    if plan.ndim == 3:
        return np.concatenate(seen, axis=2)[0]
    return np.moveaxis(np.concatenate(seen), 0, plan.viewing_axis_of(where.shape) + 1)


@pytest.mark.parametrize("kind", ["slices", "volumes"])
@pytest.mark.parametrize("name", list(GRIDS))
def test_probabilities_of_whole_scans_are_fewscan_s(
    kind: str, name: str, scans: Path, request: pytest.FixtureRequest
) -> None:
    run, folder = request.getfixturevalue(kind)
    scan = scans / f"{name}_0000.nii.gz"
    found, _ = reference.Segmenter.read(folder).probabilities([reference.read_scan(scan)])
    expected = our_probabilities(run, scan)
    assert found.shape == expected.shape == (3, *GRIDS[name].shape)
    assert float(np.abs(found - expected).max()) < 1e-4
    assert float(expected.std()) > 0.05


@pytest.mark.parametrize("kind", ["slices", "volumes"])
def test_the_script_alone_writes_fewscan_s_masks(
    kind: str, scans: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run, folder = request.getfixturevalue(kind)
    files = sorted(scans.iterdir())
    ours = fewscan.predict(run, files, output=tmp_path / "ours", device="cpu", quality=False)
    code = "import sys, runpy; sys.modules['fewscan'] = sys.modules['torch'] = sys.modules['scipy'] = None\n"
    code += f"sys.argv = {['predict.py', *map(str, files), '-o', str(tmp_path / 'theirs')]!r}\n"
    code += f"runpy.run_path({str(folder / 'predict.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for path in ours:
        found, expected = read_mask(tmp_path / "theirs" / path.name), read_mask(path)
        assert found.geometry == expected.geometry
        assert np.array_equal(found.array, expected.array)
        assert len(np.unique(expected.array)) == 3


def test_the_graph_takes_any_number_of_images_of_any_sides_and_tells_nothing_of_this_machine(
    slices: tuple[Path, Path], volumes: tuple[Path, Path]
) -> None:
    for (run, folder), sides in ((slices, [(1, 8, 4), (5, 16, 32)]), (volumes, [(1, 4, 8, 12), (2, 8, 4, 6)])):
        networks, _ = load_model(run, torch.device("cpu"))
        session: Any = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        for count, *space in sides:
            images = torch.randn(count, 1, *space)
            (found,) = session.run(None, {"images": images.numpy()})
            assert np.allclose(found, Predictor(networks).probabilities(images).numpy(), atol=1e-5)
        raw = (folder / "model.onnx").read_bytes()
        assert b".py" not in raw
        assert str(Path.home()).encode() not in raw
        model = onnx.load_from_string(raw)
        axes = ["image", "", *"zyx"[1 - len(sides[0]) :]]
        assert [axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim] == axes


def test_the_numbers_are_those_of_the_plan(slices: tuple[Path, Path]) -> None:
    told = read_json(slices[1] / "pipeline.json")
    assert told["network"]["file"] == "model.onnx"
    assert told["network"]["averaged_networks"] == 3
    assert told["network"]["sides_are_multiples_of"] == [2, 2]
    assert told["classes"] == [{"name": n, "number": k} for n, k in (("background", 0), ("low", 3), ("high", 7))]
    assert told["channels"] == [{"name": "MRI", "normalisation": {"scheme": "minmax"}}]
    assert told["canvas"] == {"kind": "slices", "slice_axis": 0, "size": [16, 32], "spacing_mm": [1.0, 1.0]}
    assert [step["kind"] for step in told["postprocessing"]] == ["largest_part", "smallest_part"]


def test_the_card_says_what_is_known_and_names_no_patient(slices: tuple[Path, Path]) -> None:
    card = (slices[1] / "README.md").read_text("utf-8")
    for title in ("Use", "Data", "Split", "Labels", "Scores", "Limits", "Licence"):
        assert f"\n## {title}\n" in card
    assert "| 7 | high |" in card
    assert "No scan was held out" in card
    assert "Folds: 3" in card
    assert "patient_" not in card


def test_a_plan_that_the_script_does_not_know_is_told_as_data_alone(tmp_path: Path) -> None:
    said = Notes()
    networks, card = load_model(save_run(tmp_path / "run", SLICES), torch.device("cpu"))
    objects = card.model_copy(update={"plan": slice_plan(task="instances")})
    write_pipeline(Source(RunFolder(tmp_path / "run"), networks, objects, None, said), tmp_path, "model.onnx")
    assert not (tmp_path / "predict.py").exists()
    assert "predict.py is left out: it knows no task 'instances'" in said.lines[0]
    assert read_json(tmp_path / "pipeline.json")["canvas"]["kind"] == "slices"


def test_a_network_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'atlas' registers labelled scans to every image.*--to package"):
        graph.trace([AtlasNetwork(1, 2, settings=AtlasNetworkSettings(atlases=1))])


def test_an_export_that_gives_other_probabilities_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", SLICES)
    monkeypatch.setattr(onnx_model, "_averaged", lambda _: b"")
    monkeypatch.setattr(onnx_model, "_run", lambda _, images: torch.full((2, 3, *images.shape[2:]), 1 / 3))
    with pytest.raises(ConfigError, match="from the run's: it is not written"):
        fewscan.export(run, "onnx", output=tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run", SLICES)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"onnxscript is not installed.*pip install 'fewscan\[onnx\]'"):
        fewscan.export(run, "onnx", output=tmp_path / "exported")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", SLICES)
    with pytest.raises(DataError, match="exists and is not empty"):
        fewscan.export(run, "onnx", output=run)
    with pytest.raises(ConfigError, match=r"no export target named 'onyx'\. Did you mean onnx"):
        fewscan.export(run, "onyx", output=tmp_path / "exported")
