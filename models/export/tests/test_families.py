"""Checkpoints of every family, in tiny sizes: loaded, exported, and equal to the library's own forward."""

import argparse
import tempfile
import unittest
from pathlib import Path

try:
    import torch
    import torchvision
    from torch import nn

    from .. import checkpoint, families, graph, nearness, probe, qdq, ranges, stress, text, towers
    from ..families import Input, Plan
except ModuleNotFoundError as missing:
    raise unittest.SkipTest(f"!! SKIPPED: exports from PyTorch: {missing}; models/export/export.sh --test runs them") from missing

from ..layout import DINO, SWIN, LayoutError, to_published

BERT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
# fp32 ONNX against PyTorch.
COSINE_MIN = 0.99999


def swin() -> Plan:
    """MedCLIP's ViT, two stages of 24 and 48 values over 56 pixels."""
    net = towers.swin(image_size=56, embed_dim=24, depths=[2, 2], num_heads=[2, 4])
    beside = nn.Linear(48, towers.D_MODEL, bias=False)
    others, head = families.medclip_text(**BERT), "vision_model.projection_head"
    spec = Input(56, [0.6] * 3, [0.3] * 3)
    return Plan(net, towers.SwinTokens, families.pooled, spec, "vision_model.model.", SWIN, head, beside, others, True, 56)


def resnet() -> Plan:
    """MedCLIP's ResNet with one block of each width."""
    net = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    net.fc = nn.Linear(2048, 32, bias=False)
    others = families.medclip_text(**BERT)
    return Plan(net, towers.ConvTokens, families.whole, Input(64, [0.6] * 3, [0.3] * 3), "vision_model.model.", head="fc", others=others, probe_side=64)


def dense() -> Plan:
    """A DenseNet of two blocks, its projection with a bias."""
    net = torchvision.models.DenseNet(8, (2, 2), 16, num_classes=24)
    return Plan(net, towers.DenseTokens, families.whole, Input(64, [0.5] * 3, [0.2] * 3), head="classifier", probe_side=64)


def dino(patches: bool = False) -> Plan:
    """DINOv2 of two layers over 4 x 4 patches."""
    net = towers.dino(56, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)

    def reference(net, _head, image):
        states = net(image)
        return states.last_hidden_state[:, 1:].mean(1) if patches else states.pooler_output

    return Plan(net, lambda n: towers.DinoTokens(n, patches), reference, Input(56, [0.5] * 3, [0.2] * 3), table=DINO, probe_side=56)


def shaken(plan: Plan) -> None:
    """Numbers of a trained network's kind in every tensor: none of them 0 or 1."""
    draw = torch.Generator().manual_seed(9)
    for net in filter(None, (plan.net, plan.beside)):
        for name, value in net.state_dict().items():
            if value.dtype.is_floating_point:
                noise = torch.randn(value.shape, generator=draw)
                value.copy_(1 + 0.2 * noise.abs() if name.endswith("running_var") else value + 0.05 * noise)


def published(plan: Plan) -> dict:
    """A checkpoint as its authors would have written it, with the rest of MedCLIP where it has one."""
    shaken(plan)
    state = {f"{plan.prefix}{to_published(k, plan.table)}": v.clone() for k, v in plan.net.state_dict().items()}
    buffers = {k: v.reshape(49, 49) for k, v in plan.net.named_buffers() if k.endswith("relative_position_index")}
    state |= {f"{plan.prefix}{to_published(k, plan.table)}": v.clone() for k, v in buffers.items()}
    if plan.beside is not None:
        state |= {f"{plan.head}.{k}": v.clone() for k, v in plan.beside.state_dict().items()}
    state |= {k: torch.randn(shape) for k, shape in plan.others.items()}
    if plan.others:
        state["text_model.model.embeddings.position_ids"] = torch.arange(512)[None]
    return state


class Exports(unittest.TestCase):
    """One tiny network of each family, from its checkpoint to ONNX."""

    def exported(self, make) -> families.Encoder:
        state = published(make())
        torch.manual_seed(1)
        encoder = families.load(make(), state, "some.bin")
        spec = encoder.input.spec()
        model = graph.export(encoder.tokens, spec["channels"], spec["height"])
        image = torch.randn(8, spec["channels"], spec["height"], spec["height"])
        with torch.no_grad():
            u = encoder.reference(image)
        bias = None if encoder.bias is None else encoder.bias.numpy()
        e = nearness.embedding(ranges.tokens(model, image.numpy()), encoder.weight.numpy(), bias)
        self.assertGreaterEqual(nearness.compared(e, nearness.unit(u.numpy()))["raw_min"], COSINE_MIN)
        self.assertEqual([o.version for o in model.opset_import], [18])
        self.assertEqual([d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim], [1, *image.shape[1:]])
        self.shape = qdq.shapes(model)["tokens"]
        return encoder

    def test_medclips_resnet_is_read_as_torchvision_reads_it(self):
        self.exported(resnet)
        self.assertEqual(self.shape, [1, 4, 2048])

    def test_medclips_swin_is_read_as_transformers_reads_it(self):
        self.exported(swin)
        self.assertEqual(self.shape, [1, 49, 48])

    def test_a_densenet_with_a_biased_projection_is_read_as_torchvision_reads_it(self):
        self.assertIsNotNone(self.exported(dense).bias)
        self.assertEqual(self.shape, [1, 64, 32])

    def test_rad_dinos_class_token_is_its_only_token(self):
        self.exported(dino)
        self.assertEqual(self.shape, [1, 1, 32])

    def test_rad_dinos_patch_tokens_are_there_on_request(self):
        self.exported(lambda: dino(True))
        self.assertEqual(self.shape, [1, 16, 32])

    def test_an_identity_head_gives_the_mean_token(self):
        given = argparse.Namespace(head="identity", checkpoint=Path("some.bin"))
        state = torchvision.models.resnet18(weights=None).state_dict()
        encoder = families.load(families.FAMILIES["resnet18"](given, state), state, "some.bin")
        self.assertTrue(torch.equal(encoder.weight, torch.eye(512)))
        self.assertEqual(encoder.unused, ["fc.bias", "fc.weight"])


class Refusals(unittest.TestCase):
    """What is not loaded, and what the message says."""

    def refused(self, change) -> str:
        state = published(swin())
        change(state)
        with self.assertRaises(LayoutError) as caught:
            families.load(swin(), state, "some.bin")
        return str(caught.exception)

    def test_a_missing_key_is_named(self):
        key = "vision_model.model.encoder.layers.1.blocks.0.output.dense.bias"
        self.assertIn(f"missing: {key} [48]", self.refused(lambda s: s.pop(key)))

    def test_a_superfluous_key_is_named(self):
        found = self.refused(lambda s: s.update({"vision_model.model.extra": torch.ones(3)}))
        self.assertIn("superfluous: vision_model.model.extra [3]", found)

    def test_a_head_with_a_bias_is_not_the_released_class(self):
        found = self.refused(lambda s: s.update({"text_model.projection_head.bias": torch.ones(512)}))
        self.assertIn("superfluous: text_model.projection_head.bias [512]", found)

    def test_a_mis_shaped_key_is_named(self):
        key = "vision_model.projection_head.weight"
        self.assertIn(f"mis-shaped: {key}, expected [512, 48], found [512, 24]", self.refused(lambda s: s.update({key: torch.ones(512, 24)})))

    def test_another_window_index_is_refused(self):
        key = "vision_model.model.encoder.layers.0.blocks.0.attention.self.relative_position_index"
        self.assertIn(key, self.refused(lambda s: s.update({key: s[key].flip(0)})))

    def test_half_a_text_tower_is_refused_and_none_is_taken(self):
        self.assertIn("missing: text_model", self.refused(lambda s: s.pop("text_model.projection_head.weight")))
        state = {k: v for k, v in published(swin()).items() if k.startswith("vision_model.")}
        self.assertEqual(families.load(swin(), state, "some.bin").unused, [])

    def test_a_pickle_with_more_than_tensors_is_not_run(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bad.bin"
            torch.save({"a": torch.ones(1), "b": argparse.Namespace()}, path)
            with self.assertRaisesRegex(LayoutError, "bad.bin: expected a pickle of tensors only"):
                checkpoint.read(path)

    def test_full_size_layouts_have_the_published_number_of_tensors(self):
        # Counted in transformers 4.24.0 (231 with 12 indices) and torchvision (320 with 53 counters).
        for name, count in (("medclip-vit", 219 + 1), ("medclip-resnet50", 267 - 1)):
            plan = families.FAMILIES[name](None, {})
            learnt = [k for k in plan.net.state_dict() if not k.endswith("num_batches_tracked")]
            self.assertEqual(len(learnt) + (plan.beside is not None), count, name)


class Dependence(unittest.TestCase):
    """Every tensor of a checkpoint either moves the embedding or is named."""

    def test_every_tensor_of_the_image_tower_moves_it_but_the_keys_biases(self):
        state = published(swin())
        encoder = families.load(swin(), state, "some.bin")
        still = probe.without_effect(encoder)
        self.assertEqual(still, sorted(k for k in encoder.tensors if k.endswith("attention.self.key.bias")))
        self.assertEqual(encoder.tensors.keys() | set(encoder.unused) | set(encoder.dropped), state.keys())
        self.assertFalse(encoder.tensors.keys() & set(encoder.unused))

    def test_no_tensor_of_a_resnet_is_without_effect(self):
        encoder = families.load(resnet(), published(resnet()), "some.bin")
        self.assertEqual(probe.without_effect(encoder), [])

    def test_dinos_mask_token_is_named(self):
        encoder = families.load(dino(), published(dino()), "some.bin")
        still = probe.without_effect(encoder)
        self.assertIn("embeddings.mask_token", still)
        self.assertTrue(all(k == "embeddings.mask_token" or k.endswith("key.bias") for k in still), still)


class Stress(unittest.TestCase):
    """Outlier channels planted in a checkpoint."""

    def test_planted_outliers_leave_the_function_as_it_was(self):
        for make, where, count in ((swin, "norm", 8), (swin, "attention", 4), (resnet, "norm", 8)):
            state = published(make())
            torch.manual_seed(2)
            image = torch.randn(2, 3, make().input.side, make().input.side)
            with torch.no_grad():
                before = families.load(make(), state, "some.bin").reference(image)
                self.assertEqual(stress.stressed(state, where, 100.0), count)
                after = families.load(make(), state, "some.bin").reference(image)
            self.assertGreater(float(nn.functional.cosine_similarity(before, after).min()), COSINE_MIN)


class Texts(unittest.TestCase):
    """MedCLIP's averages over tokens and hidden states."""

    def tower(self, folder: str, words: int = 35) -> text.Text:
        torch.manual_seed(4)
        state = {k: torch.randn(shape) * 0.2 for k, shape in families.medclip_text(**BERT).items()}
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(words))]) + "\n")
        return text.load(state, "some.bin", path, **BERT)

    def test_padding_counts_in_the_mean_and_alone_there_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            tower = self.tower(folder)
            alone, padded = tower(["w1 w2"]), tower(["w1 w2"], pad_to=12)
        self.assertLess(float((alone * padded).sum()), 0.999)

    def test_an_embedding_is_the_mean_of_three_states_projected(self):
        with tempfile.TemporaryDirectory() as folder:
            tower = self.tower(folder)
            ids = torch.tensor([tower.ids("w3 w4 w5")])
            with torch.no_grad():
                states = tower.net(ids, output_hidden_states=True).hidden_states
                u = tower.head(sum(states[i].mean(1) for i in (1, 2, 3)) / 3)
            self.assertEqual(ids.tolist(), [[2, 8, 9, 10, 3]])
            self.assertGreater(float((tower(["w3 w4 w5"])[0] * nn.functional.normalize(u)[0].numpy()).sum()), COSINE_MIN)

    def test_a_long_text_is_cut_at_77_pieces(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(len(self.tower(folder).ids("w1 " * 200)), 77)

    def test_another_vocabulary_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(LayoutError, "expected 40 word pieces, found 39"):
            self.tower(folder, words=34)


if __name__ == "__main__":
    unittest.main()
