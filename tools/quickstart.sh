#!/bin/bash
# From a fresh clone to a story: installs what is missing, builds, and runs the model inside the tools. Safe to repeat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

usage() {
    cat <<'EOF'
usage: tools/quickstart.sh [--help]

Installs what is missing (Debian packages, as root or through sudo), builds libinfer and its tools in build/, and lets the
model inside the tools tell a story. Safe to repeat.
EOF
}

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage && exit 0 ;;
    *) printf "quickstart.sh: unknown argument '%s' (see --help)\n" "$1" >&2 && exit 2 ;;
    esac
done

step 'packages'
install "${build_packages[@]}" gcc

step 'configure build/'
configure build --buildtype=release -Dtests=disabled -Dbench=disabled

step 'build'
build build

step "run: build/tools/infer-run --temp 0 -n 200 'Once upon a time, there was a little dog'"
build/tools/infer-run --temp 0 -n 200 'Once upon a time, there was a little dog' || fail 'infer-run did not succeed (see above)'
printf '\n'
note 'other models: build/tools/infer-run MODEL.gguf "Once upon a time"'
good 'built, and told a story'
