"""How the trained network represents pixels of known classes: a map of two axes and the class relations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewscan.data.patches import Patches
from fewscan.data.store import Store
from fewscan.inference.batches import patch_batches
from fewscan.inference.predictor import predicting
from fewscan.io.files import write_json
from fewscan.losses.interpolation import gather_neighbourhoods
from fewscan.methods.base import Method

MOST_PATCHES = 96
# Of patches of volumes fewer: all their labels are looked at together.
MOST_VOXELS = MOST_PATCHES * 512 * 512
PIXELS_PER_CLASS = 250


def save_embedding(path: Path, method: Method, store: Store, class_names: Sequence[str]) -> None:
    """Write `embedding.json`: pixels of the store's labelled patches, projected, with the classes' means.

    Embeddings are those of the method's representation head, else of the decoder's finest level; the student's.

    Args:
        path: Path of the file.
        method: Method after its training; its modes and generators are left alone.
        store: Store of patches with labels.
        class_names: Names of the classes that the network is taught, background first.
    """
    pool = store.labelled
    most = min(MOST_PATCHES, max(1, MOST_VOXELS // math.prod(store.patch)), len(pool))
    patches = pool[np.linspace(0, len(pool) - 1, most).astype(int)]
    encode = method.spec.encode
    batches = patch_batches(patches, store.patch)
    labels = np.concatenate([encode(store.labels(part)).labels.cpu().numpy() for part in batches])
    positions = _draw_pixels(labels, len(class_names))
    embeddings = _embed(method, store, patches, positions, labels[0].size)
    classes = labels.ravel()[positions]
    space = "decoder" if method.representation_head() is None else "representation head"
    write_json(path, {"space": space, "class_names": list(class_names), **describe(embeddings, classes, class_names)})


def describe(embeddings: np.ndarray, classes: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Project unit embeddings on to their two principal axes, and compare the classes' means.

    Args:
        embeddings: Unit embeddings (n, e) of pixels.
        classes: Class numbers (n,) of the pixels.
        class_names: Names of the classes, background first.

    Returns:
        Content of the file: {"classes": n numbers, "points": n pairs, "prototypes": k pairs, "explained": shares of the
        variance of both axes, "relation": k × k cosines of the classes' means}; None for a class without pixels.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    centre = unit.mean(axis=0)
    _, sizes, axes = np.linalg.svd(unit - centre, full_matrices=False)
    axes = axes[:2]
    # An axis has no sign of its own; the largest weight gives it one, the same in every run.
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    means = [embeddings[classes == k].mean(axis=0) if (classes == k).any() else None for k in range(len(class_names))]
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-12)
    return {
        "classes": classes.tolist(),
        "points": _rounded((unit - centre) @ axes.T),
        "prototypes": [None if m is None else _rounded((_unit(m) - centre) @ axes.T) for m in means],
        "explained": _rounded(shares[:2]),
        "relation": [
            [None if a is None or b is None else round(float(_unit(a) @ _unit(b)), 4) for b in means] for a in means
        ],
    }


def _draw_pixels(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Flat positions in (n, *size), as many of each class where there are so many; in order."""
    generator = np.random.default_rng(0)
    chosen = []
    for k in range(n_classes):
        (found,) = np.nonzero(labels.ravel() == k)
        chosen.append(generator.choice(found, min(PIXELS_PER_CLASS, len(found)), replace=False))
    return np.sort(np.concatenate(chosen))


def _embed(method: Method, store: Store, patches: Patches, positions: np.ndarray, pixels_per_patch: int) -> np.ndarray:
    """Embeddings (n, e) of positions in the patches."""
    head = method.representation_head()
    found = []
    first = 0
    with predicting(method):
        for part in patch_batches(patches, store.patch):
            last = first + len(part) * pixels_per_patch
            inside = positions[(positions >= first) & (positions < last)] - first
            first = last
            if not len(inside):
                continue
            images = store.images(part)
            _, pyramid = method.student.logits_and_pyramid(images)
            levels = pyramid if head is not None else pyramid[-1:]
            pixels = torch.from_numpy(inside).to(images.device)
            windows = gather_neighbourhoods(levels, tuple(images.shape[2:]), pixels)
            embedded = head.embed(windows) if head is not None else windows[:, windows.shape[1] // 2]
            found.append(embedded.float().cpu().numpy())
    return np.concatenate(found)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _rounded(values: np.ndarray) -> Any:
    return np.round(values.astype(float), 4).tolist()
