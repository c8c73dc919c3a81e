"""A model's files say what it is, in this format and the one before; they never make code run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fewscan.errors import DataError
from fewscan.inference.model import FORMAT, ModelCard, load_model, read_card, save_model
from fewscan.io.files import read_json, write_json
from fewscan.networks.layout import weights_channels_last
from fewscan.networks.segmenter import build_network
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.registry import NETWORKS
from support.scans import PLAN
from support.steps import DEEP_NETWORK

CPU = torch.device("cpu")
SMALL = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))
OUTSIDE = """
from pathlib import Path
from fewscan.networks.unet import UNet, UNetSettings

Path(__file__).with_name("ran").touch()

class NarrowSettings(UNetSettings):
    channels: tuple[int, ...] = (2, 4)
    dropout: tuple[float, ...] = (0.0, 0.0)

class Narrow(UNet):
    Settings = NarrowSettings
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a network in the current folder, forgotten afterwards."""
    name = f"outside_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    yield f"{name}:Narrow"
    sys.modules.pop(name, None)
    if f"{name}:Narrow" in NETWORKS:
        NETWORKS.unregister(f"{name}:Narrow")


def card_of(network: Any = SMALL) -> ModelCard:
    return ModelCard(method="action", network_name="teacher", network=network, plan=PLAN, flips=False)


@pytest.mark.parametrize("settings", [SMALL, DEEP_NETWORK])
def test_a_model_is_read_as_it_was_written(tmp_path: Path, settings: UNetSettings) -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, 2, settings).eval()
    save_model(tmp_path, network, card_of(settings))
    told = read_json(tmp_path / "model.json")
    assert (told["format"], told["ndim"]) == (FORMAT, 2)
    assert (told["network"]["kind"], tuple(told["network"]["channels"])) == ("unet", settings.channels)
    assert told["network"]["deep_supervision"] is settings.deep_supervision
    (restored,), card = load_model(tmp_path, CPU)
    assert card == card_of(settings)
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(restored(images), weights_channels_last(network)(images))


def test_the_format_before_is_of_2d_unets(tmp_path: Path) -> None:
    network = UNet(1, 2, 2, SMALL).eval()
    save_model(tmp_path, network, card_of())
    told = read_json(tmp_path / "model.json")
    del told["ndim"], told["network"]["kind"]
    write_json(tmp_path / "model.json", {**told, "format": 1})
    (restored,), card = load_model(tmp_path, CPU)
    assert (card.format, card.ndim, card.network) == (1, 2, SMALL)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in restored.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1}, f"less than or equal to {FORMAT}"),
        ({"ndim": "2"}, "ndim is '2', the plan"),
        ({"network": {"kind": 7}}, "kind must be the name of a network"),
        ({"network": {"kind": "unet", "chanels": [4, 8]}}, r"network\.chanels"),
        ({"network": {"kind": "wnet"}}, "the network 'wnet' is not known here.* say --network wnet"),
        ({"ndim": 3}, "ndim is 3, the plan gives images of 2 axes"),
        ({"plan": {"kind": "cubes"}}, "the plan 'cubes' is not known here.* say --plan cubes"),
        (
            {"plan": {"task": "knots"}},
            r"task 'knots' is not known here.* trust it, TASKS\.load\('knots'\) in Python",
        ),
    ],
)
def test_what_is_no_model_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save_model(tmp_path, UNet(1, 2, 2, SMALL), card_of())
    write_json(tmp_path / "model.json", {**read_json(tmp_path / "model.json"), **change})
    with pytest.raises(DataError, match=message) as caught:
        load_model(tmp_path, CPU)
    assert str(caught.value).startswith(f"{tmp_path / 'model'}")


def test_a_model_that_names_code_runs_none_until_somebody_here_names_it(tmp_path: Path, outside: str) -> None:
    save_model(tmp_path, UNet(1, 2, 2, SMALL), card_of())
    told = {**read_json(tmp_path / "model.json"), "network": {"kind": outside}}
    write_json(tmp_path / "model.json", told)
    with pytest.raises(DataError, match=rf"{outside}.* no code is imported .* If you trust it, say --network"):
        read_card(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert outside.partition(":")[0] not in sys.modules
    NETWORKS.load(outside)
    card = read_card(tmp_path)
    assert (card.network.kind, card.network.stride) == (outside, 2)
    save_model(tmp_path, build_network(1, 2, card.ndim, card.network), card)
    (network,), again = load_model(tmp_path, CPU)
    assert again == card
    assert type(network).__name__ == "Narrow"
