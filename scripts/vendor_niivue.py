"""Fetch the viewer of the report page with npm, check it, and put it into the package with its licence.

python scripts/vendor_niivue.py            # npm fetches the archive
python scripts/vendor_niivue.py ARCHIVE    # the archive is there already
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NAME = "@niivue/niivue@0.69.0"
ARCHIVE_SHA512 = (
    "60c8d0bc9803d56d9bec3ba8c64c250b85716eb80878f449e6ac90cd72b18b6b"
    "f6301560dbce4ffc2210ca0e3aa030c60c871a3656ddf8c86d3bf79d31b5c990"
)
MEMBER = "package/dist/niivue.umd.js"
VENDOR = Path(__file__).parents[1] / "src" / "fewscan" / "report" / "page" / "vendor"
# The archive names the licence, BSD-2-Clause, and leaves its text out; this is the project's LICENSE file.
LICENCE = """\
NiiVue 0.69.0, https://github.com/niivue/niivue

BSD 2-Clause License

Copyright (c) 2021, Niivue
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation
   and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


def main() -> None:
    """Check the archive and unpack the one file of it that the page needs.

    Raises:
        SystemExit: the archive is not the one that is expected, or npm fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(sys.argv[1]) if len(sys.argv) > 1 else _fetch(Path(folder))
        found = hashlib.sha512(archive.read_bytes()).hexdigest()
        if found != ARCHIVE_SHA512:
            sys.exit(f"{archive}: SHA-512 is {found}, not that of {NAME}. Fetch it again.")
        with tarfile.open(archive) as files:
            member = files.extractfile(MEMBER)
            if member is None:
                sys.exit(f"{archive}: {MEMBER} is not a file.")
            code = member.read()
    VENDOR.mkdir(parents=True, exist_ok=True)
    (VENDOR / "niivue.umd.js").write_bytes(code)
    (VENDOR / "niivue.LICENSE").write_text(LICENCE, encoding="utf-8")
    digest = hashlib.sha256(code).hexdigest()
    (VENDOR / "niivue.umd.js.sha256").write_text(f"{digest}  niivue.umd.js\n", encoding="utf-8")


def _fetch(folder: Path) -> Path:
    subprocess.run(["npm", "pack", NAME, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.tgz"))


if __name__ == "__main__":
    main()
