"""Every encoding against another decoder: `clearfilm render --stored` beside pydicom's.

    python tests/golden/encodings/compare.py CLEARFILM FOLDER

Draws phantoms, recodes them by DCMTK (RLE, JPEG), OpenJPEG (JPEG 2000) and CharLS (JPEG-LS), and
compares stored values with what pydicom decodes; then does the same with the test files that come
inside pydicom. Prints a line for each object and exits with 1 where one differs. Lossless syntaxes
must be equal, JPEG baseline within 2 of 255 (ISO/IEC 10918-2 allows decoders to differ), JPEG 2000
and JPEG-LS near-lossless within 1: their transform back is specified, its last rounding is not.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import DATA_ROOT
from pydicom.uid import (
    JPEG2000, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSLossless, JPEGLSNearLossless,
)

# Odd sides, so that a row's padding or a component's rounding would show.
ROWS, COLUMNS = 131, 157
DEPTHS = (8, 10, 12, 14, 15, 16)
# By syntax; the rest is lossless.
TOLERANCE = {JPEGBaseline8Bit: 2, JPEG2000: 1, JPEGLSNearLossless: 0}


def run(*command) -> subprocess.CompletedProcess:
    """A command's result, its text kept."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def stored(clearfilm: str, file: Path, ds) -> np.ndarray | str:
    """Stored values as `clearfilm` reads them, or why it does not."""
    out = WORK / "stored.png"
    done = run(clearfilm, "render", "--stored", file, "-o", out)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1].strip()
    values = np.asarray(Image.open(out)).astype(np.int32)
    return values - (1 << (ds.BitsStored - 1) if ds.PixelRepresentation else 0)


def reference(ds) -> np.ndarray:
    """pydicom's stored values, bits above the stored ones masked as PS3.5 8.1.1 has it."""
    bits = ds.BitsStored
    cells = ds.pixel_array.astype(np.int64) & ((1 << bits) - 1)
    return np.where(cells >> (bits - 1) & 1, cells - (1 << bits), cells) if ds.PixelRepresentation else cells


def drawn(clearfilm: str, bits: int, photometric: str, signed: bool) -> Path:
    """A phantom in explicit little endian, made signed where asked for."""
    folder = WORK / f"{bits}-{photometric}-{'signed' if signed else 'unsigned'}"
    made = run(clearfilm, "phantom", "--out", folder, "--count", 1, "--rows", ROWS, "--columns", COLUMNS, "--bits", bits, "--photometric", photometric)
    assert made.returncode == 0, made.stderr
    [file] = folder.glob("*.dcm")
    ds = pydicom.dcmread(file)
    if signed:
        kind = np.int8 if ds.BitsAllocated == 8 else np.int16
        values = (ds.pixel_array.astype(np.int32) - (1 << (bits - 1))).astype(kind)
        ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
        ds.PixelRepresentation = 1
        for name in ("WindowCenter", "WindowWidth"):
            if name in ds:
                del ds[name]
    ds.save_as(file)
    return file


def recoded(file: Path, bits: int, signed: bool) -> dict[str, Path]:
    """The object in every offered and readable syntax that its depth allows, by name of the coder."""
    out = {"explicit": file}
    commands = {"implicit": ["dcmconv", "+ti"], "big-endian": ["dcmconv", "+tb"], "deflated": ["dcmconv", "+td"], "rle": ["dcmcrle"]}
    commands |= {"jpeg-sv1": ["dcmcjpeg", "+e1"]}
    commands |= {f"jpeg-lossless-sv{n}": ["dcmcjpeg", "+el", "+sv", n] for n in range(1, 8)}
    commands |= {"jpeg-ls-dcmtk": ["dcmcjpls"]}
    if bits == 8 and not signed:
        commands["jpeg-baseline"] = ["dcmcjpeg", "+eb", "+q", 90]
    for name, command in commands.items():
        target = file.with_name(f"{name}.dcm")
        done = run(*command, file, target)
        # DCMTK itself refuses some combinations (signed beyond what its codec's class takes).
        if done.returncode == 0:
            out[name] = target
        else:
            print(f"not made  {file.parent.name} {name}: {done.stderr.strip().splitlines()[-1]}")
    compressed = {"jpeg-ls": (JPEGLSLossless, {}), "jpeg-2000": (JPEG2000Lossless, {}), "jpeg-2000-lossy": (JPEG2000, {"j2k_cr": [10]})}
    if not signed:
        compressed["jpeg-ls-near"] = (JPEGLSNearLossless, {"jls_error": 2})
    for name, (syntax, options) in compressed.items():
        ds = pydicom.dcmread(file)
        ds.compress(syntax, generate_instance_uid=False, **options)
        out[name] = file.with_name(f"{name}.dcm")
        ds.save_as(out[name])
    return out


def compare(clearfilm: str, name: str, file: Path, ds) -> bool:
    """Prints how far the two are apart; false where it is too far."""
    found = stored(clearfilm, file, ds)
    syntax = ds.file_meta.TransferSyntaxUID
    if isinstance(found, str):
        print(f"REFUSED   {name}: {found}")
        return False
    expected = reference(ds)
    apart = int(np.abs(found - expected).max()) if found.shape == expected.shape else f"shape {found.shape} for {expected.shape}"
    good = apart in range(TOLERANCE.get(syntax, 0) + 1)
    print(f"{'equal' if apart == 0 else 'near' if good else 'DIFFERENT'}     {name}: greatest difference {apart}")
    return good


def matrix(clearfilm: str) -> Counter:
    """Drawn phantoms in every syntax, depth, sign and photometric interpretation."""
    count = Counter()
    for bits in DEPTHS:
        for photometric in ("monochrome1", "monochrome2"):
            for signed in (False, True):
                for name, file in recoded(drawn(clearfilm, bits, photometric, signed), bits, signed).items():
                    ds = pydicom.dcmread(file)
                    count[compare(clearfilm, f"{file.parent.name} {name}", file, ds)] += 1
    return count


def unfit(ds) -> str | None:
    """Why an object is none that must be read; none where it must."""
    if "PixelData" not in ds:
        return "no Pixel Data"
    syntax = ds.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if syntax == JPEGExtended12Bit or syntax.name.startswith(("High-Throughput", "JPEG XL", "MPEG", "HEVC")):
        return f"not offered: {syntax.name}"
    if not str(ds.get("PhotometricInterpretation")).startswith("MONOCHROME"):
        return f"colour: {ds.get('PhotometricInterpretation')}"
    if int(ds.get("NumberOfFrames") or 1) != 1:
        return f"{ds.NumberOfFrames} frames"
    if ds.BitsAllocated not in (8, 16) or not 8 <= ds.BitsStored <= 16:
        return f"{ds.BitsAllocated} bits allocated, {ds.BitsStored} stored"
    return None


def published(clearfilm: str) -> Counter:
    """The files inside pydicom: equal where they must be read, else refused with a reason."""
    count = Counter()
    for file in sorted((Path(DATA_ROOT) / "test_files").glob("*.dcm")):
        try:
            ds = pydicom.dcmread(file)
            reason = unfit(ds)
            if reason is None:
                expected = reference(ds)
                assert expected.size
        except Exception as error:  # noqa: BLE001: files that pydicom itself cannot read
            reason = f"pydicom: {type(error).__name__}: {error}".splitlines()[0]
        if reason is None:
            count[compare(clearfilm, f"pydicom {file.name}", file, ds)] += 1
            continue
        found = run(clearfilm, "render", "--stored", file, "-o", WORK / "refused.png")
        said = found.stderr.strip().splitlines()[-1].strip() if found.returncode else "read"
        count["refused" if found.returncode else "read though unfit"] += 1
        print(f"refused   pydicom {file.name}: {reason} | clearfilm: {said}")
    return count


if __name__ == "__main__":
    WORK = Path(sys.argv[2])
    drawn_count, published_count = matrix(sys.argv[1]), published(sys.argv[1])
    print(f"phantoms: {drawn_count[True]} as expected, {drawn_count[False]} not")
    print(f"pydicom's files: {published_count[True]} as expected, {published_count[False]} not, {published_count['refused']} refused with a reason, {published_count['read though unfit']} read though unfit")
    sys.exit(1 if drawn_count[False] or published_count[False] or not drawn_count[True] or not published_count[True] else 0)
