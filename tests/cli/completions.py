#!/usr/bin/env python3
"""Completions and man pages against what the tools say themselves. Reports in TAP.

usage: completions.py --tools FOLDER

Options: bash and zsh must offer those of --help, no more and no fewer, and the man page must have each. Values: those that the tool lists
when it is given a wrong one.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOLS = ["infer-run", "infer-convert", "infer-inspect", "infer-tokenize", "infer-eval", "infer-bench", "infer-distill"]
# Option: a command line on which a wrong value shows the right ones.
VALUES = {("infer-convert", "--type"): ["IN", "-o", "OUT", "--type", "?"], ("infer-run", "--kv"): ["--kv", "?", "MODEL", "x"],
          ("infer-run", "--cpu"): ["--cpu", "?", "MODEL", "x"], ("infer-run", "--energy"): ["--energy", "?", "MODEL", "x"],
          ("infer-eval", "--task"): ["--task", "?", "--data", "x", "MODEL"], ("infer-bench", "--shape"): ["--shape", "?", "--type", "f32"],
          ("infer-run", "--chat-template"): ["--chat", "--chat-template", "?", "MODEL", "x"]}

BASH = """source "$1"; shift; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _infer "$1"; printf '%s\\n' "${COMPREPLY[@]}" """
# The functions of zsh's completion system that _infer calls, made to print what they get; $found: "-x:what it does".
ZSH = """
function _call_program { shift; "$@"; }
function _describe { print -rl -- ${found%%:*}; }
function _files { print files; }
function compadd { print -rl -- $values; }
file=$1; shift; words=("$@"); CURRENT=$#; source $file
"""


class Failed(Exception):
    pass


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env={**os.environ, "INFER_ENERGY": "off"})


def options_of(tool):
    """Every option at the beginning of a line of --help."""
    found = set()
    for line in run(tool, "--help").stdout.splitlines():
        if re.match(r"  (-\w, --|    --)", line):
            found |= set(re.findall(r"^\s*(-\w)\b", line)) | set(re.findall(r"^[^-]*(?:-\w, )?(--[\w-]+)", line))
    if "--help" not in found:
        raise Failed(f"--help lists {found}")
    return found


def completed(shell, *words):
    if shell == "bash":
        done = run("bash", "--norc", "-c", BASH, "bash", ROOT / "tools/completions/infer.bash", *words)
    else:
        done = run("zsh", "-f", "-c", ZSH, "zsh", ROOT / "tools/completions/_infer", *words)
    if done.stderr:
        raise Failed(done.stderr)
    return set(done.stdout.split())


def same(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: missing {sorted(expected - found)}, too many {sorted(found - expected)}")


def options(tools, shell):
    for name in TOOLS:
        same(completed(shell, tools / name, "-"), options_of(tools / name), name)


def values(tools, shell, model):
    for (name, option), command in VALUES.items():
        said = run(tools / name, *[model if word in ("MODEL", "IN") else word for word in command]).stderr
        listed = re.search(r"expected (?:one of |TYPE or GLOB=TYPE with a type of )?(.*); see", said)
        if not listed:
            raise Failed(f"{name} {option} ?: {said}")
        expected = {word for word in re.split(r"[ ,]+|\bor\b", listed.group(1).replace("...", "")) if word}
        same(completed(shell, tools / name, option, ""), expected, f"{name} {option}")


def files(tools, shell):
    found = completed(shell, tools / "infer-run", str(ROOT / "mes"))
    if found != ({str(ROOT / "meson.build"), str(ROOT / "meson_options.txt")} if shell == "bash" else {"files"}):
        raise Failed(f"found {found}")


def man_page(tools, name):
    page = (ROOT / "tools/man" / (name + ".1")).read_text().replace("\\-", "-")
    missing = sorted(option for option in options_of(tools / name) if not re.search(r"(Fl|,) " + re.escape(option[1:]) + r"(?![\w-])", page))
    if missing:
        raise Failed(f"not in {name}.1: {', '.join(missing)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True, type=pathlib.Path)
    tools = parser.parse_args().tools
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, str(ROOT / "tests/formats"))
        import importing
        source, model = pathlib.Path(folder) / "m.gguf", pathlib.Path(folder) / "m.infer"
        metadata, tensors = importing.llama_gguf(32, 16, 2, 3)
        metadata.update({"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["?", "a", "b"], "tokenizer.ggml.scores": [0.0, 0.0, 0.0]})
        source.write_bytes(importing.gguf(metadata, tensors))
        run(tools / "infer-convert", source, "-o", model)
        cases = [(f"{name}.1 has every option", None, man_page, (tools, name)) for name in TOOLS]
        for shell in "bash", "zsh":
            cases += [(f"{shell}: options", shell, options, (tools, shell)), (f"{shell}: values", shell, values, (tools, shell, model)),
                      (f"{shell}: files", shell, files, (tools, shell))]
        print(f"1..{len(cases)}")
        failed = 0
        for number, (name, needed, test, arguments) in enumerate(cases, 1):
            if needed and not shutil.which(needed):
                print(f"ok {number} - {name} # SKIP there is no {needed}")
                continue
            try:
                test(*arguments)
                print(f"ok {number} - {name}")
            except Failed as e:
                failed += 1
                print(f"not ok {number} - {name}\n# {' '.join(str(e).split())}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
