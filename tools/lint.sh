#!/bin/bash
# Reads the code with shellcheck, cppcheck and clang-tidy (.clang-tidy says what for). Nothing may be found. Ends with "N passed, N failed, N skipped".
#
# usage: tools/lint.sh [FILE.c..., default all of the library, the tools and the benchmarks]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

case ${1:-} in -*) sed -n 's/^# \(usage: .*\)/\1/p' "$0" && exit 2 ;; esac
folder=build-lint
jobs=$(nproc)

step 'packages'
install "${build_packages[@]}" clang clang-tidy cppcheck shellcheck libcriterion-dev python3
CC=clang CXX=clang++ configure "$folder" -Dbench=disabled -Dtests=disabled --buildtype=debug
ninja -C "$folder" bench/build_info.h >/dev/null # the one source that is generated

files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(python3 -c '
import json, os
for entry in json.load(open("build-lint/compile_commands.json")):
    path = os.path.relpath(os.path.join(entry["directory"], entry["file"]))
    if path.split("/")[0] != "tests":
        print(path)' | sort -u)

passed=0 failed=0
# checked NAME COMMAND...: one case.
checked() {
    step "$1"
    if "${@:2}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        note "$1: FAILED"
    fi
}

scripts() { find . -path './build*' -prune -o \( -name '*.sh' -o -path ./.ci/run \) -print0 | xargs -0 shellcheck -x -P .; }
# Style is clang-tidy's part. cJSON's loops are macros.
cpp() {
    cppcheck -q -j"$jobs" --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 --suppressions-list=tools/cppcheck.txt \
        -I. -Iruntime -Iruntime/include -Ikernels -Iformats -Itools -D__x86_64__ -D__linux__ -D__GNUC__=12 \
        --include="$(pkg-config --variable=includedir libcjson)/cjson/cJSON.h" "${files[@]}"
}
tidy() {
    printf '%s\n' "${files[@]}" | xargs -P"$jobs" -n4 clang-tidy -p "$folder" --quiet 2>/dev/null
}

checked shellcheck scripts
checked cppcheck cpp
checked clang-tidy tidy
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
