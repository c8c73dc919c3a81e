"""What every segmentation network owes methods, heads, statistics and prediction, as tests."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from fewscan.coarse_logits import coarse_of
from fewscan.networks.ema import make_teacher, update_teacher
from fewscan.networks.modes import evaluating, labelling, stochastic
from fewscan.networks.segmenter import NetworkSettings, SegmentationNetwork
from fewscan.networks.statistics import re_estimated_statistics

if TYPE_CHECKING:
    import pytest

IN_CHANNELS, N_CLASSES, IMAGES = 2, 3, 3


class NetworkContract:
    """The contract of `SegmentationNetwork`, in 2D and in 3D.

        class TestMine(NetworkContract):
            settings = MineSettings(kind="mine", width=4)
            network = Mine

    Attributes:
        network: Class of the network.
        settings: Settings of a network small enough for tests, with dropout if it has any.
        n_dims: Numbers of axes of space that the network works on.
        near: Largest relative distance of logits in bfloat16 from those in float32.
    """

    network: ClassVar[type[SegmentationNetwork]]
    settings: ClassVar[NetworkSettings]
    n_dims: ClassVar[tuple[int, ...]] = (2, 3)
    near: ClassVar[float] = 0.05

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test for every number of axes that the network works on."""
        if "ndim" in metafunc.fixturenames:
            metafunc.parametrize("ndim", self.n_dims)

    def build(self, ndim: int, precision: torch.dtype | None = None, seed: int = 0) -> SegmentationNetwork:
        """A network whose weights are a seed's, in training mode, its statistics those of some images."""
        torch.manual_seed(seed)
        network = self.network(IN_CHANNELS, N_CLASSES, ndim, self.settings, precision)
        with torch.no_grad():
            network(self.images(ndim, seed=7))
        return network

    def images(self, ndim: int, seed: int = 1) -> Tensor:
        """Three images of two channels (3, 2, *space), their sides different multiples of what they must be."""
        sides = [(n + 2) * span for n, span in enumerate(self.settings.spans(ndim))]
        return torch.randn(IMAGES, IN_CHANNELS, *sides, generator=torch.Generator().manual_seed(seed))

    def test_settings_are_frozen_explained_and_survive_json(self) -> None:
        settings = self.settings
        assert type(settings) is self.network.Settings
        assert (settings.model_config.get("frozen"), settings.model_config.get("extra")) == (True, "forbid")
        assert all(field.description for field in type(settings).model_fields.values())
        assert type(settings).model_validate(settings.model_dump(mode="json")) == settings

    def test_sides_of_images_are_multiples_that_the_settings_know(self, ndim: int) -> None:
        spans = self.settings.spans(ndim)
        assert len(spans) == ndim
        assert min(spans) >= 1
        assert max(spans) == self.settings.stride

    def test_settings_are_fitted_once_and_for_the_sides_that_they_ask_for(self, ndim: int) -> None:
        size, spacing = (90, 70, 30)[:ndim], (1.0, 1.0, 2.5)[:ndim]
        fitted, divisors = self.settings.fitted(size, spacing), self.settings.divisors(size, spacing)
        rounded = tuple(-(-side // divisor) * divisor for side, divisor in zip(size, divisors, strict=True))
        assert fitted == fitted.fitted(size, spacing) == self.settings.fitted(rounded, spacing)
        assert divisors == fitted.spans(ndim) == self.settings.divisors(rounded, spacing)

    def test_a_network_says_what_it_was_built_from(self, ndim: int) -> None:
        network = self.build(ndim, torch.bfloat16)
        assert (network.in_channels, network.n_classes, network.ndim) == (IN_CHANNELS, N_CLASSES, ndim)
        assert (network.settings, network.precision) == (self.settings, torch.bfloat16)

    def test_logits_and_pyramid_have_the_shapes_of_the_contract(self, ndim: int) -> None:
        network, images = self.build(ndim), self.images(ndim)
        logits, pyramid = network.logits_and_pyramid(images)
        assert logits.shape == (IMAGES, N_CLASSES, *images.shape[2:])
        assert len(pyramid) >= 2
        assert tuple(maps.shape[1] for maps in pyramid) == tuple(network.pyramid_channels)
        spans = self.settings.spans(ndim)
        assert pyramid[0].shape[2:] == tuple(side // span for side, span in zip(images.shape[2:], spans, strict=True))
        assert pyramid[-1].shape[2:] == images.shape[2:]
        sizes = [math.prod(maps.shape[2:]) for maps in pyramid]
        assert sizes == sorted(sizes)

    def test_the_smallest_image_is_one_pixel_of_the_coarsest_map(self, ndim: int) -> None:
        network = self.build(ndim).eval()
        images = torch.randn(2, IN_CHANNELS, *self.settings.spans(ndim))
        assert network.bottleneck(images).shape[2:] == (1,) * ndim
        assert network(images).shape == (2, N_CLASSES, *images.shape[2:])

    def test_the_parts_make_the_whole(self, ndim: int) -> None:
        network, images = self.build(ndim).eval(), self.images(ndim)
        levels = network.encode(images)
        logits, pyramid = network.decode(levels)
        assert torch.equal(network(images), logits)
        assert torch.equal(network.logits_and_pyramid(images)[0], logits)
        assert torch.equal(network.bottleneck(images), levels[-1])
        assert torch.equal(pyramid[0], levels[-1])

    def test_inputs_and_levels_are_not_written_to(self, ndim: int) -> None:
        network, images = self.build(ndim), self.images(ndim)
        before = images.clone()
        levels = network.encode(images)
        kept = [maps.detach().clone() for maps in levels]
        network.decode(levels)
        network.make_decoder()(levels)
        assert torch.equal(images, before)
        assert all(torch.equal(maps, copied) for maps, copied in zip(levels, kept, strict=True))

    def test_an_image_is_predicted_alike_whatever_it_is_beside(self, ndim: int) -> None:
        network, images = self.build(ndim).eval(), self.images(ndim)
        together = network(images)
        assert torch.equal(network(images), together)
        for number in range(IMAGES):
            torch.testing.assert_close(network(images[number : number + 1])[0], together[number], rtol=1e-4, atol=1e-5)

    def test_dropout_is_all_that_is_random_in_training(self, ndim: int) -> None:
        network, images = self.build(ndim), self.images(ndim)
        with labelling(network):
            assert torch.equal(network(images), network(images))
        assert all(module.training for module in network.modules())

    def test_dropout_alone_can_be_on(self, ndim: int) -> None:
        network, images = self.build(ndim), self.images(ndim)
        before = copy.deepcopy(network.state_dict())
        with stochastic(network), torch.no_grad():
            passes = network(images), network(images)
        drops = [module.p for module in network.modules() if isinstance(module, _DropoutNd)]
        assert torch.equal(*passes) is not any(drops)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_every_weight_takes_part(self, ndim: int) -> None:
        network = self.build(ndim)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            return
        logits = network(self.images(ndim))
        torch.stack([maps.square().mean() for maps in (logits, *coarse_of(logits))]).sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_gradients_pass_through_perturbed_levels(self, ndim: int) -> None:
        network = self.build(ndim)
        # Leaves: of a network without weights no map takes a gradient by itself.
        levels = [maps.detach().requires_grad_() for maps in network.encode(self.images(ndim))]
        logits, _ = network.decode([maps * 0.5 for maps in levels])
        found = torch.autograd.grad(logits.square().mean(), levels)
        assert all(gradient.isfinite().all() and gradient.any() for gradient in found)

    def test_lower_precision_is_near_logits_are_exact_and_maps_are_left_in_it(self, ndim: int) -> None:
        network, images = self.build(ndim).eval(), self.images(ndim)
        exact = network(images)
        network.precision = torch.bfloat16
        logits, pyramid = network.logits_and_pyramid(images)
        assert logits.dtype == torch.float32
        assert {maps.dtype for maps in (network.bottleneck(images), *pyramid)} == {torch.bfloat16}
        assert not torch.equal(logits, exact)
        assert (logits - exact).norm() < self.near * exact.norm()
        network.precision = None
        assert torch.equal(network(images), exact)

    def test_the_state_dict_is_all_that_a_network_is(self, ndim: int) -> None:
        network, images = self.build(ndim).eval(), self.images(ndim)
        state = network.state_dict()
        for name, value in state.items():
            is_count = value.dtype == torch.int64 and value.ndim == 0
            assert is_count or (value.dtype == torch.float32 and value.isfinite().all()), name
        with torch.device("meta"):
            restored = self.network(IN_CHANNELS, N_CLASSES, ndim, self.settings)
        restored.load_state_dict(state, assign=True)
        assert torch.equal(restored.eval()(images), network(images))

    def test_a_teacher_is_a_copy_that_the_student_does_not_reach(self, ndim: int) -> None:
        student, images = self.build(ndim), self.images(ndim)
        teacher = make_teacher(student)
        with evaluating(teacher):
            before = teacher(images)
            with torch.no_grad():
                for parameter in student.parameters():
                    parameter.add_(1)
            assert torch.equal(teacher(images), before)
        update_teacher(teacher, student, momentum=0.0)
        with evaluating(teacher), evaluating(student):
            assert torch.equal(teacher(images), student(images))

    def test_further_decoders_read_the_same_levels_and_are_apart(self, ndim: int) -> None:
        network, images = self.build(ndim, torch.bfloat16), self.images(ndim)
        names, weights = list(network.state_dict()), set(map(id, network.parameters()))
        for decoder in (
            network.make_decoder("linear"),
            network.make_decoder("nearest"),
            network.make_decoder("transposed"),
        ):
            assert isinstance(decoder, nn.Module)
            logits = decoder(network.encode(images))
            assert logits.shape == (IMAGES, N_CLASSES, *images.shape[2:])
            assert logits.dtype == torch.float32
            if any(parameter.requires_grad for parameter in decoder.parameters()):
                logits.square().mean().backward()
            assert all(parameter.grad is not None for parameter in decoder.parameters())
            assert not weights & set(map(id, decoder.parameters()))
        assert list(network.state_dict()) == names

    def test_statistics_can_be_estimated_anew_and_are_given_back(self, ndim: int) -> None:
        network, images = self.build(ndim, torch.bfloat16), self.images(ndim)
        before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
        with re_estimated_statistics(network, [images, images + 1]):
            assert network(images).isfinite().all()
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert [module.training for module in network.modules()] == modes
        assert network.precision == torch.bfloat16
