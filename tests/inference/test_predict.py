"""Predictions lie on the source grid, whatever that is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.data.cases import Case
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.errors import DataError
from fewscan.inference.batches import ScanInWork
from fewscan.inference.model import ModelCard, load_model, save_model
from fewscan.inference.predict import predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.inference.views import View, augmentation_views
from fewscan.io.files import read_json, write_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_scan, write_scan
from fewscan.networks.unet import UNet, UNetSettings
from support.scans import geometry, oblique, slice_plan
from support.stand_ins import standing_in

CPU = torch.device("cpu")
SMALL = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))


class Threshold(nn.Module):
    """Knows the answer: what is brighter than half is class 1."""

    def forward(self, images: Tensor) -> Tensor:
        logit = 40 * (images[:, :1] - 0.5)
        return torch.cat((-logit, logit), dim=1)


class AllBright(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat((-20 * torch.ones_like(images), 20 * torch.ones_like(images)), dim=1)


def blob(where: Geometry) -> np.ndarray:
    """Bright box in the dark, off centre on every axis so that no flip or transposition goes unseen."""
    array = np.zeros(where.shape, np.float32)
    a, b, c = where.shape
    array[a // 4 : a // 2 + 1, b // 3 : b // 3 + b // 4, c // 2 : c // 2 + c // 4] = 100
    return array


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_masks_lie_on_the_oblique_source_grid(tmp_path: Path, ending: str, axis: int) -> None:
    where = oblique((14, 24, 19))
    image = blob(where)
    path = tmp_path / f"scan{ending}"
    write_scan(path, image, where)
    case = Case("scan", (path,), None, "scan")
    plan = slice_plan(slice_axis=axis, size=(128, 128), spacing=(0.9, 0.9))
    ((_, written),) = predict_cases(Predictor((standing_in(Threshold()),)), plan, [case], tmp_path / "out", CPU)
    source, mask = read_scan(path), read_scan(written)
    assert written.name == f"scan{ending}"
    assert mask.array.shape == image.shape
    for part in ("spacing_mm", "origin", "direction"):
        assert np.allclose(getattr(mask.geometry, part), getattr(source.geometry, part), rtol=0, atol=1e-6)
    assert dice(mask.array == 1, image > 50) > 0.85


class Bright(nn.Module):
    """What is brighter than half is class 1; counts the pixels that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = 0

    def forward(self, images: Tensor) -> Tensor:
        self.pixels += images[0, 0].numel() * len(images)
        return Threshold()(images)


def disc_at(folder: Path, column: float, side: int = 40, width: int = 40) -> tuple[Case, np.ndarray]:
    """A bright disc of radius 5 in three slices, at a column; grey values as if there were more around."""
    where = geometry((3, side, width), (5.0, 1.0, 1.0))
    y, x = np.ogrid[:side, :width]
    inside = np.broadcast_to((y - side / 2) ** 2 + (x - column) ** 2 < 25, where.shape)
    write_scan(folder / "a.nii.gz", np.where(inside, 100, 10).astype(np.float32), where)
    return Case("a", (folder / "a.nii.gz",), None, "a"), inside


def predict_one(
    case: Case,
    network: nn.Module,
    plan: SlicePlan,
    folder: Path,
    views: Sequence[View] = (),
    **options: Any,
) -> tuple[np.ndarray, list[Case]]:
    cut_off: list[Case] = []
    predictor = Predictor((standing_in(network),), views)
    ((_, written),) = predict_cases(predictor, plan, [case], folder / "out", CPU, on_cut_off=cut_off.append, **options)
    return read_scan(written).array, cut_off


def test_what_the_canvas_does_not_show_is_background_and_costs_nothing(tmp_path: Path) -> None:
    case, inside = disc_at(tmp_path, 20)
    network = Bright()
    mask, cut_off = predict_one(case, network, slice_plan(size=(16, 16)), tmp_path, save_probabilities=True)
    assert np.array_equal(mask == 1, inside)
    assert network.pixels == 3 * 16 * 16
    assert not cut_off
    probs = np.load(tmp_path / "out" / "a.npz")["probabilities"]
    assert (probs[0, :, :12] == 1).all()
    assert np.allclose(probs.astype(np.float32).sum(0), 1, atol=2e-3)


@pytest.mark.parametrize("column", [27, 12, 33, 4])
@pytest.mark.parametrize("views", [0, 3])
def test_anatomy_at_the_edge_of_the_canvas_or_beyond_it_is_found_whole(tmp_path: Path, column: int, views: int) -> None:
    case, inside = disc_at(tmp_path, column)
    plan = slice_plan(size=(16, 16))
    flips = augmentation_views(False, 2, plan.turning_planes)[:views]
    mask, cut_off = predict_one(case, Bright(), plan, tmp_path, views=flips)
    assert dice(mask == 1, inside) > (0.85 if views else 0.9999)
    assert cut_off == [case]


def test_a_scan_that_the_canvas_holds_is_looked_at_once(tmp_path: Path) -> None:
    case, inside = disc_at(tmp_path, 2, 16, 16)
    network = Bright()
    mask, cut_off = predict_one(case, network, slice_plan(size=(16, 16)), tmp_path)
    assert network.pixels == 3 * 16 * 16
    assert np.array_equal(mask == 1, inside)
    assert not cut_off


def test_everywhere_bright_is_bright_everywhere(tmp_path: Path) -> None:
    case, _ = disc_at(tmp_path, 20)
    mask, cut_off = predict_one(case, AllBright(), slice_plan(size=(16, 16)), tmp_path)
    assert mask.all()
    assert cut_off == [case]


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_a_scan_of_one_slice_is_one_slice_whatever_way_it_lies(tmp_path: Path, thin: int) -> None:
    z, y, x = np.insert([24, 20], thin, 1).tolist()
    where = geometry((z, y, x), (1.0, 1.0, 1.0))
    image = np.zeros(where.shape, np.float32)
    np.moveaxis(image, thin, 0)[0, 5:12, 6:10] = 100
    write_scan(tmp_path / "flat.nii.gz", image, where)
    scan = ScanInWork(Case("flat", (tmp_path / "flat.nii.gz",), None, "flat"), slice_plan(), False)
    assert scan.images(0, 9).shape == (1, 1, 32, 32)
    case = Case("flat", (tmp_path / "flat.nii.gz",), None, "flat")
    mask, _ = predict_one(case, Threshold(), slice_plan(), tmp_path)
    assert np.array_equal(mask == 1, image == 100)


def blobs(folder: Path, slices: dict[str, int]) -> list[Case]:
    cases = []
    for name, count in slices.items():
        where = geometry((count, 20, 24), (5.0, 1.0, 1.0))
        write_scan(folder / f"{name}.nii.gz", blob(where), where)
        cases.append(Case(name, (folder / f"{name}.nii.gz",), None, name))
    return cases


def test_batches_span_scans_and_every_scan_gets_its_own_slices(tmp_path: Path) -> None:
    cases = blobs(tmp_path, {"a": 3, "b": 37, "c": 2, "d": 14, "e": 2})
    done = list(predict_cases(Predictor((standing_in(Threshold()),)), slice_plan(), cases, tmp_path / "out", CPU))
    assert [case for case, _ in done] == cases
    for case, path in done:
        assert np.array_equal(read_scan(path).array == 1, read_scan(case.images[0]).array > 50)


def test_a_scan_that_breaks_is_named_and_those_before_it_are_written(tmp_path: Path) -> None:
    cases = blobs(tmp_path, {"a": 20, "b": 20, "c": 20})
    cases[2].images[0].write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.nii\.gz: the file is empty"):
        list(predict_cases(Predictor((standing_in(Threshold()),)), slice_plan(), cases, tmp_path / "out", CPU))
    assert (tmp_path / "out" / "a.nii.gz").is_file()


@pytest.mark.parametrize("broken", ["a", "b", "c", "abc"])
def test_a_scan_that_breaks_in_between_is_left_out_where_that_is_wanted(tmp_path: Path, broken: str) -> None:
    cases = blobs(tmp_path, {"a": 20, "b": 20, "c": 20})
    for case in cases:
        if case.name in broken:
            case.images[0].write_bytes(b"")
    refused: dict[Case, DataError] = {}
    job = predict_cases(
        Predictor((standing_in(Threshold()),)),
        slice_plan(),
        cases,
        tmp_path / "out",
        CPU,
        on_refusal=refused.__setitem__,
    )
    assert [case.name for case, _ in job] == [name for name in "abc" if name not in broken]
    assert [case.name for case in refused] == list(broken)
    assert all("the file is empty" in str(error) for error in refused.values())
    assert {path.name[0] for path in (tmp_path / "out").iterdir()} == set("abc") - set(broken)


def saved(folder: Path) -> tuple[UNet, ModelCard]:
    network = UNet(1, 2, 2, SMALL).eval()
    card = ModelCard(method="action", network_name="teacher", network=SMALL, plan=slice_plan(), flips=False)
    save_model(folder, network, card)
    return network, card


def test_model_survives_saving(tmp_path: Path) -> None:
    network, card = saved(tmp_path)
    (loaded,), again = load_model(tmp_path, CPU)
    assert again == card
    image = torch.randn(1, 1, 16, 16)
    assert torch.allclose(network(image), loaded(image), atol=1e-6)
    assert not loaded.training


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.json: not there. Give the folder of a finished"):
        load_model(tmp_path, CPU)
    saved(tmp_path)
    card = read_json(tmp_path / "model.json")
    write_json(tmp_path / "model.json", {**card, "format": 99})
    with pytest.raises(DataError, match=r"model\.json: not the description of a fewscan model"):
        load_model(tmp_path, CPU)
    write_json(tmp_path / "model.json", {**card, "network": {"channels": [8, 16], "dropout": [0, 0]}})
    with pytest.raises(DataError, match="weights do not fit the network"):
        load_model(tmp_path, CPU)
    write_json(tmp_path / "model.json", card)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        load_model(tmp_path, CPU)
