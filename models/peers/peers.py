"""A library's own training step, as a process that takes orders: the peers of `benches/train.rs`.

    python peers.py LIBRARY PRECISION FOLDER LATENTS K DEAD

Reads `start.safetensors` of the folder (samples, first weights), then for every line `steps N` on
standard input trains N steps and answers `CPU_SECONDS LOSS`: the whole step, with clipping, dead
counts and the auxiliary loss, on one thread. LOSS is the last squared error, summed over a sample.
"""

import os
import sys
import time
from contextlib import nullcontext

import torch
from safetensors.torch import load_file

BATCH = 4096


class DictionaryLearning:
    """`TopKTrainer.update`, as `trainSAE` calls it."""

    def __init__(self, start: dict, latents: int, k: int, dead: int):
        from dictionary_learning.trainers.top_k import TopKTrainer

        self.trainer = TopKTrainer(
            steps=100_000, activation_dim=start["w_dec"].shape[1], dict_size=latents, k=k, layer=0,
            lm_name="none", warmup_steps=1000, decay_start=80_000, threshold_start_step=0, device="cpu",
        )
        ae = self.trainer.ae
        with torch.no_grad():
            ae.encoder.weight.copy_(start["w_dec"])
            ae.encoder.bias.copy_(start["b_enc"])
            ae.decoder.weight.copy_(start["w_dec"].T)
        if dead:
            self.trainer.num_tokens_since_fired[:dead] = self.trainer.dead_feature_threshold
        self.number = 0

    def step(self, x: torch.Tensor) -> float:
        loss = self.trainer.update(self.number, x)
        self.number += 1
        return loss


class Sparsify:
    """`SparseCoder.forward` and what its trainer does around it, with Adam."""

    def __init__(self, start: dict, latents: int, k: int, dead: int):
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # it needs a GPU
        from sparsify import SparseCoder, SparseCoderConfig

        config = SparseCoderConfig(num_latents=latents, k=k, normalize_decoder=True)
        self.coder = SparseCoder(start["w_dec"].shape[1], config)
        with torch.no_grad():
            self.coder.encoder.weight.copy_(start["w_dec"])
            self.coder.encoder.bias.copy_(start["b_enc"])
            self.coder.W_dec.copy_(start["w_dec"])
            self.coder.b_dec.copy_(start["b_dec"])
        self.adam = torch.optim.Adam(self.coder.parameters(), lr=2e-4 / (latents / 2**14) ** 0.5)
        self.silent = torch.zeros(latents, dtype=torch.long)
        self.silent[:dead] = 10_000_000
        self.number = 0

    def step(self, x: torch.Tensor) -> float:
        for group in self.adam.param_groups:
            group["lr"] = 2e-4 / (self.coder.num_latents / 2**14) ** 0.5 * min(1.0, self.number / 1000)
        self.coder.set_decoder_norm_to_unit_norm()
        mask = self.silent >= 10_000_000
        out = self.coder(x, dead_mask=mask if mask.any() else None)
        (out.fvu + out.auxk_loss / 32).backward()
        with torch.no_grad():
            self.silent += len(x)
            self.silent[out.latent_indices.flatten()] = 0
            self.coder.remove_gradient_parallel_to_decoder_directions()
        torch.nn.utils.clip_grad_norm_(self.coder.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        self.number += 1
        return float((x - out.sae_out.detach()).float().square().sum(1).mean())


class SaeLens:
    """`SAETrainer._train_step` without its logging."""

    def __init__(self, start: dict, latents: int, k: int, dead: int):
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.saes.sae import TrainStepInput

        self.input = TrainStepInput
        self.sae = TopKTrainingSAE(TopKTrainingSAEConfig(
            d_in=start["w_dec"].shape[1], d_sae=latents, k=k, dtype="float32", device="cpu", apply_b_dec_to_input=True,
        ))
        with torch.no_grad():
            self.sae.W_enc.copy_(start["w_dec"].T)
            self.sae.b_enc.copy_(start["b_enc"])
            self.sae.W_dec.copy_(start["w_dec"])
            self.sae.b_dec.copy_(start["b_dec"])
        self.rate = 2e-4 / (latents / 2**14) ** 0.5
        self.adam = torch.optim.Adam(self.sae.parameters(), lr=self.rate, betas=(0.9, 0.999))
        self.silent = torch.zeros(latents)
        self.silent[:dead] = 10_000_000
        self.frequency = torch.zeros(latents)
        self.number = 0

    def step(self, x: torch.Tensor) -> float:
        self.sae.train()
        for group in self.adam.param_groups:
            group["lr"] = self.rate * min(1.0, self.number / 1000)
        out = self.sae.training_forward_pass(step_input=self.input(
            sae_in=x, dead_neuron_mask=self.silent > 1000, coefficients={}, n_training_steps=self.number,
            is_logging_step=False,
        ))
        with torch.no_grad():
            fired = out.feature_acts.bool().float()
            did_fire = fired.sum(-2).bool()
            did_fire = did_fire.to_dense() if did_fire.is_sparse else did_fire
            self.silent += 1
            self.silent[did_fire] = 0
            self.frequency += fired.sum(0)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        self.number += 1
        return float((x - out.sae_out.detach()).float().square().sum(1).mean())


LIBRARIES = {"sae_lens": SaeLens, "dictionary_learning": DictionaryLearning, "sparsify": Sparsify}


def main() -> None:
    library, precision, folder, latents, k, dead = sys.argv[1:7]
    torch.set_num_threads(1)
    start = load_file(f"{folder}/start.safetensors")
    peer = LIBRARIES[library](start, int(latents), int(k), int(dead))
    batches = start["samples"].split(BATCH)
    cast = (lambda: torch.autocast("cpu", torch.bfloat16)) if precision == "bf16" else nullcontext
    number = 0
    print("ready", flush=True)
    for line in sys.stdin:
        begun, loss = time.process_time(), 0.0
        for _ in range(int(line.split()[1])):
            with cast():
                loss = peer.step(batches[number % len(batches)])
            number += 1
        print(time.process_time() - begun, loss, flush=True)


if __name__ == "__main__":
    main()
