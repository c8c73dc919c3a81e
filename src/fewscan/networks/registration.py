"""Registration of one scan with another: where on the moving image each voxel of the fixed one is found.

Affine by correlation, coarse to fine, from the best whole shift; then symmetric-forces demons. Both are SimpleITK's, on
the CPU, each in one thread, so that a result depends on no number of threads. Nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

if TYPE_CHECKING:
    import SimpleITK as sitk

Volume = Float32[np.ndarray, "z y x"]
Moving = Float32[np.ndarray, "mz my mx"]
Outcome = Literal["deformable", "affine", "none"]
# Voxels of the fixed image along an axis that an image has at least once it is shrunk: ITK's smoothing needs four.
FEWEST_VOXELS = 4
# Measured on Hippocampus, 4 labelled, 36 pairs: shrunk by 4 and by 2 the affine part takes 0.28 s and gives a Dice of
# 0.681, ending on all voxels 1.5 s and 0.663.
AFFINE_SHRINKS = (4, 2)
AFFINE_ITERATIONS = 60
# Shrink and iterations of each level. Ending on all voxels is worth 0.033 Dice there; 40 iterations instead of 15 on
# them 0.002, a level more at the start nothing.
DEMONS_LEVELS = ((2, 30), (1, 15))
# A transform that shrinks or swells an atlas by more is no anatomy, and one by which the images share less of the
# smaller one has lost it.
LARGEST_SCALE = 4.0
LEAST_OVERLAP = 0.25
# A whole shift is looked for up to this share of a side.
FARTHEST_SHIFT = 0.25


class Registration(NamedTuple):
    """Where a moving image shows what a fixed one shows.

    Attributes:
        displacement: (3, z, y, x) voxels to go from each voxel of the fixed image along z, y and x of the moving one.
        outcome: What it came from: deformable, both parts; affine, the first alone; none, the images as they lie, the
            middle of one on that of the other.

    Examples:
        >>> import numpy as np
        >>> from fewscan.networks.registration import Registration
        >>> Registration(np.zeros((3, 4, 4, 4), np.float32), "none").outcome
        'none'
    """

    displacement: np.ndarray
    outcome: Outcome


def register(fixed: Volume, moving: Moving, smoothing: float) -> Registration:
    """Register two images; a part that fails, or makes the images less alike, is left out, which the outcome says.

    Args:
        fixed: Image whose voxels are asked for.
        moving: Image in which they are looked for, of any shape.
        smoothing: Standard deviation of the Gaussian that smooths the deformation after every step, in voxels.

    Examples:
        >>> import numpy as np
        >>> from fewscan.networks.registration import register, warp
        >>> box = np.zeros((16, 16, 16), np.float32)
        >>> box[4:10, 4:12, 5:11] = 1
        >>> shifted = np.roll(box, 2, axis=1)
        >>> displacement, outcome = register(shifted, box, smoothing=0.75)
        >>> bool(abs(warp(box, displacement)[0] - shifted).mean() < 0.01)
        True
    """
    identity = Registration(_middle_on_middle(fixed, moving), "none")
    if not (_can_be_registered(fixed) and _can_be_registered(moving)):
        return identity
    affine = _or_none(lambda: _affine(fixed, moving))
    if affine is None or not _improves(fixed, moving, affine, identity.displacement):
        return identity
    deformed = _or_none(lambda: _deform(fixed, moving, affine, smoothing))
    if deformed is None or not _improves(fixed, moving, deformed, affine):
        return Registration(affine, "affine")
    return Registration(deformed, "deformable")


def warp(moving: Moving, displacement: Float[np.ndarray, "3 z y x"]) -> tuple[Volume, Bool[np.ndarray, "z y x"]]:
    """Show a moving image on the grid of the fixed one, linearly.

    Args:
        moving: Image to look values up in.
        displacement: Displacement of a registration.

    Returns:
        Values on the fixed grid, and whether each of its voxels is found on the moving image; elsewhere the nearest
        value of it stands.

    Examples:
        >>> import numpy as np
        >>> from fewscan.networks.registration import warp
        >>> row = np.array([[[1, 2, 3]]], np.float32)
        >>> one_further = np.stack((np.zeros_like(row), np.zeros_like(row), np.ones_like(row)))
        >>> values, inside = warp(row, one_further)
        >>> values.tolist(), inside.tolist()
        ([[[2.0, 3.0, 3.0]]], [[[True, True, False]]])
    """
    from scipy.ndimage import map_coordinates

    places = np.indices(displacement.shape[1:], np.float32) + displacement
    sides = np.array(moving.shape).reshape(3, 1, 1, 1)
    inside = ((places >= 0) & (places <= sides - 1)).all(axis=0)
    return map_coordinates(moving, places, order=1, mode="nearest"), inside


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two images' values; −1 where one of them is the same everywhere.

    Args:
        a: Values of any shape.
        b: As many values.

    Examples:
        >>> import numpy as np
        >>> from fewscan.networks.registration import correlation
        >>> rising = np.arange(8)
        >>> [round(correlation(rising, other), 3) for other in (3 * rising + 1, -rising, np.ones(8))]
        [1.0, -1.0, -1.0]
    """
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    if len(a) == 0:
        return -1.0
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else -1.0


def best_shift(fixed: Volume, moving: Moving) -> tuple[int, int, int]:
    """Find the whole shift under which two images correlate most, by trying all up to a quarter of the fixed sides.

    Args:
        fixed: Image whose voxels are asked for.
        moving: Image in which they are looked for; its middle lies on the fixed one's middle.

    Returns:
        Voxels along z, y and x from a place on the fixed image to the same on the moving one, from middle to middle;
        of equals the one nearest to none.

    Examples:
        >>> import numpy as np
        >>> from fewscan.networks.registration import best_shift
        >>> box = np.zeros((8, 8, 8), np.float32)
        >>> box[2:5, 3:6, 2:6] = 1
        >>> best_shift(box, np.roll(box, (1, -2), axis=(0, 2)))
        (1, 0, -2)
    """
    reach = [math.floor(side * FARTHEST_SHIFT) for side in fixed.shape]
    shifts = sorted(product(*(range(-r, r + 1) for r in reach)), key=lambda shift: sum(s * s for s in shift))
    scores = [_correlation_shifted(fixed, moving, shift) for shift in shifts]
    first, second, third = shifts[int(np.argmax(scores))]
    return first, second, third


def _correlation_shifted(fixed: Volume, moving: Moving, shift: Sequence[int]) -> float:
    """Correlation of what both show, once the moving image is looked at so many voxels further on."""
    own, other = [], []
    for side, moving_side, s in zip(fixed.shape, moving.shape, shift, strict=True):
        offset = s + (moving_side - side) // 2
        first, last = max(0, -offset), min(side, moving_side - offset)
        if last <= first:
            return -1.0
        own.append(slice(first, last))
        other.append(slice(first + offset, last + offset))
    return correlation(fixed[tuple(own)], moving[tuple(other)])


def _can_be_registered(image: Volume) -> bool:
    return min(image.shape) > 1 and bool(np.isfinite(image).all()) and float(np.ptp(image)) > 0


def _middle_on_middle(fixed: Volume, moving: Moving) -> Float32[np.ndarray, "3 z y x"]:
    """The displacement of images that are left as they lie: nothing where they are of one shape."""
    apart = [(m - f) / 2 for f, m in zip(fixed.shape, moving.shape, strict=True)]
    return np.zeros((3, *fixed.shape), np.float32) + np.array(apart, np.float32).reshape(3, 1, 1, 1)


def _or_none(run: Callable[[], np.ndarray]) -> np.ndarray | None:
    """What a call gives; None where SimpleITK raises, as it does when no voxel of one image lies on the other."""
    try:
        found = run()
    except RuntimeError:
        return None
    return found if np.isfinite(found).all() else None


def _improves(fixed: Volume, moving: Moving, displacement: np.ndarray, before: np.ndarray) -> bool:
    """Whether the images are at least as much alike as before, and share enough for that to mean something."""
    warped, inside = warp(moving, displacement)
    if inside.sum() < LEAST_OVERLAP * min(fixed.size, moving.size):
        return False
    earlier, was_inside = warp(moving, before)
    both = inside & was_inside
    return correlation(fixed[both], warped[both]) >= correlation(fixed[both], earlier[both])


def _affine(fixed: Volume, moving: Moving) -> Float32[np.ndarray, "3 z y x"]:
    """The affine part.

    Raises:
        RuntimeError: SimpleITK cannot find one, or what it found is no anatomy's.
    """
    import SimpleITK as sitk

    images = [_image(array) for array in (fixed, moving)]
    transform = sitk.AffineTransform(3)
    transform.SetCenter([(side - 1) / 2 for side in images[0].GetSize()])
    coarse = [_shrunk(image, AFFINE_SHRINKS[0]) for image in images]
    shift = best_shift(*(sitk.GetArrayFromImage(image) for image in coarse))
    middles = [[(side - 1) / 2 for side in image.GetSize()] for image in images]
    steps = coarse[0].GetSpacing()
    transform.SetTranslation([m - f + s * step for f, m, s, step in zip(*middles, reversed(shift), steps, strict=True)])
    for shrink in AFFINE_SHRINKS:
        _refine(_shrunk(images[0], shrink), _shrunk(images[1], shrink), transform)
    scale = abs(float(np.linalg.det(np.array(transform.GetMatrix()).reshape(3, 3))))
    if not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        raise RuntimeError("the affine part shrinks or swells the atlas beyond what anatomy does")
    return _displacement(transform, images[0])


def _refine(fixed: sitk.Image, moving: sitk.Image, transform: sitk.AffineTransform) -> None:
    """Improve an affine transform, in place, at one resolution."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, True)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, AFFINE_ITERATIONS, 0.5, 1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.Execute(fixed, moving)


def _deform(fixed: Volume, moving: Moving, affine: np.ndarray, smoothing: float) -> Float32[np.ndarray, "3 z y x"]:
    """The displacement after both parts: where to go first, by the demons, and from there by the affine part.

    Raises:
        RuntimeError: SimpleITK cannot find one.
    """
    import SimpleITK as sitk

    target, source = _image(fixed), _image(warp(moving, affine)[0])
    field: sitk.Image | None = None
    for shrink, iterations in DEMONS_LEVELS:
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(smoothing)
        level = _shrunk(target, shrink)
        if field is not None:
            field = _resampled(field, level)
        images = (level, _shrunk(source, shrink))
        field = demons.Execute(*images) if field is None else demons.Execute(*images, field)
    assert field is not None
    demons_part = _from_itk(sitk.GetArrayFromImage(field))
    # The affine displacement is linear in the place: looked up where the demons lead, it is exact but at the faces.
    return demons_part + np.stack([warp(part, demons_part)[0] for part in affine])


def _image(array: Volume) -> sitk.Image:
    import SimpleITK as sitk

    return sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32))


def _shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """The image with sides so many times shorter, as far as they stay long enough, smoothed before."""
    import SimpleITK as sitk

    factors = [max(1, min(factor, side // FEWEST_VOXELS)) for side in image.GetSize()]
    if max(factors) == 1:
        return image
    smooth = sitk.DiscreteGaussianImageFilter()
    smooth.SetNumberOfThreads(1)
    # Where a side is not shrunk it is not smoothed; the filter takes a variance of 0 as that.
    smooth.SetVariance([(0.5 * f) ** 2 if f > 1 else 0.0 for f in factors])
    smooth.SetUseImageSpacing(False)
    shrink = sitk.ShrinkImageFilter()
    shrink.SetNumberOfThreads(1)
    shrink.SetShrinkFactors(factors)
    shrunk: sitk.Image = shrink.Execute(smooth.Execute(image))
    return shrunk


def _resampled(field: sitk.Image, onto: sitk.Image) -> sitk.Image:
    import SimpleITK as sitk

    resample = sitk.ResampleImageFilter()
    resample.SetNumberOfThreads(1)
    resample.SetReferenceImage(onto)
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetUseNearestNeighborExtrapolator(True)
    resampled: sitk.Image = resample.Execute(field)
    return resampled


def _displacement(transform: sitk.Transform, image: sitk.Image) -> Float32[np.ndarray, "3 z y x"]:
    import SimpleITK as sitk

    fill = sitk.TransformToDisplacementFieldFilter()
    fill.SetNumberOfThreads(1)
    fill.SetReferenceImage(image)
    fill.SetOutputPixelType(sitk.sitkVectorFloat64)
    return _from_itk(sitk.GetArrayFromImage(fill.Execute(transform)))


def _from_itk(field: np.ndarray) -> Float32[np.ndarray, "3 z y x"]:
    """(z, y, x, 3) with components along x, y, z → (3, z, y, x) with components along z, y, x."""
    return np.ascontiguousarray(field[..., ::-1].transpose(3, 0, 1, 2), np.float32)
