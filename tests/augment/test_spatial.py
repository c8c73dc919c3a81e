import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.augment.spatial import SpatialSettings, sample_grid, warp_confidence, warp_images, warp_labels
from fewscan.classes import IGNORED
from support.known import known

NOTHING = SpatialSettings(rotation_degrees=0, scale=0, shift=0)


@pytest.mark.parametrize("size", [(8, 6), (1, 5), (4, 6, 5)])
def test_no_strength_changes_nothing(size: tuple[int, ...], generator: torch.Generator) -> None:
    images = torch.randn(2, 3, *size, generator=generator)
    labels = torch.randint(4, (2, *size), generator=generator)
    grid = sample_grid(NOTHING, 2, size, generator)
    assert torch.allclose(warp_images(images, grid), images, atol=1e-5)
    assert torch.equal(warp_labels(labels, grid), labels)
    confidence = torch.rand(2, *size, generator=generator)
    assert torch.allclose(warp_confidence(confidence, grid), confidence, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (4, 4, 4)])
def test_flips_and_quarter_turns_move_image_and_label_alike_and_lose_nothing(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    strong = NOTHING.model_copy(update={"flip": 0.5, "quarter_turns": True})
    labels = torch.randint(5, (6, *size), generator=generator)
    grid = sample_grid(strong, 6, size, generator)
    warped = warp_labels(labels, grid)
    assert torch.allclose(warp_images(labels[:, None].float(), grid)[:, 0], warped.float(), atol=1e-3)
    assert torch.equal(warped.flatten(1).sort()[0], labels.flatten(1).sort()[0])
    assert not torch.equal(warped, labels)


def test_rotation_is_rigid_in_pixels_on_oblong_images() -> None:
    # A quarter turn by rotation alone: a bar of 3×9 pixels becomes one of 9×3, whatever the image's aspect.
    image = torch.zeros(1, 1, 21, 41)
    image[..., 9:12, 16:25] = 1
    turn = NOTHING.model_copy(update={"rotation_degrees": 90.0})

    best = 0.0
    for seed in range(400):
        grid = sample_grid(turn, 1, (21, 41), torch.Generator().manual_seed(seed))
        warped = warp_images(image, grid)
        assert float(warped.sum()) == pytest.approx(27, rel=0.15)
        best = max(best, float(warped[..., 6:15, 19:22].sum()))
    assert best > 24


def test_a_turn_is_by_any_angle_and_as_frequent_as_asked_for() -> None:
    # Where the first axis points to after the rotation tells the angle.
    turned = NOTHING.model_copy(update={"turn": 0.25})
    grid = sample_grid(turned, 4000, (9, 9), torch.Generator().manual_seed(0))
    along = grid[:, 4, 8] - grid[:, 4, 0]
    angles = torch.atan2(along[:, 1], along[:, 0])
    moved = angles[angles.abs() > 1e-4]
    assert len(moved) == pytest.approx(1000, abs=100)
    quadrants = torch.histc(moved, 4, -torch.pi, torch.pi)
    assert quadrants.tolist() == pytest.approx([len(moved) / 4] * 4, rel=0.2)


@pytest.mark.parametrize(
    ("asked", "turned", "got"), [(None, 0.0, 0.0), (None, 0.01, 0.0), (0.0, 0.5, 0.0), (0.7, 0.0, 0.7)]
)
def test_turning_is_decided_by_the_data_set_unless_it_is_set(asked: float | None, turned: float, got: float) -> None:
    assert SpatialSettings(turn=asked).resolved(turned).turn == got


def test_turned_scans_turn_the_training_images() -> None:
    assert known(SpatialSettings().resolved(0.2).turn) > 0


def test_without_turns_the_draws_are_those_of_before_there_were_any() -> None:
    grids = [
        sample_grid(SpatialSettings(turn=turn), 3, (8, 8), torch.Generator().manual_seed(0)) for turn in (None, 0.0)
    ]
    assert torch.equal(*grids)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_any_draw_keeps_values_and_inputs(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (2, height, width), generator=generator)
    images = torch.randn(2, 1, height, width, generator=generator)
    before = labels.clone(), images.clone()
    everything = SpatialSettings(quarter_turns=True, flip=0.5, deformation=0.05)
    grid = sample_grid(everything, 2, (height, width), generator)
    assert set(warp_labels(labels, grid).unique().tolist()) <= {0, *labels.unique().tolist()}
    warped = warp_images(images, grid)
    assert images.min() - 1e-5 <= warped.min()
    assert warped.max() <= images.max() + 1e-5
    assert torch.equal(before[0], labels)
    assert torch.equal(before[1], images)


def test_same_generator_same_grid_and_images_differ_from_each_other() -> None:
    strong = SpatialSettings(deformation=0.03)
    first, second = (sample_grid(strong, 3, (8, 8), torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1])


def test_nothing_is_known_beyond_the_border() -> None:
    far = torch.full((1, 4, 4, 2), 3.0)
    assert not warp_confidence(torch.ones(1, 4, 4), far).any()
    assert not warp_labels(torch.ones(1, 4, 4, dtype=torch.long), far).any()


def test_beyond_the_border_is_background_but_for_what_is_ignored() -> None:
    labels = torch.tensor([[[1, 1], [IGNORED, IGNORED]]])
    grid = torch.nn.functional.affine_grid(3 * torch.eye(2, 3)[None], [1, 1, 6, 6], align_corners=False)
    # The image is the middle third of the view.
    assert warp_labels(labels, grid)[0].tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        *[[IGNORED] * 6] * 3,
    ]
