"""MedCLIP's zero-shot prompts: every combination of severity, subtype and location.

The phrases are MedCLIP's own and are not kept here: they are read from a copy of its
`medclip/constants.py`, or from a JSON file of the same form. Nothing of that file is run.
"""

import ast
import itertools
import json
from pathlib import Path

# The name under which MedCLIP's constants hold the phrases of the five competition classes.
NAME = "CHEXPERT_CLASS_PROMPTS"
# How many prompts each class gives (counted from its code).
COUNTS = {"Atelectasis": 210, "Cardiomegaly": 15, "Consolidation": 192, "Edema": 18, "Pleural Effusion": 54}


def phrases(path: Path) -> dict[str, dict[str, list[str]]]:
    """Class -> part -> phrases, parts in the file's order: that order is the words' order.

    Raises `ValueError` where the file holds no such table.
    """
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text)
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == NAME for t in node.targets):
            return ast.literal_eval(node.value)
    raise ValueError(f"{path}: expected an assignment of {NAME}, found none")


def combined(table: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Class -> prompts; parts joined by single spaces, the blank of an empty part kept."""
    return {name: [" ".join(words) for words in itertools.product(*parts.values())] for name, parts in table.items()}


def scores(image, prompts: dict, ensemble: bool = False):
    """Per class the largest cosine over its prompts, or with `ensemble` the mean.

    `image` is `[n, d]` and each of `prompts` `[prompts, d]`, all of unit length.
    """
    each = {name: image @ vectors.T for name, vectors in prompts.items()}
    return {name: cosine.mean(1) if ensemble else cosine.max(1) for name, cosine in each.items()}
