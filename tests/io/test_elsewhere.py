"""URLs among paths, and what is said where a store cannot be had."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewscan.errors import ConfigError, DataError
from fewscan.io import elsewhere
from fewscan.io.elsewhere import UrlPath, download, list_files, refuse_elsewhere, url_of
from support import stores


@pytest.mark.parametrize("text", ["s3://bucket/scans", "s3://bucket/scans/", "S3://bucket/scans"])
def test_urls_are_known_as_texts_and_as_paths(text: str) -> None:
    assert url_of(text) == "s3://bucket/scans"
    assert url_of(Path(text)) == "s3://bucket/scans"


@pytest.mark.parametrize("text", ["scans", "/data/s3/scans", "C:/scans", "./s3:/scans", "a b://c", "scans/s3://x"])
def test_paths_are_paths(text: str) -> None:
    assert url_of(text) is None
    refuse_elsewhere(text, None)


def test_a_path_elsewhere_is_a_url_in_all_that_is_made_of_it() -> None:
    path = UrlPath("s3://bucket/masks")
    assert str(path / "a.nii.gz") == "s3://bucket/masks/a.nii.gz"
    assert (path / "a.nii.gz").name == "a.nii.gz"
    assert str(pickle.loads(pickle.dumps(path)).parent) == "s3://bucket"  # noqa: S301
    assert url_of(path) == "s3://bucket/masks"


def test_passwords_are_not_repeated_and_web_servers_are_refused() -> None:
    with pytest.raises(ConfigError, match="has a password in it") as refused:
        url_of("sftp://me:very-secret@host/scans")
    assert "very-secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="web servers do not list"):
        url_of("https://host/scans")


def test_without_s3fs_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"s3fs is not installed .*pip install 'fewscan\[s3\]'"):
        list_files("s3://bucket/scans")


def test_unknown_schemes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"nosuch://a/b: Protocol not known: nosuch"):
        list_files("nosuch://a/b")


def test_stamps_change_with_files() -> None:
    url = stores.memory()
    stores.write(f"{url}/a/b.txt", b"12345")
    before = list_files(url)
    assert {name: stamp.size for name, stamp in before.items()} == {"a/b.txt": 5}
    assert list_files(url) == before
    stores.write(f"{url}/a/b.txt", b"54321")
    assert list_files(url) != before
    assert set(list_files(f"{url}/a/b.txt")) == {""}


def test_names_that_lead_out_of_a_folder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    url = stores.memory()
    name = f"/{url.removeprefix('memory://')}"

    def find(*_: Any, **__: Any) -> dict[str, Any]:
        return {f"{name}/../../etc/passwd": {"type": "file", "size": 1}}

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with pytest.raises(DataError, match=r"\.\./\.\./etc/passwd: no file can have that name here"):
        list_files(url)


def test_a_download_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(elsewhere, "SECONDS_TO_WAIT", ())
    url = stores.memory()
    stores.write(f"{url}/a.txt", b"new")
    (tmp_path / "a.txt").write_bytes(b"old")

    def cut_off(_: Any, __: str, path: str, **___: Any) -> None:
        Path(path).write_bytes(b"ne")
        raise ConnectionError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", cut_off)
        with pytest.raises(DataError, match=rf"{url}/a\.txt: the store does not answer as it should: Conn.*: cut"):
            download(f"{url}/a.txt", tmp_path / "a.txt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"old"}
    download(f"{url}/a.txt", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_files_of_this_machine_need_no_store(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "import fewscan, fewscan.io.elsewhere, fewscan.work.staging, fewscan.commands.check\n"
        f"fewscan.check({str(tmp_path)!r})\n"
        "assert 'fsspec' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
