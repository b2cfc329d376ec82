#!/bin/bash
# Installs what the tests need, builds with warnings as errors, runs the tests, counts every test case. Safe to repeat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

usage() {
    cat <<'EOF'
usage: tools/check.sh [options]

Installs what is missing (Debian packages, as root or through sudo), builds in build-check/ with warnings as errors, runs
the tests, and ends with the line "N passed, N failed, N skipped", which counts single test cases. Safe to repeat.

  --suite slow              the long suites as well
  --sanitize address,undefined | --sanitize thread
                            build and run with these sanitizers
  --compiler gcc|clang      default: gcc; clang leaves out the tools' long tests, unless with --suite slow
  -h, --help                this text

Every compiler and sanitizer has its own build folder. Exit status: 0 all passed, 1 something failed or nothing ran, 2 the
command line is wrong. Tests that need models look in the folder INFER_TEST_DATA, else in ../shared/data, and are skipped by
name when it is not there.
EOF
}

wrong() {
    printf 'check.sh: %s (see --help)\n' "$*" >&2
    exit 2
}

slow=no sanitize='' compiler=gcc
while [ $# -gt 0 ]; do
    option=$1
    case $option in
    --*=*)
        set -- "${option%%=*}" "${option#*=}" "${@:2}"
        option=$1
        ;;
    esac
    case $option in
    -h | --help) usage && exit 0 ;;
    --suite | --sanitize | --compiler) [ $# -ge 2 ] || wrong "$option needs a value" ;;
    *) wrong "unknown argument '$option'" ;;
    esac
    case $option=$2 in
    --suite=slow) slow=yes ;;
    --sanitize=address,undefined | --sanitize=thread) sanitize=$2 ;;
    --compiler=gcc | --compiler=clang) compiler=$2 ;;
    *) wrong "$option has no value '$2'" ;;
    esac
    shift 2
done

packages=("${build_packages[@]}" gcc g++ libcriterion-dev libbenchmark-dev python3 python3-numpy binutils cmake zsh)
folder=build-check
options=(--werror -Dtests=enabled)
multiplier=3 # Meson's limits of time are for an idle machine.
if [ "$compiler" = clang ]; then
    packages+=(clang libclang-rt-14-dev)
    folder+=-clang
fi
if [ -n "$sanitize" ]; then
    folder+=-${sanitize//,/-}
    # b_lundef: Clang leaves a sanitizer's symbols undefined in shared libraries.
    options+=(--buildtype=debugoptimized "-Db_sanitize=$sanitize" -Db_lundef=false -Dbench=disabled)
    # Nor are kernels instrumented that cannot run here.
    grep -qsE 'avx512f|avx_vnni' /proc/cpuinfo || options+=(-Dabove_avx2=false)
    multiplier=10
    export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:allocator_may_return_null=1:${ASAN_OPTIONS:-}
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}
    export TSAN_OPTIONS=halt_on_error=1:${TSAN_OPTIONS:-}
else
    options+=(--buildtype=release)
fi

step 'packages'
install "${packages[@]}"

step "configure $folder/ ($compiler${sanitize:+, sanitizers: $sanitize})"
if [ "$compiler" = clang ]; then
    export CC=clang CXX=clang++
else
    export CC=gcc CXX=g++
fi
configure "$folder" "${options[@]}"

suites=(--no-suite slow)
[ $slow = yes ] && suites=()
# ThreadSanitizer is for where threads meet: not for kernels and command lines.
[ "$sanitize" = thread ] && suites+=(--suite energy --suite exec --suite faults --suite statuses)
# The tools' long tests are of what they compute, which is the same whoever compiled it.
[ "$compiler" = clang ] && [ $slow = no ] && suites+=(--no-suite tools)

step 'build'
if [ "$sanitize" = thread ]; then
    note 'what these tests need, before they run'
else
    build "$folder"
    suites+=(--no-rebuild)
fi

step "test$([ $slow = yes ] && echo ', the long suites too')"
log=$folder/meson-logs/testlog.json
rm -f "$log"
status=0
meson test -C "$folder" --print-errorlogs --timeout-multiplier $multiplier "${suites[@]}" </dev/null || status=$?

step 'count'
python3 tools/count_tests.py "$log" || status=1
exit $((status != 0))
