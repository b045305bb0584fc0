"""pydicom as a peer of the benchmark `decode`: a command a line, words between tabs, an answer a line.

decode PLUGIN FILE            milliseconds from bytes in memory to stored samples, and their mean
compress SYNTAX FROM TO       the file in another transfer syntax, by its name in `pydicom.uid`
"""

import sys
from io import BytesIO
from pathlib import Path
from time import perf_counter

import pydicom
import pydicom.uid
from pydicom.pixels import get_decoder

# As tests/golden/encodings/compare.py makes them.
OPTIONS = {"JPEG2000": {"j2k_cr": [10]}, "JPEGLSNearLossless": {"jls_error": 2}}


def decode(plugin: str, file: str) -> str:
    """Milliseconds, and the mean of the stored samples."""
    content = Path(file).read_bytes()
    begun = perf_counter()
    ds = pydicom.dcmread(BytesIO(content))
    # Uncompressed samples need no plugin, and are copied out of the file's bytes as ours are.
    chosen = plugin if ds.file_meta.TransferSyntaxUID.is_encapsulated else ""
    samples, _ = get_decoder(ds.file_meta.TransferSyntaxUID).as_array(ds, raw=True, decoding_plugin=chosen)
    taken = perf_counter() - begun
    return f"{taken * 1e3} {float(samples.mean())}"


def compress(syntax: str, source: str, target: str) -> str:
    """Makes the file."""
    ds = pydicom.dcmread(source)
    ds.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False, **OPTIONS.get(syntax, {}))
    ds.save_as(target)
    return target


if __name__ == "__main__":
    for line in sys.stdin:
        command, *words = line.rstrip("\n").split("\t")
        print({"decode": decode, "compress": compress}[command](*words), flush=True)
