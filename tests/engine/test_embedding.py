import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fewscan.engine.embedding import describe, save_embedding
from support.steps import Store, build

NAMES = ("background", "a", "b")


def clusters(each: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two opposite directions and one at right angles, in seven dimensions."""
    generator = np.random.default_rng(0)
    directions = np.zeros((3, 7))
    directions[0, 0], directions[1, 0], directions[2, 1] = 1, -1, 1
    classes = np.repeat([0, 1, 2], each)
    lengths = generator.uniform(1, 5, (len(classes), 1))
    return lengths * (directions[classes] + 0.05 * generator.normal(size=(len(classes), 7))), classes


def test_directions_decide_and_not_lengths() -> None:
    embeddings, classes = clusters()
    found = describe(embeddings, classes, NAMES)
    relation = np.array(found["relation"])
    assert np.allclose(np.diag(relation), 1)
    assert np.allclose(relation, relation.T)
    assert relation[0, 1] == pytest.approx(-1, abs=0.02)
    assert relation[0, 2] == pytest.approx(0, abs=0.1)
    points, prototypes = np.array(found["points"]), np.array(found["prototypes"])
    nearest = np.linalg.norm(points[:, None] - prototypes, axis=-1).argmin(axis=1)
    assert np.array_equal(nearest, classes)
    assert sum(found["explained"]) > 0.9
    turned = describe(2 * embeddings, classes, NAMES)
    assert np.allclose(turned["points"], points, atol=1e-3)


def test_a_class_without_pixels_has_no_mean() -> None:
    embeddings, classes = clusters()
    found = describe(embeddings[classes != 1], classes[classes != 1], NAMES)
    assert found["prototypes"][1] is None
    assert found["relation"][1] == [None] * 3
    assert found["relation"][0][1] is None


@pytest.mark.parametrize(("method", "space"), [("action", "representation head"), ("mean_teacher", "decoder")])
def test_the_method_is_left_alone(tmp_path: Path, method: str, space: str) -> None:
    built = build(method)
    before = {name: value.clone() for name, value in built.state_dict().items()}
    modes = [module.training for module in built.modules()]
    state = torch.get_rng_state()
    for name in ("one.json", "two.json"):
        save_embedding(tmp_path / name, built, Store(), NAMES)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in built.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    found = json.loads((tmp_path / "one.json").read_text())
    assert found["space"] == space
    assert found["class_names"] == list(NAMES)
    assert len(found["points"]) == len(found["classes"])
    assert set(found["classes"]) == {0, 1, 2}


def test_a_head_that_is_not_trained_is_not_used() -> None:
    assert build("action", use_anco=False).representation_head() is None
    assert build("action_pp").representation_head() is not None
