"""Predict, write, evaluate: one scan in any order of storage has one mask in space, and scores 1 against itself."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewscan
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.inference.model import ModelCard, save_model
from fewscan.networks.unet import UNet, UNetSettings
from support.orders import ORDERS, axes_of, stored_in

KINDS = ["straight", "oblique", "left-handed", "sheared", "between two", "between three"]


@pytest.fixture(scope="module", params=[(1.3, 1.1), None], ids=["resampled", "stretched"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random weights, which know nothing and mark every place in their own way."""
    folder = tmp_path_factory.mktemp("model")
    network = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))
    plan = SlicePlan(
        dataset="random",
        channel_names=("MRI",),
        class_names=("background", "a", "b"),
        slice_axis=1,
        size=(16, 32),
        spacing_mm=request.param,
        normalisation=(Normalisation(scheme="zscore"),),
    )
    torch.manual_seed(0)
    random = UNet(1, 3, 2, network)
    with torch.no_grad():
        *_, bias = random.parameters()
        # No class wins everywhere.
        bias.sub_(random.eval()(torch.randn(8, 1, 16, 32)).mean(dim=(0, 2, 3)))
    card = ModelCard(method="action", network_name="teacher", network=network, plan=plan, flips=False)
    save_model(folder, random, card)
    return folder


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.sampled_from([1, 4, 7, 12, 19])] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.9375, 1.1, 1.3, 6.0])] * 3),
    order=st.sampled_from(ORDERS),
)
def test_one_scan_in_two_orders_has_one_mask(
    tmp_path_factory: pytest.TempPathFactory,
    model: Path,
    kind: str,
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    order: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    folder = tmp_path_factory.mktemp("scan")
    affine = np.eye(4)
    affine[:3, :3] = axes_of(kind, seed) * spacing
    affine[:3, 3] = (31.0, -47.5, 12.25)
    # As float32 keeps it: both files then hold the very same numbers.
    affine = affine.astype(np.float32).astype(float)
    array = np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)
    scans = {"one": (array, affine), "other": stored_in(*order, array, affine)}
    for name, scan in scans.items():
        (folder / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(*scan), folder / name / "scan.nii.gz")
        fewscan.predict(model, [folder / name], output=folder / f"masks_{name}", quality=False)
    one, other = (nibabel.Nifti1Image.from_filename(folder / f"masks_{name}" / "scan.nii.gz") for name in scans)
    assert np.array_equal(np.asarray(other.dataobj), stored_in(*order, np.asarray(one.dataobj), affine)[0])
    assert np.allclose(other.affine, scans["other"][1], atol=1e-3)
    summary = fewscan.evaluate(folder / "masks_other", folder / "masks_one").summary
    assert all(values["dice"] == 1 for values in summary["classes"].values())


def test_all_48_orders_of_one_oblique_scan(tmp_path: Path, model: Path) -> None:
    array = np.random.default_rng(0).normal(100, 20, (9, 14, 5)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = axes_of("oblique", 5) * (1.0, 0.8, 4.0)
    inputs = tmp_path / "scans"
    inputs.mkdir()
    orders = list(product(permutations(range(3)), product((1, -1), repeat=3)))
    for number, (order, signs) in enumerate(orders):
        nibabel.save(nibabel.Nifti1Image(*stored_in(order, signs, array, affine)), inputs / f"scan{number:02d}.nii")
    fewscan.predict(model, [inputs], output=tmp_path / "masks", quality=False)
    masks = [
        np.asarray(nibabel.Nifti1Image.from_filename(tmp_path / "masks" / f"scan{number:02d}.nii").dataobj)
        for number in range(48)
    ]
    first = next(
        mask for mask, (order, signs) in zip(masks, orders, strict=True) if (order, signs) == ((0, 1, 2), (1, 1, 1))
    )
    assert len(np.unique(first)) > 1
    for mask, (order, signs) in zip(masks, orders, strict=True):
        assert np.array_equal(mask, stored_in(order, signs, first, affine)[0])
