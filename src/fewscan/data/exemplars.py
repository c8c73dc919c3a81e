"""Exemplars: the few preprocessed patches of earlier sites that a run keeps, so that a later training does not forget.

They hold pixels of scans. A run has none unless it was asked for them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from fewscan.errors import DataError
from fewscan.io.files import atomic_path

SITES = "sites"


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Labelled patches of one or several sites.

    Attributes:
        images: Images (n, c, *size), normalised as a network is given them, float16.
        labels: Labels (n, *size) as a store gives them, of the smallest type of integers that holds them.
        sites: Name of the site of each patch, such as that of its data set.

    Examples:
        >>> import torch
        >>> from fewscan.data.exemplars import Exemplars
        >>> kept = Exemplars.of(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long), site="A")
        >>> len(kept), kept.sites, kept.images.dtype
        (2, ('A', 'A'), torch.float16)
    """

    images: Float[Tensor, "n c *size"]
    labels: Integer[Tensor, "n *size"]
    sites: tuple[str, ...]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.sites)

    @classmethod
    def of(cls, images: Float[Tensor, "n c *size"], labels: Integer[Tensor, "n *size"], site: str) -> Self:
        """Keep patches of one site, on the CPU.

        Args:
            images: Images as a store gives them.
            labels: Labels of the images.
            site: Name of the site.
        """
        fits = labels.numel() == 0 or int(labels.max()) <= torch.iinfo(torch.uint8).max
        kind = torch.uint8 if fits else torch.int32
        return cls(images.to("cpu", torch.float16), labels.to("cpu", kind), (site,) * len(labels))

    def joined(self, later: Exemplars) -> Exemplars:
        """These exemplars and those of a later site.

        Args:
            later: Exemplars of patches of the same size.
        """
        labels = torch.cat((self.labels.int(), later.labels.int()))
        joined = Exemplars.of(torch.cat((self.images, later.images)), labels, "")
        return Exemplars(joined.images, joined.labels, (*self.sites, *later.sites))

    def without(self, site: str) -> Exemplars:
        """The exemplars of all other sites.

        Args:
            site: Name of a site, which need not be among them.
        """
        others = [number for number, name in enumerate(self.sites) if name != site]
        return Exemplars(self.images[others], self.labels[others], tuple(self.sites[number] for number in others))

    def save(self, path: Path) -> None:
        """Write a safetensors file, whose metadata name the sites.

        Args:
            path: Path of the file; what lies there is replaced.

        Raises:
            WriteError: The file cannot be written.
        """
        from safetensors.torch import save

        tensors = {"images": self.images.contiguous(), "labels": self.labels.contiguous()}
        with atomic_path(path) as beside:
            beside.write_bytes(save(tensors, {SITES: json.dumps(self.sites)}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` has written.

        Args:
            path: Path of the file.

        Raises:
            DataError: The file is not there, damaged, or none of exemplars.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise DataError.of(path, "not there", "Restore it, or train on without exemplars")
        try:
            with safe_open(path, "pt") as file:
                sites = tuple(map(str, json.loads(file.metadata()[SITES])))
                images, labels = file.get_tensor("images"), file.get_tensor("labels")
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise DataError.of(path, "not a readable file of exemplars", f"Copy it again. ({error})") from None
        if len(images) != len(labels) or len(sites) != len(labels) or images.shape[2:] != labels.shape[1:]:
            raise DataError.of(path, "its images, labels and sites do not belong together", "Copy it again")
        return cls(images, labels, sites)


def count_by_site(sites: Sequence[str]) -> dict[str, int]:
    """Number of exemplars of each site, in the order in which sites came.

    >>> count_by_site(["A", "A", "B"])
    {'A': 2, 'B': 1}
    """
    return {site: sites.count(site) for site in dict.fromkeys(sites)}
