"""What is essential to each of the rivals, against a version by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from fewscan.losses.consistency import mutual_consistency, pyramid_consistency
from fewscan.losses.segmentation import soft_dice, supervised_loss
from fewscan.methods import bcp, cct, fixmatch, ict, mc_net, mean_teacher, ua_mt, unimatch, urpc
from fewscan.methods.semi import predict_pseudo_labels
from fewscan.testing.methods import N_CLASSES, SIZES, step_info
from support.steps import build, start

SIZE = SIZES[0]


class Spy:
    """Calls a function and remembers what it was given and gave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where, name) -> None:
        self.function = getattr(where, name)
        self.calls = []
        monkeypatch.setattr(where, name, self)

    def __call__(self, *args, **kwargs):
        result = self.function(*args, **kwargs)
        self.calls.append((args, result))
        return result


def begin(name, stage="semi", **settings):
    return start(name, SIZE, stage, **settings)


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


@pytest.mark.parametrize("name", ["entropy", "mean_teacher", "ua_mt", "ict", "cct", "cps", "urpc", "mc_net"])
def test_weight_of_the_unlabelled_rises_to_a_tenth_over_the_whole_training(name) -> None:
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


def test_mean_teacher_compares_the_strong_view_with_the_teachers_weak_one_pixel_by_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, batch = begin("mean_teacher")
    mse = Spy(monkeypatch, mean_teacher, "probability_mse")
    joint = Spy(monkeypatch, mean_teacher, "joint_logits")
    term = values(method(batch, step_info()))["unsup"]
    (probs, targets), _ = mse.calls[0]
    assert probs.requires_grad
    assert not targets.requires_grad
    generator = step_info().generator
    method.augment.labelled(batch.images_labelled, batch.labels, generator)
    weak = method.augment.weak(batch.images_unlabelled, generator)
    assert torch.allclose(targets, method.teacher(weak).softmax(1), atol=1e-6)
    assert torch.equal(joint.calls[0][0][2], method.augment.intensity(weak, generator))
    slow = sum((p - q) ** 2 for p, q in zip(probs.flatten().tolist(), targets.flatten().tolist(), strict=True))
    assert term == pytest.approx(slow / probs.numel(), rel=1e-4)


def test_uncertainty_is_the_entropy_of_the_mean_of_noisy_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("ua_mt", passes=3, noise=0.1)
    passes = Spy(monkeypatch, method, "teacher_probs")
    found = method.uncertainty(batch.images_unlabelled, step_info().generator)
    assert len(passes.calls) == 3
    noises = [args[0] - batch.images_unlabelled for args, _ in passes.calls]
    assert all(0 < noise.abs().max() <= 0.2 + 1e-6 for noise in noises)
    assert not torch.equal(noises[0], noises[1])
    mean = torch.stack([probs for _, probs in passes.calls]).mean(0)
    assert torch.allclose(found, -(mean * mean.log()).sum(1), atol=1e-5)


def test_dropout_is_on_in_the_passes_that_estimate_uncertainty_alone() -> None:
    method, batch = begin("ua_mt", passes=1, noise=0.0)
    first, second = (method.uncertainty(batch.images_unlabelled, step_info().generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(method.teacher_probs(batch.images_unlabelled), method.teacher_probs(batch.images_unlabelled))


def test_uncertain_pixels_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("ua_mt")
    mse = Spy(monkeypatch, ua_mt, "probability_mse")
    doubt = torch.linspace(0, math.log(N_CLASSES), 2 * SIZE[0] * SIZE[1]).reshape(2, *SIZE)
    monkeypatch.setattr(method, "uncertainty", lambda *_: doubt)
    term = values(method(batch, step_info()))["unsup"]
    (probs, targets, weights), _ = mse.calls[0]
    limit = (0.75 + 0.25 * math.exp(-5)) * math.log(N_CLASSES)
    assert torch.equal(weights.bool(), doubt < limit)
    squares = (probs - targets).square().mean(1)
    assert term == pytest.approx(float(squares[doubt < limit].mean().detach()), rel=1e-5)
    assert method.threshold(step_info(10)) == pytest.approx(math.log(N_CLASSES))


def test_ict_mixes_images_and_predictions_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("ict")
    shares = torch.tensor([0.3, 0.8])
    monkeypatch.setattr(ict, "beta", lambda *_: shares)
    joint = Spy(monkeypatch, ict, "joint_logits")
    mse = Spy(monkeypatch, ict, "probability_mse")
    teacher = Spy(monkeypatch, method, "teacher_probs")
    method(batch, step_info())
    ((weak,), probs) = teacher.calls[0]
    mixed, targets = joint.calls[0][0][2], mse.calls[0][0][1]
    for i, share in enumerate(shares):
        assert torch.allclose(mixed[i], share * weak[i] + (1 - share) * weak[1 - i], atol=1e-6)
        assert torch.allclose(targets[i], share * probs[i] + (1 - share) * probs[1 - i], atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(2, *SIZE), atol=1e-5)


def test_cct_pulls_auxiliary_decoders_to_the_main_one_which_is_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("cct")
    mse = Spy(monkeypatch, cct, "probability_mse")
    terms = method(batch, step_info())
    assert len(mse.calls) == 3
    mean = sum(float((p - q).square().mean().detach()) for (p, q), _ in mse.calls) / 3
    assert values(terms)["unsup"] == pytest.approx(mean, rel=1e-5)
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
    for network in (method.student, method.second):
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    term = method(batch, step_info())["unsup"]
    generator = step_info().generator
    images, _ = method.augment.labelled(batch.images_labelled, batch.labels, generator)
    together = torch.cat((images, method.strong_view(batch.images_unlabelled, generator)))
    first, second = (network(together)[len(images) :] for network in (method.student, method.second))
    by_second, by_first = F.cross_entropy(first, second.argmax(1)), F.cross_entropy(second, first.argmax(1))
    assert values({"x": term}) == pytest.approx(values({"x": by_second + by_first}), rel=1e-5)
    for network, own in ((method.student, by_second), (method.second, by_first)):
        weights = [network.classifier.weight]
        expected = torch.autograd.grad(own, weights, retain_graph=True)[0]
        assert torch.allclose(torch.autograd.grad(term, weights, retain_graph=True)[0], expected, atol=1e-5)


def test_urpc_has_a_prediction_for_every_level_and_exports_the_finest(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("urpc")
    spy = Spy(monkeypatch, urpc, "pyramid_consistency")
    sups = Spy(monkeypatch, urpc, "supervised_loss")
    terms = values(method(batch, step_info()))
    levels = spy.calls[0][0][0]
    assert [p.shape for p in levels] == [(2, N_CLASSES, *SIZE)] * 2  # Three levels, the bottleneck does not predict.
    assert terms["unsup"] == pytest.approx(float(pyramid_consistency(levels).detach()), rel=1e-5)
    assert terms["sup"] == pytest.approx(sum(float(r.detach()) for _, r in sups.calls) / len(levels), rel=1e-5)
    assert list(method.networks()) == ["student"]


def test_mc_net_has_decoders_that_upsample_differently_on_one_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("mc_net")
    assert [d.decoder[0].upsampling for d in method.others] == ["transposed", "nearest"]
    assert len(build("mc_net", decoders=2).others) == 1
    spy = Spy(monkeypatch, mc_net, "mutual_consistency")
    encode = Spy(monkeypatch, method.student, "encode")
    terms = values(method(batch, step_info()))
    assert len(encode.calls) == 1
    probs = spy.calls[0][0][0]
    assert [p.shape[0] for p in probs] == [4] * 3  # Labelled and unlabelled.
    assert terms["unsup"] == pytest.approx(float(mutual_consistency(probs, 0.1).detach()), rel=1e-5)


def test_fixmatch_learns_from_its_own_sure_pseudo_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("fixmatch", confident_from=0.4)
    spy = Spy(monkeypatch, fixmatch, "masked_pseudo_loss")
    term = values(method(batch, step_info()))["unsup"]
    (logits, labels, confidence, threshold), _ = spy.calls[0]
    losses = F.cross_entropy(logits, labels, reduction="none")
    assert threshold == 0.4
    assert term == pytest.approx(float((losses * (confidence >= 0.4)).sum().detach()) / losses.numel(), rel=1e-5)
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


def test_unimatch_has_two_strong_streams_and_one_of_dropped_features(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("unimatch", confident_from=0.4)
    spy = Spy(monkeypatch, unimatch, "confident_dice")
    terms = values(method(batch, step_info()))
    (first, second, feature) = [args for args, _ in spy.calls]
    assert not torch.equal(first[0], second[0])
    dice = [float(soft_dice(a[0], a[1], (a[2] >= 0.4).float()).detach()) for a in (first, second, feature)]
    assert terms["unsup"] == pytest.approx(sum(dice[:2]) / 2, rel=1e-5)
    assert terms["feature"] == pytest.approx(dice[2], rel=1e-5)
    images = batch.images_unlabelled
    for module in method.student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = build("unimatch", channel_dropout=0.0)
    plain.student = method.student
    dropped, again = (method.dropped_logits(images, step_info(seed=s).generator) for s in (1, 2))
    assert not torch.equal(dropped, again)
    assert torch.equal(plain.dropped_logits(images, step_info().generator), method.student(images))


def test_bcp_splits_the_updates_between_its_stages() -> None:
    method = build("bcp", pretraining=0.25)
    lengths = {stage.name: stage.updates for stage in method.stages()}
    assert lengths == {"copy_paste": round(0.25 * 6), "self_training": 6 - round(0.25 * 6)}


def test_bcp_pastes_labelled_boxes_into_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("bcp", "copy_paste")
    spy = Spy(monkeypatch, bcp, "pasted_loss")
    student = Spy(monkeypatch, method.student, "forward")
    term = values(method(batch, step_info()))["copy_paste"]
    images, (labels, _) = method.augment.labelled(batch.images_labelled, batch.labels, step_info().generator)
    (logits, own, other, box, *weights), _ = spy.calls[0]
    assert torch.equal(own, labels)
    assert torch.equal(other, labels[[1, 0]])
    seen = student.calls[0][0][0]
    assert torch.equal(seen.movedim(1, -1)[~box], images.movedim(1, -1)[~box])
    assert torch.equal(seen.movedim(1, -1)[box], images[[1, 0]].movedim(1, -1)[box])
    assert weights == [1.0, 1.0]
    parts = supervised_loss(logits, own, (~box).float()) + supervised_loss(logits, other, box.float())
    assert term == pytest.approx(float(parts.detach()), rel=1e-5)


def test_bcp_pastes_both_ways_and_weighs_pseudo_labels_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = begin("bcp", "self_training")
    spy = Spy(monkeypatch, bcp, "pasted_loss")
    joint = Spy(monkeypatch, bcp, "joint_logits")
    teacher = Spy(monkeypatch, bcp, "predict_pseudo_labels")
    assert set(method(batch, step_info())) == {"inward", "outward"}
    images, (labels, _) = method.augment.labelled(batch.images_labelled, batch.labels, step_info().generator)
    taught = teacher.calls[0][1]
    (_, pseudo, true, box, alpha, one), _ = spy.calls[0]
    (_, true_out, pseudo_out, box_out, one_out, alpha_out), _ = spy.calls[1]
    assert torch.equal(box, box_out)
    assert (alpha, one, one_out, alpha_out) == (0.5, 1.0, 1.0, 0.5)
    assert all(torch.equal(found, labels) for found in (true, true_out))
    assert all(torch.equal(found, taught.labels) for found in (pseudo, pseudo_out))
    _, inward, outward = joint.calls[0][0]
    assert torch.equal(outward.movedim(1, -1)[~box], images.movedim(1, -1)[~box])
    assert torch.equal(inward.movedim(1, -1)[box], images.movedim(1, -1)[box])
    assert not torch.isin(inward.movedim(1, -1)[~box], images).any()


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
def test_teachers_are_averaged_and_exported_when_asked_for(name) -> None:
    method = build(name, momentum=0.5, predict_with="student")
    assert next(iter(method.networks())) == "student"
    before = method.teacher.classifier.weight.clone()
    with torch.no_grad():
        method.student.classifier.weight.add_(1.0)
    method.after_update(step_info(update=500))
    assert torch.allclose(method.teacher.classifier.weight, before + 0.5)
