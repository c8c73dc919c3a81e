"""Checkpoints: everything that decides how a training goes on, in files that are proven readable.

A file is one line of JSON with the version of its format and the SHA-256 of the rest, which is a dictionary that
`torch.load` reads with `weights_only=True`: tensors and plain values, nothing that runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from fewscan.config import CheckpointSettings
from fewscan.distributed.collectives import count, gather_over_ranks, rank
from fewscan.engine.records import Record
from fewscan.errors import ConfigError, DamagedError, DataError, WriteError
from fewscan.io.files import atomic_path

# 4: there are phases, and callbacks have their states by their names.
FORMAT = 4
KEPT = 2
OTHERS = "others"


class Stateful(Protocol):
    """A part of the training whose state can be taken and put back."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Go on where the state was taken."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two updates.

    Attributes:
        phase: Number of the phase, from 0.
        stage: Number of the stage in its phase, from 0.
        update: Number of the next update in the stage; the stage's length at its end.
        done: Number of updates over all phases and stages.
        records: Records of the log.
        parts: States of the training's parts by name.
        threads: Number of PyTorch's threads on the CPU, which decide in which order numbers are added.
    """

    phase: int
    stage: int
    update: int
    done: int
    records: list[Record]
    parts: dict[str, dict[str, Any]]
    threads: int = field(default_factory=torch.get_num_threads)

    @property
    def ranks(self) -> int:
        """How many ranks there were."""
        return 1 + len(self.parts["generators"].get(OTHERS, ()))

    def restore(self, parts: Mapping[str, Stateful]) -> None:
        """Put the states back."""
        for name, part in parts.items():
            part.load_state_dict(self.parts[name])


def take_states(parts: Mapping[str, Stateful]) -> dict[str, dict[str, Any]]:
    """The states of the parts, by name; tensors are not copied."""
    return {name: part.state_dict() for name, part in parts.items()}


class Generators:
    """All generators of torch that training draws from: its own, and the global ones, which dropout uses.

    Every rank has its own; those of rank 0 start as the ones of a single process do.

    Args:
        own: Generator of the training, on its device.
        seed: Seed of the run, 0 or more.
        done: Number of updates so far.
    """

    def __init__(self, own: torch.Generator, seed: int, done: int) -> None:
        self.own = own
        self.seed = seed
        self.done = done

    def reseed(self) -> None:
        """Start anew from the seed, the rank and the updates so far."""
        own, shared = np.random.SeedSequence([self.seed, rank(), self.done]).generate_state(2, np.uint64)
        self.own.manual_seed(int(own))
        torch.manual_seed(int(shared))

    def state_dict(self) -> dict[str, Any]:
        """The states of rank 0, the others', and the type of device they are of; to be called on every rank."""
        device = self.own.device
        mine = {"own": self.own.get_state(), "cpu": torch.get_rng_state()}
        if device.type == "cuda":
            mine["cuda"] = torch.cuda.get_rng_state(device)
        # Gathered by name, kept by rank; cloned, as torch.save writes for a view all that it is a view of.
        gathered = {name: gather_over_ranks(state[None]) for name, state in mine.items()}
        first, *others = ({name: states[r].clone() for name, states in gathered.items()} for r in range(count()))
        return {"device": device.type, **first} | ({OTHERS: others} if others else {})

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the states were taken; where the number of ranks was another one, start anew.

        Raises:
            ConfigError: The states are of another type of device.
        """
        device = self.own.device
        if state_dict["device"] != device.type:
            raise ConfigError(
                f"--device {device.type}: the run was started on {state_dict['device']}. "
                f"Go on with --device {state_dict['device']}."
            )
        states = [state_dict, *state_dict.get(OTHERS, ())]
        if len(states) != count():
            self.reseed()
            return
        mine = states[rank()]
        self.own.set_state(mine["own"])
        torch.set_rng_state(mine["cpu"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(mine["cuda"], device)


class Checkpoints:
    """The checkpoints of a run: the newest and the one before it.

    Args:
        folder: Folder of the checkpoints' files, made when the first one is saved.
        settings: Settings of how often a checkpoint is due.
    """

    def __init__(self, folder: Path, settings: CheckpointSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.saved_at = time.monotonic()

    def due(self, done: int) -> bool:
        """Whether it is time for the next one."""
        every, minutes = self.settings.every, self.settings.minutes
        by_count = every > 0 and done % every == 0
        return by_count or (minutes > 0 and time.monotonic() - self.saved_at >= 60 * minutes)

    def path(self, done: int) -> Path:
        """The file of the checkpoint after so many updates."""
        return self.folder / f"{done:09d}.ckpt"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, read it back, and only then remove the older ones but the last; rank 0 does.

        Raises:
            DataError: The file cannot be written (WriteError) or read back; the older ones are still there.
        """
        if rank() == 0:
            path = self.path(checkpoint.done)
            write_checkpoint(path, checkpoint)
            _checked_content(path)
            for old in checkpoint_files(self.folder)[:-KEPT]:
                old.unlink()
        self.saved_at = time.monotonic()

    def newest(self, say: Callable[[str], object]) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there are no files. Damaged newer ones are removed.

        Args:
            say: Function that is told of every checkpoint that is damaged.

        Raises:
            DataError: All checkpoints are damaged, or one is of another version.
        """
        files = checkpoint_files(self.folder)
        damaged: list[Path] = []
        for path in reversed(files):
            try:
                checkpoint = read_checkpoint(path)
            except DamagedError as error:
                if path == files[0]:
                    raise
                say(f"{path}: damaged ({error.reason}), the checkpoint before it is used")
                damaged.append(path)
                continue
            for newer in damaged:
                newer.unlink()
            return checkpoint
        return None

    def remove(self) -> None:
        """Remove them all: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of checkpoints, the newest last."""
    return sorted(folder.glob("[0-9]*.ckpt"))


def updates_done(folder: Path) -> int:
    """Updates until the newest checkpoint, by its name; 0 without one."""
    files = checkpoint_files(folder)
    return int(files[-1].stem) if files else 0


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; it is on the disk, complete, or not there at all.

    Raises:
        WriteError: The file cannot be written.
    """
    packed = io.BytesIO()
    torch.save(vars(checkpoint), packed)
    content = packed.getbuffer()
    header = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as beside, beside.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(content)
        _flush_folder(path.parent)
    except OSError as error:
        raise WriteError(path, error) from None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, its tensors on the CPU.

    Raises:
        DamagedError: The file is not what was written.
        DataError: The file cannot be read, or is of another version of the format.
    """
    content = _checked_content(path)
    try:
        return Checkpoint(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except (RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise DamagedError(path, str(error).splitlines()[0]) from None


def _checked_content(path: Path) -> bytes:
    """What follows the header, once the checksum is found right."""
    try:
        line, _, content = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise DataError.of(path, f"cannot be read: {error.strerror}", "Check the disk and the permissions") from None
    try:
        header = json.loads(line)
        version, digest = header["format"], header["sha256"]
    except (ValueError, TypeError, KeyError):
        raise DamagedError(path, "it has no header") from None
    if version != FORMAT:
        raise DataError.of(
            path,
            f"a checkpoint of format {version}, this fewscan reads format {FORMAT}",
            "Go on with the version that wrote it, or train anew in another folder",
        )
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedError(path, "its checksum is wrong")
    return content


def _flush_folder(folder: Path) -> None:
    """A renamed file is on the disk once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
