"""The two formats of files: ONNX graphs, and exported programs of PyTorch."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sepnet.export.graphs import Graph, Run
from sepnet.export.onnx_lstm import with_onnx_lstms
from sepnet.onnx import import_onnxruntime
from sepnet.types import SepnetError

OPSET = 18
ONNX, TORCH = "onnx", "torch"
SUFFIXES = {".onnx": ONNX, ".pt2": TORCH}
METADATA_FILE = "sepnet.json"  # inside a .pt2 file


def encode_graph(graph: Graph, file_format: str, metadata: Mapping[str, Any]) -> bytes:
    """Trace a graph, and make the content of its file.

    Args:
        graph: The graph to trace.
        file_format: ``onnx`` or ``torch``.
        metadata: Written into the file, as JSON.

    Returns:
        The content.

    Raises:
        SepnetError: A package is missing, or a part of the model can't be written in this format.
    """
    with _quiet():
        try:
            return _onnx(graph, metadata) if file_format == ONNX else _torch(graph, metadata)
        except RuntimeError as error:  # the base class of all exporters' errors
            reason = str(error.__cause__ or error).partition("\n")[0][:200]
            raise SepnetError(
                f"PyTorch {torch.__version__} can't export a part of this model ({reason}): replace branches "
                "and loops that depend on the samples, and operators that the format lacks, in its network"
            ) from error


def open_graph(content: bytes, file_format: str) -> Run | None:
    """Open the content of a file as a function of its inputs.

    Args:
        content: The content of the file.
        file_format: ``onnx`` or ``torch``.

    Returns:
        The function; None if the package that runs it is not installed.
    """
    if file_format == TORCH:
        with _quiet():
            module = torch.export.load(io.BytesIO(content)).module()
        return lambda inputs: _as_list(module(*inputs))
    try:
        runtime = import_onnxruntime()
    except ImportError:
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(np.asarray(output)) for output in session.run(None, arrays)]

    return run


def _onnx(graph: Graph, metadata: Mapping[str, Any]) -> bytes:
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SepnetError(
                f"writing ONNX needs the package {name}: pip install 'sepnet[export]'"
            ) from error
    exported = torch.onnx.export(
        with_onnx_lstms(graph.module),
        tuple(graph.examples.values()),
        input_names=list(graph.examples),
        output_names=list(graph.outputs),
        dynamic_shapes=tuple(dict(axes) for axes in graph.dynamic) if any(graph.dynamic) else None,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    model = exported.model
    for node in model.graph.all_nodes():  # which name files of the machine that it was traced on
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.producer_name, model.producer_version = "sepnet", str(metadata["sepnet_version"])
    model.metadata_props.clear()
    model.metadata_props.update({key: json.dumps(value) for key, value in metadata.items()})
    return bytes(exported.model_proto.SerializeToString())


def _torch(graph: Graph, metadata: Mapping[str, Any]) -> bytes:
    if any(isinstance(part, nn.RNNBase) for part in graph.module.modules()):
        raise SepnetError(
            "PyTorch unrolls a recurrent network to the length that it is traced with, so a .pt2 file would "
            "work for this length alone: write .onnx"
        )
    dynamic = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in graph.dynamic)
    exported = torch.export.export(
        graph.module, tuple(graph.examples.values()), dynamic_shapes=dynamic if any(dynamic) else None
    )
    # Guards on the memory layout of tensors, which would refuse lengths that the graph can process.
    exported._guards_code.clear()
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)
    file = io.BytesIO()
    torch.export.save(exported, file, extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    return file.getvalue()


def _as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' messages about packages and about their internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
