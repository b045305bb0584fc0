#!/usr/bin/env bash
# The test of ONNX Runtime's wheel for GPUs on a machine without one, with CUDA's own libraries and a
# stub of the driver: 1.5 GB to fetch, so not part of tests/run.sh.
#
#   tests/gpu.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="$PWD/.cache/cuda"
# What the provider of ONNX Runtime 1.31.1 is linked with.
wheels=(nvidia-cublas==13.10.0.20 nvidia-cuda-runtime==13.5.37 nvidia-curand==10.4.5.25)
if [ ! -e "$folder/made" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "${wheels[@]}"
    for wheel in "$folder"/*.whl; do
        python3 -m zipfile -e "$wheel" "$folder"
        rm "$wheel"
    done
    touch "$folder/made"
fi
CLEARFILM_TEST_CUDA="$(dirname "$(find "$folder" -name 'libcudart.so.*' -print -quit)")"
export CLEARFILM_TEST_CUDA
tests/run.sh fallback::
