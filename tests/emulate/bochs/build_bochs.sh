#!/bin/bash
# build_bochs.sh FOLDER: Bochs 3.0 as FOLDER/bochs, from the source package of Debian 13, which a private apt state fetches: the machine's own
# package lists stay as they are. Three minutes. Its CPUs beyond those of 2.7: sapphire_rapids and arrow_lake, which have AVX-VNNI.
set -eu
version=3.0+dfsg-1
mkdir -p "$1"
cd "$1"
apt=$PWD/apt
mkdir -p "$apt"/etc/apt/{sources.list.d,preferences.d,apt.conf.d,trusted.gpg.d} "$apt"/var/lib/apt/lists/partial \
    "$apt"/var/cache/apt/archives/partial "$apt"/var/lib/dpkg
: >"$apt/var/lib/dpkg/status"
# The mirror is the one that this machine's own apt uses.
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | awk '$2 !~ /-/ {print $1; exit}')
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/etc/apt/sources.list"
cat >"$apt/apt.conf" <<EOF
Dir "$apt";
Dir::State::status "$apt/var/lib/dpkg/status";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
EOF
export APT_CONFIG=$apt/apt.conf
apt-get -qq update
apt-get -qq source --download-only --tar-only "bochs=$version"
rm -rf source
mkdir source
tar xf bochs_*.orig.tar.* -C source --strip-components=1
cd source
./configure CFLAGS='-O2 -pipe' CXXFLAGS='-O2 -pipe' --with-nogui --disable-docbook --disable-plugins --enable-cpu-level=6 --enable-x86-64 \
    --enable-fpu --enable-avx --enable-evex --enable-amx --enable-all-optimizations --enable-monitor-mwait --enable-pci=no --disable-gameport \
    --disable-large-ramfile >../configure.log 2>&1
make -j"$(nproc)" >../make.log 2>&1
strip -o ../bochs bochs
cd ..
rm -rf source
