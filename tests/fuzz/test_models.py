"""Whatever the two files of a model are: a network, or a DataError; nothing is ever unpickled."""

import copy
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.errors import DataError
from fewscan.inference.model import ModelCard, load_model, save_model
from fewscan.networks.unet import UNet, UNetSettings
from fuzz.mutations import mutated
from support.scans import PLAN

PROFILE = settings.get_profile("fuzz")
CPU = torch.device("cpu")
SMALL = UNetSettings(channels=(1, 2), dropout=(0.0, 0.0))
VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, -1, 0, 1, 2, 99, 1e308, "x", [], {}, [0], [4, 8], [1, 2, 4], "bfloat16", [[1]], True]
)
PATHS = [
    ("format",),
    ("network",),
    ("network", "channels"),
    ("network", "dropout"),
    ("plan",),
    *(
        ("plan", key)
        for key in ("kind", "size", "slice_axis", "spacing_mm", "normalisation", "class_names", "channel_names")
    ),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    card = ModelCard(method="action", network_name="teacher", network=SMALL, plan=PLAN, flips=False)
    save_model(folder, UNet(1, 2, 2, SMALL), card)
    return (folder / "model.json").read_bytes(), (folder / "model.safetensors").read_bytes()


def load(folder: Path, card: bytes, weights: bytes) -> None:
    """Load; what is loaded must be fit to predict with."""
    (folder / "model.json").write_bytes(card)
    (folder / "model.safetensors").write_bytes(weights)
    refusal = ""
    try:
        (network,), read = load_model(folder, CPU)
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(f"{folder / 'model'}")
        return
    assert all(value.dtype == torch.float32 for value in network.parameters())
    image = torch.zeros(1, len(read.plan.channel_names), 16, 16)
    with torch.no_grad():
        assert network(image).isfinite().all()


@PROFILE
@given(data=st.data())
def test_weights(folder: Path, sound: tuple[bytes, bytes], data: st.DataObject) -> None:
    card, weights = sound
    load(folder, card, data.draw(mutated([weights, weights[:600]])))


@PROFILE
@given(data=st.data())
def test_headers_of_weights(folder: Path, sound: tuple[bytes, bytes], data: st.DataObject) -> None:
    card, weights = sound
    (length,) = struct.unpack("<Q", weights[:8])
    header = data.draw(mutated([weights[8 : 8 + length]]))
    said = data.draw(st.sampled_from([len(header), len(header) + 1, 0, 2**40, 2**63, 2**64 - 1]))
    load(folder, card, struct.pack("<Q", said) + header + weights[8 + length :])


@PROFILE
@given(data=st.data())
def test_descriptions(folder: Path, sound: tuple[bytes, bytes], data: st.DataObject) -> None:
    card, weights = sound
    tree = json.loads(card)
    for *parents, leaf in data.draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=2)):
        branch = tree
        for parent in parents:
            branch = branch[parent] if isinstance(branch.get(parent), dict) else {}
        # A value is drawn as the same object again; the next change may be within it.
        branch[leaf] = copy.deepcopy(data.draw(VALUES))
    load(folder, data.draw(st.one_of(st.just(json.dumps(tree).encode()), mutated([card]))), weights)


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_by_another_name_is_refused_and_not_run(
    tmp_path: Path, sound: tuple[bytes, bytes], protocol: int
) -> None:
    (tmp_path / "model.json").write_bytes(sound[0])
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "ran"), protocol))
    with pytest.raises(DataError, match="not a readable safetensors file"):
        load_model(tmp_path, CPU)
    assert not (tmp_path / "ran").exists()


def test_what_torch_saves_is_refused(tmp_path: Path, sound: tuple[bytes, bytes]) -> None:
    (tmp_path / "model.json").write_bytes(sound[0])
    torch.save(Trap(tmp_path / "ran"), tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        load_model(tmp_path, CPU)
    assert not (tmp_path / "ran").exists()
