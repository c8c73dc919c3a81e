"""The weak and the strong view (method section 0).

Weak: the spatial change alone. Strong: the weak view, its intensities changed and smoothly deformed, and in
stage iii mixed. The strong view is made from the weak one, so a location means the same place in both up to
the small deformation, and a pseudo-label made on the weak view can follow.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from fewscan.augment.intensity import IntensitySettings, jitter
from fewscan.augment.mix import Collage, MixName, PseudoLabelled, collage, mix
from fewscan.augment.spatial import (
    SpatialSettings,
    sample_grid,
    warp_confidence,
    warp_images,
    warp_labels,
)
from fewscan.augment.targets import Encode, FindObjects, Target, no_objects
from fewscan.settings import CountOrZero, Probability, Settings


class AugmentationSettings(Settings):
    """What makes a view weak or strong; the same for every method.

    Examples:
        >>> from fewscan.augment.policy import AugmentationSettings
        >>> AugmentationSettings(mix="classmix").resolved(turned=0.2).spatial.turn
        0.5
    """

    spatial: SpatialSettings = Field(
        default_factory=SpatialSettings, description="Spatial changes, which make the weak view."
    )
    intensity: IntensitySettings = Field(
        default_factory=IntensitySettings,
        description="Changes of intensities, which strong views and labelled images have.",
    )
    strong_deformation: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.02,
        description="Size of the smooth deformation of strong views and labelled images: twice the standard "
        "deviation of a pixel's displacement, as a share of the side.",
    )
    mix: MixName = Field(
        "cutmix",
        description="Way in which strong views of unlabelled images are mixed, pseudo-labels with them: boxes "
        "(cutmix) or classes (classmix) of another image, blank boxes (cutout), or none. Objects are never cut: those "
        "that lie in the box come as a whole (cutmix), or half of all (classmix).",
    )
    mix_probability: Probability = Field(1.0, description="Probability that an unlabelled image is mixed.")
    mix_seam: CountOrZero = Field(
        0,
        description="Number of pixels on either side of the edges of what is pasted whose pseudo-labels do not count.",
    )

    def resolved(self, turned: float) -> AugmentationSettings:
        """With everything decided for a data set with a share of scans that lie turned."""
        return self.model_copy(update={"spatial": self.spatial.resolved(turned)})


class Augmentation:
    """Draws views; holds settings only, so a training step is decided by its batch and its generator.

    Labels are encoded when they have been moved: what is made of them, such as borders of objects, has a width in
    pixels of the view.

    Args:
        settings: Settings of the weak and the strong view.
        encode: Function from moved labels to what they teach; `Target` itself: they are classes.
        find_objects: Function from what is taught to labels that number the objects in it, which no mixing cuts.

    Examples:
        >>> import torch
        >>> from fewscan.augment.policy import Augmentation, AugmentationSettings
        >>> augment, generator = Augmentation(AugmentationSettings()), torch.Generator().manual_seed(0)
        >>> images, labels = torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
        >>> images, target = augment.labelled(images, labels, generator)
        >>> weak = augment.weak(torch.rand(2, 1, 32, 32), generator)  # what the teacher sees
        >>> strong = augment.strong(weak, generator)  # what the student sees
        >>> tuple(images.shape), tuple(target.labels.shape), tuple(strong.shape)
        ((2, 1, 32, 32), (2, 32, 32), (2, 1, 32, 32))
    """

    def __init__(
        self, settings: AugmentationSettings, encode: Encode = Target, find_objects: FindObjects = no_objects
    ) -> None:
        self.settings = settings
        self.encode = encode
        self.find_objects = find_objects
        self._full = settings.spatial.model_copy(update={"deformation": settings.strong_deformation})
        self._deformation = SpatialSettings(
            rotation_degrees=0, flip=0, scale=0, shift=0, deformation=settings.strong_deformation
        )

    def labelled(
        self,
        images: Float[Tensor, "b c *space"],
        labels: Int[Tensor, "b *space"],
        generator: torch.Generator,
    ) -> tuple[Tensor, Target]:
        """Strongly augmented labelled images, and what their labels teach, through the same grid; of none, none."""
        if not len(images):
            return images, self.encode(labels)
        grid = sample_grid(self._full, len(images), tuple(images.shape[2:]), generator)
        moved = jitter(warp_images(images, grid), self.settings.intensity, generator)
        return moved, self.encode(warp_labels(labels, grid))

    def weak_labelled(
        self,
        images: Float[Tensor, "b c *space"],
        labels: Int[Tensor, "b *space"],
        generator: torch.Generator,
    ) -> tuple[Tensor, Target]:
        """The weak view of labelled images, and what their labels teach, through the same grid."""
        grid = sample_grid(self.settings.spatial, len(images), tuple(images.shape[2:]), generator)
        return warp_images(images, grid), self.encode(warp_labels(labels, grid))

    def weak(self, images: Float[Tensor, "b c *space"], generator: torch.Generator) -> Float[Tensor, "b c *space"]:
        """The weak view: images on a new grid."""
        grid = sample_grid(self.settings.spatial, len(images), tuple(images.shape[2:]), generator)
        return warp_images(images, grid)

    def intensity(self, images: Float[Tensor, "b c *space"], generator: torch.Generator) -> Float[Tensor, "b c *space"]:
        """Intensities changed, every pixel in its place."""
        return jitter(images, self.settings.intensity, generator)

    def strong(self, weak: Float[Tensor, "b c *space"], generator: torch.Generator) -> Float[Tensor, "b c *space"]:
        """The strong view of weak ones: deformed, intensities changed."""
        grid = sample_grid(self._deformation, len(weak), tuple(weak.shape[2:]), generator)
        return jitter(warp_images(weak, grid), self.settings.intensity, generator)

    def strong_with_labels(self, weak: PseudoLabelled, n_classes: int, generator: torch.Generator) -> PseudoLabelled:
        """The strong view of weak ones, deformed and mixed together with pseudo-label and confidence."""
        grid = sample_grid(self._deformation, len(weak.images), tuple(weak.images.shape[2:]), generator)
        strong = PseudoLabelled(
            jitter(warp_images(weak.images, grid), self.settings.intensity, generator),
            warp_labels(weak.labels, grid),
            warp_confidence(weak.confidence, grid),
        )
        return mix(
            strong,
            self.settings.mix,
            n_classes,
            generator,
            self.settings.mix_probability,
            self.settings.mix_seam,
            self.encode,
            self.find_objects,
        )

    def collage(
        self, mask: Bool[Tensor, "b *space"], pasted: Int[Tensor, "b *space"], under: Int[Tensor, "b *space"]
    ) -> Collage:
        """Where images show others that are pasted into them by a method's own mask: it is changed to cut no object.

        Args:
            mask: Whether each pixel is to show what is pasted.
            pasted: Classes of the images that are pasted.
            under: Classes of the images that they are pasted into.
        """
        return collage(mask, pasted, under, self.encode, self.find_objects)
