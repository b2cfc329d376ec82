#!/usr/bin/env python3
"""Installs the build into a temporary folder and uses the library as a stranger would. Reports in TAP.

usage: install.py --build FOLDER [--data FOLDER] [--sanitized]

Checks what is exported, that the header compiles alone, and that the example in the header's tour compiles and runs against the
shared and the static library, in C and in C++, with nothing but what pkg-config says.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

DEFAULT_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "shared", "data")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
LANGUAGES = {"C11": ("gcc", "c", "-std=c11"), "C++17": ("g++", "c++", "-std=c++17")}


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def call(command, env=None):
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def require(program):
    if not shutil.which(program):
        raise Skipped(f"there is no {program}")


class Installed:
    """The library in its temporary folder."""

    def __init__(self, args, folder):
        self.folder, self.data, self.sanitized = folder, args.data, args.sanitized
        self.root = os.path.join(folder, "root")
        call(["meson", "install", "-C", args.build, "--no-rebuild", "--quiet", "--destdir", self.root])
        self.header = self.find("include/infer/infer.h")
        self.shared = os.path.realpath(self.find("lib*/**/libinfer.so"))
        self.static = self.find("lib*/**/libinfer.a")
        self.env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(self.find("lib*/**/libinfer.pc")), PKG_CONFIG_SYSROOT_DIR=self.root)
        self.env["LD_LIBRARY_PATH"] = os.path.dirname(self.shared)

    def find(self, pattern):
        for path in glob.glob(os.path.join(self.root, "**", pattern), recursive=True):
            return path
        raise Failed(f"nothing was installed as {pattern}")

    def pkg_config(self, *options):
        return call(["pkg-config", *options, "libinfer"], self.env).split()

    def declared(self):
        with open(self.header, encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.DOTALL)
        return set(re.findall(r"^INFER_API\b[^;(]*?\b(\w+)\(", text, re.MULTILINE))

    def example(self):
        """The program in the header's opening comment."""
        with open(self.header, encoding="utf-8") as f:
            lines = f.read().split("*/")[0].splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(" *   #include"))
        end = next(i for i, line in enumerate(lines) if line == " *   }")
        return "\n".join(line[5:] for line in lines[start : end + 1]) + "\n"

    def compile(self, language, static):
        compiler, name, standard = LANGUAGES[language]
        require(compiler)
        if self.sanitized:
            raise Skipped("a sanitized library wants a sanitized program")
        source, program = os.path.join(self.folder, "example." + name), os.path.join(self.folder, "example")
        with open(source, "w", encoding="utf-8") as f:
            f.write(self.example())
        libraries = self.pkg_config("--libs", *(["--static"] if static else []))
        if static:
            libraries = ["-l:libinfer.a" if library == "-linfer" else library for library in libraries]
        call([compiler, standard, *WARNINGS, "-x", name, source, "-x", "none", "-o", program, *self.pkg_config("--cflags"), *libraries])
        return program

    def run(self, program, *arguments):
        done = subprocess.run([program, *arguments], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise Failed(f"the example ended with status {done.returncode}: {done.stderr}")
        return done.stdout, done.stderr


def only_infer_symbols(installed):
    require("nm")
    found = {line.split()[-1].split("@")[0] for line in call(["nm", "-D", "--defined-only", installed.shared]).splitlines()}
    declared = installed.declared()
    if not declared:
        raise Failed("infer.h declares nothing")
    if found - declared:
        raise Failed("exported, but not declared in infer.h: " + ", ".join(sorted(found - declared)))
    if declared - found:
        raise Failed("declared in infer.h, but not exported: " + ", ".join(sorted(declared - found)))
    strange = [name for name in found if not name.startswith("infer_")]
    if strange:
        raise Failed("exported without the prefix infer_: " + ", ".join(sorted(strange)))


def soname(installed):
    require("objdump")
    found = re.search(r"SONAME\s+(\S+)", call(["objdump", "-p", installed.shared]))
    if not found or found.group(1) != "libinfer.so.0":
        raise Failed(f"the soname is {found and found.group(1)}, expected libinfer.so.0")


def header_alone(installed, language):
    compiler, name, standard = LANGUAGES[language]
    require(compiler)
    source = os.path.join(installed.folder, "alone." + name)
    with open(source, "w", encoding="utf-8") as f:
        f.write("#include <infer/infer.h>\ninfer_runtime_options runtime_options = INFER_RUNTIME_DEFAULTS;\n"
                "infer_model_options model_options = INFER_MODEL_DEFAULTS;\ninfer_session_options session_options = INFER_SESSION_DEFAULTS;\n"
                "infer_sampler_options sampler_options = INFER_SAMPLER_DEFAULTS;\n")
    call([compiler, standard, *WARNINGS, "-x", name, "-fsyntax-only", *installed.pkg_config("--cflags"), source])


def example_without_model(installed, language, static):
    out, err = installed.run(installed.compile(language, static), os.path.join(installed.folder, "absent.infer"), "Once")
    if out or "absent.infer" not in err or err.count("\n") != 1:
        raise Failed(f"expected one line that names absent.infer, got {out!r}, {err!r}")


def example_with_model(installed, language, static):
    source = os.path.join(installed.data, "models", "stories260K")
    model = os.path.join(installed.folder, "model.infer")
    if not os.path.isfile(os.path.join(source, "stories260K.bin")):
        raise Skipped("stories260K is not at hand")
    program = installed.compile(language, static)
    if not os.path.exists(model):
        call([installed.find("bin/infer-convert"), os.path.join(source, "stories260K.bin"), "--tokenizer", os.path.join(source, "tok512.bin"),
              "-o", model, "--type", "f32"])
    out, err = installed.run(program, model, "Once upon a time")
    if err or not re.fullmatch(r"the most likely next token is \d+\n", out):
        raise Failed(f"unexpected output {out!r}, {err!r}")


def main():
    parser = argparse.ArgumentParser(description="installs the build into a temporary folder and uses it, reports in TAP")
    parser.add_argument("--build", required=True)
    parser.add_argument("--data", default="")
    parser.add_argument("--sanitized", action="store_true")
    args = parser.parse_args()
    args.data = args.data or os.environ.get("INFER_TEST_DATA") or DEFAULT_DATA

    tests = [("exported symbols are those of infer.h", only_infer_symbols, ()), ("soname", soname, ())]
    for language in LANGUAGES:
        tests.append((f"header alone, {language}", header_alone, (language,)))
        for static in (False, True):
            kind = "static" if static else "shared"
            tests.append((f"example, {language}, {kind}: missing model", example_without_model, (language, static)))
            tests.append((f"example, {language}, {kind}: a model", example_with_model, (language, static)))

    print(f"1..{len(tests)}")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="infer-install-") as folder:
        try:
            installed = Installed(args, folder)
        except Failed as e:
            print("Bail out! " + str(e).replace("\n", " "))
            return 1
        for number, (name, test, arguments) in enumerate(tests, 1):
            try:
                test(installed, *arguments)
                print(f"ok {number} - {name}", flush=True)
            except Skipped as e:
                print(f"ok {number} - {name} # SKIP {e}", flush=True)
            except Failed as e:
                failed += 1
                print(f"not ok {number} - {name}")
                print("\n".join("# " + line for line in str(e).splitlines()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
