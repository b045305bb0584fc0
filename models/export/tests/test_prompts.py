"""Zero-shot prompts are every combination, in the file's order of words."""

import json
import tempfile
import unittest
from pathlib import Path

import numpy as np

from .. import prompts

# How many severities, subtypes and locations MedCLIP's constants hold for each class; the last
# names its locations before its subtypes. The phrases here are made up.
SIZES = {
    "Atelectasis": (3, 7, 10), "Cardiomegaly": (1, 15, 1), "Consolidation": (4, 6, 8), "Edema": (6, 3, 1), "Pleural Effusion": (6, 3, 3),
}


def table() -> dict:
    """Phrases in MedCLIP's form; the first severity is empty, as there."""
    found = {}
    for name, sizes in SIZES.items():
        parts = ("severity", "location", "subtype") if name == "Pleural Effusion" else ("severity", "subtype", "location")
        found[name] = {part: [f"{part} {i}" if part != "severity" or i else "" for i in range(n)] for part, n in zip(parts, sizes)}
    return found


class Prompts(unittest.TestCase):
    """`phrases`, `combined` and `scores`."""

    def read(self, name: str, text: str) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(text)
            return prompts.combined(prompts.phrases(path))

    def test_the_counts_are_medclips(self):
        found = {name: len(each) for name, each in prompts.combined(table()).items()}
        self.assertEqual(found, prompts.COUNTS)
        self.assertEqual(list(found.values()), [210, 15, 192, 18, 54])

    def test_an_empty_severity_keeps_its_blank(self):
        self.assertEqual(prompts.combined(table())["Edema"][0], " subtype 0 location 0")

    def test_effusion_says_where_before_what(self):
        self.assertEqual(prompts.combined(table())["Pleural Effusion"][9], "severity 1 location 0 subtype 0")

    def test_medclips_constants_are_read_and_not_run(self):
        text = f"import os\nraise SystemExit(1)\nCHEXPERT_CLASS_PROMPTS = {table()!r}\n"
        self.assertEqual(self.read("constants.py", text), prompts.combined(table()))

    def test_json_gives_the_same(self):
        self.assertEqual(self.read("phrases.json", json.dumps(table())), prompts.combined(table()))

    def test_a_file_without_the_table_is_refused_by_name(self):
        with self.assertRaisesRegex(ValueError, "CHEXPERT_CLASS_PROMPTS, found none"):
            self.read("constants.py", "X = 1\n")

    def test_a_class_scores_its_best_prompt_or_their_mean(self):
        image, each = np.eye(3, dtype=np.float32)[:1], {"a": np.array([[1, 0, 0], [0, 1, 0]], np.float32)}
        self.assertEqual(prompts.scores(image, each)["a"].tolist(), [1.0])
        self.assertEqual(prompts.scores(image, each, ensemble=True)["a"].tolist(), [0.5])


if __name__ == "__main__":
    unittest.main()
