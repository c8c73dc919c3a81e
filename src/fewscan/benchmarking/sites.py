"""Sites in sequence: which trainings there are, what each continues, and data sets that several sites make together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Literal

from fewscan.data.cases import Case, patients_of
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import Split, make_split
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import make_folder, read_json, write_json
from fewscan.runs.continuation import told_apart

Approach = Literal["itl", "itl_none", "finetune", "lwf", "replay", "joint", "separate"]
# What a training that continues another one changes of the method itl; None: it is the first site's own method.
CONTINUED: dict[str, tuple[str, ...] | None] = {
    "itl": (),
    "itl_none": ("methods.itl.use_exemplars=false",),
    "finetune": None,
    "lwf": ("methods.itl.use_exemplars=false", "methods.itl.lambda_unsup=0"),
    "replay": (
        "methods.itl.lambda_source=0",
        "methods.itl.lambda_mixed=0",
        "methods.itl.lambda_distil=0",
        "methods.itl.lambda_unsup=0",
    ),
}
WORDS = {
    "itl": "incremental transfer learning, with exemplars",
    "itl_none": "the same, nothing kept but weights",
    "finetune": "training goes on with the new site alone",
    "lwf": "learning without forgetting: L_sup and L_distil, nothing kept",
    "replay": "exemplars in every batch, no other term",
    "joint": "all sites at once, as if all data could be kept",
    "separate": "a network for each site, that of the site predicts",
}
APPROACHES = tuple(WORDS)
FIRST = "first"
# Trainings that keep patches for later ones, if any are to be kept.
REMEMBERING = (FIRST, "itl", "replay")


@dataclass(frozen=True)
class Site:
    """A data set of a sequence.

    Attributes:
        name: Name of the data set.
        index: Cases of the data set.
        split: Split of the data set, with as many labelled patients as were asked for.
    """

    name: str
    index: DatasetIndex
    split: Split


@dataclass(frozen=True)
class SiteRun:
    """One training of a sequence.

    Attributes:
        approach: Name of the approach; that of the first site is all sequential approaches' own.
        sites: Names of the sites that it has seen, the last of them in this training; of joint all at once.
        seed: Seed of the training, 0 or more.
    """

    approach: str
    sites: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.approach}-{'+'.join(map(for_folders, self.sites))}-s{self.seed}"

    @property
    def before(self) -> SiteRun | None:
        """The training that it continues; None: it starts from fresh weights."""
        if self.approach in (FIRST, "joint"):
            return None
        earlier = self.sites[:-1]
        return SiteRun(FIRST if len(earlier) == 1 else self.approach, earlier, self.seed)


def read_sites(folders: Sequence[Path], labelled: Sequence[int] = ()) -> tuple[Site, ...]:
    """Index and split the data sets of a sequence.

    Args:
        folders: Folders of the data sets, at least two.
        labelled: Numbers of labelled patients, 0 or more, of each site or one for all; empty: all that there are.

    Raises:
        ConfigError: There is one site, two have one name, or there are more or fewer numbers than sites.
        DataError: A data set cannot be used, holds nobody out, or has other channels or classes than the first.
    """
    indices = [read_dataset(folder) for folder in folders]
    names = [index.name for index in indices]
    if len(names) < 2:
        raise ConfigError("A sequence has two sites at least: give the folders of several data sets.")
    folders_of = [for_folders(name) for name in names]
    twice = next((name for name in names if folders_of.count(for_folders(name)) > 1), None)
    if twice is not None:
        raise ConfigError(f'Two sites are called {twice}: give each data set its own "name" in dataset.json.')
    first = indices[0]
    for index in indices[1:]:
        differing = told_apart(first, index)
        if differing:
            raise DataError.of(
                index.root / "dataset.json",
                f"is not of the kind of {first.root}: {'; '.join(differing)}",
                "Give data sets with the same names and numbers in the same order",
            )
    counts: list[int | None] = list(labelled) or [None]
    if len(counts) == 1:
        counts *= len(indices)
    if len(counts) != len(indices):
        given = ",".join(map(str, labelled))
        raise ConfigError(f"--labelled {given}: give one number for all {len(indices)} sites, or one for each.")
    sites = tuple(
        Site(index.name, index, make_split(index, count, may_lack_labels=True))
        for index, count in zip(indices, counts, strict=True)
    )
    bare = next((site for site in sites if not site.split.val), None)
    if bare is not None:
        raise DataError.of(bare.index.root, "no validation cases to score", 'Name some as "val" in splits.json')
    return sites


def for_folders(site: str) -> str:
    """The name of a site as a part of a folder's, without what separates or has to be quoted.

    >>> for_folders("M&Ms vendor A")
    'M_Ms_vendor_A'
    """
    return re.sub(r"[^\w.-]+", "_", site)


def choose_orders(sites: Sequence[Site], orders: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The orders of arrival, by the sites' names.

    Args:
        sites: Sites as they were given.
        orders: Orders, each the sites' numbers from 1 such as "2,1,3"; "all": every one; empty: as they were given.

    Raises:
        ConfigError: An order does not name every site once.

    >>> from unittest.mock import Mock
    >>> choose_orders([Mock(), Mock()], ["2,3"])
    Traceback (most recent call last):
    fewscan.errors.ConfigError: --order 2,3: must have the numbers 1 to 2, each once, such as 1,2.
    """
    names = tuple(site.name for site in sites)
    if not orders:
        return (names,)
    if "all" in orders:
        return tuple(permutations(names))
    chosen = []
    wanted = [str(number) for number in range(1, len(names) + 1)]
    for order in orders:
        numbers = [part.strip() for part in order.split(",")]
        if sorted(numbers) != wanted:
            raise ConfigError(
                f"--order {order}: must have the numbers 1 to {len(names)}, each once, such as {','.join(wanted)}."
            )
        chosen.append(tuple(names[int(number) - 1] for number in numbers))
    return tuple(dict.fromkeys(chosen))


def runs_of(approach: str, order: Sequence[str], seed: int) -> list[SiteRun]:
    """The trainings of one approach on one order of sites, in the order of its phases.

    Args:
        approach: Name of the approach.
        order: Names of the sites in the order of arrival.
        seed: Seed of the trainings, 0 or more.

    >>> [run.name for run in runs_of("itl", ("A", "B"), 0)]
    ['first-A-s0', 'itl-A+B-s0']
    >>> [run.name for run in runs_of("separate", ("A", "B"), 0)]
    ['first-A-s0', 'first-B-s0']
    """
    if approach == "joint":
        return [SiteRun("joint", tuple(sorted(order)), seed)]
    if approach == "separate":
        return [SiteRun(FIRST, (site,), seed) for site in order]
    firsts = [SiteRun(FIRST, (order[0],), seed)]
    return firsts + [SiteRun(approach, tuple(order[: n + 1]), seed) for n in range(1, len(order))]


def check_labels(runs: Sequence[SiteRun], sites: Mapping[str, Site], memory: int) -> None:
    """Refuse trainings that cannot do without the labels that their site does not have.

    Args:
        runs: Trainings of an approach on an order of sites.
        sites: Sites by name.
        memory: Number of labelled patches that a training keeps of its site.

    Raises:
        ConfigError: A training has nothing to learn from.
    """
    for run in runs:
        # Of all sites at once one may lack labels.
        seen = run.sites if run.approach == "joint" else run.sites[-1:]
        if any(sites[name].split.labelled for name in seen):
            continue
        where = f"{', '.join(seen)} has no labelled patient"
        if run.before is None:
            raise ConfigError(
                f"{where}, and a training from fresh weights needs one. Choose an --order in which another site is "
                "first, leave out separate, or give it labels (--labelled)."
            )
        if CONTINUED[run.approach] is None or (run.approach == "replay" and memory == 0):
            others = [name for name in CONTINUED if CONTINUED[name] is not None and (name != "replay" or memory)]
            raise ConfigError(
                f"{where}, and {run.approach} learns a site by its labels alone. Without any it is learnt by "
                f"{', '.join(others)}: leave {run.approach} out of --methods."
            )


def join_data(sites: Sequence[Site], folder: Path) -> tuple[Path, list[str]]:
    """Make one data set of several, whose files are links to theirs.

    Args:
        sites: Sites whose training and validation cases it has; no label that is hidden from them is linked.
        folder: Folder for it; what an earlier call has made there stays.

    Returns:
        Its folder, and names of the cases that are labelled.

    Raises:
        DataError: The sites' files have different endings.
    """
    endings = {site.index.file_ending for site in sites}
    if len(endings) > 1:
        raise DataError.of(
            sites[1].index.root, f"files of sites end in {', '.join(sorted(endings))}", "Bring all to one format first"
        )
    for part in ("imagesTr", "labelsTr"):
        make_folder(folder / part)
    patients: dict[str, str] = {}
    sites_of: dict[str, str] = {}
    listed: dict[str, list[str]] = {"train": [], "val": []}
    labelled: list[str] = []
    for site in sites:
        for part, cases in (("train", site.split.train), ("val", site.split.val)):
            for case in cases:
                name = f"{for_folders(site.name)}_{case.name}"
                _link(case, name, folder, site.index.file_ending)
                patients[name] = f"{site.name}_{case.patient}"
                sites_of[name] = site.name
                listed[part].append(name)
                if part == "train" and case.label is not None:
                    labelled.append(name)
    described = read_json(sites[0].index.root / "dataset.json")
    for pattern in ("patient_pattern", "site_pattern"):
        described.pop(pattern, None)
    write_json(folder / "dataset.json", {**described, "name": "+".join(site.name for site in sites)})
    write_json(folder / "patients.json", patients)
    write_json(folder / "sites.json", sites_of)
    write_json(folder / "splits.json", listed)
    return folder, labelled


def _link(case: Case, name: str, folder: Path, ending: str) -> None:
    links = {folder / "imagesTr" / f"{name}_{number:04d}{ending}": path for number, path in enumerate(case.images)}
    if case.label is not None:
        links[folder / "labelsTr" / f"{name}{ending}"] = case.label
    for link, path in links.items():
        if not link.is_symlink():
            link.symlink_to(path.resolve())


def count_patients(sites: Sequence[Site]) -> dict[str, int]:
    """Labelled patients of each site.

    Args:
        sites: Sites of a sequence.
    """
    return {site.name: len(patients_of(site.split.labelled)) for site in sites}


def matrix_text(scores: Sequence[Sequence[float]]) -> str:
    """A matrix as one line of JSON, rounded to four digits.

    >>> matrix_text([[0.912345, 0.5]])
    '[[0.9123, 0.5]]'
    """
    return json.dumps([[round(score, 4) for score in row] for row in scores])
