#!/usr/bin/env python3
"""Compiles and runs the examples and the README's program against the installed library, and uses it from Python. Reports in TAP.

usage: embedding.py --build FOLDER [--sanitized]
"""
import os
import re
import socket
import subprocess
import sys

from install import PUPIL, Failed, Skipped, WARNINGS, arguments, call, require, run_tests

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
EXAMPLES = os.path.join(ROOT, "tools", "examples")
PROMPT = "Once upon a time"


def build(installed, source, compiler="gcc", standard="-std=c11"):
    require(compiler)
    if installed.sanitized:
        raise Skipped("a sanitized library wants a sanitized program")
    program = os.path.join(installed.folder, os.path.basename(source).split(".")[0])
    call([compiler, standard, *WARNINGS, source, "-o", program, *installed.pkg_config("--cflags", "--libs")])
    return program


def example(installed, name, *options):
    return build(installed, os.path.join(EXAMPLES, name), *options)


def run(installed, *command, text=""):
    done = subprocess.run(command, env=installed.env, input=text, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


def greedy(installed, prompt, n):
    """The continuation, by infer-run."""
    out = call([installed.find("bin/infer-run"), PUPIL, prompt, "-n", str(n), "--temp", "0", "-q", "--no-prompt"])
    return out[:-1]


def expect(found, wanted, what):
    if found != wanted:
        raise Failed(f"{what}: found {found!r}, expected {wanted!r}")


def refuses_absent_model(installed, program, *rest):
    done = subprocess.run([program, "absent.infer", *rest], env=installed.env, input="", capture_output=True, text=True, timeout=60)
    if done.returncode != 1 or "absent.infer" not in done.stderr:
        raise Failed(f"a missing model: exit status {done.returncode}, {done.stderr!r}")


def hello(installed):
    with open(os.path.join(EXAMPLES, "hello.c"), encoding="utf-8") as f:
        expect(len(f.readlines()), 30, "lines of hello.c")
    program = example(installed, "hello.c")
    refuses_absent_model(installed, program, PROMPT)
    expect(run(installed, program, PUPIL, PROMPT)[0].strip(), greedy(installed, PROMPT, 50).strip(), "text")


def chat(installed):
    program = example(installed, "chat.c")
    refuses_absent_model(installed, program)
    out, _ = run(installed, program, PUPIL, "llama2", text="Tell me a story.\nGo on.\n")
    lines = out.splitlines()
    if len(lines) < 2 or not all(line.strip() for line in lines[:2]):
        raise Failed(f"expected two answers: {out!r}")
    again, _ = run(installed, program, PUPIL, "llama2", text="Tell me a story.\n")
    if not out.startswith(again.rstrip("\n")):
        raise Failed(f"the first answer depends on the second message: {again!r}, {out!r}")


def epoll_loop(installed):
    program = example(installed, "epoll_loop.c")
    refuses_absent_model(installed, program, PROMPT)
    prompts = [PROMPT, "Tom had a dog", "The sun"]
    out, err = run(installed, program, PUPIL, *prompts)
    expect(out, "".join(greedy(installed, p, 100) + "\n" for p in prompts), "the three texts")
    if not re.search(r"^\d+ ms passed in the loop$", err, re.MULTILINE):
        raise Failed(f"no clock: {err!r}")


def embed(installed):
    program = example(installed, "embed.cpp", "g++", "-std=c++17")
    refuses_absent_model(installed, program, "a", "b")
    out, _ = run(installed, program, PUPIL, "The dog ran.", "The dog ran.", "The cat ran.", "One two three")
    values = [float(line.split()[0]) for line in out.splitlines()]
    if len(values) != 3 or values[0] != 1 or not 1 > values[1] > values[2]:
        raise Failed(f"expected falling similarities from 1: {out!r}")


def ask(port, line):
    text = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.sendall(line.encode() + b"\n")
        while piece := s.recv(4096):
            text += piece
    return text.decode()


def server(installed):
    program = example(installed, "server.c")
    refuses_absent_model(installed, program, PROMPT)
    lines = [" there was a dog", " there was a girl", " there was a dog"]
    process = subprocess.Popen([program, PUPIL, PROMPT + ",", str(len(lines) + 2)], env=installed.env, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as gone, socket.create_connection(("127.0.0.1", port)) as silent:
            gone.sendall(b" and never\n")
            gone.close()  # before its answer
            answers = [ask(port, line) for line in lines]
            silent.close()
        expect(process.wait(60), 0, "exit status")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if not answers[0] or answers[0] == answers[1] or answers[0] != answers[2]:
        raise Failed(f"unexpected answers: {answers}")


def readme(installed):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        program = re.search(r"^## Embed\n.*?^```c\n(.*?)^```$", f.read(), re.MULTILINE | re.DOTALL).group(1)
    source = os.path.join(installed.folder, "next.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write(program)
    out, err = run(installed, build(installed, source), PUPIL, PROMPT)
    if err or not re.fullmatch(r"the most likely next token is \d+\n", out):
        raise Failed(f"unexpected output {out!r}, {err!r}")


def python(installed):
    if installed.sanitized:
        raise Skipped("a sanitized library wants a sanitized interpreter")
    done = subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_binding.py"), os.path.join(ROOT, "tools"),
                           PUPIL, greedy(installed, PROMPT, 40)], env=dict(installed.env, LIBINFER=installed.shared), capture_output=True, text=True,
                          timeout=300)
    if done.returncode != 0:
        raise Failed(done.stdout + done.stderr)


TESTS = [("hello.c", hello, ()), ("chat.c", chat, ()), ("epoll_loop.c", epoll_loop, ()), ("embed.cpp", embed, ()), ("server.c", server, ()),
         ("the README's program compiles and runs as printed", readme, ()), ("libinfer.py", python, ())]

if __name__ == "__main__":
    sys.exit(run_tests(arguments("examples, the README's program and the Python binding, reports in TAP"), TESTS))
