"""The patches of a cache of pictures."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from fewscan.data.patches import Patches
from fewscan.data.plans.volumes.store import VolumeStore


class PictureStore(VolumeStore):
    """The canvases of a cache, out of whose pages patches are cut anywhere.

    It is the store of volumes for patches that are one page thick, without that axis.
    """

    def images(self, patches: Patches) -> Float[Tensor, "b c h w"]:
        """Fetch patches."""
        return self.cut_images(patches)[:, :, 0]

    def labels(self, patches: Patches) -> Int[Tensor, "b h w"]:
        """Fetch the labels of patches.

        Raises:
            ValueError: A label is hidden or does not exist.
        """
        return self.cut_labels(patches)[:, 0]
