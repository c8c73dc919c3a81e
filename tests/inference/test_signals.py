"""Signals of quality: by hand, whatever the batches, and without a trace in the masks."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.data.cases import Case
from fewscan.evaluation.calibration import Signals
from fewscan.evaluation.shape import Expected, class_shapes, expected_shapes
from fewscan.inference.batches import MOST_PATCHES
from fewscan.inference.predict import predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.inference.quality import Assessment, QualityObserver, entropy_sums, mask_overlaps
from fewscan.inference.views import View, augmentation_views
from fewscan.io.scans import write_scan
from fewscan.networks.unet import UNet, UNetSettings
from support.known import known
from support.scans import PLAN, geometry
from support.stand_ins import standing_in
from support.windows import Voxelwise, WindowPlan, smooth_scan, window_plan

CPU = torch.device("cpu")
WHOLE = (14, 22, 26)
SPACING = (5.0, 1.0, 1.0)


class Threshold(nn.Module):
    """What is brighter is class 1, with the same certainty everywhere."""

    def __init__(self, brighter: float = 0.5, certainty: float = 20.0, shift: int = 0) -> None:
        super().__init__()
        self.brighter, self.certainty, self.shift = brighter, certainty, shift

    def forward(self, images: Tensor) -> Tensor:
        bright = torch.roll(images[:, :1] > self.brighter, self.shift, dims=3)
        logit = self.certainty * (2 * bright.float() - 1)
        return torch.cat((-logit, logit), dim=1)


def scans(folder: Path, sizes: dict[str, int], side: int = 12) -> list[Case]:
    """A bright box of `side` pixels in the middle of every slice but the first and the last."""
    cases = []
    for name, count in sizes.items():
        image = np.zeros((count, 32, 32), np.float32)
        image[1:-1, 10 : 10 + side, 10 : 10 + side] = 1
        write_scan(folder / f"{name}.nii.gz", image, geometry(image.shape, SPACING))
        cases.append(Case(name, (folder / f"{name}.nii.gz",), None, name))
    return cases


def assess(
    cases: list[Case],
    folder: Path,
    network: nn.Module,
    second: nn.Module | None = None,
    expected: dict[int, Expected] | None = None,
    views: Sequence[View] = (),
) -> dict[str, Assessment]:
    observer = QualityObserver(
        PLAN, (standing_in(second),) if second is not None else (), [expected] if expected is not None else []
    )
    job = predict_cases(Predictor((standing_in(network),), views), PLAN, cases, folder, CPU, observer=observer)
    return {case.name: observer.take(case) for case, _ in job}


def random_network(seed: int) -> UNet:
    torch.manual_seed(seed)
    return UNet(1, 2, 2, UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))).eval()


def test_a_second_network_that_sees_the_box_elsewhere_agrees_by_its_overlap(tmp_path: Path) -> None:
    found = assess(scans(tmp_path, {"a": 6}), tmp_path / "out", Threshold(), Threshold(shift=3))["a"].signals
    assert found.agreement_teacher == pytest.approx(9 / 12)
    assert found.outlier is None


def test_a_network_that_turns_with_the_image_agrees_with_itself(tmp_path: Path) -> None:
    cases = scans(tmp_path, {"a": 6})
    # Ten pixels to the right of a box are elsewhere in a turned image: 1.7 pixels off when turned back.
    turning, other = (assess(cases, tmp_path / "out", Threshold(shift=s))["a"].signals for s in (0, 10))
    assert known(turning.agreement_tta) > 0.98
    assert 0.7 < known(other.agreement_tta) < 0.95


def test_entropy_is_per_pixel_of_foreground() -> None:
    probs = torch.zeros(1, 2, 4, 4)
    probs[:, 0] = 1
    probs[0, :, 0, 0] = torch.tensor([0.0, 1.0])
    probs[0, :, 0, 1] = torch.tensor([0.5, 0.5])
    entropy, foreground = entropy_sums(probs)[0]
    assert (entropy, foreground) == pytest.approx((math.log(2), 1.5))


def test_doubt_raises_the_entropy_and_background_does_not_dilute_it(tmp_path: Path) -> None:
    sure, unsure = (
        assess(scans(tmp_path, {"a": 6}), tmp_path / "out", Threshold(certainty=c))["a"].signals.entropy
        for c in (10.0, 1.5)
    )
    longer = assess(scans(tmp_path, {"a": 6}, side=12), tmp_path / "out", Threshold(certainty=10.0))["a"]
    assert known(sure) < 0.01 < known(unsure)
    assert longer.signals.entropy == sure


def test_batches_that_span_scans_change_no_signal(tmp_path: Path) -> None:
    cases = scans(tmp_path, {"a": 5, "b": MOST_PATCHES + 4, "c": 3, "d": 9})
    network, second = random_network(0), random_network(1)
    together = assess(cases, tmp_path / "out", network, second)
    for case in cases:
        alone = assess([case], tmp_path / "out", network, second)[case.name].signals
        assert together[case.name].signals[:3] == pytest.approx(alone[:3], rel=1e-5)


def test_masks_are_the_same_bytes_with_and_without_an_observer(tmp_path: Path) -> None:
    cases, network = scans(tmp_path, {"a": 5, "b": 20}), random_network(0)
    assess(cases, tmp_path / "watched", network, random_network(1), expected_of(6))
    for case, path in predict_cases(Predictor((network,)), PLAN, cases, tmp_path / "alone", CPU):
        assert path.read_bytes() == (tmp_path / "watched" / f"{case.name}.nii.gz").read_bytes()


def test_signals_are_those_of_the_canvas_as_it_is_where_views_are_averaged(tmp_path: Path) -> None:
    cases, network = scans(tmp_path, {"a": 5}), random_network(0)
    plain = assess(cases, tmp_path / "out", network)["a"]
    averaged = assess(cases, tmp_path / "out", network, views=augmentation_views(True, 2, PLAN.turning_planes))["a"]
    assert plain == averaged


@pytest.mark.parametrize("count", [3, 4])
def test_one_slice_with_foreground_is_enough_to_compare(tmp_path: Path, count: int) -> None:
    signals = assess(scans(tmp_path, {"a": count}), tmp_path / "out", Threshold(), Threshold())["a"].signals
    assert signals.agreement_teacher == 1


def test_nothing_segmented_is_nothing_compared(tmp_path: Path) -> None:
    found = assess(scans(tmp_path, {"a": 5}), tmp_path / "out", Threshold(2.0), Threshold(), expected_of(12))["a"]
    assert (found.signals.agreement_teacher, found.signals.agreement_tta) == (None, None)
    assert found.signals.outlier == 10
    assert found.outlier_reason == "bright is missing, every labelled case has it"


def expected_of(side: int) -> dict[int, Expected]:
    mask = np.zeros((6, 32, 32), np.uint8)
    mask[1:-1, 10 : 10 + side, 10 : 10 + side] = 1
    return expected_shapes([class_shapes(mask, SPACING, 0, 2)])


def test_a_mask_of_an_odd_size_is_an_outlier(tmp_path: Path) -> None:
    cases = scans(tmp_path, {"a": 6})
    usual, odd = (assess(cases, tmp_path / "out", Threshold(), None, expected_of(side))["a"] for side in (12, 3))
    assert (usual.signals.outlier, usual.outlier_reason) == (0, "")
    assert known(odd.signals.outlier) > 3
    assert odd.outlier_reason.startswith("bright: volume 2.88 ml, labelled 0.18 to 0.18 ml")


@pytest.mark.parametrize("ndim", [2, 3])
def test_voxels_count_for_their_shares(ndim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    size = (4, 5, 6)[:ndim]
    probs = torch.rand(2, 3, *size, generator=generator).softmax(dim=1)
    shares = torch.rand(2, *size, generator=generator)
    for number in range(2):
        entropy = sum(
            float(share) * float(-(p * p.log()).sum())
            for p, share in zip(probs[number].flatten(1).T, shares[number].flatten(), strict=True)
        )
        foreground = float(((1 - probs[number, 0]) * shares[number]).sum())
        assert entropy_sums(probs, shares)[number] == pytest.approx((entropy, foreground), rel=1e-5)
    first, second = torch.randint(3, (2, 2, *size), generator=generator)
    found = mask_overlaps(first, second, [[1], [1, 2]], shares)
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        both = shares[number][(a == 1) & (b == 1)].sum()
        total = shares[number][a > 0].sum() + shares[number][b > 0].sum()
        assert found[number, 0, 0].item() == pytest.approx(float(both), rel=1e-5)
        assert found[number, 1, 1].item() == pytest.approx(float(total), rel=1e-5)


def test_overlaps_are_counted_per_class_and_slice() -> None:
    first = torch.tensor([[[0, 1], [2, 2]], [[1, 1], [0, 0]]])
    second = torch.tensor([[[0, 1], [1, 2]], [[0, 0], [0, 0]]])
    assert mask_overlaps(first, second, [[1], [2]]).tolist() == [[[1, 3], [1, 3]], [[0, 2], [0, 0]]]
    # A region of both: which of them it is does not matter.
    assert mask_overlaps(first, second, [[1, 2]]).tolist() == [[[3, 6]], [[0, 2]]]


def assess_windows(case: Case, folder: Path, plan: WindowPlan, middle: float) -> Signals:
    observer = QualityObserver(plan, (standing_in(Voxelwise(middle)),))
    ((case, _),) = predict_cases(Predictor((standing_in(Voxelwise()),)), plan, [case], folder, CPU, observer=observer)
    return observer.take(case).signals


@pytest.mark.parametrize(("size", "step"), [((8, 22, 26), (3, 22, 26)), ((10, 14, 16), (4, 5, 6))])
def test_patches_that_overlap_give_the_signals_of_the_scan_in_one(
    tmp_path: Path, size: tuple[int, int, int], step: tuple[int, int, int]
) -> None:
    case = smooth_scan(tmp_path)
    # The second network sees less than the first one, so that every patch that shows its foreground is looked at.
    plans = (window_plan(WHOLE, WHOLE), window_plan(size, step))
    whole, cut = (assess_windows(case, tmp_path / "out", plan, 0.6) for plan in plans)
    assert cut.entropy == pytest.approx(whole.entropy, rel=1e-5)
    assert cut.agreement_teacher == pytest.approx(whole.agreement_teacher, rel=1e-5)
    assert 0.7 < known(whole.agreement_teacher) < 0.95
    # Each patch is turned about its own middle.
    assert cut.agreement_tta == pytest.approx(whole.agreement_tta, abs=0.03)


def test_a_volume_that_has_no_plane_to_turn_in_has_no_agreement_with_a_turned_view(tmp_path: Path) -> None:
    plan = window_plan(WHOLE, WHOLE, (4.0, 2.0, 1.0))
    found = assess_windows(smooth_scan(tmp_path), tmp_path / "out", plan, 0.6)
    assert found.agreement_tta is None
    assert found.agreement_teacher is not None
