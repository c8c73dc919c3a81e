"""What is essential to each of the rivals, against a version by hand that draws as the step does."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewscan.augment.mix import fixed_box_mask
from fewscan.augment.random import beta
from fewscan.losses.consistency import mutual_consistency, pyramid_consistency
from fewscan.losses.segmentation import soft_dice, supervised_loss
from fewscan.methods.base import Batch
from fewscan.methods.semi import predict_pseudo_labels
from fewscan.networks.modes import evaluating, labelling
from fewscan.testing.methods import N_CLASSES, SIZES, step_info
from support.steps import build, start

SIZE = SIZES[0]


def begin(name: str, stage: str = "semi", **settings: Any) -> tuple[Any, Batch]:
    """A method without dropout at the start of a stage, and a batch: a step is decided by its generator alone."""
    method, batch = start(name, SIZE, stage, **settings)
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return method, batch


def value(term: Tensor) -> float:
    return float(term.detach())


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: value(term) for name, term in terms.items()}


def by_hand(method: Any, batch: Batch) -> tuple[Tensor, Tensor, torch.Generator]:
    """The labelled images and labels of the step of `step_info()`, and the generator as it is after them."""
    generator = step_info().generator
    images, target = method.augment.labelled(batch.images_labelled, batch.labels, generator)
    return images, target.labels, generator


def together(network: nn.Module, *groups: Tensor) -> tuple[Tensor, ...]:
    """Logits of several groups of images, normalised as one batch."""
    return network(torch.cat(groups)).split([len(group) for group in groups])


def mean_square(probs: Tensor, targets: Tensor) -> float:
    pairs = zip(probs.flatten().tolist(), targets.flatten().tolist(), strict=True)
    return sum((p - q) ** 2 for p, q in pairs) / probs.numel()


@pytest.mark.parametrize("name", ["entropy", "mean_teacher", "ua_mt", "ict", "cct", "cps", "urpc", "mc_net"])
def test_weight_of_the_unlabelled_rises_to_a_tenth_over_the_whole_training(name: str) -> None:
    method = build(name)
    rising = [method.weights(step_info(update))["unsup"] for update in range(10)]
    assert rising == sorted(rising)
    assert rising[0] == pytest.approx(0.1 * math.exp(-5))
    assert build(name, ramp_up=0.0).weights(step_info())["unsup"] == 0.1


def test_published_settings() -> None:
    assert build("ua_mt").settings.passes == 8
    assert build("ict").settings.alpha == 0.2
    assert build("mc_net").settings.temperature == 0.1
    assert build("urpc").settings.levels == 4
    assert build("fixmatch").settings.confident_from == build("unimatch").settings.confident_from == 0.95
    assert build("fixmatch").weights(step_info()) == {"unsup": 1.0}
    assert build("unimatch").weights(step_info()) == {"unsup": 0.5, "feature": 0.5}
    assert build("bcp").settings.box == 2 / 3
    for name in ("mean_teacher", "ua_mt", "ict", "bcp"):
        assert build(name).settings.momentum == 0.99


def test_entropy_falls_when_it_alone_is_trained() -> None:
    method, batch = begin("entropy")
    optimiser = torch.optim.SGD(method.parameters(), lr=0.5)
    readings = []
    for _ in range(6):
        loss = method(batch, step_info())["unsup"]
        readings.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert readings[-1] < readings[0] <= 1


def test_mean_teacher_compares_the_strong_view_with_the_teachers_weak_one_pixel_by_pixel() -> None:
    method, batch = begin("mean_teacher")
    terms = method(batch, step_info())
    images, labels, generator = by_hand(method, batch)
    weak = method.augment.weak(batch.images_unlabelled, generator)
    logits, strong = together(method.student, images, method.augment.intensity(weak, generator))
    expected = mean_square(strong.softmax(1), method.teacher(weak).softmax(1))
    supervised = value(supervised_loss(logits, labels))
    assert values(terms) == pytest.approx({"sup": supervised, "unsup": expected}, rel=1e-4)
    terms["unsup"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())


def doubting(**settings: Any) -> tuple[Any, Batch]:
    """A teacher that is sure of some pixels: fresh weights doubt all of them alike."""
    method, batch = begin("ua_mt", **settings)
    with torch.no_grad():
        method.teacher.classifier.weight.mul_(100)
    return method, batch


def test_uncertainty_is_the_entropy_of_the_mean_of_noisy_passes() -> None:
    method, batch = doubting(passes=3, noise=0.1)
    images = batch.images_unlabelled
    found = method.uncertainty(images, step_info().generator)
    generator = step_info().generator
    with evaluating(method.teacher):
        noises = [0.1 * torch.randn(images.shape, generator=generator).clamp(-2, 2) for _ in range(3)]
        mean = torch.stack([method.teacher(images + noise).softmax(1) for noise in noises]).mean(0)
    assert torch.allclose(found, -(mean * mean.log()).sum(1), atol=1e-5)


def test_dropout_is_on_in_the_passes_that_estimate_uncertainty_alone() -> None:
    method, batch = start("ua_mt", SIZE, "semi", passes=1, noise=0.0)
    first, second = (method.uncertainty(batch.images_unlabelled, step_info().generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(method.teacher_probs(batch.images_unlabelled), method.teacher_probs(batch.images_unlabelled))


def test_uncertain_pixels_do_not_count() -> None:
    method, batch = doubting()
    term = values(method(batch, step_info()))["unsup"]
    # Another one, whose running statistics no step has moved.
    method, batch = doubting()
    images, _, generator = by_hand(method, batch)
    weak = method.augment.weak(batch.images_unlabelled, generator)
    _, strong = together(method.student, images, method.augment.intensity(weak, generator))
    limit = (0.75 + 0.25 * math.exp(-5)) * math.log(N_CLASSES)
    sure = method.uncertainty(weak, generator) < limit
    assert 0.1 < sure.float().mean() < 0.9
    squares = (strong.softmax(1) - method.teacher(weak).softmax(1)).square().mean(1)
    assert term == pytest.approx(value(squares[sure].mean()), rel=1e-4)
    assert method.threshold(step_info(10)) == pytest.approx(math.log(N_CLASSES))


def test_ict_mixes_images_and_predictions_alike() -> None:
    method, batch = begin("ict", alpha=2.0)
    term = values(method(batch, step_info()))["unsup"]
    images, _, generator = by_hand(method, batch)
    weak = method.augment.weak(batch.images_unlabelled, generator)
    shares = beta(2.0, 2, generator).tolist()
    assert all(0.05 < share < 0.95 for share in shares)
    probs = method.teacher(weak).softmax(1)
    mixed, targets = (
        torch.stack([share * values[i] + (1 - share) * values[1 - i] for i, share in enumerate(shares)])
        for values in (weak, probs)
    )
    _, logits = together(method.student, images, mixed)
    assert term == pytest.approx(mean_square(logits.softmax(1), targets), rel=1e-4)


def test_cct_pulls_auxiliary_decoders_to_the_main_one_which_is_not_moved() -> None:
    method, batch = begin("cct")
    terms = method(batch, step_info())
    images, _, generator = by_hand(method, batch)
    levels = method.student.encode(torch.cat((images, method.augment.weak(batch.images_unlabelled, generator))))
    targets = method.student.decode(levels)[0][len(images) :].softmax(1)
    perturbed = method.perturb([maps[len(images) :] for maps in levels], generator)
    assert len(method.auxiliary) == 3
    others = [decoder(maps).softmax(1) for decoder, maps in zip(method.auxiliary, perturbed, strict=True)]
    mean = sum(mean_square(probs, targets) for probs in others) / 3
    assert values(terms)["unsup"] == pytest.approx(mean, rel=1e-4)
    terms["unsup"].backward()
    assert all(p.grad is None for p in (*method.student.decoder.parameters(), *method.student.classifier.parameters()))
    assert all(p.grad is not None for p in method.student.encoder.parameters())
    assert all(p.grad is not None for p in method.auxiliary.parameters())


def test_cct_perturbs_features_in_three_ways() -> None:
    method = build("cct")
    levels = [torch.rand(2, 4, 8, 8) + 0.1, torch.rand(2, 6, 4, 4) + 0.1]
    noisy, dropped, faded = method.perturb(levels, step_info().generator)
    for level, a, b, c in zip(levels, noisy, dropped, faded, strict=True):
        assert ((a / level - 1).abs() <= 0.3 + 1e-5).all()
        assert set((b / level).mul(0.7).round(decimals=4).unique().tolist()) <= {0.0, 1.0}
        blank = (c == 0).all(1)
        assert blank.any()
        assert torch.equal(c.movedim(1, -1)[~blank], level.movedim(1, -1)[~blank])


def test_cps_teaches_each_network_by_the_others_pseudo_labels() -> None:
    method, batch = begin("cps")
    assert list(method.networks()) == ["student", "second"]
    assert not torch.equal(method.student.classifier.weight, method.second.classifier.weight)
    term = method(batch, step_info())["unsup"]
    images, _, generator = by_hand(method, batch)
    strong = method.strong_view(batch.images_unlabelled, generator)
    first, second = (together(network, images, strong)[1] for network in (method.student, method.second))
    by_second, by_first = F.cross_entropy(first, second.argmax(1)), F.cross_entropy(second, first.argmax(1))
    assert values({"x": term}) == pytest.approx(values({"x": by_second + by_first}), rel=1e-5)
    for network, own in ((method.student, by_second), (method.second, by_first)):
        weights = [network.classifier.weight]
        expected = torch.autograd.grad(own, weights, retain_graph=True)[0]
        assert torch.allclose(torch.autograd.grad(term, weights, retain_graph=True)[0], expected, atol=1e-5)


def test_urpc_has_a_prediction_for_every_level_and_exports_the_finest() -> None:
    method, batch = begin("urpc")
    terms = values(method(batch, step_info()))
    images, labels, generator = by_hand(method, batch)
    strong = method.strong_view(batch.images_unlabelled, generator)
    finest, pyramid = method.student.logits_and_pyramid(torch.cat((images, strong)))
    # Three levels, of which the bottleneck does not predict.
    assert len(pyramid) == 3
    levels = [finest, *method.coarser(pyramid[1:2], SIZE)]
    assert len(levels) == 2
    probs = [logits[len(images) :].softmax(1) for logits in levels]
    assert terms["unsup"] == pytest.approx(value(pyramid_consistency(probs)), rel=1e-4)
    taught = [value(supervised_loss(logits[: len(images)], labels)) for logits in levels]
    assert terms["sup"] == pytest.approx(sum(taught) / 2, rel=1e-4)
    assert list(method.networks()) == ["student"]


def test_mc_net_has_decoders_that_upsample_differently_on_one_encoder() -> None:
    method, batch = begin("mc_net")
    assert [d.decoder[0].upsampling for d in method.others] == ["transposed", "nearest"]
    assert len(build("mc_net", decoders=2).others) == 1
    terms = values(method(batch, step_info()))
    passes = [module.num_batches_tracked for module in method.student.encoder.modules() if hasattr(module, "momentum")]
    assert passes == [1] * len(passes) != []
    images, labels, generator = by_hand(method, batch)
    strong = method.strong_view(batch.images_unlabelled, generator)
    levels = method.student.encode(torch.cat((images, strong)))
    outputs = [method.student.decode(levels)[0], *(decoder(levels) for decoder in method.others)]
    expected = mutual_consistency([logits.softmax(1) for logits in outputs], 0.1)
    assert terms["unsup"] == pytest.approx(value(expected), rel=1e-4)
    taught = [value(supervised_loss(logits[: len(images)], labels)) for logits in outputs]
    assert terms["sup"] == pytest.approx(sum(taught) / 3, rel=1e-4)


def test_fixmatch_learns_from_its_own_sure_pseudo_labels() -> None:
    method, batch = begin("fixmatch", confident_from=0.4)
    term = values(method(batch, step_info()))["unsup"]
    images, _, generator = by_hand(method, batch)
    with labelling(method.student):
        pseudo = predict_pseudo_labels(method.student, method.augment.weak(batch.images_unlabelled, generator))
    strong = method.augment.strong_with_labels(pseudo, N_CLASSES, generator)
    _, logits = together(method.student, images, strong.images)
    losses = F.cross_entropy(logits, strong.labels, reduction="none")
    sure = strong.confidence >= 0.4
    assert 0.1 < sure.float().mean() < 0.9
    assert term == pytest.approx(value((losses * sure).sum()) / losses.numel(), rel=1e-4)
    nothing, batch = begin("fixmatch", confident_from=1.0)
    assert values(nothing(batch, step_info()))["unsup"] == 0
    assert list(method.networks()) == ["student"]


def test_pseudo_labels_are_the_networks_argmax_and_largest_probability() -> None:
    method, batch = begin("fixmatch")
    network = method.student.eval()
    pseudo = predict_pseudo_labels(network, batch.images_unlabelled)
    probs = network(batch.images_unlabelled).softmax(1)
    assert torch.equal(pseudo.labels, probs.argmax(1))
    assert torch.equal(pseudo.confidence, probs.amax(1))
    assert not pseudo.confidence.requires_grad


def test_unimatch_has_two_strong_streams_and_one_of_dropped_features() -> None:
    method, batch = begin("unimatch", confident_from=0.4)
    terms = values(method(batch, step_info()))
    images, _, generator = by_hand(method, batch)
    with labelling(method.student):
        weak = predict_pseudo_labels(method.student, method.augment.weak(batch.images_unlabelled, generator))
    views = [method.augment.strong_with_labels(weak, N_CLASSES, generator) for _ in range(2)]
    assert not torch.equal(views[0].images, views[1].images)
    _, *streams = together(method.student, images, *(view.images for view in views))
    dropped = method.dropped_logits(weak.images, generator)
    dice = [
        value(soft_dice(logits, view.labels, (view.confidence >= 0.4).float()))
        for logits, view in zip((*streams, dropped), (*views, weak), strict=True)
    ]
    assert terms["unsup"] == pytest.approx(sum(dice[:2]) / 2, rel=1e-4)
    assert terms["feature"] == pytest.approx(dice[2], rel=1e-4)


def test_unimatch_drops_channels_of_features() -> None:
    method, batch = begin("unimatch")
    images = batch.images_unlabelled
    dropped, again = (method.dropped_logits(images, step_info(seed=s).generator) for s in (1, 2))
    assert not torch.equal(dropped, again)
    plain = build("unimatch", channel_dropout=0.0)
    plain.student = method.student
    assert torch.equal(plain.dropped_logits(images, step_info().generator), method.student(images))


def test_bcp_splits_the_updates_between_its_stages() -> None:
    method = build("bcp", pretraining=0.25)
    lengths = {stage.name: stage.updates for stage in method.stages()}
    assert lengths == {"copy_paste": round(0.25 * 6), "self_training": 6 - round(0.25 * 6)}


def where(box: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    return torch.where(box[:, None], inside, outside)


def test_bcp_pastes_labelled_boxes_into_their_neighbours() -> None:
    method, batch = begin("bcp", "copy_paste")
    term = values(method(batch, step_info()))["copy_paste"]
    images, labels, generator = by_hand(method, batch)
    box = fixed_box_mask(2, SIZE, 2 / 3, generator)
    logits = method.student(where(box, images[[1, 0]], images))
    parts = supervised_loss(logits, labels, (~box).float()) + supervised_loss(logits, labels[[1, 0]], box.float())
    assert term == pytest.approx(value(parts), rel=1e-4)


def test_bcp_pastes_both_ways_and_weighs_pseudo_labels_by_half() -> None:
    method, batch = begin("bcp", "self_training")
    terms = values(method(batch, step_info()))
    images, labels, generator = by_hand(method, batch)
    weak = method.augment.weak(batch.images_unlabelled, generator)
    pseudo = predict_pseudo_labels(method.teacher, weak).labels
    strong = method.augment.intensity(weak, generator)
    box = fixed_box_mask(2, SIZE, 2 / 3, generator)
    inward, outward = together(method.student, where(box, images, strong), where(box, strong, images))
    inside, outside = box.float(), (~box).float()
    expected = {
        "inward": supervised_loss(inward, labels, inside) + 0.5 * supervised_loss(inward, pseudo, outside),
        "outward": supervised_loss(outward, labels, outside) + 0.5 * supervised_loss(outward, pseudo, inside),
    }
    assert terms == pytest.approx(values(expected), rel=1e-4)


def test_bcp_pairs_batches_of_unequal_sizes() -> None:
    method, batch = begin("bcp", "self_training")
    for labelled, unlabelled in ((2, 1), (1, 2)):
        uneven = batch._replace(
            images_labelled=batch.images_labelled[:labelled],
            labels=batch.labels[:labelled],
            images_unlabelled=batch.images_unlabelled[:unlabelled],
        )
        assert all(torch.isfinite(t) for t in method(uneven, step_info()).values())


@pytest.mark.parametrize("name", ["mean_teacher", "ua_mt", "ict", "bcp"])
def test_teachers_are_averaged_and_exported_when_asked_for(name: str) -> None:
    method = build(name, momentum=0.5, predict_with="student")
    assert next(iter(method.networks())) == "student"
    before = method.teacher.classifier.weight.clone()
    with torch.no_grad():
        method.student.classifier.weight.add_(1.0)
    method.after_update(step_info(update=500))
    assert torch.allclose(method.teacher.classifier.weight, before + 0.5)
