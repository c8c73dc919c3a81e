"""Names → code, imported only when asked for. A new method is one new file and one line here."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from fewscan.errors import ConfigError

METHODS = {
    "action": "fewscan.methods.action:Action",
    "action_pp": "fewscan.methods.action_pp:ActionPlusPlus",
    "supervised": "fewscan.methods.supervised:Supervised",
    "entropy": "fewscan.methods.entropy:Entropy",
    "mean_teacher": "fewscan.methods.mean_teacher:MeanTeacher",
    "ua_mt": "fewscan.methods.ua_mt:UaMt",
    "ict": "fewscan.methods.ict:Ict",
    "cct": "fewscan.methods.cct:Cct",
    "cps": "fewscan.methods.cps:Cps",
    "urpc": "fewscan.methods.urpc:Urpc",
    "mc_net": "fewscan.methods.mc_net:McNet",
    "fixmatch": "fewscan.methods.fixmatch:FixMatch",
    "unimatch": "fewscan.methods.unimatch:UniMatch",
    "bcp": "fewscan.methods.bcp:Bcp",
}

CONVERTERS = {
    "acdc": "fewscan.data.converters.acdc:convert",
    "msd": "fewscan.data.converters.msd:convert",
    "ssl4mis": "fewscan.data.converters.ssl4mis:convert",
}


def find(table: dict[str, str], name: str, kind: str) -> Any:
    """Import what a name stands for.

    Args:
        table: names → "module:attribute".
        name: what is looked for.
        kind: what to call it in an error.

    Raises:
        ConfigError: there is no such name.
    """
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"There is no {kind} named {name!r}.{hint} There are: {', '.join(table)}.")
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
