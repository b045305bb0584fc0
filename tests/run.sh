#!/usr/bin/env bash
# Runs every check and test of the workspace, and first installs what they need beside Rust:
# real peers from Debian's packages (as root; otherwise it says what is missing), and ONNX
# Runtime from PyPI into .cache/venv and .cache/wheels.
#
#   tests/run.sh            everything
#   tests/run.sh NAME...    the same, but only tests whose names hold NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian keeps daemons (mosquitto, Orthanc) where a user's PATH does not look.
export PATH="$PATH:/usr/sbin"
export PYTHONPYCACHEPREFIX="$PWD/.cache/pycache"

step() {
    printf '\n== %s\n' "$*"
}

# Is the command there? "venv" asks whether Python can make environments.
have() {
    if [ "$1" = venv ]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null
    else
        command -v "$1" >/dev/null
    fi
}

install_peers() {
    local packages=() need
    # What is asked for, and the package that brings it.
    for need in cc:gcc cc:libc6-dev c++:g++ cmake:cmake git:git venv:python3-venv storescu:dcmtk Orthanc:orthanc mosquitto:mosquitto \
        mosquitto_sub:mosquitto-clients strace:strace openssl:openssl shellcheck:shellcheck \
        mkfs.ext4:e2fsprogs; do
        have "${need%%:*}" || packages+=("${need##*:}")
    done
    [ "${#packages[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! have apt-get; then
        printf 'tests/run.sh: expected these Debian packages, found them missing: %s\n' "${packages[*]}" >&2
        exit 1
    fi
    step "installing ${packages[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

# The environment is made anew whenever the requirements change.
install_python() {
    local venv=.cache/venv
    if ! cmp -s tests/requirements.txt "$venv/made-from"; then
        step "installing tests/requirements.txt into $venv"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r tests/requirements.txt
        cp tests/requirements.txt "$venv/made-from"
    fi
    CLEARFILM_TEST_ORT="$(find "$PWD/$venv" -name 'libonnxruntime.so.*' -print -quit)"
    if [ -z "$CLEARFILM_TEST_ORT" ]; then
        printf 'tests/run.sh: expected libonnxruntime.so.* under %s, found none\n' "$venv" >&2
        exit 1
    fi
    CLEARFILM_TEST_ORT_OLD="$(library onnxruntime==1.23.2)"
    CLEARFILM_TEST_PYTHON="$PWD/$venv/bin/python"
    export CLEARFILM_TEST_ORT CLEARFILM_TEST_ORT_OLD CLEARFILM_TEST_PYTHON
    # The wheel for GPUs is for this processor only; the tests say so where it is not.
    if [ "$(uname -m)" = x86_64 ]; then
        CLEARFILM_TEST_ORT_GPU="$(library onnxruntime-gpu==1.31.1)"
        export CLEARFILM_TEST_ORT_GPU
    fi
}

# The library of another wheel of ONNX Runtime, unpacked beside the environment.
library() {
    local folder=".cache/wheels/$1"
    if [ ! -e "$folder/made" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        .cache/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$1" >&2
        # Not pip install: it would want the wheel's other files too.
        python3 -m zipfile -e "$folder"/*.whl "$folder"
        rm "$folder"/*.whl
        touch "$folder/made"
    fi
    find "$PWD/$folder" -name 'libonnxruntime.so.*' -print -quit
}

check_scripts() {
    local scripts=()
    mapfile -t scripts < <(git -c safe.directory='*' ls-files '*.sh' .ci/run)
    step "shellcheck: ${#scripts[@]} scripts"
    shellcheck "${scripts[@]}"
    step "python: every script compiles"
    git -c safe.directory='*' ls-files -z '*.py' | xargs -0 -r python3 -m py_compile
}

install_peers
install_python
check_scripts
# Formatting, lints and tests; what this toolchain lacks is skipped, loudly.
cargo run --quiet --locked -p xtask -- gate "$@"
