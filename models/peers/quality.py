"""dictionary_learning's TopK trainer on given samples: the peer of `benches/quality.rs`.

    python quality.py FOLDER LATENTS K BATCH EPOCHS WARM_UP SEED

Reads `samples.safetensors` of the folder (`train`, `held_out`, normalised), trains in fp32 on one
thread and prints the held-out fraction of variance unexplained: squared error over the squared
distance from the training mean, which is 0.
"""

import sys

import torch
from dictionary_learning.trainers.top_k import TopKTrainer
from safetensors.torch import load_file


def main() -> None:
    folder = sys.argv[1]
    latents, k, batch, epochs, warm_up, seed = map(int, sys.argv[2:])
    torch.set_num_threads(1)
    samples = load_file(f"{folder}/samples.safetensors")
    train, held_out = samples["train"], samples["held_out"]
    batches = len(train) // batch
    steps = epochs * batches
    trainer = TopKTrainer(
        steps=steps, activation_dim=train.shape[1], dict_size=latents, k=k, layer=0, lm_name="none",
        warmup_steps=warm_up, decay_start=int(0.8 * steps), seed=seed, device="cpu",
    )
    for epoch in range(epochs):
        order = torch.randperm(len(train))
        for number in range(batches):
            rows = train[order[number * batch : (number + 1) * batch]]
            trainer.update(epoch * batches + number, rows)
    with torch.no_grad():
        error = sum((x - trainer.ae(x)).double().square().sum() for x in held_out.split(batch))
        print(float(error / held_out.double().square().sum()))


if __name__ == "__main__":
    main()
