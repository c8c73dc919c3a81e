"""A cluster of Ray that loses a node, and a Python that has no Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fewscan
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json
from fewscan.work.base import Each, cut, in_order
from fewscan.work.choice import choose_executor
from fewscan.work.ray_cluster import Ray
from fewscan.work.serial import Serial
from support.models import save_untrained
from support.scans import make_dataset
from support.workers import Squares, refuse


def test_without_ray_all_else_is_imported_and_ray_is_asked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    executor = choose_executor("ray", None, [])
    with pytest.raises(ConfigError, match=r"ray is not installed .*pip install 'fewscan\[ray\]'"):
        list(executor.run(Each(refuse), cut([1], 1)))


def test_no_command_imports_ray() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import fewscan, pkgutil, importlib\n"
        "for module in pkgutil.walk_packages(fewscan.__path__, 'fewscan.'):\n"
        "    if '__main__' not in module.name: importlib.import_module(module.name)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="Ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    # A processor each, so that both nodes are needed.
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    nodes.wait_for_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def assert_same_files(ours: Path, theirs: Path) -> None:
    mine, others = ({path.name: path.read_bytes() for path in folder.glob("[!.]*")} for folder in (ours, theirs))
    assert len(mine) > 15
    assert mine == others


@pytest.mark.slow
def test_a_lost_node_changes_nothing(cluster: Any, tmp_path: Path) -> None:
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    expected = in_order(Serial().run(Squares(tmp_path / "ours"), cut(range(40), 4)))
    outcomes = []
    for outcome in Ray(cluster.address).run(Squares(tmp_path / "theirs", slow=0.3), cut(range(40), 4)):
        outcomes.append(outcome)
        if len(outcomes) == 3:
            cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    assert in_order(outcomes) == expected


@pytest.mark.slow
def test_a_cluster_predicts_and_scores_as_this_process_does(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    dataset = make_dataset(tmp_path / "data", labelled=4, unlabelled=12)
    (dataset / "imagesTr" / "case_05_0000.nii.gz").write_bytes(b"not a scan")
    (tmp_path / "run").mkdir()
    run, address = save_untrained(tmp_path / "run"), f"ray:{cluster.address}"
    for name, executor in (("ours", "serial"), ("theirs", address)):
        with pytest.raises(DataError, match=r"case_05_0000\.nii\.gz"):
            fewscan.predict(run, [dataset], output=tmp_path / name, device="cpu", executor=executor)
        fewscan.evaluate(tmp_path / name, dataset / "labelsTr", output=tmp_path / f"{name}.json", executor=executor)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")
    assert read_json(tmp_path / "ours.json")["mean"] == read_json(tmp_path / "theirs.json")["mean"]


@pytest.mark.slow
def test_what_the_work_raises_on_a_cluster_ends_it_as_what_it_was(cluster: Any) -> None:
    with pytest.raises(DataError, match=r"three\.nii\.gz: is refused"):
        list(Ray(cluster.address).run(Each(refuse), cut(range(5), 1)))
