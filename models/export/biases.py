"""Writes `Gemm` as a product and an addition that ONNX Runtime leaves apart.

Its int8 product with a floating-point result (`MatMulIntegerToFloat`) wants a bare MatMul. A Gemm
has its bias inside, and a MatMul that an Add follows at once is made a Gemm again, which with an
fp32 bias stays fp32. So the bias goes behind the Reshape that follows every such product. The sums
are the same, in the same order: so are the bits.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .equalise import put, readers
from .qdq import is_transposed, shapes, untied


def tail(shape: list[int], size: int) -> list[int] | None:
    """The last axes of a shape that hold exactly `size` values, or None."""
    for at in range(len(shape), -1, -1):
        if int(np.prod(shape[at:])) == size:
            return shape[at:]
    return None


def apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every Gemm whose result only a Reshape reads becomes MatMul, Reshape, Add; others stay."""
    model = untied(model)
    stored, sizes, read = {t.name: t for t in model.graph.initializer}, shapes(model), readers(model)
    behind, nodes = {}, []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Reshape" and node.input[0] in behind:
            bias, out = behind[node.input[0]], node.output[0]
            node.output[0] = f"{out}.product"
            nodes.append(helper.make_node("Add", [node.output[0], bias], [out], name=f"{out}.bias"))
        if node.op_type != "Gemm" or len(node.input) < 3:
            continue
        value, (_, weight, bias) = node.output[0], node.input
        after = read.get(value, [])
        axes = tail(sizes[after[0].output[0]], sizes[value][-1]) if len(after) == 1 and after[0].op_type == "Reshape" else None
        if axes is None or weight not in stored or bias not in stored or not is_plain(node):
            continue
        if is_transposed(node):
            put(stored[weight], numpy_helper.to_array(stored[weight]).T.copy())
        put(stored[bias], numpy_helper.to_array(stored[bias]).reshape(axes))
        behind[value] = bias
        node.CopyFrom(helper.make_node("MatMul", [node.input[0], weight], [value], name=node.name))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def is_plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is `x W + b` with nothing else."""
    return all(a.name == "transB" or a.name in ("alpha", "beta") and a.f == 1.0 for a in node.attribute)
