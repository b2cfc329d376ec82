#!/bin/bash
# Kernels and dispatch on CPUs that this machine is not. Safe to repeat; installs what is missing (Debian packages, as root or through sudo).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

usage() {
    cat <<'EOF'
usage: tests/emulate/run.sh [options]

Builds the kernels and their TAP tests for 64-bit Arm and x86-64, runs them on emulated CPUs (qemu-user, Bochs), prints TAP and,
as its last line, "N passed, N failed, N skipped". About two minutes on two cores.

  --suite arm64 | x86 | slow
                      only this one; the default is arm64 and x86. slow: all conformance cases of the x86 levels under Bochs
                      (about ten minutes) and the CPUs that only Bochs 3.0 has, which is built once (three minutes)
  --build FOLDER      where to build (default: build-emulate); Bochs 3.0 is kept there too
  --no-install        install nothing; what is missing is skipped by name
  -h, --help          this text

The logits of a whole model need stories260K: INFER_TEST_DATA names the folder with test data, else ../shared/data; skipped without.

Exit status: 0 all passed, 1 something failed or nothing ran, 2 the command line is wrong.
EOF
}

wrong() {
    printf 'run.sh: %s (see --help)\n' "$*" >&2
    exit 2
}

suites=() folder=build-emulate installing=yes
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --no-install) installing=no ;;
    --suite | --build)
        [ $# -ge 2 ] || wrong "$1 needs a value"
        if [ "$1" = --build ]; then
            folder=$2
        else
            case $2 in
            arm64 | x86 | slow) suites+=("$2") ;;
            *) wrong "--suite has no value '$2'" ;;
            esac
        fi
        shift
        ;;
    *) wrong "unknown argument '$1'" ;;
    esac
    shift
done
[ ${#suites[@]} -gt 0 ] || suites=(arm64 x86)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

chosen() { [[ " ${suites[*]} " == *" $1 "* ]]; }

{ # all but TAP goes to standard error
    packages=(meson ninja-build gcc libc6-dev python3)
    chosen arm64 && packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
    { chosen x86 || chosen slow; } && packages+=(qemu-user bochs bochs-term vgabios binutils)
    chosen slow && packages+=(g++ make patch dpkg-dev)
    step 'packages'
    [ $installing = yes ] && install "${packages[@]}"

    options=(--werror --buildtype=release -Dkernels_only=true -Dstatic_runner=true)
    targets=(tests/emulate/same-bits-static tests/emulate/full-logits-static tests/conformance/conformance-static)
    if chosen arm64 && command -v aarch64-linux-gnu-gcc >/dev/null; then
        step 'build for arm64'
        configure "$folder/arm64" "${options[@]}" --cross-file tests/emulate/aarch64.ini
        ninja -C "$folder/arm64" "${targets[@]}"
    fi
    if chosen x86 || chosen slow; then
        step 'build for x86-64'
        configure "$folder/x86" "${options[@]}"
        ninja -C "$folder/x86" "${targets[@]}"
        tests/emulate/bochs/build_rom.sh "$folder/rom"
    fi
    if chosen slow && [ ! -x "$folder/bochs-3.0/bochs" ]; then
        step 'build Bochs 3.0'
        tests/emulate/bochs/build_bochs.sh "$folder/bochs-3.0" || note 'Bochs 3.0 could not be built; its CPUs are skipped'
    fi
    step 'run'
} >&2

exec python3 tests/emulate/suites.py --build "$folder" "${suites[@]}"
