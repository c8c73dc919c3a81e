"""Segment NIfTI scans with an exported network, by NumPy alone: python predict.py SCAN... -o FOLDER.

SCAN is a file of one channel, or the files of all channels of one scan with commas between. pipeline.json beside this
file has the numbers that this model was trained with; what is done with them is here, step by step:

    read_scan → normalise → to_canvas → the network → to_scan → the class of the largest probability → postprocess

Arrays are (z, y, x): x to the patient's left, y to the back, z to the head, whatever order a file stores.
Needs numpy, nibabel and onnxruntime.
"""

from __future__ import annotations

import argparse
import glob
import json
import math
from collections.abc import Callable, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np

Network = Callable[[np.ndarray], np.ndarray]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
MM_PER_UNIT = {1: 1000.0, 3: 0.001}


class Scan(NamedTuple):
    """A channel of a scan, or what lies on its grid.

    Attributes:
        array: Values (z, y, x), as described above.
        spacing: Sides (z, y, x) of a voxel in mm.
        image: NIfTI image that was read.
        order: Stored axis (0 to 2 for x to z) of each of z, y and x.
        flipped: Axes of `array` that run against the stored ones.
    """

    array: np.ndarray
    spacing: tuple[float, ...]
    image: Any
    order: tuple[int, ...]
    flipped: tuple[int, ...]


class AxisMap(NamedTuple):
    """One axis: voxel i of the canvas lies at voxel scale · i + offset of the scan."""

    canvas: int
    source: int
    scale: float
    offset: float

    def to_canvas(self) -> np.ndarray:
        """Weights (canvas, source): a triangle as wide as a voxel of the canvas, so that shrinking averages."""
        centres = self.scale * np.arange(self.canvas) + self.offset
        return _triangles(centres, self.source, max(self.scale, 1.0))

    def to_source(self) -> np.ndarray:
        """Weights (source, canvas), linear; rows of zeros for what lies beyond the canvas."""
        positions = (np.arange(self.source) - self.offset) / self.scale
        return _triangles(positions, self.canvas, max(1 / self.scale, 1.0))


def _triangles(centres: np.ndarray, count: int, width: float) -> np.ndarray:
    weights = np.clip(1 - np.abs(np.arange(count) - centres[:, None]) / width, 0, None)
    weights[(centres <= -0.5) | (centres >= count - 0.5)] = 0
    total = weights.sum(axis=1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32)


# Reading: the header's spacing is pixdim's; axes are the sform's where its scale is the same, else the qform's.


def read_scan(path: Path) -> Scan:
    """Read a NIfTI file of one frame and bring its axes to the order above."""
    image: Any = nibabel.load(path)
    array = np.asanyarray(image.dataobj)
    if math.prod(array.shape[3:]) != 1:
        raise SystemExit(f"{path}: has {math.prod(array.shape[3:])} frames, and one is wanted")
    array = array.reshape((*array.shape, 1, 1)[:3])
    lengths = np.array([*map(float, image.header.get_zooms()), 1.0, 1.0][:3])
    axes = LPS_TO_RAS @ _axes(image, lengths)
    order, flipped = _nearest_axes(axes)
    canonical = np.flip(array.transpose(order), flipped)
    mm = lengths * MM_PER_UNIT.get(int(image.header["xyzt_units"]) & 7, 1.0)
    return Scan(np.ascontiguousarray(canonical, np.float32), tuple(mm[list(order)].tolist()), image, order, flipped)


def _axes(image: Any, lengths: np.ndarray) -> np.ndarray:
    """Unit vectors of the stored axes as columns, in NIfTI's convention."""
    forms = [image.header.get_sform(coded=True), image.header.get_qform(coded=True)]
    coded = [affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine, code in forms if code]
    affine, code = forms[0]
    if code and not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), lengths, rtol=1e-2, atol=0):
        coded.reverse()
    return coded[0] if coded else np.eye(3)


def _nearest_axes(axes: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which stored axis is nearest to each of z, y and x, and which of these run against it."""
    left, _, right = np.linalg.svd(axes)
    cosines = left @ right
    ways = []
    for order in permutations(range(3)):
        own = cosines[[0, 1, 2], order]
        pointing = np.round((cosines[:, order] * np.where(own < 0, -1, 1)).ravel(), 3)
        ways.append((np.abs(own).sum(), tuple(pointing), order, own < 0))
    most = max(way[0] for way in ways)
    # Scans that are turned by 45° are as near in two ways: where the axes point decides.
    _, _, order, against = max((way for way in ways if way[0] > most - 1e-4), key=lambda way: way[1])
    return order[::-1], tuple(axis for axis in range(3) if against[2 - axis])


def write_mask(path: Path, mask: np.ndarray, scan: Scan) -> None:
    """Write a mask in the order of axes that the scan's file has, with its header but for the texts."""
    stored = np.flip(mask, scan.flipped).transpose(np.argsort(scan.order)).reshape(scan.image.shape)
    header = scan.image.header.copy()
    # Texts of the scan's header may name the patient.
    header.extensions.clear()
    for text in ("descrip", "aux_file", "intent_name", "db_name"):
        if text in header:
            header[text] = b""
    image = type(scan.image)(stored, None, header)
    image.set_data_dtype(mask.dtype)
    image.header.set_slope_inter(1, 0)
    nibabel.save(image, path)


# Intensities, measured on what is left when outer slices of one value, and what fills the corners, are taken off.


def normalise(volume: np.ndarray, how: dict[str, Any]) -> np.ndarray:
    """Make intensities comparable, as pipeline.json says of the channel."""
    volume = volume.astype(np.float32)
    if how["scheme"] == "ct":
        return (volume.clip(how["ct"]["lower"], how["ct"]["upper"]) - how["ct"]["mean"]) / how["ct"]["std"]
    if how["scheme"] == "percentile":
        lower, upper = (float(value) for value in np.percentile(volume, (1.0, 99.8)))
        lower, upper = (lower, upper) if lower < upper else (float(volume.min()), float(volume.max()))
        return (volume - lower) / ((upper - lower) or 1.0)
    border = border_of(volume)
    content = volume[~border]
    full = content if content.min() < content.max() else volume
    lowest, highest = float(full.min()), float(full.max())
    if how["scheme"] == "minmax":
        return (volume.clip(lowest, highest) - lowest) / ((highest - lowest) or 1.0)
    lower, upper = (float(value) for value in np.percentile(content, (0.5, 99.5)))
    if lower < upper:
        content = content.clip(lower, upper)
        centre = float(content.mean())
        with np.errstate(over="ignore", under="ignore"):
            unit = float(np.sqrt(np.square(content - np.float32(centre)).mean()))
        unit = unit if 0 < unit < math.inf else (upper - lower) / 2
    else:
        lower, upper = lowest, highest
        centre, unit = (lower + upper) / 2, (upper - lower) / 2 or 1.0
    reach = upper - lower
    around = volume[border].clip(lower - reach, upper + reach)
    volume = volume.clip(lower, upper)
    volume[border] = around
    return (volume - np.float32(centre)) / np.float32(unit)


def border_of(volume: np.ndarray) -> np.ndarray:
    """Where a scan (z, y, x) shows nothing but what it was filled up with."""
    whole = tuple(slice(0, side) for side in volume.shape)
    boxes = [whole, *(_bounds(volume != value) or whole for value in _corner_values(volume))]
    box = min(boxes, key=lambda part: math.prod(side.stop - side.start for side in part))
    border = np.ones(volume.shape, bool)
    border[box] = False
    inside = volume[box]
    sides = [max(1, round(side / 16)) for side in inside.shape]
    corners = [inside[corner] for corner in product(*[(slice(0, side), slice(-side, None)) for side in sides])]
    for value in _corner_values(inside):
        share = np.count_nonzero(inside == value) / inside.size
        if sum(bool((corner == value).all()) for corner in corners) >= 4 and 1 / 8 <= share < 1:
            border[box] = inside == value
            break
    return border


def _corner_values(volume: np.ndarray) -> np.ndarray:
    values, counts = np.unique(volume[np.ix_(*[[0, -1]] * 3)], return_counts=True)
    return values[counts >= 4]


def _bounds(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds all that is true; None where nothing is."""
    shown = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in shown) if len(shown[0]) else None


# The canvas: what the network is shown of a scan, slice by slice or in windows.


class Slices:
    """Every slice of a scan on its own, resampled in its plane around its centre."""

    def __init__(self, numbers: dict[str, Any], shape: Sequence[int], spacing: Sequence[float]) -> None:
        thin = [axis for axis, side in enumerate(shape) if side == 1]
        self.axis = thin[0] if len(thin) == 1 else int(numbers["slice_axis"])
        in_plane = [axis for axis in range(3) if axis != self.axis]
        self.maps, self.covering = [], None
        size, pixels = numbers["size"], numbers["spacing_mm"]
        if pixels is None:
            self.maps = [_centred(size[i], shape[axis], shape[axis] / size[i]) for i, axis in enumerate(in_plane)]
            return
        self.maps = [_centred(size[i], shape[axis], pixels[i] / spacing[axis]) for i, axis in enumerate(in_plane)]
        step = math.gcd(*size)
        filled = [shape[axis] * spacing[axis] / pixels[i] for i, axis in enumerate(in_plane)]
        larger = [max(s, math.ceil(f / step - 1e-6) * step) for s, f in zip(size, filled, strict=True)]
        # Numbers of slices that show all of the scan; None: these do.
        self.covering = {**numbers, "size": larger} if larger != size else None

    def to_canvas(self, volume: np.ndarray) -> np.ndarray:
        """Show a channel (z, y, x) on the canvas (slices, height, width); beyond the scan its darkest value."""
        rows, columns = (m.to_canvas() for m in self.maps)
        slices = np.moveaxis(volume, self.axis, 0)
        return rows @ (slices - volume.min()) @ columns.T + volume.min()

    def probabilities(self, canvas: np.ndarray, network: Network) -> np.ndarray:
        """Ask the network about each slice: (c, slices, height, width) → (k, z, y, x) on the scan's grid."""
        rows, columns = (m.to_source() for m in self.maps)
        found = [rows @ network(canvas[None, :, number])[0] @ columns.T for number in range(canvas.shape[1])]
        return np.moveaxis(with_background(np.stack(found, axis=1)), 1, self.axis + 1)

    def is_cut_off(self, mask: np.ndarray) -> bool:
        """Whether a mask meets the edge of the canvas along a line that is long for what the slice shows."""
        foreground = np.moveaxis(mask, self.axis, 0) > 0
        areas = foreground.sum(axis=(1, 2))
        lengths = [
            foreground.take(edge, axis=1 + i).sum(axis=1)
            for i, m in enumerate(self.maps)
            for edge, beyond in _edges(m)
            if beyond
        ]
        return not areas.any() or any(((n >= 3) & (n**2 >= 0.1 * areas)).any() for n in lengths)


class Volumes:
    """All of a scan, or its middle, in voxels of one size, in windows that overlap by half or more."""

    def __init__(self, numbers: dict[str, Any], shape: Sequence[int], spacing: Sequence[float]) -> None:
        self.size, self.voxel_mm = tuple(numbers["size"]), spacing
        scales = [own / scan for own, scan in zip(numbers["spacing_mm"], spacing, strict=True)]
        kept = [abs(scale - 1) * side / 2 <= 0.1 for side, scale in zip(shape, scales, strict=True)]
        scales = [1.0 if keep else scale for scale, keep in zip(scales, kept, strict=True)]
        filled = [math.ceil(side / scale - 1e-6) for side, scale in zip(shape, scales, strict=True)]
        view = tuple(numbers["field_of_view"])
        sides = [max(own, min(most, n)) for own, most, n in zip(self.size, view, filled, strict=True)]
        self.maps = [_on_whole_voxels(*each) for each in zip(sides, shape, scales, filled, strict=True)]
        larger = [max(pair) for pair in zip(view, filled, strict=True)]
        self.covering = None if tuple(larger) == view else {**numbers, "field_of_view": larger}

    def to_canvas(self, volume: np.ndarray) -> np.ndarray:
        """Show a channel (z, y, x) on the canvas; beyond the scan its darkest value."""
        return resample(volume - volume.min(), [m.to_canvas() for m in self.maps]) + volume.min()

    def probabilities(self, canvas: np.ndarray, network: Network) -> np.ndarray:
        """Ask the network about each window: (c, *canvas) → (k, z, y, x) on the scan's grid."""
        shares = [_shares(m.canvas, side) for m, side in zip(self.maps, self.size, strict=True)]
        total: np.ndarray | None = None
        for starts in product(*shares):
            where = tuple(slice(start, start + side) for start, side in zip(starts, self.size, strict=True))
            z, y, x = (share[start] for share, start in zip(shares, starts, strict=True))
            window = network(canvas[(None, slice(None), *where)])[0]
            if total is None:
                total = np.zeros((len(window), *canvas.shape[1:]), np.float32)
            total[(slice(None), *where)] += window * (z[:, None, None] * np.multiply.outer(y, x))
        assert total is not None
        return with_background(resample(total, [m.to_source() for m in self.maps]))

    def is_cut_off(self, mask: np.ndarray) -> bool:
        """Whether a mask comes to a face of the canvas with an area that is large for its volume."""
        foreground = mask > 0
        volume = math.prod(self.voxel_mm) * int(foreground.sum())
        for axis, m in enumerate(self.maps):
            weights, near = m.to_source(), max(1, round(m.canvas / 16))
            for (edge, beyond), voxels in zip(_edges(m), (slice(None, near), slice(-near, None)), strict=True):
                planes = np.union1d(np.flatnonzero(weights[:, voxels].sum(axis=1) > 0.5), edge)
                most = int(foreground.take(planes, axis).sum(axis=tuple({0, 1, 2} - {axis})).max())
                area = most * math.prod(self.voxel_mm) / self.voxel_mm[axis]
                if beyond and most >= 9 and area**1.5 >= 0.03 * volume:
                    return True
        return not volume


CANVASES: dict[str, type[Slices | Volumes]] = {"slices": Slices, "volumes": Volumes}


def _centred(canvas: int, source: int, scale: float) -> AxisMap:
    """Centre on centre; where the pixels are the scan's own they are kept."""
    if abs(scale - 1) * max(canvas, source) / 2 <= 0.1:
        return AxisMap(canvas, source, 1.0, float((source - canvas) // 2))
    return AxisMap(canvas, source, scale, (source - 1) / 2 - scale * (canvas - 1) / 2)


def _on_whole_voxels(canvas: int, source: int, scale: float, filled: int) -> AxisMap:
    """The scan fills whole voxels of the canvas, whatever its side."""
    middle = (canvas - 1) / 2 + (canvas - filled) % 2 / 2
    return AxisMap(canvas, source, scale, (source - 1) / 2 - scale * middle)


def _shares(canvas: int, side: int) -> dict[int, np.ndarray]:
    """What share each window along an axis has in its voxels, by its first voxel: a bell, over the sum of all."""
    bell = np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2)
    steps = math.ceil((canvas - side) / max(1.0, side / 2))
    starts = np.round(np.linspace(0, canvas - side, steps + 1)).astype(int).tolist()
    total = np.zeros(canvas)
    for start in starts:
        total[start : start + side] += bell
    return {start: (bell / total[start : start + side]).astype(np.float32) for start in starts}


def _edges(along: AxisMap) -> list[tuple[int, bool]]:
    """The scan's first and last voxels on the canvas, and whether the scan goes on beyond."""
    covered = np.flatnonzero(along.to_source().any(axis=1))
    first, last = int(covered[0]), int(covered[-1])
    return [(first, first > 0), (last, last < along.source - 1)]


def resample(volume: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Resample the last three axes, each by its matrix of weights."""
    for axis, matrix in enumerate(matrices, start=-3):
        volume = np.moveaxis(np.moveaxis(volume, axis, -1) @ matrix.T, -1, axis)
    return volume


def with_background(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (k, z, y, x) whose sum is 1 beyond the canvas too: there is background."""
    probabilities[0] += 1 - probabilities.sum(axis=0)
    return probabilities


# Post-processing: parts hang together by faces, edges or corners.


def postprocess(mask: np.ndarray, steps: Sequence[dict[str, Any]], spacing: Sequence[float]) -> np.ndarray:
    """Do the steps of pipeline.json to a mask of class indices; `of` 0 is the foreground as a whole."""
    touching = np.array([step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)])
    mask = mask.copy()
    for step in steps:
        inside = mask > 0 if step["of"] == 0 else mask == step["of"]
        if not inside.any():
            continue
        if step["kind"] == "fill_holes":
            # Background that no way along faces leads out of.
            parts = label(np.pad(~inside, 1, constant_values=True), np.eye(3, dtype=int))
            holes = (parts != parts.flat[0])[1:-1, 1:-1, 1:-1] & ~inside
            mask[holes & (mask == 0)] = step["of"]
            continue
        parts = label(inside, touching)
        voxels = np.bincount(parts[inside])
        goes = voxels * math.prod(spacing) < step["mm3"]
        if step["kind"] == "largest_part":
            goes = np.arange(len(voxels)) != voxels.argmax()
        mask[inside & goes[parts]] = 0
    return mask


def label(inside: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Number the parts of a binary mask that hang together; 0 too for what is outside."""
    numbers = np.cumsum(inside.ravel()).reshape(inside.shape) - 1
    pairs = []
    for step in neighbours.tolist():
        ahead = tuple(slice(max(0, s), side + min(0, s)) for s, side in zip(step, inside.shape, strict=True))
        behind = tuple(slice(max(0, -s), side + min(0, -s)) for s, side in zip(step, inside.shape, strict=True))
        both = inside[ahead] & inside[behind]
        pairs.append(np.stack([numbers[ahead][both], numbers[behind][both]]))
    one, other = np.concatenate(pairs, axis=1)
    roots = np.arange(int(inside.sum()))
    while (roots[one] != roots[other]).any():
        lowest = np.minimum(roots[one], roots[other])
        np.minimum.at(roots, roots[one], lowest)
        np.minimum.at(roots, roots[other], lowest)
        while (roots != roots[roots]).any():
            roots = roots[roots]
    parts = np.zeros(inside.shape, int)
    parts[inside] = np.unique(roots, return_inverse=True)[1]
    return parts


# All together.


class Segmenter:
    """A model that was exported.

    Args:
        pipeline: Object in pipeline.json.
        network: Function from images (b, c, *space) to class probabilities (b, k, *space), float32.
    """

    def __init__(self, pipeline: dict[str, Any], network: Network) -> None:
        self.pipeline = pipeline
        self.network = network

    @classmethod
    def read(cls, folder: Path) -> Segmenter:
        """Read the model in a folder."""
        pipeline = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))
        return cls(pipeline, load_network(folder / pipeline["network"]["file"]))

    def probabilities(self, channels: Sequence[Scan]) -> tuple[np.ndarray, np.ndarray]:
        """Segment a scan.

        Args:
            channels: Channels of the scan, in the order of pipeline.json.

        Returns:
            Probabilities (k, z, y, x) and class indices (z, y, x), before post-processing.
        """
        wanted = [channel["normalisation"] for channel in self.pipeline["channels"]]
        volumes = [normalise(channel.array, how) for channel, how in zip(channels, wanted, strict=True)]
        found, canvas = self._look(volumes, self.pipeline["canvas"], channels[0].spacing)
        if canvas.covering is not None and canvas.is_cut_off(found.argmax(axis=0)):
            # The anatomy seems to go on where the canvas shows nothing: once more, on one that shows all of the scan.
            found, _ = self._look(volumes, canvas.covering, channels[0].spacing)
        return found, found.argmax(axis=0)

    def _look(
        self, volumes: Sequence[np.ndarray], numbers: dict[str, Any], spacing: Sequence[float]
    ) -> tuple[np.ndarray, Slices | Volumes]:
        canvas = CANVASES[numbers["kind"]](numbers, volumes[0].shape, spacing)
        shown = np.stack([canvas.to_canvas(volume) for volume in volumes])
        return canvas.probabilities(shown, self.network), canvas

    def mask(self, channels: Sequence[Scan]) -> np.ndarray:
        """Segment a scan: the numbers of its classes (z, y, x), post-processed."""
        _, mask = self.probabilities(channels)
        mask = postprocess(mask, self.pipeline["postprocessing"], channels[0].spacing)
        numbers = [each["number"] for each in self.pipeline["classes"]]
        return np.array(numbers, np.min_scalar_type(max(numbers)))[mask]


def load_network(path: Path) -> Network:
    """The network in a file, as `Segmenter` wants it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def scans_in(folder: Path) -> list[str]:
    """The scans in a folder, as nnU-Net names them: CASE_0000.nii.gz, CASE_0001.nii.gz, ... joined by commas."""
    firsts = sorted(folder.glob("*_0000.nii*"))
    if not firsts:
        raise SystemExit(f"{folder}: holds no CASE_0000.nii.gz")
    cases = [path.name.partition("_0000.nii")[0] for path in firsts]
    return [",".join(map(str, sorted(folder.glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9].nii*")))) for case in cases]


def segment(segmenter: Segmenter, scans: Sequence[str], output: Path) -> None:
    """Write a mask for each of the scans."""
    output.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        channels = [read_scan(Path(path)) for path in scan.split(",")]
        name = Path(scan.split(",")[0]).name.partition(".nii")[0].removesuffix("_0000")
        write_mask(output / f"{name}.nii.gz", segmenter.mask(channels), channels[0])


def main() -> None:
    """Segment the scans that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scans", nargs="+", help="NIfTI file, or the files of all channels with commas between")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the masks")
    arguments = parser.parse_args()
    segment(Segmenter.read(Path(__file__).parent), arguments.scans, arguments.output)


if __name__ == "__main__":
    main()
