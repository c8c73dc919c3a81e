"""What goes into every page as it is."""

from __future__ import annotations

import hashlib
import re
from importlib import resources


def test_the_viewer_is_the_one_that_was_fetched() -> None:
    vendor = resources.files("fewscan.reporting.page") / "vendor"
    code = (vendor / "niivue.umd.js").read_bytes()
    assert hashlib.sha256(code).hexdigest() == (vendor / "niivue.umd.js.sha256").read_text().split()[0]
    # It stands in a script element, which these would end.
    assert not re.search(rb"</script|<!--", code, re.IGNORECASE)
    assert "BSD 2-Clause" in (vendor / "niivue.LICENSE").read_text()
