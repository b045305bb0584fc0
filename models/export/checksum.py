"""The hash that names a file's bytes."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """As `manifest.toml` writes it."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
