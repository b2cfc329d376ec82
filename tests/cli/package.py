#!/usr/bin/env python3
"""The source archive and the Debian packages made of it. Reports in TAP. Takes minutes.

usage: package.py --build FOLDER

meson dist packs the last commit; tools/debian/build.sh of the unpacked archive builds the packages; a program is compiled against what they
install, and their tools run.
"""
import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PROGRAM = """#include <infer/infer.h>
#include <string.h>
int main(void) { return strcmp(infer_version(), "%s") != 0; }
"""


class Failed(Exception):
    pass


def call(command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def one(pattern):
    found = glob.glob(pattern, recursive=True)
    if len(found) != 1:
        raise Failed(f"{pattern}: found {found}, expected one")
    return found[0]


def dist(args, folder):
    call(["meson", "dist", "-C", args.build, "--no-tests", "--allow-dirty", "--formats", "gztar"])
    call(["tar", "-xf", one(os.path.join(args.build, "meson-dist", "libinfer-*.tar.gz")), "-C", folder])
    packed = one(os.path.join(folder, "libinfer-*"))
    args.version = packed.rsplit("-", 1)[1]
    listed = set(call(["git", "-C", ROOT, "ls-tree", "-r", "--name-only", "HEAD"]).splitlines())
    found = {os.path.relpath(os.path.join(at, name), packed) for at, _, names in os.walk(packed) for name in names}
    if listed != found:
        raise Failed(f"the archive differs from the commit: {sorted(listed ^ found)[:10]}")


def build(args, folder):
    call([os.path.join(one(os.path.join(folder, "libinfer-*")), "tools", "debian", "build.sh"), os.path.join(folder, "deb")])
    for package in "libinfer0", "libinfer-dev", "infer-tools":
        call(["dpkg-deb", "-x", one(os.path.join(folder, "deb", f"{package}_{args.version}_*.deb")), os.path.join(folder, "root")])


def tools(args, folder):
    for name in "run", "convert", "inspect", "tokenize", "eval", "bench":
        said = call([os.path.join(folder, "root", "usr", "bin", "infer-" + name), "--version"])
        if args.version not in said:
            raise Failed(f"infer-{name} --version: {said!r}")
        one(os.path.join(folder, "root", "usr", "share", "man", "man1", f"infer-{name}.1.gz"))
        one(os.path.join(folder, "root", "usr", "share", "bash-completion", "completions", f"infer-{name}"))


def library(args, folder):
    root = os.path.join(folder, "root")
    pc = os.path.dirname(one(os.path.join(root, "usr", "lib", "**", "libinfer.pc")))
    env = dict(os.environ, PKG_CONFIG_PATH=pc, PKG_CONFIG_SYSROOT_DIR=root, LD_LIBRARY_PATH=os.path.dirname(pc))
    flags = call(["pkg-config", "--cflags", "--libs", "libinfer"], env=env).split()
    source, program = os.path.join(folder, "version.c"), os.path.join(folder, "version")
    with open(source, "w", encoding="utf-8") as f:
        f.write(PROGRAM % args.version)
    call(["cc", source, "-o", program, *flags])
    call([program], env=env)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    steps = [("meson dist packs what is committed", dist), ("tools/debian/build.sh builds the packages from it", build),
             ("the packages' tools run", tools), ("a program builds with the packages' library", library)]
    missing = [program for program in ("git", "dpkg-buildpackage", "dh", "pkg-config") if not shutil.which(program)]
    if missing or not os.path.exists(os.path.join(ROOT, ".git")):
        print(f"1..0 # SKIP {'there is no ' + ', '.join(missing) if missing else 'not a git checkout'}")
        return 0
    print(f"1..{len(steps)}")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="infer-package-") as folder:
        for number, (name, step) in enumerate(steps, 1):
            try:
                step(args, folder)
                print(f"ok {number} - {name}", flush=True)
            except Failed as e:
                failed += 1
                print(f"not ok {number} - {name}\n" + "\n".join("# " + line for line in str(e).splitlines()), flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
