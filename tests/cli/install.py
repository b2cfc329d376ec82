#!/usr/bin/env python3
"""Installs the build into a temporary folder and uses the library as a stranger would. Reports in TAP.

usage: install.py --build FOLDER [--sanitized]

Checks what is installed and exported, that the header compiles alone, and that the example in the header's tour compiles and runs against the
shared and the static library, in C and in C++ with nothing but what pkg-config says, and in a CMake project that finds the package.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

PUPIL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "model", "pupil.infer")
SYMBOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "runtime", "symbols.txt")
STRIPPED_BYTES = 1000000
TOOLS = ["infer-run", "infer-convert", "infer-inspect", "infer-tokenize", "infer-eval", "infer-bench", "infer-distill"]
FILES = ["include/infer/infer.h", "include/infer/infer_experimental.h", "lib*/**/libinfer.so.0", "lib*/**/libinfer.so", "lib*/**/libinfer.a",
         "lib*/**/pkgconfig/libinfer.pc",
         "lib*/**/cmake/libinfer/libinferConfig.cmake", "lib*/**/cmake/libinfer/libinferConfigVersion.cmake", "share/zsh/site-functions/_infer",
         *(f"bin/{tool}" for tool in TOOLS), *(f"share/man/man1/{tool}.1" for tool in TOOLS),
         *(f"share/bash-completion/completions/{tool}" for tool in TOOLS)]
CMAKE_PROJECT = """cmake_minimum_required(VERSION 3.13)
project(next C)
find_package(libinfer 0.1 REQUIRED)
add_executable(shared example.c)
target_link_libraries(shared libinfer::infer)
add_executable(static example.c)
target_link_libraries(static libinfer::infer_static)
"""
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
        self.folder, self.sanitized = folder, args.sanitized
        self.root = os.path.join(folder, "root")
        call(["meson", "install", "-C", args.build, "--no-rebuild", "--quiet", "--destdir", self.root])
        self.headers = [self.find("include/infer/infer.h"), self.find("include/infer/infer_experimental.h")]
        self.header = self.headers[0]
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
        text = ""
        for path in self.headers:
            with open(path, encoding="utf-8") as f:
                text += re.sub(r"/\*.*?\*/", "", f.read(), flags=re.DOTALL)
        return set(re.findall(r"^INFER_API\b[^;(]*?\b(\w+)\(", text, re.MULTILINE))

    def header_lines(self):
        with open(self.header, encoding="utf-8") as f:
            return len(f.readlines())

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


def everything_is_there(installed):
    for pattern in FILES:
        installed.find(pattern)


def only_infer_symbols(installed):
    """The headers, the list of symbols and the library agree. A name that was released stays in the list, or the soname changes."""
    require("nm")
    with open(SYMBOLS, encoding="utf-8") as f:
        lines = f.read().splitlines()
    listed = [line.split()[0] for line in lines]
    if listed != sorted(set(listed)) or not all(re.fullmatch(r"infer_[a-z0-9_]+ \d+\.\d+\.\d+", line) for line in lines):
        raise Failed("symbols.txt: expected sorted lines: a name that begins with infer_, and the version that had it first")
    found = {line.split()[-1].split("@")[0] for line in call(["nm", "-D", "--defined-only", installed.shared]).splitlines()}
    declared = installed.declared()
    for one, other, what in ((found, declared, "exported, but not declared in a header"), (declared, found, "declared in a header, but not exported"),
                             (found, set(listed), "exported, but not in runtime/symbols.txt"), (set(listed), found, "in runtime/symbols.txt, but not exported")):
        if one - other:
            raise Failed(what + ": " + ", ".join(sorted(one - other)))


def short_header(installed):
    lines = installed.header_lines()
    if lines >= 400:
        raise Failed(f"infer.h has {lines} lines, expected less than 400: what is less settled belongs into infer_experimental.h")


def stripped_size(installed):
    require("strip")
    if installed.sanitized:
        raise Skipped("a sanitized library is larger")
    stripped = os.path.join(installed.folder, "stripped.so")
    call(["strip", "-o", stripped, installed.shared])
    size = os.path.getsize(stripped)
    print(f"# the stripped shared library has {size} bytes")
    if size >= STRIPPED_BYTES:
        raise Failed(f"the stripped shared library has {size} bytes, expected less than {STRIPPED_BYTES}")


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
        f.write("#include <infer/infer_experimental.h>\ninfer_events_stats stats;\ninfer_runtime_options runtime_options = INFER_RUNTIME_DEFAULTS;\n"
                "infer_model_options model_options = INFER_MODEL_DEFAULTS;\ninfer_session_options session_options = INFER_SESSION_DEFAULTS;\n"
                "infer_sampler_options sampler_options = INFER_SAMPLER_DEFAULTS;\ninfer_generate_options generate_options = INFER_GENERATE_DEFAULTS;\n")
    call([compiler, standard, *WARNINGS, "-x", name, "-fsyntax-only", *installed.pkg_config("--cflags"), source])


def example_without_model(installed, language, static):
    out, err = installed.run(installed.compile(language, static), os.path.join(installed.folder, "absent.infer"), "Once")
    if out or "absent.infer" not in err or err.count("\n") != 1:
        raise Failed(f"expected one line that names absent.infer, got {out!r}, {err!r}")


def example_with_model(installed, language, static):
    out, err = installed.run(installed.compile(language, static), PUPIL, "Once upon a time")
    if err or not re.fullmatch(r"the most likely next token is \d+\n", out):
        raise Failed(f"unexpected output {out!r}, {err!r}")


def built_in_model(installed):
    """An installed tool tells a story with no other file at hand."""
    out, err = installed.run(installed.find("bin/infer-run"), "-q", "--temp", "0", "-n", "20", "Once upon a time")
    if err or not out.startswith("Once upon a time") or len(out) < 30:
        raise Failed(f"unexpected output {out!r}, {err!r}")


def cmake(installed):
    require("cmake")
    if installed.sanitized:
        raise Skipped("a sanitized library wants a sanitized program")
    source, build = os.path.join(installed.folder, "cmake"), os.path.join(installed.folder, "cmake", "build")
    os.makedirs(build)
    for name, text in (("CMakeLists.txt", CMAKE_PROJECT), ("example.c", installed.example())):
        with open(os.path.join(source, name), "w", encoding="utf-8") as f:
            f.write(text)
    prefix = os.path.dirname(os.path.dirname(installed.find("bin/infer-run")))
    call(["cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_C_COMPILER=gcc"])
    call(["cmake", "--build", build])
    for program in "shared", "static":
        out, err = installed.run(os.path.join(build, program), os.path.join(installed.folder, "absent.infer"), "Once")
        if out or "absent.infer" not in err:
            raise Failed(f"{program}: expected one line that names absent.infer, got {out!r}, {err!r}")
    for version, found in (("0.1", True), ("0.2", False), ("1", False)):
        with open(os.path.join(source, "CMakeLists.txt"), "w", encoding="utf-8") as f:
            f.write(f"cmake_minimum_required(VERSION 3.13)\nproject(next C)\nfind_package(libinfer {version} QUIET)\n"
                    f"if(NOT libinfer_FOUND STREQUAL {1 if found else 0})\nmessage(FATAL_ERROR \"version {version}: ${{libinfer_FOUND}}\")\nendif()\n")
        call(["cmake", "-S", source, "-B", build])


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", required=True)
    parser.add_argument("--sanitized", action="store_true")
    args = parser.parse_args()
    return args


def main():
    args = arguments("installs the build into a temporary folder and uses it, reports in TAP")
    tests = [("everything is there", everything_is_there, ()), ("exported symbols are those of the headers and symbols.txt", only_infer_symbols, ()),
             ("infer.h below 400 lines", short_header, ()), ("the built-in model", built_in_model, ()),
             ("soname", soname, ()), ("stripped shared library below 1 MB", stripped_size, ()), ("CMake finds, compiles and links", cmake, ())]
    for language in LANGUAGES:
        tests.append((f"header alone, {language}", header_alone, (language,)))
        for static in (False, True):
            kind = "static" if static else "shared"
            tests.append((f"example, {language}, {kind}: missing model", example_without_model, (language, static)))
            tests.append((f"example, {language}, {kind}: a model", example_with_model, (language, static)))
    return run_tests(args, tests)


def run_tests(args, tests):
    """Each: its name, a function of the Installed, and its further arguments."""
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
