#!/bin/bash
# Builds the Debian packages libinfer0, libinfer-dev and infer-tools from this checkout, tests its kernels on the way, and leaves the packages in FOLDER.
#
# usage: tools/debian/build.sh [FOLDER, default build-deb]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

case ${1:-} in -*) sed -n 's/^# \(usage: .*\)/\1/p' "$0" && exit 2 ;; esac
mkdir -p "${1:-build-deb}"
out=$(cd "${1:-build-deb}" && pwd)

step 'packages'
install "${build_packages[@]}" gcc dpkg-dev debhelper

version=$(sed -n "s/^ *version: '\(.*\)',/\1/p" meson.build)
[ "$(sed -n '1s/.*(\(.*\)).*/\1/p' tools/debian/changelog)" = "$version" ] || fail "tools/debian/changelog does not begin with version $version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/libinfer-$version
mkdir "$source"
if [ -e .git ]; then
    git ls-files -z | tar --null -T - -c | tar -x -C "$source"
else
    tar --exclude='./build*' -c . | tar -x -C "$source"
fi
cp -r "$source/tools/debian" "$source/debian"
rm "$source/debian/build.sh"

step 'dpkg-buildpackage'
(cd "$source" && dpkg-buildpackage -b -us -uc) >"$out/build.log" 2>&1 || {
    tail -40 "$out/build.log" >&2
    fail "the packages could not be built ($out/build.log)"
}
rm -f "$out"/*.deb
cp "$work"/*.deb "$out"
good "$(cd "$out" && echo *.deb)"
