"""A MONAI bundle: `python -m monai.bundle run` writes the masks of `fewscan predict`.

Its network is ONNX, and what is done around it is the reference script: MONAI's own transforms normalise, resample and
put windows together otherwise, and masks would differ. The bundle has no model.pt, which is a pickle.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from fewscan.errors import ConfigError
from fewscan.exporting.base import Source
from fewscan.exporting.onnx_model import NETWORK, write_network
from fewscan.exporting.pipeline import SCRIPT, unscripted, write_pipeline
from fewscan.io.files import make_folder, write_json, write_text
from fewscan.version import VERSION

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
# The version that the bundle is tested with.
MONAI = "1.6.1"
INFERENCE = {
    "imports": ["$import pathlib", "$from scripts import predict"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/scans'",
    "output_dir": "$@bundle_root + '/eval'",
    "scans": "$predict.scans_in(pathlib.Path(@dataset_dir))",
    "segmenter": "$predict.Segmenter.read(pathlib.Path(@bundle_root) / 'models')",
    "run": ["$predict.segment(@segmenter, @scans, pathlib.Path(@output_dir))"],
}
USE = """Run it from this folder; SCANS is a folder with CASE_0000.nii.gz, and CASE_0001.nii.gz, ... of more channels:

```sh
pip install monai fire nibabel onnxruntime
python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS --output_dir MASKS
```

`models/model.onnx` is the network, `models/pipeline.json` has the numbers of what is done around it, and
`scripts/predict.py` does it. There is no `models/model.pt`, which would be a pickle: what goes on training a bundle's
weights cannot use it.
"""


def export(source: Source, folder: Path) -> str:
    """Write configs, models, scripts and docs of a bundle.

    Args:
        source: Run that is exported.
        folder: Empty folder to write to.

    Returns:
        Text for README.md: how it is used.

    Raises:
        ConfigError: An extra is not installed, the network has no graph, or the reference script cannot do what the
            run wants.
        WriteError: A file cannot be written.
    """
    problem = unscripted(source)
    if problem is not None:
        raise ConfigError(f"A MONAI bundle of this run would have no script: {problem}. Export it with --to onnx.")
    for name in ("configs", "docs", "models", "scripts"):
        make_folder(folder / name)
    models = folder / "models"
    write_network(source, models / NETWORK)
    write_pipeline(source, models, NETWORK)
    (models / SCRIPT).rename(folder / "scripts" / SCRIPT)
    # MONAI imports the package and takes `predict` from it as an attribute.
    write_text(folder / "scripts" / "__init__.py", "from . import predict as predict\n")
    write_json(folder / "configs" / "metadata.json", describe(source))
    write_json(folder / "configs" / "inference.json", INFERENCE)
    write_text(folder / "docs" / "README.md", f"README.md of the folder above says what this is.\n\n{USE}")
    return USE


def describe(source: Source) -> dict[str, Any]:
    """Write metadata.json, as the specification of MONAI bundles wants it.

    Args:
        source: Run that is exported.
    """
    plan = source.card.plan
    shape = ["*" for _ in plan.size]
    images = {
        "type": "image",
        "format": "magnitude",
        "num_channels": len(plan.channel_names),
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(number): name for number, name in enumerate(plan.channel_names)},
    }
    probabilities = {
        **images,
        "type": "probabilities",
        "format": "segmentation",
        "num_channels": len(plan.class_names),
        "value_range": [0, 1],
        "channel_def": {str(number): name for number, name in enumerate(plan.class_names)},
    }
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by fewscan {VERSION}"},
        "monai_version": MONAI,
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("nibabel", "onnxruntime")},
        # Schemas before 2024 ask for it.
        "optional_packages_version": {},
        "name": plan.dataset,
        "task": f"Segmentation: {', '.join(plan.class_names[1:])}",
        "description": f"{plan.dataset}, {plan.describe()}, trained by fewscan's {source.card.method}",
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "Research alone; it is no medical device.",
        "network_data_format": {"inputs": {"image": images}, "outputs": {"pred": probabilities}},
    }
