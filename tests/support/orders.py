"""All 48 orders of axes in which a file can store one scan."""

from itertools import permutations, product

import nibabel
import numpy as np
from scipy.spatial.transform import Rotation

SIGNS = (1, -1)
ORDERS = [(order, signs) for order in permutations(range(3), 3) for signs in product(SIGNS, SIGNS, SIGNS)]


def axes_of(kind: str, seed: int) -> np.ndarray:
    """Directions as columns: those of random patients, of scans that lie exactly between two axes, and sheared ones."""
    random = Rotation.random(random_state=seed).as_matrix()
    return {
        "straight": np.eye(3)[:, np.random.default_rng(seed).permutation(3)],
        "oblique": random,
        "left-handed": random @ np.diag([1, 1, -1]),
        "sheared": random @ np.array([[1, 0.3, 0], [0, 1, 0.2], [0, 0, 1]]),
        "between two": Rotation.from_euler("xyz"[seed % 3], 45 + 90 * (seed % 4), degrees=True).as_matrix(),
        "between three": Rotation.from_rotvec(np.full(3, np.pi / 27**0.5)).as_matrix(),
    }[kind]


def stored_in(
    order: tuple[int, ...], signs: tuple[int, ...], array: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Array (x, y, z) and affine of the same scan, stored in another order of its axes."""
    moves = np.stack((np.argsort(order), np.array(signs)[np.argsort(order)]), axis=1)
    turned = nibabel.orientations.apply_orientation(array, moves)
    return turned, affine @ nibabel.orientations.inv_ornt_aff(moves, array.shape)
