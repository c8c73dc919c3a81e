"""Names → code, imported only when it is asked for; from outside fewscan too, by one mechanism for all kinds of parts.

A new part of fewscan's own is one new file and one line here. A part from elsewhere is found in three ways:

- an installed package offers it as an entry point, such as `fewscan.methods`;
- `METHODS.register("name", Class)`, or the same as a decorator, where the code is imported anyway;
- a user names it, as `package.module:Class`, where a name is asked for.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fewscan.errors import ConfigError
from fewscan.words import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry:
    """The parts of one kind by their names.

    `find` imports what a known name stands for, and no other code: a name may come from a file that somebody else has
    made. `load` is for names that the user of this process gives, and imports `package.module:Class` too.

    Args:
        kind: Word for one part in messages, such as "method".
        group: Group of entry points under which installed packages offer parts, such as "fewscan.methods".
        table: Targets "module:attribute" of fewscan's own parts, by their names.
        base: "module:Class" that every part has to be derived from; None: a part may be anything.
    """

    def __init__(self, kind: str, group: str, table: Mapping[str, str], base: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self.built_in = tuple(table)
        self._base = base
        self._targets: dict[str, Any] = dict(table)

    def __contains__(self, name: object) -> bool:
        """Whether `find` knows a name; nothing is imported."""
        return name in self._targets or name in self._entry_points

    def names(self) -> tuple[str, ...]:
        """All known names: fewscan's own, registered ones, and those of installed packages; nothing is imported."""
        return tuple(dict.fromkeys((*self._targets, *self._entry_points)))

    def find(self, name: str) -> Any:
        """Import what a known name stands for.

        Args:
            name: Name, one of `names()`.

        Raises:
            ConfigError: The name is not known, or what it stands for cannot be imported or is not of this kind.
        """
        if name in self._targets:
            target = self._targets[name]
            return self._checked(name, _import(target) if isinstance(target, str) else target)
        if name in self._entry_points:
            return self._checked(name, self._load_entry_point(name))
        raise ConfigError(self._unknown(name))

    def load(self, name: str) -> Any:
        """Do as `find`, and import `package.module:Class` too, which is then known by that name.

        For names that the user of this process has given, never for those of a file. The module may lie in the current
        folder: it is searched last, and for this import only.

        Args:
            name: Name, one of `names()`, or `package.module:Class`.

        Raises:
            ConfigError: The name is not known, there is no such module or class, or the class is not of this kind.
        """
        if name not in self and ":" in name:
            self._targets[name] = self._checked(name, self._import_path(name))
        return self.find(name)

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...

    @overload
    def register(self, name: str, part: T) -> T: ...

    def register(self, name: str, part: Any = None) -> Any:
        """Make a part known by a name in this process; without the part, a decorator that does so.

        A class that was defined anew, as a notebook does, takes the place of the one that was registered before it.

        Args:
            name: New name, without a colon.
            part: Part that the name stands for, or "module:attribute", which is imported when it is asked for.

        Returns:
            The part.

        Raises:
            ConfigError: The name is another part's, or the part is not of this kind.
        """
        if part is None:
            return lambda decorated: self.register(name, decorated)
        if ":" in name:
            raise ConfigError(f"The name {name!r} cannot be a {self.kind}'s: it has a colon. Choose another name.")
        if name in self.built_in or (name in self._targets and _origin(self._targets[name]) != _origin(part)):
            raise ConfigError(f"There is a {self.kind} named {name!r} already. Choose another name.")
        self._targets[name] = part if isinstance(part, str) else self._checked(name, part)
        return part

    def unregister(self, name: str) -> None:
        """Forget a part that was registered or loaded; fewscan's own stay.

        Args:
            name: Name that `register` or `load` was given.

        Raises:
            ConfigError: No part was registered by that name.
        """
        if name in self.built_in or name not in self._targets:
            raise ConfigError(f"No {self.kind} was registered by the name {name!r}.")
        del self._targets[name]

    def brought(self) -> dict[str, str]:
        """Parts that were registered or loaded in this process, "module:attribute" by name, for another process of it.

        Raises:
            ConfigError: A part is of no module that another process could import.
        """
        found = {}
        for name in self._targets.keys() - set(self.built_in):
            module, attribute = _origin(self._targets[name])
            if module == "__main__" or "." in attribute:
                raise ConfigError(
                    f"The {self.kind} {name!r} is not known in other processes: {module} has {attribute}. Write it "
                    "into a module of its own, at its top, or say --executor serial."
                )
            found[name] = f"{module}:{attribute}"
        return found

    def bring(self, parts: Mapping[str, str]) -> None:
        """Make parts known as in the process that started this one.

        Args:
            parts: Parts as `brought` gave them there.
        """
        self._targets.update(parts)

    @cached_property
    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        """What installed packages offer, by name; asked for once, since that reads the metadata of all packages."""
        # It takes as long to import as all else that the command line needs before a command runs.
        from importlib.metadata import entry_points

        offered: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            offered.setdefault(point.name, []).append(point)
        return offered

    def _load_entry_point(self, name: str) -> Any:
        offers = self._entry_points[name]
        packages = " and ".join(point.dist.name if point.dist is not None else point.value for point in offers)
        if len(offers) > 1:
            raise ConfigError(f"The {self.kind} {name!r} is offered by {packages}. Uninstall all but one of them.")
        try:
            return offers[0].load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"The {self.kind} {name!r} of the package {packages} cannot be imported: {error}. "
                "Install what it needs, or another version of it."
            ) from error

    def _import_path(self, path: str) -> Any:
        module_name, _, attribute = path.partition(":")
        if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
            raise ConfigError(f"The {self.kind} {path!r} is not of the form package.module:Class.")
        try:
            with _current_folder_is_importable():
                module = import_module(module_name)
        except ModuleNotFoundError as error:
            # A module that is there and needs another one is the user's to put right, with the traceback.
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise ConfigError(
                f"The {self.kind} {path!r}: there is no module {error.name}, neither in {Path.cwd()} nor installed. "
                "Install its package, or start fewscan in the folder that it lies in."
            ) from None
        if not hasattr(module, attribute):
            names = [name for name, value in vars(module).items() if inspect.isclass(value)]
            hint = did_you_mean(attribute, names) or " Write the class's name after the colon."
            raise ConfigError(f"The {self.kind} {path!r}: {module.__file__} has no {attribute}.{hint}")
        return getattr(module, attribute)

    def _checked(self, name: str, part: Any) -> Any:
        if self._base is None:
            return part
        base = _import(self._base)
        if not (inspect.isclass(part) and issubclass(part, base)):
            full_name = f"{base.__module__}.{base.__name__}"
            raise ConfigError(f"The {self.kind} {name!r} is no {base.__name__}. Derive its class from {full_name}.")
        missing = sorted(getattr(part, "__abstractmethods__", ()))
        if missing:
            raise ConfigError(f"The {self.kind} {name!r} is abstract. Write its {', '.join(missing)}.")
        return part

    def _unknown(self, name: str) -> str:
        if ":" in name:
            return (
                f"The {self.kind} {name!r} is from outside fewscan and not known in this process. No code is imported "
                f"because a file names it: if you trust it, name it yourself, or register it, or install a package "
                f"that offers it as an entry point of {self.group}."
            )
        return (
            f"There is no {self.kind} named {name!r}.{did_you_mean(name, self.names())} "
            f"There are: {', '.join(filter(None, self.names()))}; or package.module:Class of your own."
        )


def _import(target: str) -> Any:
    module, attribute = target.split(":")
    return getattr(import_module(module), attribute)


def _origin(part: Any) -> tuple[str, str]:
    """Where a part is written: of a class that was defined anew it is the same."""
    if isinstance(part, str):
        module, _, attribute = part.partition(":")
        return module, attribute
    return part.__module__, part.__qualname__


@contextmanager
def _current_folder_is_importable() -> Iterator[None]:
    """`python -m fewscan` finds modules of the current folder, the script `fewscan` does not: inside, both do.

    It comes last, so that a file that lies there by chance takes no installed package's place.
    """
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        # The last one: the folder may have been on the path before.
        sys.path.reverse()
        sys.path.remove(folder)
        sys.path.reverse()


METHODS = Registry(
    "method",
    "fewscan.methods",
    {
        "action": "fewscan.methods.action:Action",
        "action_pp": "fewscan.methods.action_pp:ActionPlusPlus",
        "supervised": "fewscan.methods.supervised:Supervised",
        "entropy": "fewscan.methods.entropy:Entropy",
        "mean_teacher": "fewscan.methods.mean_teacher:MeanTeacher",
        "ua_mt": "fewscan.methods.ua_mt:UaMt",
        "ict": "fewscan.methods.ict:Ict",
        "cct": "fewscan.methods.cct:Cct",
        "cps": "fewscan.methods.cps:Cps",
        "urpc": "fewscan.methods.urpc:Urpc",
        "mc_net": "fewscan.methods.mc_net:McNet",
        "dtc": "fewscan.methods.dtc:Dtc",
        "ss_net": "fewscan.methods.ss_net:SsNet",
        "fixmatch": "fewscan.methods.fixmatch:FixMatch",
        "unimatch": "fewscan.methods.unimatch:UniMatch",
        "bcp": "fewscan.methods.bcp:Bcp",
        "gcl": "fewscan.methods.gcl:Gcl",
        "ad_mt": "fewscan.methods.ad_mt:AdMt",
        "atlas": "fewscan.methods.atlas:Atlas",
        "itl": "fewscan.methods.itl:Itl",
    },
    base="fewscan.methods.base:Method",
)

NETWORKS = Registry(
    "network",
    "fewscan.networks",
    {
        "unet": "fewscan.networks.unet:UNet",
        "vnet": "fewscan.networks.vnet:VNet",
        "atlas": "fewscan.networks.atlas:AtlasNetwork",
    },
    base="fewscan.networks.segmenter:SegmentationNetwork",
)

PLANS = Registry(
    "plan",
    "fewscan.plans",
    {
        "slices": "fewscan.data.plans.slices.plan:SlicePlan",
        "volumes": "fewscan.data.plans.volumes.plan:VolumePlan",
        "pictures": "fewscan.data.plans.pictures.plan:PicturePlan",
    },
    base="fewscan.data.plans.base:Plan",
)

TASKS = Registry(
    "task",
    "fewscan.tasks",
    {"semantic": "fewscan.tasks.semantic:Semantic", "instances": "fewscan.tasks.instances:Instances"},
    base="fewscan.tasks.base:Task",
)

# By the endings of files' names.
FORMATS = Registry(
    "scan format",
    "fewscan.formats",
    {
        ".nii.gz": "fewscan.io.nifti:Nifti",
        ".nii": "fewscan.io.nifti:Nifti",
        ".nrrd": "fewscan.io.nrrd:Nrrd",
        ".seg.nrrd": "fewscan.io.nrrd:Nrrd",
        ".mha": "fewscan.io.metaimage:MetaImage",
        ".png": "fewscan.io.png:Png",
        ".tif": "fewscan.io.tiff:Tiff",
        ".tiff": "fewscan.io.tiff:Tiff",
        ".jpg": "fewscan.io.jpeg:Jpeg",
        ".jpeg": "fewscan.io.jpeg:Jpeg",
        ".dcm": "fewscan.io.dicom.format:Dicom",
        ".rtstruct.dcm": "fewscan.io.dicom.format:Structures",
        # What has none of the endings is shown to it.
        "": "fewscan.io.dicom.format:Dicom",
    },
    base="fewscan.io.formats:ScanFormat",
)

CONVERTERS = Registry(
    "converter",
    "fewscan.converters",
    {
        "acdc": "fewscan.data.converters.acdc:convert",
        "bids": "fewscan.data.converters.bids:convert",
        "coco": "fewscan.data.converters.coco:convert",
        "dicom": "fewscan.data.converters.dicom:convert",
        "dsb2018": "fewscan.data.converters.dsb2018:convert",
        "flat": "fewscan.data.converters.flat:convert",
        "kvasir": "fewscan.data.converters.kvasir:convert",
        "msd": "fewscan.data.converters.msd:convert",
        "ssl4mis": "fewscan.data.converters.ssl4mis:convert",
    },
)

EXPORTS = Registry(
    "export target",
    "fewscan.exports",
    {
        "monai-bundle": "fewscan.exporting.monai_bundle:export",
        "nnunet": "fewscan.exporting.nnunet:export",
        "onnx": "fewscan.exporting.onnx_model:export",
        "package": "fewscan.exporting.package:export",
    },
)

# What scans, plans and models may need from outside fewscan.
_OF_SCANS = (METHODS, NETWORKS, PLANS, TASKS, FORMATS)


def parts_from_outside() -> tuple[dict[str, str], ...]:
    """All parts from outside fewscan that this process knows, for `bring_parts` in another one.

    Raises:
        ConfigError: A part is of no module that another process could import.
    """
    return tuple(registry.brought() for registry in _OF_SCANS)


def bring_parts(parts: Sequence[Mapping[str, str]]) -> None:
    """Make all parts known that the process that started this one knows.

    Args:
        parts: Parts as `parts_from_outside` gave them there.
    """
    for registry, own in zip(_OF_SCANS, parts, strict=True):
        registry.bring(own)
