"""Every method of the registry keeps the contract, in 2D and in 3D."""

from __future__ import annotations

from typing import Any

from fewscan.registry import METHODS
from fewscan.testing.methods import MethodContract
from support.steps import PRETRAINING

# What a method has other than the defaults, and than "sup" for terms that labels teach.
OTHERS: dict[str, dict[str, Any]] = {
    "action": {"settings": {"pretraining": PRETRAINING}},
    "action_pp": {"settings": {"pretraining": PRETRAINING}},
    # Its terms are of mixtures: where nothing but labels is to teach, its pseudo-labels count for nothing.
    "bcp": {
        "label_terms": ("copy_paste", "inward", "outward"),
        "by_labels_alone": {"pseudo_weight": 0.0},
    },
    "gcl": {"frozen_encoder": ("local",)},
}


def contract_of(name: str) -> type[MethodContract]:
    method = METHODS.find(name)
    return type(f"Test{method.__name__}", (MethodContract,), {"method": method, **OTHERS.get(name, {})})


globals().update({contract.__name__: contract for contract in map(contract_of, METHODS.built_in)})


def test_no_method_is_left_out() -> None:
    tested = {thing.method for name, thing in globals().items() if name.startswith("Test")}
    assert tested == {METHODS.find(name) for name in METHODS.built_in}
