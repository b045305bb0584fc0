"""Moves outlier channels of an activation into the weights that read it, function unchanged.

One scale per activation tensor serves its largest channel; a channel a hundred times smaller then
has one quantum left. Where the values come from a LayerNormalization, or from a product through a
Relu at most, channel `j` may be divided by any `s_j > 0` if the weights that read it are multiplied
by it: SmoothQuant (arXiv 2211.10438) for the former, cross-layer equalisation (arXiv 1906.04721)
for the latter. `s_j = a_j^(1/2) / w_j^(1/2)` makes both sides' largest values equal.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from .qdq import Layer, layers, untied
from .ranges import Spread

# Operators that move values about and leave each channel's as they are.
MOVING = ("Reshape", "Transpose", "Slice", "Concat", "Identity", "Pad")
# Beyond this a channel is as good as silent, and its scale would be noise (picked by eye).
SCALE_FROM, SCALE_TO = 1e-3, 1e3


def readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Nodes that read each value."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def reached(value: str, read: dict, through: tuple, products: dict[str, Layer], ends: set[str]) -> list[Layer] | None:
    """The layers that read a value, or None where anything else does."""
    found, todo, seen = [], [value], set()
    while todo:
        name = todo.pop()
        if name in ends:
            return None
        for node in read.get(name, []):
            layer = products.get(node.name)
            if layer is not None and layer.input == name:
                found.append(layer)
            elif node.op_type in through and node.input[0] == name or node.op_type == "Concat" and "Concat" in through:
                if node.output[0] not in seen:
                    seen.add(node.output[0])
                    todo.append(node.output[0])
            else:
                return None
    return found


def groups(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, list[Layer]]]:
    """Producers whose channels may be scaled, and all layers that read them."""
    products = {layer.node: layer for layer in layers(model)[0]}
    read, ends = readers(model), {o.name for o in model.graph.output}
    stored = {t.name: t.dims for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            through, size = MOVING, stored[node.input[1]][0]
        elif node.op_type == "Conv" and node.name in products:
            through, size = ("Relu",), stored[node.input[1]][0]
        else:
            continue
        layers_here = reached(node.output[0], read, through, products, ends)
        if layers_here and all(stored[one.weight][one.inner] == size for one in layers_here):
            found.append((node, layers_here))
    return found


def equalised(model: onnx.ModelProto, spread: dict[str, Spread]) -> onnx.ModelProto:
    """The same function with evened channels; `spread` holds each layer input's channels."""
    model = untied(model)
    stored = {t.name: t for t in model.graph.initializer}
    for node, reading in groups(model):
        weights = {one.weight: numpy_helper.to_array(stored[one.weight]) for one in reading}
        inner = {one.weight: one.inner for one in reading}
        size = np.maximum.reduce([spread[one.input].channels for one in reading])
        used = [np.abs(w).max(tuple(i for i in range(w.ndim) if i != inner[n])) for n, w in weights.items()]
        scale = scales(size, np.maximum.reduce(used))
        for name, weight in weights.items():
            shape = [-1 if i == inner[name] else 1 for i in range(weight.ndim)]
            put(stored[name], weight * scale.reshape(shape))
        for name in node.input[1:]:
            part = numpy_helper.to_array(stored[name])
            put(stored[name], part / scale.reshape([-1] + [1] * (part.ndim - 1)))
    return model


def scales(size: np.ndarray, used: np.ndarray) -> np.ndarray:
    """`s_j`, about 1 in the geometric mean; 1 for a channel that is never there or never read."""
    alive = (size > 0) & (used > 0)
    if not alive.any():
        return np.ones(len(size), np.float32)
    ratio = np.sqrt(np.where(alive, size, 1) / np.where(alive, used, 1))
    ratio = ratio / np.exp(np.log(ratio[alive]).mean())
    return np.where(alive, ratio.clip(SCALE_FROM, SCALE_TO), 1).astype(np.float32)


def put(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    """Replaces an initialiser's numbers."""
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
