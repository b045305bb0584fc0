"""ONNX Runtime's Python as a peer of the benchmark `engines`: a command a line, an answer a line.

    python engines.py run ENCODER SHAPE THREADS SPINNING    a session; then `go` for each image
    python engines.py gemm THREADS                          GFLOP/s of a product of 2048 x 2048, fp32
    python engines.py work ENCODER                          GFLOP of the graph: two for each product

A session answers with its load time and memory, then each `go` with milliseconds, the end with peak memory.
"""

import os
import sys
from time import perf_counter

# Of a square product large enough that nothing but arithmetic counts, and small enough for a second.
SIDE, REPEATS = 2048, 5


def memory(field: str) -> int:
    """Resident memory now (VmRSS) or at its peak (VmHWM), KiB."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))


def run(encoder: str, shape: str, threads: str, spinning: str) -> None:
    """Serves images until the input ends."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = int(threads), 3
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    begun = perf_counter()
    session = onnxruntime.InferenceSession(encoder, options, providers=["CPUExecutionProvider"])
    load = (perf_counter() - begun) * 1e3
    name = session.get_inputs()[0].name
    image = np.random.default_rng(1).standard_normal([int(n) for n in shape.split("x")], np.float32)
    session.run(None, {name: image})
    print(load, memory("VmRSS"), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            print(memory("VmHWM"), flush=True)
            return
        begun = perf_counter()
        session.run(None, {name: image})
        print((perf_counter() - begun) * 1e3, flush=True)


def gemm(threads: str) -> None:
    """The best of some products: what this machine's arithmetic can do."""
    os.environ["OPENBLAS_NUM_THREADS"] = threads
    import numpy as np

    a = np.random.default_rng(1).standard_normal((SIDE, SIDE), np.float32)
    best = float("inf")
    for _ in range(REPEATS):
        begun = perf_counter()
        a @ a
        best = min(best, perf_counter() - begun)
    print(2 * SIDE**3 / best / 1e9)


def work(encoder: str) -> None:
    """Two operations for each product of a convolution or a matrix."""
    import numpy as np
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(encoder), data_prop=True).graph
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        shapes[value.name] = [max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim]
    # What a pair stands between has the shape of what goes in.
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast") and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1]
    print(2 * total / 1e9)


if __name__ == "__main__":
    {"run": run, "gemm": gemm, "work": work}[sys.argv[1]](*sys.argv[2:])
