#!/usr/bin/env bash
# Runs every check and test of the workspace, and first installs what they need beside Rust:
# real peers from Debian's packages (as root; otherwise it says what is missing), ONNX Runtime
# from PyPI into .cache/venv and .cache/wheels, a Debian root that boots, for the provisioning scripts, and
# a package for arm64 with a Debian root to install it into.
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
        mkfs.ext4:e2fsprogs debootstrap:debootstrap qemu-aarch64-static:qemu-user-static \
        socat:socat curl:curl jq:jq busybox:busybox nft:nftables ip:iproute2 systemctl:systemd systemd-nspawn:systemd-container; do
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

# The oldest Debian that is still served: its glibc, 2.31, is JetPack 5's.
arm_suite=bullseye

# Lets the kernel run arm64 programs, by qemu where this machine is none.
run_arm_programs() {
    local misc=/proc/sys/fs/binfmt_misc
    [ "$(uname -m)" != aarch64 ] || return 0
    [ -e "$misc/register" ] || mount -t binfmt_misc binfmt_misc "$misc" || return 1
    [ -e "$misc/qemu-aarch64" ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$misc/register"
}

# A Debian root, unpacked here and configured by its own programs.
debian_root() {
    debootstrap --arch=arm64 --variant=minbase --foreign "$arm_suite" "$1" "$2" || return 1
    chroot "$1" /debootstrap/debootstrap --second-stage
}

# A Debian root of the devices' processor, made once.
make_arm_root() {
    local root="$1" mirror="${CLEARFILM_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    [ ! -d "$root" ] || return 0
    step "making a root of $arm_suite for arm64"
    rm -rf "$root.partial"
    mkdir -p "$root.partial"
    if ! debian_root "$root.partial" "$mirror" >"$root.log" 2>&1; then
        tail -n 20 "$root.log"
        return 1
    fi
    # ONNX Runtime asks what the processor can do, and qemu 7 shows it this machine's.
    printf 'processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd42\nCPU revision\t: 1\n' \
        >"$root.partial/proc/cpuinfo"
    mv "$root.partial" "$root"
}

# ONNX Runtime of the same version as this machine's, for the devices' processor.
fetch_arm_runtime() {
    local version folder
    version="$(sed -n 's/^onnxruntime==//p' tests/requirements.txt)"
    folder="$PWD/.cache/arm64/onnxruntime-$version"
    if [ ! -d "$folder" ]; then
        step "fetching onnxruntime $version for arm64" >&2
        rm -rf "$folder.partial"
        .cache/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --platform manylinux_2_28_aarch64 --dest "$folder.partial" "onnxruntime==$version"
        python3 -m zipfile -e "$folder.partial"/onnxruntime-*.whl "$folder.partial"
        mv "$folder.partial" "$folder"
    fi
    find "$folder" -name 'libonnxruntime.so.*' -print -quit
}

# The package is built in any case; where it cannot be run, its tests say that they are skipped.
prepare_arm() {
    local root="$PWD/.cache/arm64/root-$arm_suite"
    mkdir -p .cache/arm64
    step "cross-building the package for arm64"
    CLEARFILM_TEST_ARM_DEB="$(cargo xtask package arm64 | tee /dev/stderr | sed -n 's/^\(.*_arm64\.deb\): .*/\1/p')"
    if [ "$(id -u)" -ne 0 ] || ! run_arm_programs; then
        printf '!! SKIPPED: running it: this machine does not let us register qemu in binfmt_misc\n'
        return 0
    fi
    make_arm_root "$root"
    CLEARFILM_TEST_ARM_ORT="$(fetch_arm_runtime)"
    CLEARFILM_TEST_ARM_ROOT="$root"
    export CLEARFILM_TEST_ARM_DEB CLEARFILM_TEST_ARM_ORT CLEARFILM_TEST_ARM_ROOT
}

check_scripts() {
    local scripts=()
    mapfile -t scripts < <(git -c safe.directory='*' ls-files '*.sh' .ci/run 'provisioning/debian/*' 'provisioning/scripts/*' provisioning/switch/switch)
    step "shellcheck: ${#scripts[@]} scripts"
    shellcheck -x -P SCRIPTDIR "${scripts[@]}"
    step "python: every script compiles"
    git -c safe.directory='*' ls-files -z '*.py' | xargs -0 -r python3 -m py_compile
}

# A Debian that systemd-nspawn boots, made once, for what needs systemd.
make_boot_root() {
    local root="$1" mirror="${CLEARFILM_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    [ ! -d "$root" ] || return 0
    step "making a root of bookworm that boots"
    mkdir -p "$(dirname "$root")"
    rm -rf "$root.partial"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,openssl,curl,nftables,mosquitto,mosquitto-clients,dcmtk,passwd,iproute2,socat \
        bookworm "$root.partial" "$mirror" >"$root.log" 2>&1 || return 1
    mv "$root.partial" "$root"
}

prepare_boot() {
    local root="$PWD/.cache/boot/root-bookworm"
    if [ "$(id -u)" -ne 0 ] || ! make_boot_root "$root"; then
        root=''
    fi
    export CLEARFILM_TEST_BOOT_ROOT="$root"
}

# With the programs as the gate's tests have them.
check_provisioning() {
    local made="${CARGO_TARGET_DIR:-$PWD/target}/debug"
    step "provisioning scripts"
    cargo build --quiet --locked --workspace --bins
    CLEARFILM="$made/clearfilm" CLEARFILM_FLEET="$made/clearfilm-fleet" BOOT_ROOT="$CLEARFILM_TEST_BOOT_ROOT" \
        tests/provisioning/run.sh
}

install_peers
install_python
check_scripts
case "$*" in
"" | *provisioning* | *booted*) prepare_boot ;;
esac
case "$*" in
"" | *provisioning*) check_provisioning ;;
esac
# Minutes, which a selection of other tests does without.
case "$*" in
"" | *arm*) prepare_arm ;;
esac
# Formatting, lints and tests; what this toolchain lacks is skipped, loudly.
cargo run --quiet --locked -p xtask -- gate "$@"
