#!/bin/sh
# Makes models/bundles/demo from the training data (default ../shared/data) and phantoms.
# About 20 minutes on two cores; what it needs lies in .cache/ afterwards, which git ignores.
set -eu
cd "$(dirname "$0")/../.."
data="${1:-../shared/data}"
target="${CARGO_TARGET_DIR:-target}"
[ -x .cache/venv/bin/python ] || python3 -m venv .cache/venv
.cache/venv/bin/pip install --quiet -r models/train/requirements.txt
cargo build -p clearfilm -p clearfilm-models
OMP_NUM_THREADS=2 .cache/venv/bin/python models/train/demo.py --data "$data" --clearfilm "$target/debug/clearfilm" --threads 2
"$target/debug/clearfilm-models" seal models/bundles/demo
"$target/debug/clearfilm-models" verify models/bundles/demo
