"""A picture of a slice with outlines of masks on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from fewscan.reporting.page.pixels import outline, png_uri


def draw_outlined(
    picture: UInt8[np.ndarray, "h w"],
    masks: Mapping[str, UInt8[np.ndarray, "_ _"]],
    size_mm: tuple[float, float],
    text: str,
) -> Markup:
    """Draw a grey picture with the outline of every class of every mask, as SVG.

    Args:
        picture: Grey levels.
        masks: Numbers inside, by the CSS class of their outlines; of any resolution, stretched over the picture.
        size_mm: Height and width of the picture.
        text: Words for those who cannot see it.
    """
    height, width = size_mm
    scaled = Markup('<g transform="scale({:.4f} {:.4f})">{}</g>')
    return Markup(
        '<svg viewBox="0 0 {0:.1f} {1:.1f}" role="img" aria-label="{2}">'
        '<image href="{3}" width="{0:.1f}" height="{1:.1f}" preserveAspectRatio="none"/>{4}</svg>'
    ).format(
        width,
        height,
        text,
        png_uri(picture),
        Markup("").join(
            scaled.format(width / mask.shape[1], height / mask.shape[0], _outlines(mask, kind))
            for kind, mask in masks.items()
        ),
    )


def _outlines(labels: np.ndarray, kind: str) -> Markup:
    return Markup("").join(
        Markup('<path class="{} c{}" d="{}"/>').format(kind, (k - 1) % 8 + 1, outline(labels == k))
        for k in range(1, int(labels.max()) + 1)
    )
