"""A method that trains nothing: its network holds how often each class is labelled, and says so everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewscan.data.store import Store
from fewscan.methods.base import Batch, Method, Stage, StepInfo
from fewscan.networks.blocks import Upsampling
from fewscan.networks.segmenter import NetworkSettings, SegmentationNetwork


class SharesSettings(NetworkSettings):
    """No settings of its own."""

    @property
    def stride(self) -> int:
        return 1


class Shares(SegmentationNetwork):
    """The logarithms of the classes' shares, which the images do not change."""

    Settings = SharesSettings
    logs: Tensor

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        ndim: int,
        settings: NetworkSettings,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, n_classes, ndim, settings, precision)
        self.pyramid_channels = (1, 1)
        self.remarks: list[str] = []
        self.register_buffer("logs", torch.zeros(n_classes))

    def encode(self, images: Tensor) -> list[Tensor]:
        return [images[:, :1]]

    def decode(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        logs = self.logs.reshape(1, -1, *[1] * self.ndim)
        return logs + 0 * levels[0], [levels[0], levels[0]]

    def make_decoder(self, upsampling: Upsampling = "linear") -> nn.Module:
        raise NotImplementedError(upsampling)

    def take_remarks(self) -> list[str]:
        taken, self.remarks = self.remarks, []
        return taken


class Counting(Method):
    """Counts the voxels of every class in the labelled patches."""

    trains = False
    uses_unlabelled = False

    def make_network(self) -> SegmentationNetwork:
        settings = SharesSettings(kind="support.untrained:Shares")
        return Shares(self.spec.in_channels, self.spec.n_classes, len(self.spec.size), settings, self.spec.precision)

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        raise AssertionError((batch, info))

    def start_phase(self, number: int, name: str, data: Store) -> None:
        del number, name
        counts = torch.bincount(data.labels(data.labelled[:]).flatten(), minlength=self.spec.n_classes)
        assert isinstance(self.student, Shares)
        self.student.logs.copy_((counts / counts.sum()).clamp_min(1e-6).log())
        self.student.remarks.append(f"counted {len(data.labelled)} patches")

    def findings(self) -> dict[str, float]:
        assert isinstance(self.student, Shares)
        return {"background": float(self.student.logs[0].exp())}
