"""Exemplars on disk and together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewscan.data.exemplars import Exemplars, count_by_site
from fewscan.errors import DataError


def some(site: str, count: int = 3, largest: int = 2) -> Exemplars:
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 2, 4, 6, generator=generator)
    return Exemplars.of(images, torch.randint(largest + 1, (count, 4, 6), generator=generator), site)


def same(a: Exemplars, b: Exemplars) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.sites == b.sites


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    kept = some("A").joined(some("B mit Ümlaut", count=2))
    kept.save(tmp_path / "memory.safetensors")
    assert same(Exemplars.load(tmp_path / "memory.safetensors"), kept)


def test_equal_exemplars_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        some("A").save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_sites_are_joined_in_order_and_taken_out_by_name() -> None:
    both = some("A").joined(some("B", count=2))
    assert count_by_site(both.sites) == {"A": 3, "B": 2}
    assert same(both.without("A"), some("B", count=2))
    assert same(both.without("nobody"), both)


def test_numbers_of_many_objects_are_kept() -> None:
    many = some("A", largest=3)
    many = Exemplars.of(many.images, many.labels.int() * 1000, "A")
    assert many.labels.dtype == torch.int32
    assert int(some("B").joined(many).labels.max()) == 3000
    assert some("A").labels.dtype == torch.uint8


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "no sites", "unlike"])
def test_other_files_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "memory.safetensors"
    kept = some("A")
    if damage == "cut":
        kept.save(path)
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "other":
        path.write_bytes(b"not safetensors")
    elif damage == "no sites":
        save_file({"images": kept.images, "labels": kept.labels}, path)
    elif damage == "unlike":
        save_file({"images": kept.images, "labels": kept.labels[1:]}, path, {"sites": '["A", "A", "A"]'})
    with pytest.raises(DataError, match=r"memory\.safetensors"):
        Exemplars.load(path)
