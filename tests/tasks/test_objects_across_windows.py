"""An object that lies in many windows is one object, and as large as it is."""

from __future__ import annotations

import numpy as np
import torch

from fewscan.classes import Classes
from fewscan.data.patches import cut
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.pictures.plan import PicturePlan
from fewscan.io.geometry import Geometry
from fewscan.tasks.borders import encode
from fewscan.tasks.instances import Instances
from support.discs import draw_discs, same_objects
from support.scans import geometry


def test_objects_across_the_seams_of_windows_are_found_as_in_one_piece() -> None:
    task = Instances(Instances.numbering(Classes.consecutive(("background", "cell"))))
    # Far larger than a window, which is 32 pixels wide; two of them touch along a seam at 96.
    picture = draw_discs((150, 190), [(60, 50, 46), (60, 142, 46), (130, 96, 12), (140, 20, 6)])
    where: Geometry = geometry((1, *picture.shape), (1.0, 1.0, 1.0))
    plan = PicturePlan(
        dataset="test",
        channel_names=("light",),
        class_names=("background", "cell"),
        task="instances",
        size=(32, 32),
        spacing_mm=(1.0, 1.0),
        foreground=0.3,
        normalisation=(Normalisation(scheme="minmax"),),
    )
    classes = encode(torch.from_numpy(picture)[None]).numpy()
    probs = np.stack([classes == k for k in range(3)]).astype(np.float32)
    starts = plan.starts(plan.canvas_shape(where))
    assert len(starts) > 80
    assembler = plan.assembler(where, task.decode, keep_probabilities=True)
    for first in range(0, len(starts), 7):
        some = starts[first : first + 7]
        assembler.add(np.stack([cut(probs, start[None], plan.size)[0] for start in some]), some)
    found = assembler.finish()
    in_one_piece = task.decode(probs[:, 0][None])[0]
    assert same_objects(found.mask[0], in_one_piece)
    assert found.mask.max() == 4
    assert found.probabilities is not None
    assert np.allclose(found.probabilities, probs, atol=1e-3)
