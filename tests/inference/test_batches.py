"""Batches: full but the last, over scans, bounded by voxels."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.data.cases import Case
from fewscan.inference.batches import (
    MOST_PATCHES,
    MOST_VOXELS,
    ScanInWork,
    patches_at_once,
    patches_per_batch,
    scan_blocks,
)
from fewscan.io.scans import write_scan
from support.known import known
from support.scans import geometry, slice_plan
from support.windows import smooth_scan, window_plan

CPU = torch.device("cpu")


def scans(folder: Path, slices: dict[str, int]) -> Iterator[ScanInWork]:
    for name, count in slices.items():
        where = geometry((count, 20, 24), (5.0, 1.0, 1.0))
        image = np.random.default_rng(0).normal(size=where.shape).astype(np.float32)
        write_scan(folder / f"{name}.nii.gz", image, where)
        yield ScanInWork(Case(name, (folder / f"{name}.nii.gz",), None, name), slice_plan(), False)


def test_batches_are_full_but_the_last_and_span_scans(tmp_path: Path) -> None:
    blocks = list(scan_blocks(scans(tmp_path, {"a": 3, "b": 37, "c": 2, "d": 14, "e": 2}), CPU))
    assert [len(block.images) for block in blocks] == [MOST_PATCHES] * 3 + [58 - 3 * MOST_PATCHES]
    assert [piece.scan.case.name for block in blocks for piece in block.pieces if piece.is_last] == list("abcde")
    for block in blocks:
        assert np.array_equal(block.images.numpy(), np.concatenate([piece.images for piece in block.pieces]))
        assert len(block.scans) == len(block.images)
        numbers = np.arange(len(block.images))
        parts = block.split(numbers)
        assert [len(part) for _, part in parts] == [len(piece.images) for piece in block.pieces]
        assert np.array_equal(np.concatenate([part for _, part in parts]), numbers)
        assert block.voxel_shares() is None


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (320, 320), (96, 96, 48), (160, 160, 96), (512, 512, 64)])
def test_a_batch_holds_no_more_patches_and_voxels_than_its_bounds_and_at_least_one_patch(size: tuple[int, ...]) -> None:
    most, voxels = patches_per_batch(size), math.prod(size)
    assert 1 <= most <= MOST_PATCHES
    assert most == 1 or most * voxels <= MOST_VOXELS
    assert most == MOST_PATCHES or (most + 1) * voxels > MOST_VOXELS


def test_a_processor_predicts_fewer_large_patches_at_a_time_than_a_gpu(tmp_path: Path) -> None:
    sizes = ((32, 32), (128, 128), (256, 256), (512, 512), (96, 96, 48), (160, 160, 96))
    assert [patches_at_once(size, CPU) for size in sizes] == [16, 16, 4, 1, 1, 1]
    assert [patches_at_once(size, torch.device("cuda")) for size in sizes] == [patches_per_batch(s) for s in sizes]
    where = geometry((9, 200, 240), (5.0, 1.0, 1.0))
    path = tmp_path / "a.nii.gz"
    write_scan(path, np.random.default_rng(0).normal(size=where.shape).astype(np.float32), where)
    scan = ScanInWork(Case("a", (path,), None, "a"), slice_plan(size=(256, 256)), False)
    assert [len(block.images) for block in scan_blocks([scan], CPU)] == [4, 4, 1]


def test_scans_with_and_without_overlapping_patches_share_a_batch(tmp_path: Path) -> None:
    plan = window_plan((8, 16, 16), (4, 8, 8))
    cases = [smooth_scan(tmp_path, "small", (8, 16, 16)), smooth_scan(tmp_path, "large", (10, 16, 20))]
    (block,) = scan_blocks((ScanInWork(case, plan, False) for case in cases), CPU)
    shares = known(block.voxel_shares())
    assert shares.shape == (5, 8, 16, 16)
    assert (shares[0] == 1).all()
    assert shares[1:].sum().item() == pytest.approx(10 * 16 * 20)
