#!/bin/bash
# Which lines the tests reach: builds in build-coverage/, runs all but the long suites, those of tools and whole texts (more than half of the
# time, for lines that others reach), and prints the share for the library's folders. Fails below 90 % in one of them. What was not reached:
# build-coverage/coverage.txt. Ends with "N passed, N failed, N skipped", a case for each folder.
#
# usage: tools/coverage.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

[ $# -eq 0 ] || { sed -n 's/^# \(usage: .*\)/\1/p' "$0" && exit 2; }
folder=build-coverage
least=90
folders=(runtime formats kernels/ref)

step 'packages'
install "${build_packages[@]}" gcc g++ gcovr libcriterion-dev python3 python3-numpy binutils
step "build $folder/"
export CC=gcc CXX=g++ # Counters are atomic: threads would lose counts, and gcovr refuses the sums that do not add up.
configure "$folder" -Dtests=enabled -Dbench=disabled -Dabove_avx2=false --buildtype=debug --optimization=2 -Db_coverage=true -Dc_args=-fprofile-update=atomic
build "$folder"

step 'test'
find "$folder" -name '*.gcda' -delete
# Whether they pass is for check.sh to say: limits of time do not hold here.
meson test -C "$folder" --no-rebuild --timeout-multiplier 4 --no-suite slow --no-suite tools --no-suite e2e </dev/null || note 'not all of them passed'

step "lines reached, at least $least %"
gcovr -r . --json "$folder/coverage.json" "$folder"
passed=0 failed=0
: >"$folder/coverage.txt"
for name in "${folders[@]}"; do
    gcovr -r . -a "$folder/coverage.json" -f "$name/" >>"$folder/coverage.txt"
    reached=$(gcovr -r . -a "$folder/coverage.json" -f "$name/" --json-summary | python3 -c 'import json, sys; print(json.load(sys.stdin)["line_percent"])')
    note "$name: $reached %"
    if python3 -c "exit(not $reached >= $least)"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
