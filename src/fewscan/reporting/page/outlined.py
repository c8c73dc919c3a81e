"""A picture of planes of a scan with outlines of masks on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from fewscan.reporting.page.pixels import outline, png_uri
from fewscan.reporting.planes import Place

# Between planes, as a share of what is shown along the longest axis.
GAP = 0.02


@dataclass(frozen=True, eq=False)
class Outlined:
    """A plane of a scan, and what is outlined on it.

    Attributes:
        picture: Grey levels (h, w), or red, green and blue (h, w, 3), 0 to 255.
        masks: Numbers inside, by the CSS class of their outlines; of any resolution, stretched over the picture.
        place: Place of the plane among the others.
    """

    picture: UInt8[np.ndarray, "h w *colours"]
    masks: Mapping[str, UInt8[np.ndarray, "_ _"]]
    place: Place


def draw_outlined(planes: Sequence[Outlined], text: str) -> Markup:
    """Draw pictures of planes with the outline of every class of every mask, as one SVG.

    Args:
        planes: Planes in their places, at least one.
        text: Words for those who cannot see it.
    """
    return Markup('<svg viewBox="0 0 {:.1f} {:.1f}" role="img" aria-label="{}">{}</svg>').format(
        max(plane.place.left + plane.place.width for plane in planes),
        max(plane.place.top + plane.place.height for plane in planes),
        text,
        Markup("").join(_drawn(plane) for plane in planes),
    )


def _drawn(plane: Outlined) -> Markup:
    left, top, width, height = plane.place
    scaled = Markup('<g transform="scale({:.4f} {:.4f})">{}</g>')
    return Markup(
        '<g transform="translate({:.1f} {:.1f})">'
        '<image href="{}" width="{:.1f}" height="{:.1f}" preserveAspectRatio="none"/>{}</g>'
    ).format(
        left,
        top,
        png_uri(plane.picture),
        width,
        height,
        Markup("").join(
            scaled.format(width / mask.shape[1], height / mask.shape[0], _outlines(mask, kind))
            for kind, mask in plane.masks.items()
        ),
    )


def _outlines(labels: np.ndarray, kind: str) -> Markup:
    return Markup("").join(
        Markup('<path class="{} c{}" d="{}"/>').format(kind, (k - 1) % 8 + 1, outline(labels == k))
        for k in range(1, int(labels.max()) + 1)
    )
