#!/usr/bin/env python3
"""Counts single test cases in a Meson test log (testlog.json, one JSON object a line).

usage: count_tests.py TESTLOG.json

A test that speaks TAP counts once for each of its test points, another one once. A TAP program that dies, or that reports fewer
points than it planned, counts its missing points as failed. Lists what failed and what was skipped by name, then, as the last line,
"N passed, N failed, N skipped". Exit status 1 when something failed or nothing ran.
"""
import json
import re
import sys

PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*skip\b\s*(.*))?$", re.IGNORECASE)
POINT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*)$")
DIRECTIVE = re.compile(r"\s*#\s*(skip|todo)\S*\s*(.*)$", re.IGNORECASE)
FAILED = {"FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"}


def tap_points(name, lines):
    """(outcome, name, remark) for each test point, and the number planned (None: no plan)."""
    points, planned = [], None
    for line in lines:
        plan = PLAN.match(line)
        if plan:
            planned = int(plan.group(1))
            if planned == 0:
                points.append(("skipped", name, plan.group(2) or "no test points"))
            continue
        point = POINT.match(line)
        if not point:
            continue
        text, remark, outcome = point.group(3), "", "failed" if point.group(1) else "passed"
        directive = DIRECTIVE.search(text)
        if directive:
            text, remark = text[: directive.start()], directive.group(2).strip()
            # A test point that is not done yet says nothing either way: it counts as skipped, never as passed.
            outcome = "skipped"
        text = re.sub(r"\s*\(\d+\.\d+s\)$", "", text).strip()
        points.append((outcome, f"{name}: {text or point.group(2) or '?'}", remark))
    return points, planned


def test_cases(test):
    name, result = test["name"], test["result"]
    lines = test.get("stdout", "").splitlines()
    if any(PLAN.match(line) for line in lines):
        points, planned = tap_points(name, lines)
        missing = max(0, planned - len(points)) if planned is not None else 0
        points += [("failed", f"{name}: a test point that was planned and not reported", "")] * missing
        if result in FAILED and not any(p[0] == "failed" for p in points):
            points.append(("failed", name, f"{result.lower()}, exit status {test.get('returncode')}"))
        return points
    if result == "SKIP":
        reason = lines[-1].strip() if lines else ""
        return [("skipped", name, reason)]
    if result in FAILED:
        return [("failed", name, f"{result.lower()}, exit status {test.get('returncode')}")]
    return [("passed", name, "")]


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) == 2 else 2
    cases = []
    try:
        with open(sys.argv[1], encoding="utf-8") as log:
            for line in log:
                if line.strip():
                    cases += test_cases(json.loads(line))
    except FileNotFoundError:
        print("no test ran: there is no " + sys.argv[1])
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome, name, remark in cases:
        counts[outcome] += 1
        if outcome != "passed":
            print(f"{outcome.upper()} {name}" + (f" ({remark})" if remark else ""))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
