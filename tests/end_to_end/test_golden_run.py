"""The guard of every refactoring: two short trainings on the phantom end with the same bytes as before.

Digests are of one thread, float32, and instructions that every x86-64 processor of the last ten years has: kernels for
newer ones add numbers in another order, and ten updates later nothing is alike. Whether this machine's kernels are
those of the digests is told by a canary, a few layers of PyTorch alone. NumPy and its BLAS choose kernels of their own,
which nothing pins: three kinds of machines are known, and a second canary tells which of them this is. A commit that
has to change a digest changes it alone, and says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

# What the kernels of PyTorch, oneDNN and MKL are chosen by.
PINNED_KERNELS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
}
LENGTHS = {
    "action": ("methods.action.pretraining.global.updates=2", "methods.action.pretraining.local.updates=2"),
    "supervised": (),
}
BATCHES = (
    "methods.action.pretraining.global.unlabelled=4",
    "methods.action.pretraining.local.labelled=2",
    "methods.action.pretraining.local.unlabelled=2",
)
SHARED = ("training.updates=10", "plan.size=32", "precision=float32", "logging.validate_every=5", "report.page=false")
TORCH = "2.13.0"
GOLDEN = {
    "action": {"plan": "5707272f9f0f4c7b", "mask": "a671c0112c6797a9", "weights": "789265728cdc30d4"},
    "supervised": {"plan": "5707272f9f0f4c7b", "mask": "0fd86838fd9e2ee1", "weights": "5e07011a9f7a0ea0"},
}
CANARY = "6a292ab1e7b51ecd"
# Machines without AVX-512, where NumPy's own kernels, of which the phantom and the canvases are made, are others: the
# same commits, acc421d and those before it, end with these bytes there. So do they on an AMD EPYC of family 26, whose
# kernels are others again in what the canary tries.
NUMPY_OF_AVX2 = ("29d96b3edfc7435a", "b16cb2873b0c517a")
GOLDEN_OF_AVX2 = {
    "action": {"plan": "5707272f9f0f4c7b", "mask": "f58650a37960f17b", "weights": "5ce98f03df126e94"},
    "supervised": {"plan": "5707272f9f0f4c7b", "mask": "da94fdcf53e8d3e8", "weights": "3b3a65bbd086f754"},
}


def train_and_digest(method: str, folder: Path) -> dict[str, str]:
    import fewscan
    from fewscan.data.phantom import make_phantom
    from fewscan.io.files import read_json
    from fewscan.io.scans import read_mask

    dataset = make_phantom(folder / "phantom", patients=5, labelled=2, validation=1)
    settings = (*SHARED, *BATCHES, *LENGTHS[method])
    run = fewscan.train(dataset, folder / "run", method=method, recipe="quick", settings=settings, device="cpu").folder
    case = read_json(run / "splits.json")["val"][0]
    plan = json.dumps(read_json(run / "plan.json"), sort_keys=True)
    mask = read_mask(run / "validation" / f"{case}.nii.gz").array
    digests = {"plan": _digest(plan.encode()), "mask": _digest(mask.astype(np.uint8).tobytes())}
    return {**digests, "weights": _of_weights(run)}


def _of_weights(run: Path) -> str:
    from safetensors.torch import load_file

    weights = load_file(run / "model.safetensors")
    return _digest(b"".join(name.encode() + weights[name].numpy().tobytes() for name in sorted(weights)))


def canary() -> str:
    """Digest of gradients through the kinds of layers that the networks have, at sizes like theirs; without fewscan."""
    torch.manual_seed(0)
    convolutions = [
        layer
        for i, o in ((1, 16), (16, 32), (32, 64), (64, 128), (128, 256))
        for layer in (nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(), nn.MaxPool2d(2))
    ]
    upwards = [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(256, 4, 1), nn.Flatten(), nn.Linear(16, 512)]
    network = nn.Sequential(*convolutions, *upwards).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for _ in range(3):
        output = network(torch.randn(4, 1, 32, 32))
        (output @ output.T).softmax(dim=1).square().sum().backward()
    return _digest(b"".join(p.grad.numpy().tobytes() for p in network.parameters() if p.grad is not None))


def numpy_canary() -> str:
    """Digest of what NumPy makes of random numbers, by functions that it has kernels of its own for."""
    values = np.random.default_rng(0).normal(size=4096)
    made = [
        function(x)
        for x in (values, values.astype(np.float32))
        for function in (np.exp, np.sin, np.tanh, lambda a: np.log(np.abs(a) + 1), lambda a: np.abs(a) ** 0.7)
    ]
    products = [x.reshape(64, 64) @ x.reshape(64, 64) for x in (values, values.astype(np.float32))]
    return _digest(b"".join(np.ascontiguousarray(x).tobytes() for x in (*made, *products)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("method", GOLDEN)
def test_a_short_training_ends_with_the_same_bytes_as_ever(method: str, tmp_path: Path) -> None:
    if not torch.__version__.startswith(TORCH):
        pytest.skip(f"the digests are of torch {TORCH}, this is {torch.__version__}")
    if _run("canary") != CANARY:
        pytest.skip("the kernels of PyTorch for this processor add numbers in another order than those of the digests")
    golden = GOLDEN_OF_AVX2 if _run("numpy") in NUMPY_OF_AVX2 else GOLDEN
    assert json.loads(_run(method, str(tmp_path))) == golden[method]


def _run(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env={**os.environ, **PINNED_KERNELS}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    what, *folders = sys.argv[1:]
    canaries = {"canary": canary, "numpy": numpy_canary}
    sys.stdout.write(canaries[what]() if what in canaries else json.dumps(train_and_digest(what, Path(folders[0]))))
