"""Families of metrics, those of classes of voxels and those of objects: their names, and what cases are ranked by.

What scores, shows or compares masks asks the family of the metrics that are there, and knows no metric by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from fewscan.evaluation import metrics, objects

Values = Mapping[str, float | None]


class Family(NamedTuple):
    """Metrics that are measured together.

    Attributes:
        headline: Name of the metric by which cases are ranked and runs compared, a share from 0 to 1.
        shown: Names of further metrics that a table of 80 columns has room for; or beginnings of them.
        members: Names of all metrics of the family; empty: all that no other family has.
        title: Function from a metric's name to what heads a table's column.
        definition: Function from a metric's name to a sentence about it.
        is_share: Function that says whether a metric is a share, from 0 to 1.
        is_estimated: Whether the headline is estimated of masks without a reference, see `evaluation.calibration`.
        has_rules: Whether there are values that other rules count otherwise, see `summary.RULE_TEXT`.
        pool: Function from the values of cases to those over all that the cases show together; None: there is none.
        say: Function from the values of cases to sentences about all of them; None: there is nothing to be said.
    """

    headline: str
    shown: tuple[str, ...]
    members: tuple[str, ...]
    title: Callable[[str], str]
    definition: Callable[[str], str]
    is_share: Callable[[str], bool]
    is_estimated: bool
    has_rules: bool
    pool: Callable[[Iterable[Values]], dict[str, float | None]] | None = None
    say: Callable[[Iterable[Values]], list[str]] | None = None

    @property
    def headline_title(self) -> str:
        """Name of the headline as people say it, such as `Dice`."""
        return self.title(self.headline)


CLASSES = Family(
    headline="dice",
    # With two tolerances.
    shown=(
        f"{metrics.NSD}_",
        *(f"{distance}_{unit}" for unit in ("mm", "um", "pixel") for distance in ("hd95", "assd")),
    ),
    members=(),
    title=metrics.metric_title,
    definition=metrics.definition,
    is_share=metrics.is_share,
    is_estimated=True,
    has_rules=True,
)
OBJECTS = Family(
    headline=objects.HEADLINE,
    shown=(objects.MEAN_AP, "f1", "pq", "aji_plus", "count_error"),
    members=objects.METRICS,
    title=objects.object_title,
    definition=objects.object_definition,
    is_share=objects.is_object_share,
    is_estimated=False,
    has_rules=False,
    pool=objects.pooled,
    say=objects.say_parting,
)


def family_of(names: Iterable[str]) -> Family:
    """Find the family of metrics.

    Args:
        names: Names of metrics of one family, such as the keys of a summary's means.

    >>> family_of(["dice", "hd95_mm"]).headline, family_of(["ap_50"]).headline
    ('dice', 'ap_50')
    """
    return OBJECTS if any(name in OBJECTS.members for name in names) else CLASSES


def metric_title(metric: str) -> str:
    """Name of a metric for the heads of tables, such as `HD95 mm`.

    >>> metric_title("dice"), metric_title("ap_50")
    ('Dice', 'AP@0.5')
    """
    return family_of([metric]).title(metric)


def is_share(metric: str) -> bool:
    """Whether a metric is a share, from 0 to 1."""
    return family_of([metric]).is_share(metric)
