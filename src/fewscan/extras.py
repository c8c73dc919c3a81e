"""What is installed beside fewscan where one command or layout needs it: extras, and how each is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fewscan.errors import ConfigError

# Modules by the extra of pyproject.toml that installs them.
EXTRAS: dict[str, tuple[str, ...]] = {
    "dicom": ("pydicom", "highdicom", "gdcm"),
    "h5": ("h5py",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "ray": ("ray",),
    "rtstruct": ("plastimatch",),
    "s3": ("s3fs",),
    "tensorboard": ("tensorboard",),
}


def require(module: str) -> Any:
    """Import a module of an extra.

    Args:
        module: Name of the module, one of `EXTRAS`.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        extra = next(name for name, modules in EXTRAS.items() if module in modules)
        raise ConfigError(f"{module} is not installed ({error}). pip install 'fewscan[{extra}]'.") from None


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed; none is imported.

    Args:
        extra: Name of the extra, one of `EXTRAS`.
    """
    return [module for module in EXTRAS[extra] if find_spec(module) is None]
