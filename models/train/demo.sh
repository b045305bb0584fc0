#!/usr/bin/env bash
# Makes models/bundles/demo from images.
#
#   models/train/demo.sh [DATA]            DATA is ../shared/data where it is not given
#   models/train/demo.sh --afresh [DATA]   trains anew first
#
# Trained weights are kept in models/sources/demo, because no two machines train the same bits; where
# they are, a run takes six minutes on two cores, and with --afresh half an hour more, beside the build.
# Whatever is done is left alone, so that the script may be cut off at any point and called again
# (without --afresh, which forgets); what it needs lies in .cache/demo, which git ignores.
# docs/making-a-bundle.md says what happens.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

kept=models/sources/demo
demo=.cache/demo
if [ "${1:-}" = --afresh ]; then
    shift
    rm -rf "$kept" "$demo"
fi
data="$(cd "${1:-../shared/data}" && pwd)"
target="${CARGO_TARGET_DIR:-target}"
python=.cache/train/bin/python
export OMP_NUM_THREADS=1 PYTHONPYCACHEPREFIX=.cache/pycache
mkdir -p "$demo" "$kept"

step() { printf '\n== %s\n' "$*" | tee -a "$demo/log"; }

step "$(date -u +%FT%TZ) tools"
[ -x "$python" ] || python3 -m venv .cache/train
.cache/train/bin/pip install --quiet --disable-pip-version-check -r models/train/requirements.txt
# All of it: fewer members would be built with other features, and all that they need again.
cargo build --locked --workspace
run="$target/debug/clearfilm-models"
# The default engine is the ONNX Runtime that the wheel brings.
CLEARFILM__ENGINE__LIBRARY="$(find "$PWD/.cache/train" -name 'libonnxruntime.so.*' -print -quit)"
export CLEARFILM__ENGINE__LIBRARY

step "$(date -u +%FT%TZ) encoder"
from=(--data "$data" --clearfilm "$target/debug/clearfilm")
[ -e "$kept/encoder/encoder.json" ] || "$python" models/train/encoder.py "${from[@]}" --out "$kept/encoder"

step "$(date -u +%FT%TZ) tables"
[ -e "$demo/tables/teachers.safetensors" ] || "$python" models/train/tables.py "${from[@]}"
[ -e "$demo/strangers/images.csv" ] || "$python" models/train/strangers.py "${from[@]}"

embed() { # encoder, engine, folder, and what is embedded
    "$run" embed run --encoder "$kept/$1" --engine "$2" --out "$demo/$3" --layout csv --workers 2 "${@:4}"
}
nih=(--root "$data/nih-cxr14" --table labels.csv --images images --patient patient_id --position view
    --spacing-mm pixel_spacing_mm --rows orig_height --columns orig_width
    --labels 'Atelectasis,Effusion,Infiltration,Pneumonia,Edema,No_Finding,matched' --level tokens)
phantoms=(--root "$demo/tables" --table phantoms.csv --class variant --level tokens)
training=(--root "$demo/tables" --table training.csv --views 24)
step "$(date -u +%FT%TZ) vectors"
embed encoder ort nih "${nih[@]}"
embed encoder-fp32 ort nih-fp32 "${nih[@]}"
embed encoder tract nih-tract "${nih[@]}"
embed encoder ort phantoms "${phantoms[@]}"
embed encoder tract phantoms-tract "${phantoms[@]}"
embed encoder ort hannover --root "$demo/tables" --table hannover.csv --level tokens
embed encoder ort strange --root "$demo/strangers" --table images.csv --images images --level tokens

dictionary() { # level, and how its views are kept
    [ ! -e "$kept/$1/run.json" ] || return 0
    embed encoder ort "views-$1" "${training[@]}" --level "$1" --dtype "$2"
    "$run" train --recipe "models/train/$1.toml" --tensor "$1" --out "$demo/$1" \
        --samples "$demo/views-$1" --split train --held-out "$demo/views-$1" --held-out-split dev
    mkdir -p "$kept/$1"
    cp "$demo/$1/sae.safetensors" "$demo/$1/run.json" "$kept/$1"
}
step "$(date -u +%FT%TZ) dictionaries"
dictionary tokens f16
dictionary embedding f32
[ -e "$kept/tokens/int8.safetensors" ] || "$run" dictionary quantise "$kept/tokens/sae.safetensors" \
    --samples "$demo/nih" --split train --out "$kept/tokens/int8.safetensors"

step "$(date -u +%FT%TZ) bundle; the part dev is read here"
"$run" pack --plan models/train/plan.toml --out models/bundles/demo --measurements "$demo/measurements.json" 2>&1 | tee -a "$demo/log"
"$run" verify models/bundles/demo
