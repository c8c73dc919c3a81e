"""What the teacher believes of a few unlabelled patches as training goes on, kept for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewscan.data.brightness import to_bytes
from fewscan.data.store import Store, StoredCase
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.statistics import clean_statistics
from fewscan.errors import WriteError
from fewscan.inference.predictor import Predictor
from fewscan.io.files import atomic_path
from fewscan.methods.base import Method

SHARES_PERCENT = (10, 50, 100)
MOST_CASES = 6


class Gallery(Callback):
    """Saves `SHARE.npz` when a share of the training is done; nothing of the training is changed by it.

    Each file has images, labels and confidence (n, *size) in uint8 (255 = 1), the cases' names and the numbers (n,) of
    the canvas' planes in the middle of the patches, and update, stage and network. A resumed training writes the same
    bytes again.

    Args:
        folder: Folder of the files, made with the first one.
        store: Store of the training scans.
        clean: Whether the network of the end is shown as it is exported, with clean statistics.
    """

    def __init__(self, folder: Path, store: Store, clean: bool = True) -> None:
        self.folder = folder
        self.store = store
        self.clean = clean
        self.patches = store.middles(_choose(store.cases))

    def on_update(self, info: UpdateInfo) -> None:
        """Save what is believed after an update, where it completes one of the shares.

        Raises:
            WriteError: The file cannot be written.
        """
        for share in SHARES_PERCENT:
            if info.completes(share):
                self._save(share, info.method, info.done, info.stage.name, self.clean and info.done == info.total)

    def _save(self, share: int, method: Method, done: int, stage: str, clean: bool) -> None:
        networks = method.networks()
        name = "teacher" if "teacher" in networks else next(iter(networks))
        network = networks[name]
        with clean_statistics([network], self.store, clean):
            shown, confidence, labels = self._predicted(Predictor((network,)))
        try:
            # Not its parents: a run that was removed must not come back in part.
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(self.folder, error) from None
        with atomic_path(self.folder / f"{share:03d}.npz") as beside:
            np.savez_compressed(
                beside,
                images=np.stack([to_bytes(image) for image in shown.cpu().numpy()]),
                labels=labels.cpu().numpy().astype(np.uint8),
                confidence=np.rint(255 * confidence.float().cpu().numpy()).astype(np.uint8),
                cases=np.array([self.store.cases[case].name for case in self.patches.case]),
                slices=self.patches.start[:, 0] + self.store.patch[0] // 2,
                update=np.array(done),
                stage=np.array(stage),
                network=np.array(name),
            )

    def _predicted(self, predictor: Predictor) -> Iterator[Tensor]:
        """Images, confidences and labels (n, *size) of the patches."""
        blocks = []
        for block in predictor.over_store(self.store, self.patches):
            confidence, labels = block.probs.max(dim=1)
            blocks.append((block.images[:, 0], confidence, labels))
        return (torch.cat(parts) for parts in zip(*blocks, strict=True))


def _choose(cases: Sequence[StoredCase]) -> list[int]:
    """Numbers of a few unlabelled cases, evenly through all of them; of any where all are labelled."""
    pool = [i for i, case in enumerate(cases) if not case.labelled] or list(range(len(cases)))
    return [pool[round(p)] for p in np.linspace(0, len(pool) - 1, min(MOST_CASES, len(pool)))]
