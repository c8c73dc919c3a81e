"""The charts of a page: training, scores, estimates, and the map of pixel representations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from fewscan.data.plans.base import Plan
from fewscan.evaluation.summary import absent_classes, case_scores, headline, headline_title
from fewscan.reporting.colours import class_colour
from fewscan.reporting.lines import training_lines
from fewscan.reporting.page.cases import CaseFiles
from fewscan.reporting.page.pixels import png_uri
from fewscan.reporting.page.sources import Embedding, Moment, RunContents
from fewscan.reporting.page.svg import heat_map, line_chart, scatter, strips
from fewscan.reporting.planes import Plane, middle, mosaic


def training_charts(run: RunContents) -> list[Markup]:
    """Every loss term, validation Dice, learning rate and throughput over the updates."""
    lines = training_lines(run.records)
    losses = "Loss terms, unweighted, and their weighted sum"
    scores = dict.fromkeys(
        name
        for record in run.records
        for own in record.get("validation", {}).values()
        for name in own.get("scores", ())
    )
    dice = f"Validation {' and '.join(('Dice', *scores))}, on preprocessed scans"
    return [
        line_chart(lines.losses, losses, "updates", log=True, marks=lines.stages, wide=True),
        line_chart([lines.rate], "Learning rate", "updates", marks=lines.stages),
        line_chart(lines.dice, dice, "updates", y_range=(0, 1), marks=lines.stages, wide=True),
        line_chart([lines.speed], "Throughput, images per second", "updates", marks=lines.stages),
    ]


def score_strips(run: RunContents) -> Markup | None:
    """Dice of every case, or what else cases are ranked by, a row per class."""
    if run.summary is None:
        return None
    cases, metric, title = case_scores(run.summary).values(), headline(run.summary), headline_title(run.summary)
    rows = [
        (name, k, [float(classes[name][metric] or 0) for classes in cases if name in classes])
        for k, name in enumerate(run.summary["classes"], start=1)
        if name not in absent_classes(run.summary)
    ]
    return strips(rows, f"{title} of every case; bars: means", title)


def estimate_chart(cases: Sequence[CaseFiles]) -> Markup | None:
    """True against estimated Dice, where both are known."""
    known = [
        (case, case.estimate.dice, case.score) for case in cases if case.estimate is not None and case.score is not None
    ]
    if not known:
        return None
    points = [
        (estimate, dice, 5 if case.flagged else 7, f"{case.name}: estimated {estimate:.3f}, true {dice:.3f}")
        for case, estimate, dice in known
    ]
    names = [("look at this one", 5), ("other cases", 7)]
    return scatter(points, "True Dice against the estimate", "estimated Dice", diagonal=True, names=names)


def embedding_charts(embedding: Embedding, element: str) -> list[Markup]:
    """The map of representations of pixels, or voxels, with the classes' means, and the cosines between the means."""
    names = embedding.class_names
    points = [(x, y, _map_colour(k), names[k]) for (x, y), k in zip(embedding.points, embedding.classes, strict=True)]
    crosses = [
        (mean[0], mean[1], _map_colour(k), f"mean of {names[k]}")
        for k, mean in enumerate(embedding.prototypes)
        if mean is not None
    ]
    shares = " and ".join(f"{share:.0%}" for share in embedding.explained)
    return [
        scatter(
            points,
            f"{element.capitalize()}s by class ({embedding.space}); diamonds: class means",
            f"two principal axes: {shares} of the variance",
            names=[(name, _map_colour(k)) for k, name in enumerate(names)],
            crosses=crosses,
        ),
        heat_map(names, names, embedding.relation, "Class relations: cosines between the class means"),
    ]


def _map_colour(number: int) -> int:
    """Background in the grey of the classes' colours, so that it stays in the back."""
    return 8 if number == 0 else number


def gallery_rows(run: RunContents) -> list[dict[str, Any]]:
    """A row per slice or volume: the image, then at every time what was believed and how surely, as pictures.

    Of volumes the planes go through the middle of what was believed at last.
    """
    if not run.gallery:
        return []
    last, rows = run.gallery[-1], []
    for i, (name, number) in enumerate(zip(last.cases, last.slices, strict=True)):
        shown = _Shown.of(last.labels[i], run.plan)
        rows.append(
            {
                "name": f"{name}, {number}" if last.labels.ndim == 3 else name,
                "planes": len(shown.planes),
                "image": shown.png(run.gallery[0].images[i]),
                "moments": [_moment_pictures(moment, i, shown) for moment in run.gallery],
            }
        )
    return rows


@dataclass(frozen=True)
class _Shown:
    """What is shown of a patch: planes, and distances (z, y, x) between its voxels' centres."""

    planes: Sequence[Plane]
    spacing_mm: Sequence[float]

    @classmethod
    def of(cls, labels: np.ndarray, plan: Plan) -> _Shown:
        """Choose what to show of a patch (h, w) or (z, y, x) by the last that was believed of it."""
        if labels.ndim == 2:
            return cls([Plane(plan.viewing_axis, 0)], (1.0, 1.0, 1.0))
        planes = [Plane(axis, middle(labels > 0, axis)) for axis in plan.picture_axes]
        return cls(planes, plan.spacing_mm or (1.0, 1.0, 1.0))

    def png(self, *maps: np.ndarray, colour: Callable[..., np.ndarray] = lambda picture: picture) -> str:
        """Give the planes in one picture, as a data URI: what `colour` makes of the same plane of all maps."""
        volumes = [whole if whole.ndim == 3 else np.expand_dims(whole, self.planes[0].axis) for whole in maps]
        pictures = [colour(*(plane.picture(volume) for volume in volumes)) for plane in self.planes]
        return png_uri(mosaic(pictures, self.planes, self.spacing_mm))


def _moment_pictures(moment: Moment, i: int, shown: _Shown) -> dict[str, Any]:
    confidence = moment.confidence[i]
    foreground = moment.labels[i] > 0
    return {
        "labels": shown.png(moment.images[i], moment.labels[i], colour=tint),
        "confidence": shown.png(confidence, colour=heat),
        "sure": float((confidence >= 0.95 * 255).mean()),
        "foreground": float(confidence[foreground].mean() / 255) if foreground.any() else None,
    }


def tint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A grey picture (h, w) with every class in its colour: (h, w, 3) uint8."""
    picture = np.repeat(image[..., None], 3, axis=2).astype(np.float32)
    for k in range(1, int(labels.max()) + 1):
        colour = class_colour(k)
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        picture[labels == k] = 0.45 * picture[labels == k] + 0.55 * rgb
    return picture.astype(np.uint8)


def heat(confidence: np.ndarray) -> np.ndarray:
    """Confidences from 0.5, bright, to 1, dark: doubt stands out. (h, w) → (h, w, 3), both uint8."""
    doubt = ((255 - confidence.astype(np.float32)) / 127.5).clip(0, 1)[..., None]
    dark, bright = np.array([16, 20, 28]), np.array([255, 196, 84])
    return (dark + doubt * (bright - dark)).astype(np.uint8)
