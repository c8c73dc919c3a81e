"""Masks of pictures: in which files they are written, and which pictures a model does not take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewscan.commands.predict import predict
from fewscan.data.plans.base import Normalisation, Pictures
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.errors import DataError
from fewscan.inference.model import ModelCard, save_model
from fewscan.io.geometry import LengthUnit
from fewscan.io.scans import is_ours, read_mask
from fewscan.io.tables import read_table
from fewscan.networks.unet import UNet, UNetSettings
from support.models import save_untrained
from support.pictures import noise, png, saved, tiff, write
from support.scans import make_dataset

SIZE = {282: (20000, 1), 283: (20000, 1), 296: 3}
GREY, COLOURS = noise((20, 24)), noise((20, 24, 3))


def untrained(folder: Path, pictures: Pictures) -> Path:
    """A model for pictures in colours, always the same."""
    network = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))
    plan = SlicePlan(
        dataset="Discs",
        channel_names=("R", "G", "B"),
        class_names=("background", "disc"),
        slice_axis=0,
        size=(32, 32),
        spacing_mm=(1.0, 1.0) if pictures.unit == "pixel" else (5e-4, 5e-4),
        normalisation=(Normalisation(scheme="zscore"),) * 3,
        pictures=pictures,
    )
    folder.mkdir()
    torch.manual_seed(0)
    card = ModelCard(method="supervised", network_name="student", network=network, plan=plan, flips=False)
    save_model(folder, UNet(3, 2, 2, network), card)
    return folder


def test_masks_end_as_their_pictures_do_but_for_those_of_jpegs(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", Pictures(unit="pixel"))
    for name, content in (
        ("a.jpg", saved(Image.fromarray(COLOURS), "JPEG")),
        ("b.png", png(GREY)),
        ("c_0000.tif", tiff([COLOURS], changes=SIZE)),
    ):
        write(tmp_path / name, content)
    masks = predict(
        run, [tmp_path / name for name in ("a.jpg", "b.png", "c_0000.tif")], output=tmp_path / "out", quality=False
    )
    assert [mask.name for mask in masks] == ["a.png", "b.png", "c.tif"]
    for mask in masks:
        assert is_ours(mask)
        assert read_mask(mask).array.shape == (1, 20, 24)
        with Image.open(mask) as image:
            assert set(np.unique(np.array(image))) <= {0, 1}
    rows = {row["case"]: float(row["pixels"]) for row in read_table(tmp_path / "out/volumes.csv")}
    assert rows == {mask.stem: float(read_mask(mask).array.sum()) for mask in masks}
    # Again: they are ours to write over, and pictures of somebody else's are not.
    write(tmp_path / "out/b.png", png(GREY))
    with pytest.raises(DataError, match=r"no `fewscan predict` wrote.*b\.png"):
        predict(run, [tmp_path / "b.png"], output=tmp_path / "out")


@pytest.mark.parametrize(
    ("unit", "name", "content", "words"),
    [
        ("pixel", "a.nii.gz", None, r"trained on pictures \(PNG, TIFF, JPEG\)"),
        ("um", "a.png", png(COLOURS, kind=2), "does not say how large its pixels are"),
    ],
)
def test_what_a_model_of_pictures_does_not_take_is_left_out(
    tmp_path: Path, unit: LengthUnit, name: str, content: bytes | None, words: str
) -> None:
    pictures = Pictures(unit="um", pixel_size_um="files") if unit == "um" else Pictures(unit="pixel")
    run = untrained(tmp_path / "run", pictures)
    if content is None:
        make_dataset(tmp_path / "set", labelled=1, unlabelled=0, channels=3)
        inputs = [tmp_path / "set/imagesTr"]
    else:
        inputs = [write(tmp_path / name, content)]
    with pytest.raises(DataError, match=words):
        predict(run, inputs, output=tmp_path / "out", quality=False)


def test_a_model_of_scans_takes_no_picture(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = save_untrained(tmp_path / "run")
    with pytest.raises(DataError, match=r"a\.png: the model was trained on scans, with a place and lengths in mm"):
        predict(run, [write(tmp_path / "a.png", png(GREY))], output=tmp_path / "out", quality=False)


def test_a_size_that_dataset_json_gave_is_that_of_every_picture(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", Pictures(unit="um", pixel_size_um=0.5))
    (mask,) = predict(run, [write(tmp_path / "a.png", png(COLOURS, kind=2))], output=tmp_path / "out", quality=False)
    found = read_mask(mask)
    assert np.allclose(found.geometry.spacing_mm[1:], 5e-4)
    (row,) = read_table(tmp_path / "out/volumes.csv")
    assert float(row["um2"]) == pytest.approx(found.array.sum() / 4)
