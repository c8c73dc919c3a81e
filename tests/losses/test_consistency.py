import pytest
import torch

from fewscan.losses.consistency import confident_pseudo_loss, image_weighted_pseudo_loss
from fewscan.losses.segmentation import supervised_loss


@pytest.fixture
def believed(generator):
    logits = torch.randn(3, 4, 6, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (3, 6, 5), generator=generator)
    return logits, labels, torch.rand(3, 6, 5, generator=generator, dtype=torch.float64)


def test_published_form_weights_each_image_by_its_share_of_confident_pixels(believed):
    logits, labels, confidence = believed
    expected = 0.0
    for i in range(3):
        log_probs = logits[i] - logits[i].exp().sum(0).log()
        losses = [-log_probs[labels[i, y, x], y, x] for y in range(6) for x in range(5)]
        share = sum(float(c >= 0.7) for c in confidence[i].flatten()) / 30
        expected += share * float(sum(losses)) / 30
    assert float(image_weighted_pseudo_loss(*believed, 0.7)) == pytest.approx(expected / 3, rel=1e-12)


def test_confident_form_sees_confident_pixels_alone(believed, generator):
    logits, labels, confidence = believed
    loss = confident_pseudo_loss(logits, labels, confidence, 0.7)
    unsure = confidence < 0.7
    other_labels = torch.where(unsure, (labels + 1) % 4, labels)
    assert torch.equal(loss, confident_pseudo_loss(logits, other_labels, confidence, 0.7))
    everything = confident_pseudo_loss(logits, labels, torch.ones_like(confidence), 0.7)
    assert torch.allclose(everything, supervised_loss(logits, labels))


@pytest.mark.parametrize("loss", [image_weighted_pseudo_loss, confident_pseudo_loss])
def test_gradients_and_no_confidence(loss, believed):
    logits, labels, confidence = believed
    logits.requires_grad_()
    torch.autograd.gradcheck(lambda x: loss(x, labels, confidence, 0.5), logits)
    nothing = loss(logits, labels, torch.zeros_like(confidence), 0.5)
    nothing.backward()
    assert torch.isfinite(nothing)
    assert not logits.grad.any()
