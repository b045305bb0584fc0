#!/usr/bin/env bash
# From a PyTorch checkpoint to a bundle's encoder.onnx and head.safetensors (docs/export.md).
# Makes its own environment in .cache/export the first time; arguments go to `python -m export`.
#
#   models/export/export.sh encoder medclip-resnet50 pytorch_model.bin --out exported
#   models/export/export.sh --module export.train_view --help      another module of the same
#   models/export/export.sh --test                                 its own tests
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
venv="$root/.cache/export"

if ! cmp -s "$root/models/export/requirements.txt" "$venv/made-from"; then
    printf 'installing models/export/requirements.txt into %s\n' "$venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$root/models/export/requirements.txt"
    cp "$root/models/export/requirements.txt" "$venv/made-from"
fi
export PYTHONPATH="$root/models" PYTHONPYCACHEPREFIX="$root/.cache/pycache"
case "${1:-}" in
    --test) cd "$root" && exec "$venv/bin/python" -m unittest discover -v -s models/export/tests -t models ;;
    --module) shift && exec "$venv/bin/python" -m "$@" ;;
    *) exec "$venv/bin/python" -m export "$@" ;;
esac
