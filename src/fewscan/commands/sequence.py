"""fewscan sequence: sites that arrive one after another, what each approach learns of them and what it forgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fewscan.benchmarking.sites import (
    APPROACHES,
    CONTINUED,
    REMEMBERING,
    WORDS,
    Site,
    SiteRun,
    check_labels,
    choose_orders,
    count_patients,
    for_folders,
    join_data,
    read_sites,
    runs_of,
)
from fewscan.commands.train import train
from fewscan.data.survey import Survey
from fewscan.devices import choose_device
from fewscan.errors import ConfigError
from fewscan.evaluation.summary import Summary, headline_title, overall_mean
from fewscan.evaluation.transfer import Journey
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath, make_folder, read_json, write_text
from fewscan.reporting.sequence_page import write_sequence_page
from fewscan.reporting.sequence_report import save_sequence, sequence_report, write_scores
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.runs.continuation import DECIDED
from fewscan.runs.scoring import validate_model
from fewscan.terminal.console import Reporter
from fewscan.version import VERSION


@dataclass(frozen=True)
class SequenceResult:
    """Result of sites in sequence.

    Attributes:
        output: Folder of the trainings, with `report.html`, `sequence.md`, `sequence.csv` and `sequence.png`.
        journeys: What each approach came to, for every order and seed.

    Examples:
        >>> import fewscan
        >>> result = fewscan.sequence(["DATASET", "SITE_B"], "SEQUENCE", approaches=["finetune"], settings=short)
        >>> [(journey.approach, journey.order, len(journey.scores)) for journey in result.journeys]
        [('finetune', ('Discs', 'B'), 2)]
    """

    output: Path
    journeys: tuple[Journey, ...]


@dataclass(frozen=True)
class Travel:
    """What all trainings of a sequence have in common.

    Attributes:
        sites: Sites by name.
        output: Folder of the trainings.
        method: Method of the first site, and of approaches that have none of their own.
        memory: Labelled patches that each training keeps of its site.
        recipe: Set of settings that every training starts from.
        settings: Changes to the recipe, each `key=value`.
        device: Device to compute on, as `train` takes it.
        reporter: Reporter that shows progress and decisions.
    """

    sites: dict[str, Site]
    output: Path
    method: str
    memory: int
    recipe: str
    settings: tuple[str, ...]
    device: str
    reporter: Reporter

    def folder(self, run: SiteRun) -> RunFolder:
        """The folder of a training."""
        return RunFolder(self.output / "runs" / run.name)


def sequence(
    sites: Sequence[AnyPath],
    output: AnyPath,
    *,
    approaches: Sequence[str] = ("itl", "finetune"),
    method: str = "action",
    labelled: int | Sequence[int] | None = None,
    memory: int = 64,
    orders: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    recipe: str = "auto",
    settings: Sequence[str] = (),
    device: str = "auto",
    reporter: Reporter | None = None,
) -> SequenceResult:
    """Train on sites one after another by several approaches, and score every site after every phase.

    The last weights of a training are what is scored, on the validation cases of each site. What is there is not made
    again; a training that was interrupted goes on.

    Args:
        sites: Folders of the data sets in the order of arrival, at least two, of the same channels and classes.
        output: Folder for the trainings and tables.
        approaches: Names of the approaches: itl, itl_none (nothing kept but weights), finetune, lwf, replay, joint
            (all sites at once) and separate (a network for each).
        method: Name of the method that trains the first site, and every site where the approach is no method itself.
        labelled: Number of labelled patients of each site, or a number for each; 0: the site comes without any label,
            which itl, itl_none, lwf, replay and joint can learn from once a site with labels was there. None: all.
        memory: Number of labelled patches that each training keeps of its site, 0 or more.
        orders: Orders of arrival, each the sites' numbers such as "2,1"; "all": every one; empty: as given.
        seeds: Seeds of the trainings, each 0 or more.
        recipe: Set of settings that every training starts from: auto (chosen by the device), paper (as published),
            quick or night.
        settings: Changes to the recipe for all trainings, each `key=value`; those of plan and network are the first
            site's.
        device: Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        What each approach came to.

    Raises:
        ConfigError: A name, an order or a setting cannot be used, or a training in the folder had other ones.
        DataError: A data set cannot be used, holds nobody out, or has other channels or classes than the first.
        FewscanError: Training had to stop.
        Interrupted: SIGINT or SIGTERM asked to stop while training; the same call goes on.

    Examples:
        >>> import fewscan
        >>> result = fewscan.sequence(["DATASET", "SITE_B"], "SEQUENCE", approaches=["finetune"], settings=short)
        >>> sorted(path.name for path in result.output.iterdir())
        ['report.html', 'runs', 'sequence.csv', 'sequence.md', 'sequence.png']
    """
    refuse_elsewhere(*sites, output)
    reporter = reporter or Reporter(quiet=True)
    unknown = [name for name in approaches if name not in APPROACHES]
    if unknown or not approaches or not seeds:
        raise ConfigError(f"--methods {', '.join(unknown) or 'none'}: choose of {', '.join(APPROACHES)}, and a seed.")
    counts = [labelled] if isinstance(labelled, int) else (labelled or ())
    read = read_sites([Path(site) for site in sites], tuple(counts))
    travel = Travel(
        {site.name: site for site in read}, Path(output), method, memory, recipe, tuple(settings), device, reporter
    )
    wanted = [
        (approach, order, seed)
        for seed in dict.fromkeys(seeds)
        for order in choose_orders(read, orders)
        for approach in dict.fromkeys(approaches)
    ]
    for approach, order, seed in wanted:
        check_labels(runs_of(approach, order, seed), travel.sites, memory)
    make_folder(travel.output / "runs")
    where = choose_device(device)
    journeys: list[Journey] = []
    for number, (approach, order, seed) in enumerate(wanted, start=1):
        reporter.say(f"{number} of {len(wanted)}: {approach}, {' → '.join(order)}, seed {seed}")
        journeys.append(_travel(travel, approach, order, seed, where))
        _write_results(travel, journeys, read)
    reporter.say(f"look at {travel.output / 'report.html'}")
    return SequenceResult(travel.output, tuple(journeys))


def _travel(travel: Travel, approach: str, order: tuple[str, ...], seed: int, where: torch.device) -> Journey:
    """Make the trainings of an approach that are not there yet, and score every site after each."""
    runs = runs_of(approach, order, seed)
    for run in runs:
        _train(travel, run)
    if approach == "separate":
        scores = [[_score(travel, run, site, where) for run, site in zip(runs, order, strict=True)]]
    else:
        scores = [[_score(travel, run, site, where) for site in order] for run in runs]
    seconds = sum(_seconds(travel.folder(run)) for run in runs)
    last = travel.folder(runs[-1])
    sizes = sum(path.stat().st_size for path in (last.weights, last.memory) if path.is_file())
    return Journey(approach, order, seed, tuple(map(tuple, scores)), seconds, sizes)


def _train(travel: Travel, run: SiteRun) -> None:
    """One training, unless it is there."""
    changes = CONTINUED.get(run.approach)
    method = travel.method if changes is None else "itl"
    before = run.before
    if run.approach == "joint":
        sites = [travel.sites[name] for name in run.sites]
        dataset, names = join_data(sites, travel.output / "runs" / f"{run.name}-data")
    else:
        site = travel.sites[run.sites[-1]]
        dataset = site.index.root
        names = [case.name for case in site.split.labelled]
    given = travel.settings
    if before is not None:
        given = tuple(setting for setting in given if not setting.startswith(DECIDED))
    # A page for every training would be what nobody asked for; `fewscan report` writes it.
    memory = travel.memory if run.approach in REMEMBERING else 0
    settings = (f"export.memory={memory}", "report.page=false", *given, *(changes or ()))
    train(
        dataset,
        travel.folder(run),
        method=method,
        labelled=None if names else 0,
        labelled_list=names or None,
        recipe=travel.recipe,
        settings=settings,
        seed=run.seed,
        device=travel.device,
        reporter=travel.reporter,
        resume=True,
        continue_from=travel.folder(before) if before is not None else None,
    )


def _score(travel: Travel, run: SiteRun, site: str, where: torch.device) -> float:
    return overall_mean(_summary(travel, run, site, where))


def _summary(travel: Travel, run: SiteRun, site: str, where: torch.device) -> Summary:
    """The scores of a training on a site's validation cases, which are made once."""
    folder = travel.folder(run)
    scored = ScoresFolder(folder.path / "sites" / for_folders(site))
    if run.approach != "joint" and run.sites[-1] == site:
        scored = folder.validation
    if not scored.summary.is_file():
        travel.reporter.say(f"scoring {run.name} on {site}")
        make_folder(scored.path)
        cases = travel.sites[site].split.val
        validate_model(folder, cases, Survey(), where, Reporter(quiet=True), scored)
    summary: Summary = read_json(scored.summary)
    return summary


def _seconds(run: RunFolder) -> float:
    taken = read_json(run.provenance).get("times", {}).get("seconds", {}).get("all", {}).get("taken")
    return float(taken) if taken is not None else 0.0


def _write_results(travel: Travel, journeys: Sequence[Journey], sites: Sequence[Site]) -> None:
    last = travel.folder(runs_of(journeys[-1].approach, journeys[-1].order, journeys[-1].seed)[-1])
    scored = (last.validation.summary, *sorted(last.path.glob("sites/*/summary.json")))
    title = headline_title(read_json(next(path for path in scored if path.is_file())))
    patients = ", ".join(f"{name} {number}" for name, number in count_patients(sites).items())
    changes = f", with {', '.join(f'`{change}`' for change in travel.settings)}" if travel.settings else ""
    facts = [
        f"Labelled patients: {patients}. Scored: validation cases of every site, last weights. First site: "
        f"`{travel.method}`. Patches kept of each site, where an approach keeps some: {travel.memory}. Recipe: "
        f"`{travel.recipe}`{changes}; where no change says otherwise, a training that continues another has half of "
        f"its updates and a third of its learning rate. fewscan {VERSION}."
    ]
    write_sequence_page(travel.output / "report.html", journeys, WORDS, title, facts)
    write_text(travel.output / "sequence.md", sequence_report(journeys, WORDS, title, facts))
    write_scores(travel.output / "sequence.csv", journeys)
    save_sequence(travel.output / "sequence.png", journeys, title)
