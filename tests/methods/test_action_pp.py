import pytest
import torch
import torch.nn.functional as F

from fewscan.losses.adaptive import adaptive_contrast
from fewscan.methods import action_pp
from fewscan.networks.blocks import resize_linear
from fewscan.testing.methods import N_CLASSES, SIZES, step_info
from support.steps import build, start

SMALL = {"queries": 8, "keys": 4, "queue": 6, "representation": 5}


def test_terms_of_every_stage() -> None:
    expected = {"global": {"global"}, "local": {"sup", "global", "local"}, "anatomical": {"sup", "unsup", "aaco"}}
    for stage, names in expected.items():
        method, batch = start("action_pp", SIZES[0], stage, **SMALL)
        assert set(method(batch, step_info())) == names


def test_temperature_swings_once_a_stage_and_reaches_the_distillation() -> None:
    method = build("action_pp", period=1.0)
    temperatures = [method.temperatures(step_info(update)) for update in range(10)]
    assert temperatures[0].student == pytest.approx(1.0)
    assert temperatures[5].student == pytest.approx(0.1)
    assert temperatures[3].student == pytest.approx(temperatures[7].student)
    assert all(t.teacher == pytest.approx(0.1 * t.student) for t in temperatures)
    losses = []
    for update in (0, 5):
        method, batch = start("action_pp", SIZES[0], "global")
        losses.append(float(method(batch, step_info(update, seed=1))["global"].detach()))
    assert losses[0] != losses[1]


def test_centres_are_a_simplex_and_are_not_trained() -> None:
    method = build("action_pp")
    cosines = method.centres @ method.centres.T
    assert torch.allclose(cosines, torch.full((3, 3), -0.5).fill_diagonal_(1.0), atol=1e-6)
    assert "centres" in dict(method.named_buffers())


def test_centres_are_assigned_to_the_nearest_means_every_so_often() -> None:
    method, _ = start("action_pp", SIZES[0], "anatomical", assign_every=5)
    order = torch.tensor([2, 0, 1])
    method.means.copy_(method.centres[order] + 0.01)
    method.after_update(step_info(update=4))
    assert method.assignment.tolist() == [0, 1, 2]
    method.after_update(step_info(update=5))
    assert method.assignment.tolist() == order.tolist()


def test_the_term_is_the_contrast_of_dense_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled windows through the head give what the dense head gives at those pixels; keys are the teacher's."""
    seen = {}

    def spy(queries, keys, known, centres, counted, tau, weight):
        seen.update(queries=queries, keys=keys.clone(), known=known.clone(), centres=centres, tau=tau, weight=weight)
        return adaptive_contrast(queries, keys, known, centres, counted, tau, weight)

    drawn = []
    draw = action_pp.draw_true
    monkeypatch.setattr(action_pp, "adaptive_contrast", spy)
    monkeypatch.setattr(action_pp, "draw_true", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    method, batch = start("action_pp", SIZES[0], "anatomical", **SMALL)
    passes = {}
    for name in ("student", "teacher"):
        network = getattr(method, name)
        forward = network.logits_and_pyramid
        monkeypatch.setattr(
            network, "logits_and_pyramid", lambda images, n=name, f=forward: passes.setdefault(n, f(images))
        )
    method(batch, step_info())
    pixels_keys, pixels_queries = drawn
    for name, head, pixels, found in (
        ("student", method.represent, pixels_queries, seen["queries"]),
        ("teacher", method.represent_teacher, pixels_keys, seen["keys"][:, :4]),
    ):
        joined = torch.cat([resize_linear(maps[:2], SIZES[0]) for maps in passes[name][1]], dim=1)
        dense = head.conv_pointwise(head.conv_spatial(joined)).movedim(1, -1).flatten(0, 2)
        assert torch.allclose(found, dense[pixels], atol=1e-4)
    assert seen["known"].tolist() == [[True] * 4 + [False] * 2] * N_CLASSES
    assert (seen["tau"], seen["weight"]) == (pytest.approx(1.0), 0.2)
    moved = F.normalize(F.normalize(seen["queries"].detach(), dim=-1).mean(1), dim=-1)
    assert torch.allclose(method.means, 0.1 * moved, atol=1e-6)


def test_keys_are_of_their_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that sees nothing but the class: every key of the queue must be its own class's."""
    method, batch = start("action_pp", SIZES[0], "anatomical", **SMALL)
    calls = []
    embed = action_pp._embed

    def spy(head, pyramid, labels, n_classes, pixels, generator: torch.Generator):
        calls.append(labels)
        one_hot = F.one_hot(labels, n_classes).movedim(-1, 1).float()
        del head, pyramid
        return embed(Centre(), [one_hot], labels, n_classes, pixels, generator)

    class Centre:
        def embed(self, windows):
            return F.pad(windows[..., 4, :], (0, 2))

    monkeypatch.setattr(action_pp, "_embed", spy)
    method(batch, step_info())
    assert len(calls) == 2
    for c in range(N_CLASSES):
        assert method.queue.entries[c, :4].argmax(-1).tolist() == [c] * 4


def test_an_absent_class_keeps_its_mean_and_its_keys() -> None:
    method, batch = start("action_pp", SIZES[0], "anatomical", **SMALL)
    method(batch, step_info())
    means, entries = method.means.clone(), method.queue.entries.clone()
    batch.labels[batch.labels == 2] = 0
    terms = method(batch, step_info(1))
    assert torch.isfinite(terms["aaco"])
    assert torch.equal(method.means[2], means[2])
    assert torch.equal(method.queue.entries[2], entries[2])
    assert not torch.equal(method.means[0], means[0])


def test_representation_teacher_follows() -> None:
    method, _ = start("action_pp", SIZES[0], "anatomical", momentum=0.5)
    with torch.no_grad():
        method.represent.conv_pointwise.weight.add_(1.0)
    method.after_update(step_info(update=500))
    assert torch.allclose(
        method.represent_teacher.conv_pointwise.weight, method.represent.conv_pointwise.weight - 0.5, atol=1e-6
    )
