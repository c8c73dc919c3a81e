"""Incremental transfer learning: the first site, and one after it, with exemplars and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewscan.augment.targets import Target
from fewscan.classes import IGNORED
from fewscan.data.exemplars import Exemplars
from fewscan.engine.loop import weighted_sum
from fewscan.losses.segmentation import supervised_loss
from fewscan.methods.base import Batch, Earlier, Method
from fewscan.methods.itl import Itl
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.networks.unet import UNetSettings
from fewscan.testing.methods import N_CLASSES, MethodContract, draw_batch, make_spec, step_info

SIZE = (16, 24)


def network_of_site_a(size: tuple[int, ...]) -> SegmentationNetwork:
    """Of strong opinions, which fresh weights do not have."""
    torch.manual_seed(77)
    network = make_spec(size).build_network().eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith("classifier"):
                weight.mul_(20)
    return network


def exemplars_of_site_a(size: tuple[int, ...], count: int = 5) -> Exemplars:
    """Labelled on the first half of the rows alone, as the contract's batches are."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(N_CLASSES, (count, *size), generator=generator)
    images = torch.randn(count, 1, *size, generator=generator) + labels[:, None]
    labels[:, size[0] // 2 :] = IGNORED
    return Exemplars.of(images, labels, "A")


class TestSecondSite(MethodContract):
    """The contract, of a method that continues and has exemplars."""

    method = Itl
    label_terms = ("sup", "source", "mixed")

    def build(self, size: tuple[int, ...], seed: int = 0, **settings: Any) -> Method:
        method = super().build(size, seed, **settings)
        method.start_from(Earlier((network_of_site_a(size),), exemplars_of_site_a(size)))
        return method.train()

    def test_a_batch_without_any_label_teaches_nothing_by_labels(self, trained_size: tuple[int, ...]) -> None:
        """But the exemplars' labels do."""
        method, batch = self.last_stage(trained_size)
        batch.labels.fill_(IGNORED)
        assert method(batch, step_info())["sup"] > 0


class TestSecondSiteWithoutExemplars(MethodContract):
    method = Itl

    def build(self, size: tuple[int, ...], seed: int = 0, **settings: Any) -> Method:
        method = super().build(size, seed, **settings)
        method.start_from(Earlier((network_of_site_a(size),)))
        return method.train()


def second_site(exemplars: bool = True, **settings: Any) -> Itl:
    torch.manual_seed(0)
    method = Itl(make_spec(SIZE), Itl.Settings(**settings))
    method.start_from(Earlier((network_of_site_a(SIZE),), exemplars_of_site_a(SIZE) if exemplars else None))
    return method.train()


def terms_of(method: Itl, update: int = 9) -> dict[str, torch.Tensor]:
    return method(draw_batch(method.stages()[0], SIZE), step_info(update))


def test_the_terms_are_those_that_there_is_something_for() -> None:
    torch.manual_seed(0)
    first = Itl(make_spec(SIZE), Itl.Settings()).train()
    assert set(terms_of(first)) == {"sup", "unsup"}
    assert set(terms_of(second_site(exemplars=False))) == {"sup", "unsup", "distil"}
    assert set(terms_of(second_site())) == {"sup", "unsup", "distil", "source", "mixed"}


def test_at_the_start_the_earlier_network_is_agreed_with() -> None:
    """Apart from statistics of batches: those of the earlier network are as it was exported."""
    method = second_site(distil_from=0.0)
    method.eval()
    assert terms_of(method)["distil"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        method.student.get_parameter(next(name for name, _ in method.student.named_parameters())).mul_(-1)
    assert terms_of(method)["distil"] > 1e-3


def test_the_source_decoder_learns_and_its_encoder_is_the_students() -> None:
    method = second_site()
    terms_of(method)["source"].backward()
    assert method.source is not None
    assert any(weight.grad is not None for weight in method.source.parameters())
    assert any(weight.grad is not None for weight in method.student.parameters())
    images = torch.randn(2, 1, *SIZE)
    used = torch.autograd.grad(
        method.source.decode(method.student.encode(images))[0].sum(),
        list(method.source.parameters()),
        allow_unused=True,
    )
    assert any(gradient is None for gradient in used), "the copy's own encoder is not asked"


def test_the_earlier_network_and_exemplars_are_left_as_they_were() -> None:
    method = second_site()
    assert method.earlier is not None
    before = {name: value.clone() for name, value in method.earlier.state_dict().items()}
    for update in range(3):
        sum(terms_of(method, update).values(), torch.zeros(())).backward()
        with torch.no_grad():
            for weight in method.student.parameters():
                if weight.grad is not None:
                    weight.sub_(0.1 * weight.grad)
        method.after_update(step_info(update))
    assert all(torch.equal(value, before[name]) for name, value in method.earlier.state_dict().items())
    assert not any(weight.requires_grad for weight in method.earlier.parameters())
    assert torch.equal(method.exemplar_images, exemplars_of_site_a(SIZE).images)


def test_the_teacher_stays_the_earlier_network_for_a_tenth() -> None:
    method = second_site(fixed_teacher=0.2)
    with torch.no_grad():
        for weight in method.student.parameters():
            weight.add_(1.0)
    weight, earlier = next(method.teacher.parameters()), next(network_of_site_a(SIZE).parameters())
    for update in (0, 1):
        method.after_update(step_info(update))
        assert torch.equal(weight, earlier)
    method.after_update(step_info(2))
    torch.testing.assert_close(weight, earlier + 0.01)


def test_mixtures_of_one_alone_are_its_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """With α so small that a share is 0 or 1, the loss is that of the new image or that of the exemplar."""
    torch.manual_seed(0)
    method = Itl(make_spec(SIZE), Itl.Settings(alpha=1e-3))
    kept = exemplars_of_site_a(SIZE, count=1)
    method.start_from(Earlier((network_of_site_a(SIZE),), kept))
    method.eval()
    batch = draw_batch(method.stages()[0], SIZE)
    batch = batch._replace(images_labelled=batch.images_labelled[:1], labels=batch.labels[:1])
    monkeypatch.setattr(method.augment, "labelled", lambda images, labels, _: (images, Target(labels)))
    with torch.no_grad():
        found = [method(batch, step_info(9, seed))["mixed"].item() for seed in range(20)]
        new = supervised_loss(method.student(batch.images_labelled), batch.labels).item()
        old = supervised_loss(method.student(kept.images.float()), kept.labels.long()).item()
    assert abs(new - old) > 0.02
    near = [min((abs(value - new), "new"), (abs(value - old), "old")) for value in found]
    assert max(distance for distance, _ in near) < 0.01
    assert {name for _, name in near} == {"new", "old"}


def test_what_weighs_nothing_is_switched_off_by_its_weight() -> None:
    method = second_site(lambda_source=0.0, lambda_mixed=0.0, lambda_distil=0.0)
    assert {name: weight for name, weight in method.weights(step_info(9)).items() if name != "unsup"} == {
        "distil": 0.0,
        "source": 0.0,
        "mixed": 0.0,
    }


def bare_batch(method: Itl) -> Batch:
    """As a site without any label gives it."""
    batch = draw_batch(method.stages()[0], SIZE)
    return batch._replace(images_labelled=batch.images_labelled[:0], labels=batch.labels[:0])


def test_of_a_site_without_labels_exemplars_stand_in_for_the_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are unlabelled images, and their loss is the whole of L_target."""
    method = second_site(lambda_unsup=0.0).eval()
    batch = bare_batch(method)
    given: list[int] = []

    def view(images: torch.Tensor, labels: torch.Tensor, _: torch.Generator) -> tuple[torch.Tensor, Target]:
        given.append(len(images))
        return images, Target(labels)

    kept = exemplars_of_site_a(SIZE)
    monkeypatch.setattr(method.augment, "labelled", view)
    monkeypatch.setattr(method, "_draw_exemplars", lambda n, _: (kept.images[:n].float(), kept.labels[:n].long()))
    terms = method(batch, step_info(9))
    assert set(terms) == {"sup", "unsup", "distil", "source"}
    assert given == [0, len(batch.images_unlabelled)]
    count = len(batch.images_unlabelled)
    of_exemplars = supervised_loss(method.student(kept.images[:count].float()), kept.labels[:count].long())
    assert terms["sup"].item() == pytest.approx(of_exemplars.item(), abs=1e-6)


def test_without_labels_and_exemplars_pseudo_labels_and_the_earlier_network_are_left() -> None:
    method = second_site(exemplars=False, distil_from=0.0)
    terms = method(bare_batch(method), step_info(9))
    assert set(terms) == {"unsup", "distil"}
    assert terms["distil"] > 0
    terms["distil"].backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in method.student.parameters())


def test_only_a_method_that_continues_can_do_without_labels() -> None:
    assert Itl(make_spec(SIZE), Itl.Settings()).stages()[0].fewest_labelled == 1
    assert second_site(exemplars=False).stages()[0].fewest_labelled == 0


@pytest.mark.parametrize("exemplars", [True, False])
def test_without_labels_coarser_maps_are_taught_too(exemplars: bool) -> None:
    torch.manual_seed(0)
    network = UNetSettings(channels=(4, 6, 8, 8), dropout=(0, 0, 0, 0), deep_supervision=True)
    spec = make_spec(SIZE, network)
    method = Itl(spec, Itl.Settings(lambda_distil=0.0, fixed_teacher=0.0))
    earlier = spec.build_network().eval()
    method.start_from(Earlier((earlier,), exemplars_of_site_a(SIZE) if exemplars else None))
    method.train()
    terms = method(bare_batch(method), step_info(9))
    weighted_sum(terms, method.weights(step_info(9))).backward()
    assert all(torch.isfinite(term) for term in terms.values())
