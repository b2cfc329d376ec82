# Shared by quickstart.sh and check.sh: what they say, what they install, how they configure. Sourced, not run.
# shellcheck shell=bash

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\033[1m' green=$'\033[32m' red=$'\033[31m' plain=$'\033[0m'
else
    bold='' green='' red='' plain=''
fi

step() { printf '%s==>%s %s\n' "$bold" "$plain" "$*"; }
note() { printf '    %s\n' "$*"; }
good() { printf '%sresult: %s%s\n' "$green" "$*" "$plain"; }
fail() {
    printf '%sresult: FAILED: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# Packages a build needs whatever else is asked for. libc6-dev is named because gcc only recommends it.
# shellcheck disable=SC2034
build_packages=(meson ninja-build pkg-config libxxhash-dev libcjson-dev libpcre2-dev libutf8proc-dev libc6-dev)

# install PACKAGE...: installs those that dpkg does not know as installed; touches the network only when there is one.
install() {
    local missing=() as_root=() package
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        note "no apt-get here; this script expects these Debian packages or their like: $*"
        return
    fi
    for package in "$@"; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} -eq 0 ]; then
        note 'all there'
        return
    fi
    note "missing: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "this user is not root and there is no sudo; as root: apt-get install ${missing[*]}"
        as_root=(sudo)
        # Nobody can type a password where standard input is not a terminal.
        [ -t 0 ] || as_root+=(-n)
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${as_root[@]}" update || fail 'apt-get update did not work (see above)'
    "${as_root[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install: ${missing[*]}"
}

# configure FOLDER OPTION...: meson setup, or the same options again on a folder that is already set up. A folder that another
# checkout or another Meson left behind is set up anew.
configure() {
    local folder=$1
    shift
    local again=() said
    if [ -f "$folder/build.ninja" ] && grep -qsF "\"source\": \"$PWD\"" "$folder/meson-info/meson-info.json"; then
        again=(--reconfigure)
    elif [ -f "$folder/meson-private/coredata.dat" ]; then
        again=(--wipe)
    fi
    if ! said=$(meson setup "${again[@]}" "$@" "$folder" 2>&1); then
        printf '%s\n' "$said" >&2
        fail "Meson could not configure $folder (see above)"
    fi
}

# build FOLDER
build() {
    ninja -C "$1" || fail 'the build did not succeed (see above)'
}

# Where the test models are: the folder named by INFER_TEST_DATA, else ../shared/data beside the checkout.
data_folder() { printf '%s\n' "${INFER_TEST_DATA:-$(dirname "$PWD")/shared/data}"; }
