"""Descriptions of scans: by hand, whatever the patches, and of scans that show nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.data.cases import Case
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.preprocess import load_canvas
from fewscan.errors import DataError
from fewscan.inference.describe import Description, describe_cases, pool
from fewscan.inference.predictor import Predictor
from fewscan.networks.unet import UNet, UNetSettings
from support.scans import PLAN
from support.stand_ins import standing_in
from support.windows import Voxelwise, WindowPlan, smooth_scan, window_plan

CPU = torch.device("cpu")


def nothing() -> None:
    """In the place of a bar that moves on."""


def describe(
    cases: list[Case],
    plan: SlicePlan | WindowPlan,
    *networks: UNet | Voxelwise,
    refused: dict[Case, DataError] | None = None,
) -> dict[str, Description]:
    on_refusal = {} if refused is None else refused
    return describe_cases(
        Predictor(tuple(map(standing_in, networks))), plan, cases, CPU, nothing, on_refusal.__setitem__
    )


def test_a_description_is_the_mean_of_the_bottleneck_and_the_entropy_per_foreground(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, 2, UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))).eval()
    case = smooth_scan(tmp_path, shape=(20, 32, 32))
    found = describe([case], PLAN, network)["a"]
    slices = torch.from_numpy(load_canvas(case, PLAN)[0].swapaxes(0, 1))
    with torch.no_grad():
        logits, pyramid = network.logits_and_pyramid(slices)
    probs = logits.softmax(dim=1)
    assert np.allclose(found.features, pyramid[0].mean(dim=(0, 2, 3)), atol=1e-5)
    entropy = -(probs * probs.log()).sum() / (1 - probs[:, 0]).sum()
    assert found.entropy == pytest.approx(float(entropy), rel=1e-4)


@pytest.mark.parametrize(("size", "step"), [((8, 22, 26), (3, 22, 26)), ((10, 14, 16), (4, 5, 6))])
def test_patches_that_overlap_describe_the_scan_as_one_patch_does(
    tmp_path: Path, size: tuple[int, int, int], step: tuple[int, int, int]
) -> None:
    case = smooth_scan(tmp_path)
    (whole,), (cut,) = (
        describe([case], window_plan(*w), Voxelwise()).values() for w in (((14, 22, 26),) * 2, (size, step))
    )
    assert cut.features == pytest.approx(whole.features, rel=1e-5)
    assert cut.entropy == pytest.approx(whole.entropy, rel=1e-5)


def test_coarse_maps_are_weighed_by_the_voxels_that_they_span() -> None:
    maps, shares = torch.rand(1, 2, 2, 3), torch.rand(1, 4, 6)
    pooled, weights = pool(maps, shares)
    coarse = shares.reshape(2, 2, 3, 2).mean(dim=(1, 3))
    assert np.allclose(pooled[0], (maps[0] * coarse).mean(dim=(1, 2)))
    assert np.allclose(weights, shares.mean())


def test_a_scan_that_is_background_for_certain_has_features_and_no_entropy(tmp_path: Path) -> None:
    case = smooth_scan(tmp_path)
    found = describe([case], window_plan((14, 22, 26), (14, 22, 26)), Voxelwise(1000.0))["a"]
    assert found.entropy is None
    assert np.isfinite(found.features).all()


def test_a_scan_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    cases = [smooth_scan(tmp_path, name) for name in "ab"]
    refused: dict[Case, DataError] = {}
    cases[0].images[0].write_bytes(b"")
    found = describe(cases, window_plan((14, 22, 26), (14, 22, 26)), Voxelwise(), refused=refused)
    assert list(found) == ["b"]
    ((case, error),) = refused.items()
    assert isinstance(case, Case)
    assert isinstance(error, DataError)
