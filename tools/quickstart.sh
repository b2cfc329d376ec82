#!/bin/bash
# From a fresh clone to a story: installs what is missing, builds, converts a small model and runs it. Safe to repeat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

usage() {
    cat <<'EOF'
usage: tools/quickstart.sh [--help]

Installs what is missing (Debian packages, as root or through sudo), builds libinfer and its tools in build/, converts the
small model stories260K to 8-bit weights and lets it tell a story. Safe to repeat.

The model is looked for in models/stories260K under the folder INFER_TEST_DATA, else under ../shared/data. Without it the
script ends after the build, with status 0.
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

source=$(data_folder)/models/stories260K
step "model: $source"
for file in stories260K.bin tok512.bin; do
    if [ ! -f "$source/$file" ]; then
        note "$file is not there. To run a model, do one of these:"
        note "  put stories260K.bin and tok512.bin (llama2.c, MIT licence) into $source and run this again"
        note '  build/tools/infer-convert YOUR_MODEL.gguf -o model.infer --type q8g32'
        note '  build/tools/infer-run model.infer "Once upon a time"'
        good 'built, no model at hand'
        exit 0
    fi
done

model=build/stories260K.q8g32.infer
step "convert to $model"
build/tools/infer-convert "$source/stories260K.bin" --tokenizer "$source/tok512.bin" -o "$model" --type q8g32 -f ||
    fail 'the model could not be converted (see above)'

step "run: build/tools/infer-run $model --temp 0 -n 200 'Once upon a time, there was a little dog'"
build/tools/infer-run "$model" --temp 0 -n 200 'Once upon a time, there was a little dog' || fail 'infer-run did not succeed (see above)'
printf '\n'
good "built, and $model told its story"
