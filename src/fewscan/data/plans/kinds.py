"""The kinds of plans as one type: a plan in a file says its `kind`, and the registry knows the class.

No closed union, so that a kind from elsewhere is one file and one registration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, RootModel, SerializeAsAny, WrapValidator

from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Divisors, Plan, PlanSettings
from fewscan.errors import ConfigError
from fewscan.registry import PLANS
from fewscan.settings import PartSettings

AUTO = "auto"
# Plans of before there were kinds do not say theirs; and what is taken where nobody chooses, see `runs.dims`.
FIRST_KIND = "slices"


def _parse(value: Any, handler: Callable[[Any], Plan]) -> Plan:
    """A plan as it is, or a table by the class that is registered for its kind; nothing else is imported."""
    if not isinstance(value, Mapping):
        return handler(value)
    try:
        found: type[Plan] = PLANS.find(str(value.get("kind", FIRST_KIND)))
    except ConfigError as error:
        raise ValueError(f"kind: {error}") from None
    return found.model_validate(value)


# Any registered plan as a field of a pydantic model, written and read with all fields of its own class.
AnyPlan = Annotated[SerializeAsAny[Plan], WrapValidator(_parse)]


class PlanFile(RootModel[AnyPlan]):
    """A plan that is a file of its own, as plan.json is."""


def settings_class(kind: str) -> type[PlanSettings]:
    """The class of the settings of a kind of plan.

    Args:
        kind: Name of a kind that is known in this process; auto: that of slices.

    Raises:
        ConfigError: No plan of this kind is known in this process.
    """
    found: type[Plan] = PLANS.find(FIRST_KIND if kind == AUTO else kind)
    return found.Settings


PLAN_SETTINGS = PartSettings("kind of plan", AUTO, settings_class)
# A field of a model: settings of any kind of plan that is known in this process.
AnyPlanSettings = Annotated[SerializeAsAny[PlanSettings], BeforeValidator(PLAN_SETTINGS.read)]


def make_plan(index: DatasetIndex, fingerprint: Fingerprint, settings: PlanSettings, divisors: Divisors) -> Plan:
    """Decide how the scans of a data set become input.

    Args:
        index: Data set with its channels and classes.
        fingerprint: Shapes, spacings, anatomy and intensities of its training cases.
        settings: Settings that the user has given.
        divisors: Function from sides of a network's input to what they must be multiples of.

    Raises:
        DataError: The data set does not show what has to be known.
    """
    kind: type[Plan] = PLANS.find(FIRST_KIND if settings.kind == AUTO else settings.kind)
    return kind.make(index, fingerprint, settings, divisors)
