"""How many unlabelled scans a training can make use of: no more than its updates can draw patches of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewscan.data.split import Split
from fewscan.words import counted

# Plan and statistics are measured on the scans that train, and of fewer nothing is left out: reading and preprocessing
# so many small scans takes some 5 s.
FEWEST_SCANS = 1000
# Tells what is drawn from the run's seed here from what else is.
STREAM = 21


def capped(split: Split, updates: int, batch: int, seed: int) -> Split:
    """Leave those unlabelled scans out of training that its updates cannot draw; which ones, the seed decides.

    Nothing else does: neither how many processes there are nor what a run has done so far. A data set with at most as
    many unlabelled scans as the updates draw patches, or with at most 1000, stays as it is.

    Args:
        split: Split of the data set.
        updates: Number of updates of the whole training.
        batch: Number of unlabelled patches in a batch, at most.
        seed: Seed of the run, 0 or more.

    Returns:
        The split; what does not train is in `left_out`, and a note says how many.
    """
    hidden = [number for number, case in enumerate(split.train) if case.label is None]
    most = max(updates * batch, FEWEST_SCANS)
    if len(hidden) <= most:
        return split
    generator = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    without = {hidden[place] for place in generator.permutation(len(hidden))[most:].tolist()}
    reason = (
        f"{most} of {len(hidden)} unlabelled scans can be drawn by {counted(updates, 'update')} of {batch}"
        if most == updates * batch
        else f"{most} of {len(hidden)} unlabelled scans train: {counted(updates, 'update')} of {batch} draw fewer"
    )
    return replace(
        split,
        train=tuple(case for number, case in enumerate(split.train) if number not in without),
        left_out=tuple(case for number, case in enumerate(split.train) if number in without),
        notes=(*split.notes, f"{reason}; the others are left out (--set training.pool=all takes them)"),
    )
