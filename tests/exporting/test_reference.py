"""The reference script does in NumPy what fewscan does: it reads, normalises, resamples, puts together, cleans."""

from __future__ import annotations

import ast
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.classes import Classes
from fewscan.data.assembler import Decode, largest
from fewscan.data.patches import cut
from fewscan.data.plans.base import Normalisation, Plan, Window
from fewscan.data.preprocess import normalise
from fewscan.exporting import reference
from fewscan.exporting.pipeline import canvas_of
from fewscan.inference.postprocess import Step, postprocess
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_scan, write_scan
from support.scans import disc, geometry, oblique, slice_plan, volume_plan

ALLOWED = {"__future__", "argparse", "glob", "json", "math", "collections", "itertools", "pathlib", "typing"}
ALLOWED |= {"nibabel", "numpy", "onnxruntime"}
SHAPES = ((4, 20, 24), (1, 37, 21), (9, 12, 50), (20, 1, 30))
SPACINGS = ((5.0, 1.5, 1.2), (1.0, 1.0, 1.0), (0.7, 2.0, 2.0))
PLANS: dict[str, Plan] = {
    "slices": slice_plan(classes=("background", "low", "high")),
    "stretched": slice_plan(spacing=None, size=(16, 48), classes=("background", "low", "high")),
    "sagittal": slice_plan(spacing=(1.5, 0.9), size=(16, 32), slice_axis=2, classes=("background", "low", "high")),
    "one patch": volume_plan(classes=("background", "low", "high")),
    "windows": volume_plan((1.5, 1.3, 1.3), (4, 8, 8), (8, 24, 12), classes=("background", "low", "high")),
}


def network(images: np.ndarray) -> np.ndarray:
    """Three classes by brightness, in any number of dimensions."""
    raw = np.concatenate([0.5 + 0 * images, images, 3 * images - 1.2], axis=1)
    shares = np.exp(4 * raw)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def scan_of(array: np.ndarray, where: Geometry) -> reference.Scan:
    return reference.Scan(array, where.spacing_mm, None, (2, 1, 0), ())


def ours(plan: Plan, volume: np.ndarray, where: Geometry) -> tuple[np.ndarray, np.ndarray, bool]:
    """Probabilities on the scan's grid before they are rounded to float16, mask, and whether it is cut off."""
    seen: list[np.ndarray] = []

    def decode(probs: np.ndarray) -> np.ndarray:
        seen.append(probs)
        return largest(probs)

    told: Decode = decode
    canvas = plan.to_canvas(volume, where)[None]
    assembler = plan.assembler(where, told)
    for start in plan.starts(plan.canvas_shape(where)):
        assembler.add(network(cut(canvas, start[None], plan.size)), start[None])
    found = assembler.finish()
    if plan.ndim == 2:
        axis = plan.viewing_axis_of(where.shape)
        probs = np.moveaxis(np.concatenate(seen), 0, axis + 1)
    else:
        probs = np.concatenate(seen, axis=2)[0]
    return probs, found.mask, found.is_cut_off


def theirs(plan: Plan, volume: np.ndarray, where: Geometry) -> tuple[np.ndarray, Any]:
    canvas = reference.CANVASES[plan.kind](canvas_of(plan), where.shape, where.spacing_mm)
    return canvas.probabilities(canvas.to_canvas(volume)[None], network), canvas


def test_it_needs_numpy_nibabel_and_what_runs_the_network_alone() -> None:
    tree = ast.parse(Path(reference.__file__).read_text("utf-8"))
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).partition(".")[0] for name in named} == ALLOWED


def stored_in(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """The affine of a file whose axes lie so, with unlike voxels, turned a little."""
    turned = oblique().affine_ras[:3, :3] / np.array(oblique().spacing_mm[::-1])
    affine = np.eye(4)
    affine[:3, :3] = (turned[:, list(order)] * signs) * (0.8, 1.25, 7.5)
    affine[:3, 3] = (12.0, -40.0, 101.0)
    return affine


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_scans_of_every_order_of_axes_are_read_and_their_masks_written_back(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    for signs in product((1, -1), repeat=3):
        path, mask = tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz"
        values = generator.normal(size=(5, 6, 7)).astype(np.float32)
        image: Any = nibabel.Nifti1Image(values, stored_in(order, signs))
        image.header["descrip"] = b"Anna"
        nibabel.save(image, path)
        expected, found = read_scan(path), reference.read_scan(path)
        assert np.array_equal(found.array, expected.array)
        assert found.spacing == pytest.approx(expected.geometry.spacing_mm)
        reference.write_mask(mask, (found.array > 0).astype(np.uint8), found)
        again = read_scan(mask)
        assert again.geometry == expected.geometry
        assert np.array_equal(again.array, expected.array > 0)
        assert b"Anna" not in nibabel.load(mask).header.binaryblock  # type: ignore[attr-defined]


def test_a_unit_sform_beside_a_true_pixdim_is_not_believed(tmp_path: Path) -> None:
    image: Any = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header["pixdim"][1:4] = (1.5, 1.5, 8.0)
    image.header.set_slope_inter(0.5, 3)
    image.to_filename(tmp_path / "scan.nii")
    found, expected = reference.read_scan(tmp_path / "scan.nii"), read_scan(tmp_path / "scan.nii")
    assert found.spacing == expected.geometry.spacing_mm == (8.0, 1.5, 1.5)
    assert np.allclose(found.array, expected.array)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)).to_filename(tmp_path / "scan.nii")
    with pytest.raises(SystemExit, match="has 2 frames"):
        reference.read_scan(tmp_path / "scan.nii")


SCHEMES: dict[Literal["zscore", "minmax", "percentile", "ct"], Normalisation] = {
    "zscore": Normalisation(scheme="zscore"),
    "minmax": Normalisation(scheme="minmax"),
    "percentile": Normalisation(scheme="percentile"),
    "ct": Normalisation(scheme="ct", ct=Window(lower=-1.0, upper=2.0, mean=0.5, std=0.7)),
}


@settings(max_examples=40, deadline=None)
@given(
    scheme=st.sampled_from(list(SCHEMES)),
    seed=st.integers(0, 99),
    border=st.tuples(*[st.integers(0, 3)] * 3),
    corners=st.booleans(),
    values=st.sampled_from((1, 2, 200)),
)
def test_intensities_are_made_comparable_alike(
    scheme: Literal["zscore", "minmax", "percentile", "ct"],
    seed: int,
    border: tuple[int, int, int],
    corners: bool,
    values: int,
) -> None:
    inside = np.random.default_rng(seed).integers(0, values, size=(6, 17, 18)).astype(np.float32)
    if corners:
        inside[disc(inside.shape, 7) == 0] = -5
    volume = np.pad(inside, [(side, side) for side in border], constant_values=-9)
    kept = volume.copy()
    how = SCHEMES[scheme]
    found = reference.normalise(volume, how.model_dump(mode="json", exclude_none=True))
    assert np.allclose(found, normalise(volume, how), rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32
    assert np.array_equal(volume, kept)


@pytest.mark.parametrize("name", list(PLANS))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_canvases_and_probabilities_are_alike(
    name: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    plan, where = PLANS[name], geometry(shape, spacing)
    volume = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    probs, mask, is_cut_off = ours(plan, volume, where)
    found, canvas = theirs(plan, volume, where)
    assert np.allclose(canvas.to_canvas(volume), plan.to_canvas(volume, where), atol=1e-5)
    assert np.allclose(found, probs, atol=1e-5)
    assert np.mean(found.argmax(axis=0) != mask) < 1e-3
    assert (canvas.covering is None) == (plan.covering(where) == plan)
    if canvas.covering is not None:
        assert canvas.covering == canvas_of(plan.covering(where))
        assert canvas.is_cut_off(mask) == is_cut_off


@pytest.mark.parametrize("name", ["slices", "sagittal", "one patch", "windows"])
def test_masks_count_as_cut_off_alike_wherever_they_lie(name: str) -> None:
    plan, where = PLANS[name], geometry((24, 60, 64), (1.6, 1.5, 1.2))
    canvas = reference.CANVASES[plan.kind](canvas_of(plan), where.shape, where.spacing_mm)
    generator, seen = np.random.default_rng(0), set()
    for _ in range(40):
        mask, where_from = np.zeros(where.shape, np.uint8), generator.integers(0, (20, 50, 54))
        mask[tuple(slice(a, a + b) for a, b in zip(where_from, generator.integers(1, 30, 3), strict=True))] = 1
        assembler: Any = plan.assembler(where, largest)
        inside = np.moveaxis(mask, canvas.axis, 0) if isinstance(canvas, reference.Slices) else mask > 0
        expected = bool(assembler._is_cut_off(inside))
        assert canvas.is_cut_off(mask) == expected
        seen.add(expected)
    assert seen == {True, False}


def test_a_scan_whose_anatomy_is_cut_off_is_looked_at_once_more(tmp_path: Path) -> None:
    plan, where = slice_plan(size=(16, 16)), geometry((3, 60, 64), (5.0, 1.0, 1.0))
    array = np.zeros(where.shape, np.float32)
    array[:, 20:40, 20:62] = 1
    write_scan(tmp_path / "scan.nii.gz", array, where)
    pipeline = {
        "channels": [{"name": "MRI", "normalisation": {"scheme": "minmax"}}],
        "classes": [{"name": name, "number": number} for name, number in (("background", 0), ("a", 7), ("b", 300))],
        "canvas": canvas_of(plan),
        "postprocessing": [],
    }
    scan = reference.read_scan(tmp_path / "scan.nii.gz")
    mask = reference.Segmenter(pipeline, network).mask([scan])
    assert np.array_equal(mask, Classes(("background", "a", "b"), (0, 7, 300)).from_inside((2 * array).astype(int)))
    assert mask.dtype == np.uint16


STEPS = (
    Step(kind="largest_part", of=0),
    Step(kind="largest_part", of=2),
    Step(kind="smallest_part", of=1, mm3=4.0),
    Step(kind="fill_holes", of=1),
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    filled=st.sampled_from((0.0, 0.02, 0.3, 0.8)),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    steps=st.lists(st.sampled_from(STEPS), max_size=4),
)
def test_masks_are_cleaned_alike(seed: int, filled: float, shape: tuple[int, int, int], steps: list[Step]) -> None:
    generator = np.random.default_rng(seed)
    mask = (generator.integers(1, 3, size=shape) * (generator.random(shape) < filled)).astype(np.uint8)
    kept = mask.copy()
    found = reference.postprocess(mask, [step.model_dump(mode="json") for step in steps], (2.0, 1.0, 1.0))
    assert np.array_equal(found, postprocess(mask, steps, (2.0, 1.0, 1.0)))
    assert np.array_equal(mask, kept)


def test_the_script_runs_on_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["predict.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        reference.main()
    assert stop.value.code == 0
    assert "Segment NIfTI scans with an exported network" in capsys.readouterr().out
