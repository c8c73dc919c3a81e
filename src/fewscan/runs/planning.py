"""Before a run is written down: its scans are surveyed, what is wrong with them is said, and its plan is made."""

from __future__ import annotations

from dataclasses import replace

from fewscan.config import Config
from fewscan.data.check import gathered, raise_on_faults
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Plan
from fewscan.data.plans.kinds import make_plan
from fewscan.data.pose import looked_at
from fewscan.data.split import Split
from fewscan.data.survey import Survey, list_faults, survey_cases
from fewscan.tasks.base import task_of
from fewscan.terminal.console import Reporter
from fewscan.work.base import Executor


def survey_scans(
    reporter: Reporter, index: DatasetIndex, split: Split, known: Survey, executor: Executor | None = None
) -> Survey:
    """Read every scan of a training once, and say what is worth a look.

    Args:
        reporter: Reporter that shows how far reading is, and says what is worth a look.
        index: Data set of the training.
        split: Cases by role; of test cases the images alone are read, to find scans of other parts among them.
        known: Earlier survey; what it knows of files that have not changed is not read again.
        executor: Executor that reads them; None: this process.

    Raises:
        DataError: A fault is fatal; every such fault at once.
    """
    labelled = (*split.train, *split.val)
    cases = (*labelled, *(replace(case, label=None) for case in split.test))
    with reporter.bar("checking scans", len(cases)) as step:
        survey = survey_cases(
            index,
            cases,
            measured={case.name for case in labelled},
            pictured={case.name for case in looked_at(split.train)},
            known=known,
            progress=step,
            executor=executor,
        )
    faults = list_faults(index, cases, survey, split.part_of)
    for fault in gathered(faults):
        if not fault.fatal:
            reporter.say(f"  worth a look: {fault}")
    raise_on_faults(faults)
    return survey


def make_run_plan(
    reporter: Reporter, index: DatasetIndex, split: Split, survey: Survey, fingerprint: Fingerprint, config: Config
) -> Plan:
    """Decide how scans become input, and say what was decided and what it costs; no scan is read.

    Args:
        reporter: Reporter that says what was decided.
        index: Data set with its channels and classes.
        split: Cases by role.
        survey: Survey of the training cases.
        fingerprint: Fingerprint that the survey's cases have together.
        config: Settings of the plan and of the network.

    Raises:
        DataError: The data set does not show what has to be known.
    """
    return measure_plan(reporter, make_plan(index, fingerprint, config.plan, config.network.divisors), split, survey)


def measure_plan(reporter: Reporter, plan: Plan, split: Split, survey: Survey) -> Plan:
    """Say what a plan is and what it costs the scans of a training, with what it tells of them filled in.

    Args:
        reporter: Reporter that says what was decided.
        plan: Plan by which scans become input.
        split: Cases by role.
        survey: Survey of the training cases.
    """
    task = task_of(plan)
    task.check(plan, {case.name: survey.geometry(case) for case in split.train})
    plan = plan.with_turns(survey.turns(split.train, plan.viewing_axis))
    with reporter.bar("measuring what the canvas costs", len(split.labelled)) as step:
        limit = task.limit(split.labelled, plan, survey, step)
    plan = plan.model_copy(update={"ceiling": limit.scores, "notes": (*plan.notes, *limit.notes)})
    normalisation = ", ".join(
        f"{name}: {how.scheme}" for name, how in zip(plan.channel_names, plan.normalisation, strict=True)
    )
    reporter.say(f"plan: {plan.describe()}; {normalisation}; classes {', '.join(plan.class_names)}")
    for note in (*label_notes(plan), *plan.notes):
        reporter.say(f"  {note}")
    return plan


def label_notes(plan: Plan) -> list[str]:
    """Say in words what of the labels is not as plain as 0, 1, 2, ...

    Args:
        plan: Plan with the classes.
    """
    notes = []
    if plan.regions:
        names = ", ".join(f"{region.name} ({'+'.join(map(str, region.numbers))})" for region in plan.regions)
        notes.append(f"regions are trained by their parts and scored as a whole: {names}")
    if plan.ignored_number is not None:
        notes.append(f"voxels of {plan.ignored_number} (ignore) have no loss and no score")
    return notes
