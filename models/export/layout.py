"""Published key layouts, the ones of the classes they are loaded into, and what does not fit.

Names and shapes only: nothing here needs PyTorch.
MedCLIP's checkpoints were written by transformers 4.23 or 4.24, RAD-DINO's by 4.3x; version 5 gave
the attention layers of both other names. Each table is the whole difference, one to one.
"""

# Published part of a name -> that part in transformers 5; the first that fits counts.
SWIN = (
    (".attention.self.query.", ".attention.q_proj."),
    (".attention.self.key.", ".attention.k_proj."),
    (".attention.self.value.", ".attention.v_proj."),
    (".attention.self.relative_position_", ".attention.relative_position_bias.relative_position_"),
    (".attention.output.dense.", ".attention.o_proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)
DINO = (
    (".attention.attention.query.", ".attention.q_proj."),
    (".attention.attention.key.", ".attention.k_proj."),
    (".attention.attention.value.", ".attention.v_proj."),
    (".attention.output.dense.", ".attention.o_proj."),
)
# Integer buffers that some versions write and others do not; none of them is learnt.
BUFFERS = ("position_ids", "relative_position_index", "num_batches_tracked")


class LayoutError(Exception):
    """A checkpoint that is not of the expected layout; the message names every key."""


def to_published(key: str, table=()) -> str:
    """The published name of a key of the library's class."""
    for published, name in table:
        if name in key:
            return key.replace(name, published)
    return key


def is_buffer(key: str) -> bool:
    """Whether a key is one of the integer buffers that are dropped."""
    return key.rsplit(".", 1)[-1] in BUFFERS


def compare(expected: dict[str, tuple], found: dict[str, tuple], file: str) -> list[str]:
    """Refuses a checkpoint unless every key is there once, in its shape, and no other.

    Both map names to shapes. Returns the integer buffers that were dropped, sorted.
    Raises `LayoutError` with all missing, superfluous and mis-shaped keys by name.
    """
    dropped = sorted(k for k in found if is_buffer(k))
    expected = {k: tuple(s) for k, s in expected.items() if not is_buffer(k)}
    found = {k: tuple(s) for k, s in found.items() if not is_buffer(k)}
    wrong = [f"missing: {k} {list(expected[k])}" for k in sorted(expected.keys() - found.keys())]
    wrong += [f"superfluous: {k} {list(found[k])}" for k in sorted(found.keys() - expected.keys())]
    wrong += [
        f"mis-shaped: {k}, expected {list(expected[k])}, found {list(found[k])}"
        for k in sorted(expected.keys() & found.keys()) if expected[k] != found[k]
    ]
    if wrong:
        raise LayoutError(f"{file}: {len(wrong)} keys do not fit\n  " + "\n  ".join(wrong))
    return dropped
