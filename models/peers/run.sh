#!/usr/bin/env bash
# Times the trainer beside dictionary_learning, SAELens and sparsify, each in an environment of its
# own under .cache/peers (some 20 GB: each brings a PyTorch); with `quality` first, measures how much
# its dictionaries explain beside dictionary_learning's, with `--samples FOLDER` on embeddings.
# Other arguments go to the benchmark.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

peer() {
    local name="$1" package="$2" venv=".cache/peers/$1"
    if [ ! -e "$venv/done" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$package" torch==2.15.0
        touch "$venv/done"
    fi
    export "CLEARFILM_PEER_${name^^}=$PWD/$venv/bin/python"
}

peer dictionary_learning dictionary-learning==0.1.0
peer sae_lens sae-lens==6.54.12
peer sparsify eai-sparsify==1.3.3
bench=train
if [ "${1:-}" = quality ]; then
    bench=quality
    shift
fi
cargo bench --workspace --bench "$bench" -- "$@"
