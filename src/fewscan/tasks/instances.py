"""Instances: every object of a picture is told from the others, such as nuclei that touch.

Labels number objects, and what the numbers are means nothing. A network learns three classes of pixels, see
`tasks.borders`: the border between objects that touch is rare, and counts five times as much as the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from fewscan.augment.targets import MOST_OBJECTS, Target
from fewscan.classes import IGNORED, LARGEST_NUMBER, Classes
from fewscan.data.assembler import Assembled
from fewscan.data.cases import Case
from fewscan.data.ceiling import GOOD, assembled
from fewscan.data.patches import cut
from fewscan.data.phantom_cells import make_cells
from fewscan.data.plans.base import Plan
from fewscan.data.survey import Survey
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.evaluate import Scoring, brought_over, scored_names
from fewscan.evaluation.families import OBJECTS, Family
from fewscan.evaluation.metrics import Scores, not_predicted
from fewscan.evaluation.object_shapes import Pixels
from fewscan.evaluation.objects import HEADLINE, Overlaps, pooled, score_objects
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_mask
from fewscan.tasks.base import Decoding, Limit, Phantom, Task, Tried
from fewscan.tasks.borders import BORDER, INSIDE, N_CLASSES, colours, decode, encode
from fewscan.tasks.object_decodings import ObjectDecoding, try_decodings
from fewscan.tasks.tables import ObjectTables, Tables
from fewscan.words import abbreviate

# DenoiSeg's, for the same three classes.
BORDER_WEIGHT = 5.0
# One threshold for all classes finds no border that it is sure of, and pseudo-labels would teach to merge.
CONFIDENT_SHARE = 0.5
DEMO_SETTINGS = ("training.updates=400", "logging.validate_every=100")
BY_CONFIDENCE = ("action", "action_pp", "fixmatch", "unimatch", "ad_mt", "itl")


@dataclass(frozen=True)
class Objects(Classes):
    """One class, whose objects masks number: 0 is no object, any other number is one of them.

    Inside, numbers from 255 on are one higher, as 255 is what nobody has labelled.
    """

    @property
    def dtype(self) -> np.dtype:
        """Wide enough for all numbers; tensors of 16 bits without a sign cannot do much."""
        return np.dtype(np.int32)

    def describe(self) -> str:
        """The numbers that masks may hold, in words."""
        return f"0 to {LARGEST_NUMBER}, one for each object"

    def unknown(self, mask: np.ndarray) -> list[int]:
        """The numbers of a mask that no object can have; rising."""
        if mask.size == 0 or (mask.min() >= 0 and mask.max() <= LARGEST_NUMBER):
            return []
        odd = np.unique(mask[(mask < 0) | (mask > LARGEST_NUMBER)])
        return [int(value) for value in odd]

    def shown(self, mask: np.ndarray) -> frozenset[int]:
        """Background and foreground, where the mask shows them, and the ignored number."""
        numbers = frozenset(int(value) for value in np.unique(mask))
        kept = numbers & {0, self.ignored}
        return kept | ({self.numbers[1]} if numbers - kept else set())

    def kinds(self, inside: np.ndarray) -> np.ndarray:
        """Every object is of the one class."""
        return np.where(inside == IGNORED, IGNORED, inside > 0).astype(np.uint8)

    def colours(self, inside: np.ndarray) -> np.ndarray:
        """A few numbers, other ones for objects that touch."""
        return colours(inside)

    @property
    def named(self) -> dict[int, str]:
        """None: a number is an object's."""
        return {}

    @property
    def legend(self) -> tuple[str, ...]:
        """Colours only tell objects apart."""
        return self.names[:1]

    def matched(self, inside: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Objects that match one of the reference's have its number, the others numbers that it has not."""
        found = Overlaps.of(inside, reference)
        ours, theirs = (np.unique(mask[mask > 0]) for mask in (inside, reference))
        table = np.arange(int(inside.max(initial=0)) + 1) + int(reference.max(initial=0))
        table[0] = 0
        pairs = found.pairs[found.matches(50)]
        table[ours[pairs[:, 1]]] = theirs[pairs[:, 0]]
        return table[inside].astype(self.dtype)

    def to_inside(self, mask: np.ndarray, where: str | Path) -> np.ndarray:
        """A mask of integers with the numbers inside.

        Raises:
            DataError: The mask holds a number that no object can have.
        """
        odd = self.unknown(mask)
        if odd:
            raise DataError.of(where, f"numbers {odd[:5]} are no objects' ({self.describe()})", "Renumber the objects")
        inside = without_ignored(mask.astype(self.dtype))
        return inside if self.ignored is None else np.where(mask == self.ignored, IGNORED, inside)

    def from_inside(self, mask: np.ndarray) -> np.ndarray:
        """A mask of numbers inside with the user's numbers, of 16 bits where they suffice."""
        numbers = mask - (mask > IGNORED)
        return numbers.astype(np.uint16 if numbers.max(initial=0) <= LARGEST_NUMBER else np.uint32)


def without_ignored(numbers: Integer[np.ndarray, "*space"]) -> Integer[np.ndarray, "*space"]:
    """Numbers of objects as they are inside, where 255 is no object's.

    Args:
        numbers: Numbers of objects, 0 where there is none.
    """
    return numbers + (numbers >= IGNORED).astype(numbers.dtype)


class Instances(Task):
    """Objects are taught as inside and borders, and found again as the parts that the borders leave.

    >>> from fewscan.classes import Classes
    >>> Instances(Instances.numbering(Classes.consecutive(("background", "nucleus")))).output_names
    ('background', 'nucleus', 'border')
    """

    has_anatomy: ClassVar[bool] = False
    metrics: ClassVar[Family] = OBJECTS
    full_resolution: ClassVar[bool] = True
    is_outlined: ClassVar[bool] = True
    numbers_objects: ClassVar[bool] = True
    decodings: ClassVar[type[Decoding]] = ObjectDecoding
    decoding: ObjectDecoding
    recipe: ClassVar[Mapping[str, Any]] = {
        # Pictures have no up and no left.
        "augmentation": {"spatial": {"flip": 0.5, "turn": 0.5}},
        "methods": {method: {"confident_share": CONFIDENT_SHARE} for method in BY_CONFIDENCE},
    }

    @classmethod
    def numbering(cls, classes: Classes) -> Classes:
        """Masks number the objects of the one class.

        Raises:
            DataError: There are several classes, or regions.
        """
        if len(classes.names) != 2 or classes.regions:
            raise DataError.of(
                "dataset.json",
                f'"labels" names {", ".join(classes.names[1:])}, and objects are of one class',
                'Write {"background": 0, "nucleus": 1}: in the masks every object has a number of its own',
            )
        return Objects(classes.names, classes.numbers, classes.ignored)

    @classmethod
    def phantom(cls) -> Phantom:
        """Cells."""
        return Phantom(lambda folder, seed: make_cells(folder, seed=seed), DEMO_SETTINGS)

    @property
    def outputs(self) -> int:
        """Background, inside and border."""
        return N_CLASSES

    @property
    def output_names(self) -> tuple[str, ...]:
        """The class stands for its inside."""
        return (*self.classes.names, "border")

    @property
    def watched(self) -> Mapping[str, tuple[int, ...]]:
        """All of the objects, and the border between them."""
        return {self.classes.names[1]: (INSIDE, BORDER), "border": (BORDER,)}

    def encode(self, labels: Int[Tensor, "b *space"]) -> Target:
        """Classes of pixels, with 5 as the weight of borders."""
        classes = encode(labels)
        return Target(classes, 1.0 + (BORDER_WEIGHT - 1) * (classes == BORDER))

    def find_objects(self, classes: Int[Tensor, "b *space"]) -> Int[Tensor, "b *space"]:
        """Number the objects that classes of pixels show, on the host; specks are none, as what is too many is not."""
        outputs = np.arange(N_CLASSES).reshape(-1, *(1,) * (classes.ndim - 1))
        found = np.stack(
            [without_ignored(decode((picture == outputs).astype(np.float32))) for picture in classes.cpu().numpy()]
        )
        return torch.from_numpy(found * (found < MOST_OBJECTS)).to(classes.device)

    def decode(self, probs: Float[np.ndarray, "b k *space"]) -> Integer[np.ndarray, "b *space"]:
        """Number the objects of each picture by itself."""
        return np.stack([without_ignored(decode(picture, **self.decoding.model_dump())) for picture in probs])

    def try_decodings(
        self, probs: Float[np.ndarray, "k *space"], reference: Integer[np.ndarray, "*space"]
    ) -> Sequence[Tried]:
        """Other thresholds and smallest objects."""
        return try_decodings(probs, reference)

    def watch_headline(
        self, probs: Float[np.ndarray, "b k *space"], labels: Integer[np.ndarray, "b *space"]
    ) -> Float[np.ndarray, "b 2"]:
        """Count the matches at IoU 0.5, and the objects that are in either."""
        known = labels != IGNORED
        counts = []
        for ours, theirs in zip(self.decode(probs) * known, labels * known, strict=True):
            found = Overlaps.of(ours, theirs)
            hits = int(found.matches(50).sum())
            counts.append((hits, len(found.reference) + len(found.prediction) - hits))
        return np.array(counts, float)

    def compare_views(
        self,
        probs: Float[np.ndarray, "b k *space"],
        others: Float[np.ndarray, "b k *space"],
        shares: Float[np.ndarray, "b *space"],
    ) -> Float[np.ndarray, "b 3"]:
        """A match is as sure as its IoU times the mean probability of its pixels to be inside."""
        counts = []
        for first, second, inside, share in zip(
            self.decode(probs), self.decode(others), probs[:, INSIDE], shares, strict=True
        ):
            ours, theirs, found = Pixels(first), Pixels(second), Overlaps.of(second, first)
            weights, matched = ours.means(share), found.pairs[found.matches(50), 0]
            sure = found.ious[found.matches(50)] * ours.means(inside)[matched] * weights[matched]
            counts.append((weights.sum(), theirs.means(share).sum(), sure.sum()))
        return np.array(counts, float)

    def score(self, prediction: Path | None, reference: Path) -> dict[int, Scores]:
        """Score the objects of a picture."""
        truth = read_mask(reference)
        theirs = self.classes.to_inside(truth.array, reference)
        if prediction is None:
            ours = np.zeros_like(theirs)
        else:
            ours = self.classes.to_inside(brought_over(prediction, reference, truth.geometry), prediction)
        known = theirs != IGNORED
        scores = score_objects(ours * known, theirs * known)
        return {1: not_predicted(scores) if prediction is None else scores}

    @property
    def scoring(self) -> Scoring:
        """Objects are compared, whatever their numbers."""
        return Scoring(scored_names(self.classes), self.score)

    def tables(self, plan: Plan) -> Tables:
        """Objects and pictures."""
        return ObjectTables(plan, INSIDE)

    def check(self, plan: Plan, geometries: Mapping[str, Geometry]) -> None:
        """Refuse what is no picture: objects are numbered slice by slice.

        Raises:
            ConfigError: The network works on volumes.
            DataError: Scans have several slices.
        """
        if plan.ndim != 2:
            raise ConfigError(
                f"Objects are told apart in pictures, and plan.kind={plan.kind} is of volumes. Train with --dims 2."
            )
        deep = [name for name, geometry in geometries.items() if plan.canvas_shape(geometry)[0] > 1]
        if deep:
            raise DataError.of(
                plan.dataset,
                f"objects are told apart in pictures, and these have several slices: {abbreviate(deep)}",
                "Save every slice as a picture of its own",
            )

    def there_and_back(
        self, mask: Integer[np.ndarray, "z y x"], geometry: Geometry, plan: Plan
    ) -> Integer[np.ndarray, "z y x"]:
        """Encode the objects where a network would see them, and decode them on the picture's own grid."""
        canvas = plan.labels_to_canvas(mask, geometry)
        classes = encode(torch.from_numpy(canvas.astype(np.int64))).numpy()[None]
        outputs = np.arange(N_CLASSES).reshape(-1, *(1,) * plan.ndim)
        found: Assembled = assembled(
            lambda starts: (cut(classes, starts, plan.size) == outputs).astype(np.float32), geometry, plan, self.decode
        )
        return found.mask

    def limit(
        self, cases: Sequence[Case], plan: Plan, survey: Survey, progress: Callable[[], None] | None = None
    ) -> Limit:
        """Average precision of the labelled objects, encoded at the network's resolution and decoded."""
        scores = []
        for case in cases:
            if case.label is not None:
                label = survey.labels(case, self.classes)
                theirs = np.where(label.array == IGNORED, 0, label.array)
                back = self.there_and_back(theirs, label.geometry, plan) * (label.array != IGNORED)
                scores.append(score_objects(back, theirs).values)
            if progress is not None:
                progress()
        together, name = pooled(scores), self.classes.names[1]
        best = together[HEADLINE]
        if best is None:
            return Limit({}, [])
        notes = [
            "no objects can be found better than those of the labels at the network's resolution and back: "
            f"AP@0.5 {best:.4f}, PQ {together['pq']:.4f}"
        ]
        if best < GOOD:
            remedy = plan.remedy(is_outside=False)
            notes.append(f"WARNING: {100 * (1 - best):.1f} % of them are lost, merged or parted. {remedy}")
        return Limit({name: best}, notes)
