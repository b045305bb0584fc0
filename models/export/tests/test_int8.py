"""Int8 pairs: what they keep, what they cost, and what an outlier channel does to them."""

import unittest
import unittest.mock

import numpy as np
from onnx import numpy_helper

from .. import biases, nearness, qdq, ranges, search
from ..equalise import equalised, groups
from . import nets

# fp32 rewritten without a change of function: the sums are rounded differently.
CLOSE = 1e-4
# An outlier of this size leaves every other channel about one quantum.
OUTLIER = 100.0
CALIBRATE, MEASURE = nets.images(24, 3), nets.images(16, 4)


def clip(net, percentile: float = 100.0):
    return search.clips(ranges.spreads(net, CALIBRATE, histogram=True), percentile)


def centred(found, reference) -> float:
    """Mean centred cosine of mean tokens."""
    return nearness.compared(found.mean(1), reference.mean(1))["centred_mean"]


def lost(net, base=None) -> float:
    """What int8 costs against the fp32 of `base`."""
    reference = ranges.tokens(net if base is None else base, MEASURE)
    return 1 - centred(ranges.tokens(qdq.quantised(net, clip(net)), MEASURE), reference)


class Pairs(unittest.TestCase):
    """The graph with pairs, and without them again."""

    def test_pairs_are_signed_symmetric_and_at_products_only(self):
        net = nets.convolutions()
        made = qdq.quantised(net, clip(net))
        stored = qdq.constants(made)
        zeros = [stored[n.input[2]] for n in made.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        self.assertTrue(zeros and all(z.dtype == np.int8 and not z.any() for z in zeros))
        read = {n.op_type for n in made.graph.node if any(i.endswith(".dq") for i in n.input)}
        self.assertEqual(read, {"Conv"})
        for weight in ("w0", "w1", "w2"):
            self.assertEqual(stored[f"{weight}.scale"].shape, (nets.CHANNELS,))
        self.assertEqual({stored[f"b{i}"].dtype for i in range(3)}, {np.dtype(np.float32)})

    def test_int8_reads_nearly_what_fp32_reads(self):
        for net in (nets.convolutions(), nets.products()):
            self.assertLess(lost(net), 0.01)

    def test_a_relu_and_the_convolution_before_it_share_one_rounding(self):
        net = nets.convolutions()
        stored = qdq.constants(qdq.quantised(net, clip(net)))
        self.assertEqual(stored["a.scale"], stored["ar.dq.scale"])

    def test_stripped_is_fp32_but_for_the_weights_rounding(self):
        for net in (nets.convolutions(), nets.products()):
            bare = qdq.stripped(qdq.quantised(net, clip(net)))
            self.assertFalse([n for n in bare.graph.node if "Linear" in n.op_type])
            self.assertEqual([n.op_type for n in bare.graph.node], [n.op_type for n in net.graph.node])
            for tensor in net.graph.initializer:
                if tensor.name.startswith("w"):
                    real, found = numpy_helper.to_array(tensor), qdq.constants(bare)[f"{tensor.name}.dq"]
                    self.assertLess(np.abs(real - found).max(), np.abs(real).max() / 127)
            self.assertGreater(centred(ranges.tokens(bare, MEASURE), ranges.tokens(net, MEASURE)), 0.999)

    def test_unsigned_activations_give_the_same_tokens(self):
        net = nets.products()
        made = qdq.quantised(net, clip(net))
        signed, shifted = (ranges.tokens(m, MEASURE) for m in (made, qdq.unsigned(made)))
        self.assertLess(np.abs(signed - shifted).max(), CLOSE)

    def test_a_layer_that_is_left_out_stays_as_it_was(self):
        net = nets.convolutions()
        stored = qdq.constants(qdq.quantised(net, clip(net), frozenset({"second"})))
        self.assertIn("w1", stored)
        self.assertNotIn("w1.q", stored)
        share = qdq.share(net, frozenset({"second"}))
        self.assertAlmostEqual(share, (1 + nets.CHANNELS) / (1 + 2 * nets.CHANNELS))

    def test_a_percentile_clips_below_the_largest(self):
        net = nets.convolutions()
        largest, most = clip(net), clip(net, 99.0)
        self.assertTrue(all(most[name] <= largest[name] for name in largest))
        self.assertLess(most["ar"], 0.9 * largest["ar"])

    def test_biases_behind_the_reshape_leave_every_bit(self):
        net = nets.products()
        made = biases.apart(net)
        self.assertNotIn("Gemm", [n.op_type for n in made.graph.node])
        self.assertTrue(np.array_equal(ranges.tokens(net, MEASURE), ranges.tokens(made, MEASURE)))


class Outliers(unittest.TestCase):
    """One channel a hundred times as large, the function unchanged."""

    def stressed(self, net, producer: str):
        wide = nets.with_outlier(net, producer, OUTLIER)
        apart = np.abs(ranges.tokens(wide, MEASURE) - ranges.tokens(net, MEASURE)).max()
        self.assertLess(apart, CLOSE)
        return wide

    def both(self, net, producer: str):
        wide = self.stressed(net, producer)
        even = equalised(wide, ranges.spreads(wide, CALIBRATE))
        self.assertLess(np.abs(ranges.tokens(even, MEASURE) - ranges.tokens(net, MEASURE)).max(), CLOSE)
        plain, stressed, repaired = lost(net), lost(wide), lost(even)
        self.assertGreater(stressed, 10 * plain, "an outlier was expected to hurt")
        self.assertLess(repaired, 2 * plain, "equalisation was expected to repair it")

    def quantised(self):
        net = self.stressed(nets.products(), "normal")
        head = np.eye(nets.CHANNELS, dtype=np.float32)
        reference = nearness.embedding(ranges.tokens(net, MEASURE), head)
        stick = search.Yardstick(MEASURE, reference, head, None)
        return net, stick, search.made(net, clip(net), (), False, 100.0, stick)

    def test_equalisation_repairs_an_outlier_behind_a_normalisation(self):
        self.both(nets.products(), "normal")

    def test_equalisation_repairs_an_outlier_between_convolutions(self):
        self.both(nets.convolutions(), "second")

    def test_a_value_that_more_than_products_read_is_left_alone(self):
        self.assertEqual([node.name for node, _ in groups(nets.convolutions())], ["second"])

    def test_leaving_the_stressed_layer_out_helps_too_and_the_search_finds_it(self):
        net, stick, best = self.quantised()
        with unittest.mock.patch.object(search, "SHARE_MIN", 0.4):
            ranked = search.sensitivity(best, clip(net), stick)
        self.assertEqual(ranked[0][0], "widen")
        self.assertLess(search.distance(ranked[0][1].found), search.distance(best.found) / 5)

    def test_layers_are_left_out_until_every_image_holds_and_no_more_than_that(self):
        net, stick, best = self.quantised()
        layers = [layer.node for layer in search.qdq.layers(net)[0]]
        # The worst order: what helps comes last.
        ranked = sorted(layers, key=lambda node: node == "widen")
        enough = search.made(net, clip(net), ["widen"], False, 100.0, stick).found["raw_min"]
        between = (best.found["raw_min"] + enough) / 2
        with unittest.mock.patch.multiple(search, SHARE_MIN=0.0, BETWEEN_RAW=between, BETWEEN_CENTRED=-1, CENTRED_MIN=-1):
            path = search.left_out(best, clip(net), ranked, stick, lambda _: None)
        self.assertEqual(path[-1].left, ["widen"])
        self.assertGreater(max(len(choice.left) for choice in path), 1)


class Nearness(unittest.TestCase):
    """Figures of comparisons."""

    def test_a_swapped_image_is_seen_though_every_raw_cosine_is_high(self):
        rng = np.random.default_rng(0)
        e = nearness.unit(10 + rng.normal(size=(16, 64))).astype(np.float32)
        found = nearness.compared(np.roll(e, 1, 0), e)
        self.assertGreater(found["raw_min"], 0.95)
        self.assertLess(found["centred_mean"], 0.5)
        self.assertEqual(found["own_is_nearest"], 0.0)

    def test_jaccard_is_the_share_of_active_latents_in_both(self):
        a, b = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool), np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)
        self.assertAlmostEqual(nearness.jaccard(a, b), (1 / 3 + 1) / 2)


if __name__ == "__main__":
    unittest.main()
