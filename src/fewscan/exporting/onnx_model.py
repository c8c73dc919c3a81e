"""ONNX: one graph from images to probabilities, folds averaged in it, with what is done around it.

Folds are one graph, and not a file each: its output is what `fewscan predict` averages, so that whatever runs the file
need not know that there are several networks. onnxruntime runs one network after the other, so that it takes no more
memory. The file is as large as the files of all networks.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewscan.exporting.base import Source
from fewscan.exporting.graph import check_alike, images_for, trace
from fewscan.exporting.pipeline import describe_files, write_pipeline
from fewscan.extras import EXTRAS, require
from fewscan.io.files import atomic_path
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.version import VERSION

NETWORK = "model.onnx"
INPUT, OUTPUT = "images", "probabilities"
USE = f"""`{NETWORK}` goes from images (image, channel, \\*sides), normalised and resampled, to class probabilities
(image, class, \\*sides); any runtime of ONNX runs it. It was compared with the run's own network in onnxruntime before
it was written: probabilities differ by less than 0.0001.
"""


def export(source: Source, folder: Path) -> str:
    """Write `model.onnx`, `pipeline.json` and `predict.py`.

    Args:
        source: Run that is exported.
        folder: Empty folder to write to.

    Returns:
        Text for README.md: how it is used.

    Raises:
        ConfigError: An extra is not installed, the network has no graph, or onnxruntime gives other probabilities.
        WriteError: A file cannot be written.
    """
    write_network(source, folder / NETWORK)
    write_pipeline(source, folder, NETWORK)
    return USE + describe_files(folder)


def write_network(source: Source, path: Path) -> None:
    """Write the networks as one graph, and hold it against them.

    Args:
        source: Run that is exported.
        path: Path of the file.

    Raises:
        ConfigError: An extra is not installed, the network has no graph, or onnxruntime gives other probabilities.
        WriteError: The file cannot be written.
    """
    for module in EXTRAS["onnx"]:
        require(module)
    with atomic_path(path) as beside:
        beside.write_bytes(_averaged(source.networks))
        images = images_for(source.networks[0])
        check_alike(source.networks, images, _run(beside, images))


def _averaged(networks: Sequence[SegmentationNetwork]) -> bytes:
    """The graph of the first network, once for each of them with its own weights, and their mean."""
    import onnx
    from onnx import checker, compose, helper

    single = _graph(networks[:1])
    shape = single.graph.output[0]
    nodes, initializers, found = [], [], []
    for number, network in enumerate(networks):
        prefix = f"network_{number}/"
        part = compose.add_prefix(single, prefix).graph
        nodes += [helper.make_node("Identity", [INPUT], [prefix + INPUT]), *part.node]
        initializers += [_own(tensor, prefix, network) for tensor in part.initializer]
        found.append(prefix + OUTPUT)
    nodes.append(helper.make_node("Mean", found, [OUTPUT]))
    graph = helper.make_graph(nodes, "fewscan", [single.graph.input[0]], [shape], initializers)
    model: onnx.ModelProto = helper.make_model(
        graph,
        opset_imports=single.opset_import,
        ir_version=single.ir_version,
        producer_name="fewscan",
        producer_version=VERSION,
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _own(tensor: Any, prefix: str, network: SegmentationNetwork) -> Any:
    """An initializer with the weights of one network; what is no weight stays."""
    from onnx import numpy_helper

    weights: Mapping[str, Tensor] = network.state_dict()
    name = tensor.name.removeprefix(f"{prefix}networks.0.")
    if name not in weights:
        return tensor
    return numpy_helper.from_array(weights[name].contiguous().numpy(), tensor.name)


def _graph(networks: Sequence[SegmentationNetwork]) -> Any:
    """The networks as PyTorch translates them, without what it notes of this machine's files."""
    program = trace(networks)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Optimised, weights would be folded into others, and those of the next fold could not take their places.
            translated: Any = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], optimize=False, verbose=False
            )
    finally:
        logging.disable(disabled)
    model = translated.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    del graph.value_info[:]
    axes = "zyx"[-networks[0].ndim :]
    for value in (graph.input[0], graph.output[0]):
        sides = value.type.tensor_type.shape.dim
        for side, name in zip((sides[0], *sides[2:]), ("image", *axes), strict=True):
            side.dim_param = name
    return model


def _run(path: Path, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])
