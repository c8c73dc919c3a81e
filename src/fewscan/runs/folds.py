"""A run of folds: a network for each part of the labelled patients, trained without it and scored on it.

Every fold is a run of its own in `folds/`, with the plan, the settings and the survey of the whole run. What they come
to together lies where a run of one network has it: `cross_validation/` in the place of a validation, `quality.json`
made from it, `model.json`, which says what the networks are that `predict` averages, and the page.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace

from fewscan.config import Config
from fewscan.data.cache import copy_cache
from fewscan.data.cases import patients_of
from fewscan.data.folds import describe_folds, name_held_out
from fewscan.data.split import Split
from fewscan.errors import ConfigError
from fewscan.evaluation.summary import case_means, merge_summaries
from fewscan.inference.model import read_held_out, write_card
from fewscan.io.files import atomic_path, make_folder, read_json, write_json
from fewscan.run_folder import RunFolder
from fewscan.runs.job import Job, Times, Trained, finish_job, preprocess, train_job, tuned_card
from fewscan.runs.launch import Launch
from fewscan.runs.quality import calibrate_on_folds, validate_and_calibrate
from fewscan.runs.rehearsal import Together
from fewscan.runs.scoring import sites_of, write_scores
from fewscan.runs.state import write_facts


def write_held_out(run: RunFolder, folds: Sequence[Split]) -> None:
    """Write down whom each fold holds out, as a part of what the run is made from.

    Args:
        run: Folder of the run.
        folds: Splits of the folds; empty: the run has none, and nothing is written.
    """
    # A start that was killed before all was written down may have left other folds.
    run.folds_held_out.unlink(missing_ok=True)
    if folds:
        write_json(run.folds_held_out, [patients_of(fold.val) for fold in folds])


def check_held_out(run: RunFolder, folds: Sequence[Split]) -> None:
    """Compare an unfinished run's folds with those that are asked for this time.

    Args:
        run: Folder of the run.
        folds: Splits of the folds; empty: none are asked for.

    Raises:
        ConfigError: The folds are others than the run was started with.
    """
    found = read_held_out(run.path)
    wanted = tuple(tuple(patients_of(fold.val)) for fold in folds)
    if found != wanted:
        raise ConfigError(
            f"{run}: the run was made with {_counted(found)}, now {_counted(wanted)}. Give the same --folds, or choose "
            "another folder."
        )


def run_folds(job: Job, folds: Sequence[Split], launch: Launch) -> None:
    """Train and score every fold, or what is left to do, and write what they come to together.

    Args:
        job: The whole run, with all its labelled cases.
        folds: Splits of the folds.
        launch: Processes that train together.
    """
    started = time.time()
    together = Together(job.config, job.split, len(folds))
    done: list[Trained] = []
    job.reporter.say(describe_folds(folds))
    preprocess(job, "train", job.split.train, "training scans")
    limit = job.share.limit if job.share is not None else None
    shares = limit.shares(len(folds)) if limit is not None else [None] * len(folds)
    for number, (fold, share) in enumerate(zip(folds, shares, strict=True)):
        own = replace(_job_of_fold(job, number, fold), share=share, together=together)
        title = f"fold {number + 1} of {len(folds)}"
        if own.run.state == "finished":
            job.reporter.say(f"{title} is finished")
            continue
        job.reporter.say(f"{title}: {name_held_out(fold)} held out, {len(fold.labelled)} labelled scans")
        done.append(_run_fold(job, own, number, len(folds) - 1 - number, launch))
    _combine(job, folds)
    if job.split.val:
        tries = job.config.export.postprocess
        validate_and_calibrate(
            job.run, job.split, job.survey, launch.device, job.reporter, job.start, tries_decodings=tries
        )
        scored, cases, tried = job.run.validation, job.split.val, None
    else:
        calibrate_on_folds(job.run, job.split, job.survey, launch.device, job.reporter, job.start)
        scored, cases = job.run.cross_validation, job.split.labelled
        tried = [fold.validation for fold in job.run.parts]
    card = tuned_card(job, scored, cases, tried)
    resumed_after = done[0].resumed_after if done else None
    finish_job(job, launch.device, started, resumed_after, _times_together(done))
    # Last of all: it says that the run is finished.
    write_card(job.run.path, card)


def settings_of_fold(config: Config) -> Config:
    """The settings of a fold: no page of its own, `fewscan report` writes it where it is wanted.

    Args:
        config: Settings of the whole run.
    """
    return config.model_copy(update={"report": config.report.model_copy(update={"page": False})})


def _job_of_fold(job: Job, number: int, fold: Split) -> Job:
    run = job.run.fold(number)
    return replace(job, config=settings_of_fold(job.config), split=fold, run=run, cache=run.cache)


def _times_together(done: Sequence[Trained]) -> Times | None:
    """What the first of the folds has announced for all, and the time that all have trained; None: none was left."""
    if not done:
        return None
    return Times(done[0].whole, done[0].times.begun, sum(trained.times.training for trained in done))


def _run_fold(job: Job, own: Job, number: int, later: int, launch: Launch) -> Trained:
    """Train and score one fold; its cache, a copy of parts of the whole one, is removed afterwards."""
    started, run = time.time(), own.run
    make_folder(run.path)
    write_facts(run, own.config, own.plan, own.split, own.index)
    for part, cases in (("train", own.split.train), ("val", own.split.val)):
        copy_cache(job.cache / "train", own.cache / part, cases, own.plan)
    trained = train_job(own, launch, number, later)
    # Where the whole run has validation cases, its decoding is chosen on those.
    tries = job.config.export.postprocess and not job.split.val
    validate_and_calibrate(run, own.split, own.survey, launch.device, own.reporter, own.start, tries_decodings=tries)
    finish_job(own, launch.device, started, trained.resumed_after, trained.times)
    shutil.rmtree(own.cache)
    return trained


def _combine(job: Job, folds: Sequence[Split]) -> None:
    """Gather the scored cases of all folds."""
    run, together = job.run, job.run.cross_validation
    make_folder(together.path)
    summaries = []
    for number, fold in enumerate(folds):
        scored = run.fold(number).validation
        summaries.append(read_json(scored.summary))
        for case in fold.val:
            with atomic_path(together.mask(case.name)) as beside:
                shutil.copyfile(scored.mask(case.name), beside)
    summary = merge_summaries(summaries)
    cases = job.split.labelled
    write_scores(together, summary, job.reporter, {case.name: case.patient for case in cases}, sites_of(cases))
    means = case_means(summary)
    worst = sorted(means, key=lambda case: means[case])[:3]
    listed = ", ".join(f"{case} ({means[case]:.3f})" for case in worst)
    job.reporter.say(f"every labelled scan was scored by a network that had not seen its patient; worst: {listed}")


def _counted(folds: Sequence[Sequence[str]]) -> str:
    if not folds:
        return "no folds"
    return f"{len(folds)} folds that hold out {'; '.join(', '.join(fold) for fold in folds)}"
