#!/usr/bin/env bash
# MedSAE's dictionaries, ours and SAE-Rad's on one encoder's embeddings of NIH chest radiographs,
# side by side in one report: models/parity/parity.sh [DATA] [BUNDLE].
#
# DATA is a folder with nih-cxr14/ (labels.csv, images/); BUNDLE a bundle folder, by default the
# demo bundle, which stands in for MedCLIP (MedSAE) and RAD-DINO (SAE-Rad): the report says so.
# It takes hours. What is done is left alone, so that it may be cut off and called again. Results:
# .cache/parity/report, and report-shuffled, where labels are other patients'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data="${1:-../shared/data}/nih-cxr14"
bundle="${2:-models/bundles/demo}"
out="${CLEARFILM_PARITY_OUT:-.cache/parity}"
here=models/parity

cargo build --release --workspace --locked --bin clearfilm-models
run="${CARGO_TARGET_DIR:-target}/release/clearfilm-models"
mkdir -p "$out"

# MedSAE gives up the aspect ratio; the same encoder with that preprocessing is another bundle.
squash="$out/bundle-squash"
if [ ! -e "$squash" ]; then
    rm -rf "$squash.new"
    cp -r "$bundle" "$squash.new"
    sed -i 's/^fit = "pad"/fit = "squash"/' "$squash.new/manifest.toml"
    "$run" seal "$squash.new"
    mv "$squash.new" "$squash"
fi

# 176 views of each of 606 training radiographs are 106,656.
embed() {
    "$run" embed run --layout csv --root "$data" --table labels.csv --images images \
        --patient patient_id --position view --spacing-mm pixel_spacing_mm \
        --rows orig_height --columns orig_width \
        --labels Atelectasis,Cardiomegaly,Effusion,Infiltration,Mass,Nodule,Pneumonia,Pneumothorax,Consolidation,Edema,Emphysema,Fibrosis,Pleural_Thickening,Hernia,No_Finding,matched \
        --views 176 --workers 2 --bundle "$1" --out "$2"
}
embed "$bundle" "$out/pad"
embed "$squash" "$out/squash"

sweep() { # its name, the embeddings, what else
    "$run" sweep --sweep "$here/$1.toml" --samples "$2" --split train "${@:3}" \
        --held-out "$2" --held-out-split dev --out "$out/$1"
}
sweep medsae "$out/squash"
sweep ours "$out/pad"
sweep sae-rad "$out/pad"
sweep sae-rad-ablations "$out/pad"

cp "$here/evaluate.toml" "$out/evaluate.toml"
"$run" evaluate --plan "$out/evaluate.toml" --out "$out/report"
sed 's/^\[data\]/[data]\nshuffle = 1/' "$here/evaluate.toml" >"$out/evaluate-shuffled.toml"
"$run" evaluate --plan "$out/evaluate-shuffled.toml" --out "$out/report-shuffled"
