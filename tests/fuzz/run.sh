#!/bin/bash
# Builds the fuzz targets in build-fuzz/ (clang, sanitizers), makes their seeds and runs each for a while. Finds stay in build-fuzz/.
#
# usage: tests/fuzz/run.sh [SECONDS for each target, default 20] [TARGET...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

seconds=${1:-20}
shift || true
folder=build-fuzz
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:${ASAN_OPTIONS:-}

step 'packages'
install "${build_packages[@]}" clang libclang-rt-14-dev python3
step "build $folder/"
CC=clang configure "$folder" -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dtests=disabled -Dbench=disabled --buildtype=debugoptimized
build "$folder"
python3 tests/fuzz/seeds.py "$folder/corpus"

programs=("$@")
[ ${#programs[@]} -gt 0 ] || for source in tests/fuzz/fuzz_*.c; do programs+=("$(basename "$source" .c)"); done
passed=0 failed=0
for name in "${programs[@]}"; do
    mkdir -p "$folder/corpus/$name"
    step "$name, $seconds s"
    if "$folder/tests/fuzz/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -verbosity=0 \
        -artifact_prefix="$folder/$name-" "$folder/corpus/$name"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        note "$name: FAILED"
    fi
done
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
