#!/usr/bin/env python3
"""Runs the command-line tests of one .cases file and reports in TAP.

usage: run_cases.py --tools FOLDER [--data FOLDER] [--sanitized] FILE.cases [NAME-PART]

A .cases file is a list of cases, each a line `case NAME` followed by indented lines. `#` starts a comment line.

    needs stories260K | data FILE | user | speed
                                       skip, by name, without that model | that file of the test data | permissions that bind the
                                       command (root gives up its power to ignore them) | a build that is not slowed down by sanitizers
    setup COMMAND                      a shell command that must succeed, in a new empty folder
    run COMMAND                        the shell command under test, in the same folder; its standard input is empty
    status N                           expected exit status (default 0)
    stdout TEXT | file NAME | any      expected standard output: that line (given again: the lines that follow), the content of that
                                       file, or whatever; default: nothing
    stdout has REGEX, stderr has REGEX must be found in it (given again: all of them); "has" alone leaves the rest free
    stderr any                         default for status 0: nothing, and for any other: one line "TOOL: ..."
    writes NAME...                     files the command makes or changes; all others must be there, unchanged, afterwards

In commands, $MODEL is a q8g32 .infer file of stories260K, $BIN and $TOK its source files, $DATA the folder of the test data, $PUPIL
the model inside the tools, which is $MODEL too where stories260K is not there: cases that cannot do with any model say that they need it. The tools are on PATH. Without --data the test data is where INFER_TEST_DATA says, else in ../shared/data beside the checkout.
"""
import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TIMEOUT_SECONDS = 600 # of one command, under sanitizers too
PUPIL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "model", "pupil.infer")
DEFAULT_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "shared", "data")
# Root without the two capabilities that make it ignore file permissions.
BOUND_BY_PERMISSIONS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


class Case:
    def __init__(self, name):
        self.name, self.needs, self.setup, self.run = name, [], [], None
        self.status, self.writes, self.any = 0, set(), set()
        self.exact = {}  # stream -> list of lines
        self.file = {}  # stream -> file name
        self.has = {"stdout": [], "stderr": []}


def parse(path):
    cases = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            word, _, rest = text.partition(" ")
            if not line[0].isspace():
                if word != "case" or not rest or any(c.name == rest for c in cases):
                    sys.exit(f"{path}:{number}: expected 'case NAME', the name used once, found '{text}'")
                cases.append(Case(rest))
                continue
            case = cases[-1]
            first, _, argument = rest.partition(" ")
            if word == "needs":
                case.needs.append(rest)
            elif word == "setup":
                case.setup.append(rest)
            elif word == "run":
                case.run = rest
            elif word == "status":
                case.status = int(rest)
            elif word == "writes":
                case.writes |= set(rest.split())
            elif word in ("stdout", "stderr") and rest == "any":
                case.any.add(word)
            elif word in ("stdout", "stderr") and first == "has":
                case.has[word].append(re.compile(argument, re.MULTILINE))
            elif word == "stdout" and first == "file":
                case.file[word] = argument
            elif word in ("stdout", "stderr"):
                case.exact.setdefault(word, []).append(rest)
            else:
                sys.exit(f"{path}:{number}: unknown line '{text}'")
    return cases


def snapshot(folder):
    """What is in the folder: path -> kind or hash of the content."""
    found = {}
    for at, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(at, name), folder)] = "folder"
        for name in files:
            path = os.path.join(at, name)
            content = b"unreadable"
            if os.access(path, os.R_OK):
                with open(path, "rb") as f:
                    content = f.read()
            found[os.path.relpath(path, folder)] = hashlib.sha256(content).hexdigest()
    return found


def check_stream(case, stream, got, folder, env):
    """A description of what is wrong, or None."""
    if b"\0" in got:
        return f"{stream} holds NUL bytes"
    try:
        text = got.decode()
    except UnicodeDecodeError as e:
        return f"{stream} is not UTF-8: {e}"
    for pattern in case.has[stream]:
        if not pattern.search(text):
            return f"{stream} lacks /{pattern.pattern}/, it is {text!r}"
    if stream in case.file:
        path = os.path.join(folder, case.file[stream].replace("$DATA", env["DATA"]))
        with open(path, encoding="utf-8") as f:
            want = f.read()
    elif stream in case.exact:
        want = "\n".join(case.exact[stream]) + "\n"
    elif stream == "stderr" and case.status != 0 and stream not in case.any:
        tool = next(word for word in case.run.split() if word.startswith("infer-"))
        if not re.fullmatch(re.escape(tool) + r": [^\n]+\n", text):
            return f"stderr is not one line '{tool}: ...', it is {text!r}"
        return None
    elif case.has[stream] or stream in case.any:
        return None
    else:
        want = ""
    return None if text == want else f"{stream} is {text!r}, expected {want!r}"


def run_case(case, env):
    with tempfile.TemporaryDirectory(prefix="infer-cli-") as folder:
        for command in case.setup:
            try:
                done = subprocess.run(["sh", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                                      timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                return [f"setup '{command}': no end after {TIMEOUT_SECONDS} s"]
            if done.returncode != 0:
                return [f"setup '{command}' failed: {done.stderr.decode(errors='replace').strip()}"]
        before = snapshot(folder)
        shell = BOUND_BY_PERMISSIONS + ["sh"] if "user" in case.needs and os.geteuid() == 0 else ["sh"]
        try:
            done = subprocess.run([*shell, "-c", case.run], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"no end after {TIMEOUT_SECONDS} s"]
        problems = []
        if done.returncode != case.status:
            problems.append(f"exit status {done.returncode}, expected {case.status}; stderr {done.stderr.decode(errors='replace')!r}")
        problems += filter(None, (check_stream(case, "stdout", done.stdout, folder, env),
                                  check_stream(case, "stderr", done.stderr, folder, env)))
        after = snapshot(folder)
        for name in sorted(set(before) | set(after)):
            if name in case.writes:
                if before.get(name) == after.get(name):
                    problems.append(f"'{name}' was to be written and was not")
            elif before.get(name) != after.get(name):
                problems.append(f"'{name}' {'was lost or changed' if name in before else 'was left behind'}")
        for name in sorted(case.writes - set(after)):
            problems.append(f"'{name}' was not written")
        # Folders made read-only by a case must not keep the temporary folder from being removed.
        for at, folders, _ in os.walk(folder):
            for name in folders:
                os.chmod(os.path.join(at, name), 0o700)
        return problems


def missing(case, env, have_model, sanitized):
    """Why the case cannot run here, or None."""
    for need in case.needs:
        if need == "stories260K" and not have_model:
            return "stories260K is not at hand"
        if need.startswith("data ") and not os.path.isfile(os.path.join(env["DATA"], need[5:])):
            return f"{need[5:]} is not at hand"
        if need == "user" and os.geteuid() == 0 and subprocess.call(BOUND_BY_PERMISSIONS + ["true"], stderr=subprocess.DEVNULL) != 0:
            return "root cannot give up its powers here"
        if need == "speed" and sanitized:
            return "too long for a build that sanitizers or counters slow down"
    return None


def main():
    parser = argparse.ArgumentParser(description="runs the command-line tests of one .cases file, reports in TAP")
    parser.add_argument("--tools", required=True)
    parser.add_argument("--data", default="")
    parser.add_argument("--sanitized", action="store_true", help="the tools are slowed down by sanitizers or counters")
    parser.add_argument("cases")
    parser.add_argument("part", nargs="?", default="", help="only cases whose name holds this")
    args = parser.parse_args()

    data = os.path.abspath(args.data or os.environ.get("INFER_TEST_DATA") or DEFAULT_DATA)
    source = os.path.join(data, "models", "stories260K")
    env = dict(os.environ, DATA=data, BIN=os.path.join(source, "stories260K.bin"), TOK=os.path.join(source, "tok512.bin"), LC_ALL="C.UTF-8",
               PATH=os.path.abspath(args.tools) + os.pathsep + os.environ["PATH"])
    for name in "INFER_CPU", "INFER_ENERGY":
        env.pop(name, None)
    tools = {word for c in parse(args.cases) for word in c.run.split() if word.startswith("infer-")}
    absent = [t for t in sorted(tools) if not os.access(os.path.join(args.tools, t), os.X_OK)]
    if absent:
        sys.exit(f"{args.tools} lacks {', '.join(absent)}")
    cases = [c for c in parse(args.cases) if args.part in c.name]

    with tempfile.TemporaryDirectory(prefix="infer-cli-model-") as folder:
        env["MODEL"] = os.path.join(folder, "model.infer")
        env["PUPIL"] = os.path.abspath(PUPIL)
        # What was converted, tuned or measured on this machine before must not matter.
        for name in "XDG_CACHE_HOME", "XDG_CONFIG_HOME":
            env[name] = os.path.join(folder, name)
            os.mkdir(env[name])
        have_model = os.path.isfile(env["BIN"]) and os.path.isfile(env["TOK"])
        if have_model:
            subprocess.run(["infer-convert", env["BIN"], "--tokenizer", env["TOK"], "-o", env["MODEL"], "--type", "q8g32"], env=env,
                           check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           timeout=TIMEOUT_SECONDS)
        else:
            shutil.copy(PUPIL, env["MODEL"])
        print(f"1..{len(cases)}")
        failed = 0
        for number, case in enumerate(cases, 1):
            reason = missing(case, env, have_model, args.sanitized)
            started = time.monotonic()
            if reason:
                print(f"ok {number} - {case.name} # SKIP {reason}", flush=True)
                continue
            problems = run_case(case, env)
            failed += bool(problems)
            print(f"{'not ok' if problems else 'ok'} {number} - {case.name} ({time.monotonic() - started:.2f}s)")
            for problem in problems:
                print(f"# {problem}")
            if problems:
                print(f"# command: {case.run}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
