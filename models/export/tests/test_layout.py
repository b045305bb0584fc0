"""A checkpoint that does not fit is refused, and every key that does not is named."""

import unittest

from ..layout import DINO, SWIN, LayoutError, compare, to_published

EXPECTED = {"a.weight": (2, 3), "a.bias": (2,), "b.weight": (4,)}


class Layout(unittest.TestCase):
    """`compare` over names and shapes."""

    def refused(self, found: dict) -> str:
        with self.assertRaises(LayoutError) as caught:
            compare(EXPECTED, found, "some.bin")
        return str(caught.exception)

    def test_a_checkpoint_that_fits_is_taken(self):
        self.assertEqual(compare(EXPECTED, dict(EXPECTED), "some.bin"), [])

    def test_position_ids_and_other_integer_buffers_are_dropped_and_named(self):
        extra = {"text_model.model.embeddings.position_ids": (1, 512), "bn.num_batches_tracked": ()}
        self.assertEqual(compare(EXPECTED, EXPECTED | extra, "some.bin"), sorted(extra))

    def test_every_missing_key_is_named(self):
        message = self.refused({"b.weight": (4,)})
        self.assertIn("missing: a.weight [2, 3]", message)
        self.assertIn("missing: a.bias [2]", message)

    def test_every_superfluous_key_is_named(self):
        message = self.refused(EXPECTED | {"c": (1,), "d": (2,)})
        self.assertIn("superfluous: c [1]", message)
        self.assertIn("superfluous: d [2]", message)

    def test_a_mis_shaped_key_is_named_with_both_shapes_and_the_file(self):
        message = self.refused(EXPECTED | {"a.weight": (3, 2)})
        self.assertIn("some.bin: 1 keys do not fit", message)
        self.assertIn("mis-shaped: a.weight, expected [2, 3], found [3, 2]", message)

    def test_all_faults_come_in_one_message(self):
        message = self.refused({"a.weight": (1,), "c": (1,)})
        for part in ("missing: a.bias", "missing: b.weight", "superfluous: c", "mis-shaped: a.weight"):
            self.assertIn(part, message)

    def test_names_of_transformers_5_become_the_published_ones(self):
        block = "encoder.layers.0.blocks.1"
        for name, published in (
            ("attention.q_proj.weight", "attention.self.query.weight"), ("attention.o_proj.bias", "attention.output.dense.bias"),
            ("mlp.fc1.weight", "intermediate.dense.weight"), ("mlp.fc2.weight", "output.dense.weight"),
            ("layernorm_before.weight", "layernorm_before.weight"),
            ("attention.relative_position_bias.relative_position_bias_table", "attention.self.relative_position_bias_table"),
            ("attention.relative_position_bias.relative_position_index", "attention.self.relative_position_index"),
        ):
            self.assertEqual(to_published(f"{block}.{name}", SWIN), f"{block}.{published}")
        self.assertEqual(to_published("encoder.layer.3.attention.k_proj.bias", DINO), "encoder.layer.3.attention.attention.key.bias")
        self.assertEqual(to_published("encoder.layer.3.mlp.fc1.bias", DINO), "encoder.layer.3.mlp.fc1.bias")


if __name__ == "__main__":
    unittest.main()
