"""Descriptions of scans: by hand, whatever the patches, and of scans that show nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.data.cases import Case
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.pictures.plan import PicturePlan
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.preprocess import load_canvas
from fewscan.errors import DataError
from fewscan.inference.describe import Description, describe_cases, pool
from fewscan.inference.predictor import Predictor
from fewscan.io.scans import write_scan
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.tasks.base import task_of
from support.discs import draw_discs
from support.scans import PLAN, geometry
from support.stand_ins import standing_in
from support.windows import Voxelwise, WindowPlan, smooth_scan, window_plan

CPU = torch.device("cpu")


def describe(
    cases: list[Case],
    plan: SlicePlan | WindowPlan,
    *networks: UNet | Voxelwise,
    refused: dict[Case, DataError] | None = None,
) -> dict[str, Description]:
    on_refusal = {} if refused is None else refused
    return dict(describe_cases(Predictor(tuple(map(standing_in, networks))), plan, cases, CPU, on_refusal.__setitem__))


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


class Bright(Voxelwise):
    """Is sure that what is bright is inside an object; its bottleneck is the image."""

    def logits_and_pyramid(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        bright = images[:, :1]
        return torch.cat((1 - bright, bright, -torch.ones_like(bright)), 1) * 9, [images]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits_and_pyramid(images)[0]


def test_objects_of_two_views_are_counted_once_whatever_windows_show_them(tmp_path: Path) -> None:
    picture = draw_discs((40, 70), [(20, 12, 8), (20, 55, 8), (12, 33, 6)]) > 0
    grid = geometry((1, *picture.shape), (1.0, 1.0, 1.0))
    write_scan(tmp_path / "a_0000.nii.gz", picture[None].astype(np.float32), grid)
    case = Case("a", (tmp_path / "a_0000.nii.gz",), None, "a")
    for size in ((40, 70), (40, 40)):
        plan = PicturePlan(
            dataset="test",
            channel_names=("light",),
            class_names=("background", "cell"),
            task="instances",
            size=size,
            spacing_mm=(1.0, 1.0),
            foreground=0.3,
            normalisation=(Normalisation(scheme="minmax"),),
        )
        network = standing_in(Bright())
        for task, wanted in ((task_of(plan), 3), (None, None)):
            found = dict(describe_cases(Predictor((network,)), plan, [case], CPU, lambda *_: None, task))["a"]
            # Objects that windows cut count somewhat more than once.
            assert found.objects == (None if wanted is None else pytest.approx(3, abs=0 if size[1] == 70 else 0.8))
            assert found.doubt == (None if wanted is None else pytest.approx(0, abs=0.01))
            assert found.uncertainty == (found.entropy if wanted is None else found.doubt)
