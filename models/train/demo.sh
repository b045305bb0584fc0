#!/usr/bin/env bash
# Makes models/bundles/demo from images: models/train/demo.sh [DATA], DATA by default ../shared/data.
#
# Two to three hours on two cores, most of it the encoder. Whatever is done is left alone, so that
# the script may be cut off at any point and called again; what it needs lies in .cache/, which git
# ignores. docs/making-a-bundle.md says what happens.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data="$(cd "${1:-../shared/data}" && pwd)"
target="${CARGO_TARGET_DIR:-target}"
demo=.cache/demo
python=.cache/train/bin/python
export OMP_NUM_THREADS=1 PYTHONPYCACHEPREFIX=.cache/pycache
mkdir -p "$demo"

step() { printf '\n== %s\n' "$*" | tee -a "$demo/log"; }

step "$(date -u +%FT%TZ) tools"
[ -x "$python" ] || python3 -m venv .cache/train
.cache/train/bin/pip install --quiet --disable-pip-version-check -r models/train/requirements.txt
cargo build --locked -p clearfilm -p clearfilm-models
run="$target/debug/clearfilm-models"
# The default engine is the ONNX Runtime that the wheel brings.
CLEARFILM__ENGINE__LIBRARY="$(find "$PWD/.cache/train" -name 'libonnxruntime.so.*' -print -quit)"
export CLEARFILM__ENGINE__LIBRARY

step "$(date -u +%FT%TZ) encoder"
from=(--data "$data" --clearfilm "$target/debug/clearfilm")
[ -e "$demo/encoder/encoder.json" ] || "$python" models/train/encoder.py "${from[@]}"

step "$(date -u +%FT%TZ) tables"
[ -e "$demo/tables/teachers.safetensors" ] || "$python" models/train/tables.py "${from[@]}"
[ -e "$demo/strangers/images.csv" ] || "$python" models/train/strangers.py "${from[@]}"

embed() { # encoder, engine, folder, and what is embedded
    "$run" embed run --encoder "$demo/$1" --engine "$2" --out "$demo/$3" --layout csv --workers 2 "${@:4}"
}
nih=(--root "$data/nih-cxr14" --table labels.csv --images images --patient patient_id --position view
    --spacing-mm pixel_spacing_mm --rows orig_height --columns orig_width
    --labels 'Atelectasis,Effusion,Infiltration,Pneumonia,Edema,No_Finding,matched' --level tokens)
phantoms=(--root "$demo/tables" --table phantoms.csv --class variant --level tokens)
step "$(date -u +%FT%TZ) vectors"
embed encoder ort nih "${nih[@]}"
embed encoder-fp32 ort nih-fp32 "${nih[@]}"
embed encoder tract nih-tract "${nih[@]}"
embed encoder ort phantoms "${phantoms[@]}"
embed encoder tract phantoms-tract "${phantoms[@]}"
embed encoder ort hannover --root "$demo/tables" --table hannover.csv --level tokens
embed encoder ort strange --root "$demo/strangers" --table images.csv --images images --level tokens
embed encoder ort views --root "$demo/tables" --table training.csv --level tokens --views 24 --dtype f16

step "$(date -u +%FT%TZ) dictionary"
[ -e "$demo/tokens/run.json" ] || "$run" train --recipe models/train/tokens.toml --tensor tokens --out "$demo/tokens" \
    --samples "$demo/views" --split train --held-out "$demo/views" --held-out-split dev
"$run" dictionary quantise "$demo/tokens/sae.safetensors" --out "$demo/tokens/int8.safetensors"

step "$(date -u +%FT%TZ) bundle; the part dev is read here"
"$run" pack --plan models/train/plan.toml --out models/bundles/demo --measurements "$demo/measurements.json" 2>&1 | tee -a "$demo/log"
"$run" verify models/bundles/demo
