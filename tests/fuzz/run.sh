#!/bin/bash
# Builds the fuzz targets in build-fuzz/ (clang, sanitizers), makes their seeds and runs each for a while, as many at a time as there are
# CPUs. What it finds stays in build-fuzz/found/.
# An input of up to 64 KB must not crash, leak, take a second of processor time (fuzz.h) or let the process grow beyond 256 MB.
#
# usage: tests/fuzz/run.sh [SECONDS for each target, default 20, or EXECUTIONSx] [TARGET...]
# `importers` stands for the targets that read foreign files of models and vocabularies, `others` for the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

limit=-max_total_time=${1:-20}
[[ $limit != *x ]] || limit=-runs=${1%x}
shift || true
folder=build-fuzz
# The quarantine of freed memory would count as the program's.
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:quarantine_size_mb=16:${ASAN_OPTIONS:-}
# Else undefined behaviour would be a line in a log that nobody reads.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}

step 'packages'
install "${build_packages[@]}" clang libclang-rt-14-dev python3
step "build $folder/"
CC=clang configure "$folder" -Dfuzz=true -Dabove_avx2=false -Db_sanitize=address,undefined -Db_lundef=false -Dtests=disabled -Dbench=disabled --buildtype=debugoptimized
build "$folder"
python3 tests/fuzz/seeds.py "$folder/corpus" "$folder/tools"
mkdir -p "$folder/found"

# TARGET...: their names, of all without any.
mapfile -t targets < <(meson introspect "$folder" --targets | python3 -c '
import json, sys
all = {t["name"][5:]: t["target_sources"][0]["sources"][0].endswith("import.c") for t in json.load(sys.stdin) if t["name"].startswith("fuzz_")}
groups = {"importers": [t for t in all if all[t]], "others": [t for t in all if not all[t]]}
print("\n".join(t for name in sys.argv[1:] or groups for t in groups.get(name, [name])))' "$@")
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# run_target NAME: leaves NAME.log and, when all is well, NAME.passed.
run_target() {
    mkdir -p "$folder/corpus/$1"
    if "$folder/tests/fuzz/fuzz_$1" "$limit" -rss_limit_mb=256 -malloc_limit_mb=256 -timeout=60 -max_len=65536 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$folder/found/$1-" "$folder/corpus/$1" >"$logs/$1.log" 2>&1; then
        touch "$logs/$1.passed"
    fi
}
for name in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
        wait -n || true
    done
    step "$name"
    run_target "$name" &
done
wait

passed=0 failed=0 executions=0 table=''
for name in "${targets[@]}"; do
    log=$logs/$name.log
    if [ -e "$logs/$name.passed" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        cat "$log"
        note "$name: FAILED"
    fi
    table+=$(awk -v name="$name" '{ v[$1] = $2 } END { printf "%s %d %d %d", name, v["stat::number_of_executed_units:"],
        v["stat::average_exec_per_sec:"], v["stat::peak_rss_mb:"] }' "$log")$'\n'
    executions=$((executions + $(awk '/number_of_executed_units/ { n = $2 } END { print n + 0 }' "$log")))
done
step 'executions, executions/s, peak MB'
column -t <<<"$table"
note "$executions executions"
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
