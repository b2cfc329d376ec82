#!/usr/bin/env python3
"""Runs the cases of statuses.c, and checks that there is one for each status that a header states, and no other. Prints TAP.

usage: statuses.py PROGRAM

What a function may return is said by the comment that begins a line before it: the names of statuses in it, and those of another function after
"Statuses of". INFER_OK need not be named.
"""
import pathlib
import re
import subprocess
import sys

INCLUDE = pathlib.Path(__file__).resolve().parents[2] / "runtime/include/infer"
NAMES = re.compile(r"(?<![A-Z_])(?:INFER_ERROR_)?(ARGUMENT|MEMORY|IO|FORMAT|CORRUPT|UNSUPPORTED|CONTEXT|CANCELLED)(?![A-Z_])")


def stated():
    """{function: statuses}, of all functions of the headers that return one."""
    found = {}
    for header in "infer.h", "infer_experimental.h":
        comment = ""
        for match in re.finditer(r"^/\*.*?\*/|^INFER_API infer_status (\w+)\(", (INCLUDE / header).read_text(), re.M | re.S):
            if match[1]:
                others = re.findall(r"[Ss]tatuses of (infer_\w+)", re.sub(r"\n \*", "", comment))
                found[match[1]] = {"OK", *NAMES.findall(comment), *(status for other in others for status in found[other])}
            else:
                comment = match[0]
    return found


def main():
    process = subprocess.run([sys.argv[1]], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = [line for line in process.stdout.splitlines() if not line.startswith("1..")]
    print("\n".join(lines))
    cases = [tuple(match.groups()) for line in lines if (match := re.match(r"(?:not )?ok \d+ - (infer_\w+): (\w+)$", line))]
    count = sum(re.match("(not )?ok ", line) is not None for line in lines)
    bad = process.returncode != 0
    for function, statuses in stated().items():
        provoked = {status for name, status in cases if name == function}
        count += 1
        bad |= provoked != statuses
        print(f"{'ok' if provoked == statuses else 'not ok'} {count} - {function}: the {len(statuses)} statuses that its header states")
        if provoked != statuses:
            print(f"# not provoked: {sorted(statuses - provoked)}; not stated: {sorted(provoked - statuses)}")
    count += 1
    unknown = {name for name, _ in cases} - set(stated())
    print(f"{'not ok' if unknown else 'ok'} {count} - no other function is called {sorted(unknown) or ''}")
    print(f"1..{count}\n{process.stderr}", end="")
    return bad or bool(unknown)


if __name__ == "__main__":
    sys.exit(main())
