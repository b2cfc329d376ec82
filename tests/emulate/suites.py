#!/usr/bin/env python3
"""suites.py --build FOLDER SUITE...: runs the static TAP programs on emulated CPUs; see run.sh, which builds them.

A CPU is named with the best level it has: same-bits fails when the dispatch finds another one, and an instruction that the CPU lacks ends
the program, so every run is also a test that nothing stands outside the dispatch.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = ["--seed", "20240229"]  # the same cases every time; the native run takes others
TIMEOUT = 3600
DATA = os.environ.get("INFER_TEST_DATA") or os.path.join(HERE, "..", "..", "..", "shared", "data")
CHECKPOINT = os.path.join(DATA, "models", "stories260K", "stories260K.bin")  # standard input of full-logits


class Run(NamedTuple):
    suite: str
    emulator: str  # a key of EMULATORS
    cpu: str
    program: str
    arguments: list


def same_bits(suite, emulator, cpu, level):
    return Run(suite, emulator, cpu, "same-bits", [level])


def full_logits(suite, emulator, cpu, *arguments):
    return Run(suite, emulator, cpu, "full-logits", list(arguments))


def conformance(suite, emulator, cpu, *arguments):
    return Run(suite, emulator, cpu, "conformance", SEED + list(arguments))


RUNS = [
    # Everything on the plainest CPU, so that nothing newer is hidden anywhere; on the others what they add.
    conformance("arm64", "qemu-aarch64", "cortex-a53"),
    same_bits("arm64", "qemu-aarch64", "cortex-a53", "neon"),
    full_logits("arm64", "qemu-aarch64", "cortex-a53", "neon"),
    same_bits("arm64", "qemu-aarch64", "neoverse-n1", "neon-dotprod"),
    full_logits("arm64", "qemu-aarch64", "neoverse-n1", "neon-dotprod"),
    conformance("arm64", "qemu-aarch64", "neoverse-n1", "--level", "neon-dotprod"),
    same_bits("arm64", "qemu-aarch64", "max,sve=off", "neon-i8mm"),
    full_logits("arm64", "qemu-aarch64", "max,sve=off", "neon-i8mm"),
    conformance("arm64", "qemu-aarch64", "max,sve=off", "--level", "neon-dotprod"),
    same_bits("arm64", "qemu-aarch64", "max", "neon-i8mm"),
    # x86-64 without any AVX: the first one has SSE2 and nothing else.
    same_bits("x86", "bochs", "athlon64_clawhammer", "ref"),
    same_bits("x86", "bochs", "corei7_sandy_bridge_2600k", "ref"),
    same_bits("x86", "bochs", "corei7_haswell_4770", "avx2"),
    full_logits("x86", "bochs", "corei7_haswell_4770", "avx2", "f32"),
    same_bits("x86", "bochs", "corei7_skylake_x", "avx512"),
    full_logits("x86", "bochs", "corei7_skylake_x", "avx512", "f32"),
    same_bits("x86", "bochs", "tigerlake", "avx512vnni"),
    full_logits("x86", "bochs", "tigerlake", "avx512vnni", "f32"),
    conformance("x86", "qemu-x86_64", "Nehalem", "--filter", "unit"),
    conformance("slow", "qemu-x86_64", "Nehalem"),
    conformance("slow", "bochs3", "corei7_haswell_4770", "--level", "avx2"),
    conformance("slow", "bochs3", "corei7_skylake_x", "--level", "avx512"),
    conformance("slow", "bochs3", "tigerlake", "--level", "avx512vnni"),
    same_bits("slow", "bochs3", "sapphire_rapids", "avx512vnni"),
    same_bits("slow", "bochs3", "arrow_lake", "avxvnni"),
    full_logits("slow", "bochs3", "arrow_lake", "avxvnni"),
    full_logits("slow", "bochs3", "corei7_haswell_4770", "avx2"),
    full_logits("slow", "bochs3", "corei7_skylake_x", "avx512"),
    full_logits("slow", "bochs3", "tigerlake", "avx512vnni"),
    conformance("slow", "bochs3", "arrow_lake", "--level", "avxvnni"),
]

# Name: (architecture, the program that must be there, relative to the build folder where it is not on the path)
EMULATORS = {
    "qemu-aarch64": ("arm64", "qemu-aarch64"),
    "qemu-x86_64": ("x86", "qemu-x86_64"),
    "bochs": ("x86", "bochs-bin"),
    "bochs3": ("x86", "bochs-3.0/bochs"),
}

PLAN = re.compile(r"^1\.\.(\d+)$")
POINT = re.compile(r"^(not )?ok\b\s*\d*\s*(?:-\s*)?(.*)$")


def command_of(run, build):
    """(command, environment) or the name of what is missing."""
    architecture, needed = EMULATORS[run.emulator]
    path = os.path.join(build, needed) if "/" in needed else shutil.which(needed)
    folder = "conformance" if run.program == "conformance" else "emulate"
    program = os.path.join(build, architecture, "tests", folder, run.program + "-static")
    environment = dict(os.environ)
    if run.program == "full-logits" and not os.path.exists(CHECKPOINT):
        return None, os.path.basename(CHECKPOINT)
    if not path or not os.path.exists(path):
        return None, needed
    if not os.path.exists(program):
        return None, os.path.relpath(program, build)
    if run.emulator.startswith("bochs"):
        environment.update(BOCHS=path, BOCHS_ROM=os.path.join(build, "rom", "rom.bin"), BOCHS_TIMEOUT=str(TIMEOUT))
        return [os.path.join(HERE, "bochs", "run.sh"), run.cpu, program, *run.arguments], environment
    return [path, "-cpu", run.cpu, program, *run.arguments], environment


def points_of(output, status, errors):
    """[(ok, text, remark)]: every test point that was planned, those that never came as failed. Levels the CPU lacks are left out: that it
    lacks them is what it was chosen for."""
    points, planned = [], None
    for line in output.splitlines():
        plan, point = PLAN.match(line), POINT.match(line)
        if plan:
            planned = int(plan.group(1))
        elif point:
            text, _, directive = point.group(2).partition(" # ")
            points.append((not point.group(1), text, directive))
        elif points and line.startswith("#") and not points[-1][0]:
            points[-1] = (False, points[-1][1], points[-1][2] + line[1:])
    reason = f"exit status {status}. {' '.join(errors.split())[-300:]}"
    if planned is None or len(points) != planned:
        points.append((False, f"{len(points)} test points of {planned} were reported", reason))
    elif status != 0 and all(ok for ok, _, _ in points):
        points.append((False, "the program ended well", reason))
    return [point for point in points if not point[2].startswith("SKIP")]


def execute(run, build):
    command, environment = command_of(run, build)
    if command is None:
        return None, environment, 0
    start = time.monotonic()
    try:
        with open(CHECKPOINT if run.program == "full-logits" else os.devnull, "rb") as given:
            done = subprocess.run(command, env=environment, stdin=given, capture_output=True, text=True, timeout=TIMEOUT + 60)
        points = points_of(done.stdout, done.returncode, done.stderr)
    except subprocess.TimeoutExpired:
        points = [(False, "the program ended", f"{TIMEOUT} seconds")]
    return points, None, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("suites", nargs="+")
    options = parser.parse_args()
    runs = [run for run in RUNS if run.suite in options.suites]
    number = passed = failed = skipped = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for run, (points, missing, seconds) in zip(runs, pool.map(lambda run: execute(run, options.build), runs)):
            name = f"{run.cpu} {run.program}"
            if points is None:
                number, skipped = number + 1, skipped + 1
                print(f"ok {number} - {name} {' '.join(run.arguments)} # SKIP no {missing}", flush=True)
                continue
            for ok, text, remark in points:
                number, passed, failed = number + 1, passed + ok, failed + (not ok)
                print(f"{'ok' if ok else 'not ok'} {number} - {name}: {text}" + (f"\n# {remark}" if remark else ""))
            print(f"# {name} {' '.join(run.arguments)}: {len(points)} test points, {seconds:.1f} s", flush=True)
    print(f"1..{number}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
