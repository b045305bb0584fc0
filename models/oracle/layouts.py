"""Small dictionaries as other libraries write them, and what those libraries make of samples.

Run once in each library's environment (`models/peers/run.sh` makes them):
`python models/oracle/layouts.py LIBRARY tests/golden/layouts`, LIBRARY one of dictionary_learning,
sae_lens, sparsify. With `--back FOLDER` it loads what `clearfilm-models dictionary export` wrote for
the library instead, and holds its features against `expected.safetensors` there.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

D, LATENTS, SAMPLES, K = 12, 20, 40, 4


def drawn():
    """Weights of every name, and samples off the origin."""
    random = torch.Generator().manual_seed(53)

    def normal(*shape):
        return torch.randn(*shape, generator=random)

    return {
        "enc": normal(LATENTS, D) / D**0.5,
        "dec": normal(LATENTS, D) / D**0.5,
        "b_enc": 0.1 * normal(LATENTS),
        "b_dec": 0.5 * normal(D),
        "b_gate": 0.2 * normal(LATENTS),
        "r_mag": 0.3 * normal(LATENTS),
        "threshold": torch.rand(LATENTS, generator=random),
        "samples": normal(SAMPLES, D) + 0.5,
    }


def put(out, name, model_state, samples, features, reconstructed, settings=None):
    """Writes one dictionary, its settings, and what is expected of it."""
    folder = Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().contiguous().clone() for k, v in model_state.items()}
    save_file(state, folder / "sae.safetensors")
    expected = {"samples": samples, "features": features, "reconstructed": reconstructed}
    save_file({k: v.detach().contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    if settings is not None:
        (folder / "cfg.json").write_text(json.dumps(settings, indent=1, default=str) + "\n")


def fill(model, values):
    """Sets parameters and buffers by name."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return model


def dictionary_learning(out, w):
    from dictionary_learning.dictionary import AutoEncoder, GatedAutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    linear = {"encoder.weight": w["enc"], "encoder.bias": w["b_enc"], "decoder.weight": w["dec"].T}
    matrices = {"W_enc": w["enc"].T, "b_enc": w["b_enc"], "W_dec": w["dec"], "b_dec": w["b_dec"]}
    gated = {
        "encoder.weight": w["enc"],
        "decoder.weight": w["dec"].T,
        "decoder_bias": w["b_dec"],
        "gate_bias": w["b_gate"],
        "mag_bias": w["b_enc"],
        "r_mag": w["r_mag"],
    }
    one = {"threshold": torch.tensor(0.4)}
    models = {
        "dictionary_learning-standard": fill(AutoEncoder(D, LATENTS), linear | {"bias": w["b_dec"]}),
        "dictionary_learning-gated": fill(GatedAutoEncoder(D, LATENTS), gated),
        "dictionary_learning-jumprelu": fill(JumpReluAutoEncoder(D, LATENTS), matrices | {"threshold": w["threshold"]}),
        "dictionary_learning-top-k": fill(AutoEncoderTopK(D, LATENTS, K), linear | {"b_dec": w["b_dec"]} | one),
        "dictionary_learning-batch-top-k": fill(BatchTopKSAE(D, LATENTS, K), linear | {"b_dec": w["b_dec"]} | one),
        "dictionary_learning-matryoshka": fill(
            MatryoshkaBatchTopKSAE(D, LATENTS, K, [8, LATENTS - 8]), matrices | one
        ),
    }
    for name, model in models.items():
        x = w["samples"]
        features = model.encode(x, use_threshold=True) if "top-k" in name or "matryoshka" in name else model.encode(x)
        settings = {"apply_b_dec_to_input": False} if "jumprelu" in name else None
        put(out, name, model.state_dict(), x, features, model.decode(features), settings)


def sae_lens(out, w):
    from sae_lens import GatedSAE, GatedSAEConfig, JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens import StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

    matrices = {"W_enc": w["enc"].T, "W_dec": w["dec"], "b_dec": w["b_dec"]}
    plain = matrices | {"b_enc": w["b_enc"]}
    gated = matrices | {"b_gate": w["b_gate"], "b_mag": w["b_enc"], "r_mag": w["r_mag"]}
    common = {"d_in": D, "d_sae": LATENTS, "dtype": "float32", "device": "cpu"}
    models = {
        "sae_lens-standard": fill(StandardSAE(StandardSAEConfig(**common)), plain),
        "sae_lens-jumprelu": fill(
            JumpReLUSAE(JumpReLUSAEConfig(**common, apply_b_dec_to_input=False)),
            plain | {"threshold": w["threshold"]},
        ),
        "sae_lens-gated": fill(GatedSAE(GatedSAEConfig(**common)), gated),
        "sae_lens-top-k": fill(TopKSAE(TopKSAEConfig(**common, k=K)), plain),
    }
    for name, model in models.items():
        features = model.encode(w["samples"])
        features = features.to_dense() if features.is_sparse else features
        put(out, name, model.state_dict(), w["samples"], features, model.decode(features), model.cfg.to_dict())


def sparsify(out, w):
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    model = SparseCoder(D, SparseCoderConfig(num_latents=LATENTS, k=K))
    fill(model, {"encoder.weight": w["enc"], "encoder.bias": w["b_enc"], "W_dec": w["dec"], "b_dec": w["b_dec"]})
    found = model.encode(w["samples"])
    features = torch.zeros(SAMPLES, LATENTS).scatter(1, found.top_indices, found.top_acts)
    settings = model.cfg.to_dict() | {"d_in": D}
    put(out, "sparsify", model.state_dict(), w["samples"], features, features @ w["dec"] + w["b_dec"], settings)


def back(library, folder):
    """Loads what was exported for a library with the library's own code."""
    folder = Path(folder)
    expected = load_file(folder / "expected.safetensors")
    x = expected["samples"]
    if library == "dictionary_learning":
        from dictionary_learning.dictionary import JumpReluAutoEncoder

        state = load_file(folder / "ae.safetensors")
        torch.save(state, folder / "ae.pt")
        model = JumpReluAutoEncoder.from_pretrained(str(folder / "ae.pt"))
        features = model.encode(x)
        rebuilt = model.decode(features)
    elif library == "sae_lens":
        from sae_lens import SAE

        model = SAE.load_from_disk(str(folder))
        features = model.encode(x)
        rebuilt = model.decode(features)
    else:
        from sparsify import SparseCoder

        model = SparseCoder.load_from_disk(str(folder), device="cpu")
        found = model.encode(x)
        features = torch.zeros(len(x), model.num_latents).scatter(1, found.top_indices, found.top_acts)
        # Its own decode needs a GPU.
        rebuilt = features @ model.W_dec + model.b_dec
    for name, found in (("features", features), ("reconstructed", rebuilt)):
        apart = (found.detach() - expected[name]).abs().max().item()
        print(f"{library} {name}: largest difference {apart:.2e}")
        assert apart < 1e-5


if __name__ == "__main__":
    if sys.argv[2] == "--back":
        back(sys.argv[1], sys.argv[3])
    else:
        {"dictionary_learning": dictionary_learning, "sae_lens": sae_lens, "sparsify": sparsify}[sys.argv[1]](
            sys.argv[2], drawn()
        )
