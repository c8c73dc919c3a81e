"""The version, apart from the public face: no room imports what only users of the library import."""

from __future__ import annotations

VERSION = "0.1.0"
