"""The two kinds of file: an ONNX graph, and an exported program of PyTorch."""

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
from sepnet.export.recurrence import with_onnx_lstms
from sepnet.types import SepnetError

OPSET = 18
ONNX, TORCH = "onnx", "torch"
SUFFIXES = {".onnx": ONNX, ".pt2": TORCH}
METADATA = "sepnet.json"  # inside a .pt2 file


def program(graph: Graph, kind: str, metadata: Mapping[str, Any]) -> bytes:
    """The file of a graph. Raises SepnetError where a package is missing, or none can be made."""
    with _quiet():
        try:
            return _onnx(graph, metadata) if kind == ONNX else _torch(graph, metadata)
        except RuntimeError as error:  # those of all exporters are
            reason = str(error.__cause__ or error).partition("\n")[0][:200]
            raise SepnetError(
                f"PyTorch {torch.__version__} can't make a fixed graph of this model ({reason}): look in its "
                "network for branches and loops that depend on the sound"
            ) from error


def opened(file: bytes, kind: str) -> Run | None:
    """A file as a function of its inputs; None where the package that runs it is not installed."""
    if kind == TORCH:
        with _quiet():
            module = torch.export.load(io.BytesIO(file)).module()
        return lambda inputs: _listed(module(*inputs))
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(np.asarray(each)) for each in session.run(None, given)]

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
    for node in model.graph.all_nodes():  # where in whose folders each was traced is nobody's business
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
            "serve that one alone: write .onnx"
        )
    free = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in graph.dynamic)
    exported = torch.export.export(
        graph.module, tuple(graph.examples.values()), dynamic_shapes=free if any(free) else None
    )
    # Guards on how tensors happen to lie in memory, which would refuse lengths that the graph is right for.
    exported._guards_code.clear()
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)
    file = io.BytesIO()
    torch.export.save(exported, file, extra_files={METADATA: json.dumps(dict(metadata))})
    return file.getvalue()


def _listed(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters tell of packages and of their own workings."""
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
