"""Sound bytes made unsound: flipped, cut, doubled, and numbers where fields are that nobody expects."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

SPECIAL = [
    *(struct.pack(form, number) for form in ("<h", ">h", "<i", "<q") for number in (0, -1, 1, 7, 32767, -32768)),
    *(struct.pack(form, number) for form in ("<f", "<d") for number in (0.0, -1.0, 1e30, float("inf"), float("nan"))),
    struct.pack("<q", 2**62),
    *(b"\0", b"\n", b"\r", b" ", b"=", b":", b"-", b"9" * 12, b"nan", b"\xff\xfe", b'"', b"{", b"]"),
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed after one to six changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["overwrite", "insert", "special", "cut", "repeat", "remove"]))
        if kind == "overwrite":
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
        elif kind == "special":
            new = draw(st.sampled_from(SPECIAL))
            data[at : at + len(new)] = new
        elif kind == "insert":
            data[at:at] = draw(st.one_of(st.binary(max_size=8), st.sampled_from(SPECIAL)))
        elif kind == "cut" and draw(st.booleans()):
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 40))]
    return bytes(data)
