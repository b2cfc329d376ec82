#!/usr/bin/env python3
"""GGUF models in several files: opened by any part they are the model in one file, and what does not belong together is one clear error."""
import argparse
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

from importing import Run, check, finish, gguf, llama_gguf

COUNT = 3
RANDOM = random.Random(1)
VALUES, TENSORS = llama_gguf(8, 12, 2, 7, layers=2, fill=lambda n: struct.pack(f"<{n // 4}f", *(RANDOM.gauss(0, 1) for _ in range(n // 4))))
VALUES["general.name"] = "tiny"
NAMES = list(TENSORS)


def part_name(number, count=COUNT):
    return f"model-{number + 1:05}-of-{count:05}.gguf"


def parts(cuts=(0, 5, 9, len(NAMES)), change=None):
    """{file name: [values, tensors]}; the model's values in the first."""
    out = {}
    for i, (first, end) in enumerate(zip(cuts, cuts[1:])):
        values = {**(VALUES if i == 0 else {}), "split.no": i, "split.count": COUNT, "split.tensors.count": len(NAMES)}
        out[part_name(i)] = [values, {name: TENSORS[name] for name in NAMES[first:end]}]
    if change:
        change(out)
    return out


def write(run, files):
    for old in run.folder.glob("*.gguf"):
        old.unlink()
    for name, (values, tensors) in files.items():
        (run.folder / name).write_bytes(gguf(values, tensors))


def hashes(file):
    return {name: (t.rows, t.cols, t.hash) for name, t in file.tensors.items()}


def good_cases(run):
    def one_file(values):
        write(run, {"model.gguf": [{**VALUES, **values}, TENSORS]})
        return run.good(run.folder / "model.gguf")

    whole = one_file({})

    def same(cuts, opened):
        write(run, parts(cuts))
        file = run.good(run.folder / part_name(opened))
        assert hashes(file) == hashes(whole)
        assert file.metadata == {**whole.metadata, "source": {"format": "gguf", "file": part_name(0)}}, file.metadata

    for i in range(COUNT):
        check(f"opened by part {i + 1}", same, (0, 5, 9, len(NAMES)), i)
        check(f"opened by part {i + 1}, the first without tensors", same, (0, 0, 1, len(NAMES)), i)
    for count in 0, 1:
        def alone():
            file = one_file({"split.no": 0, "split.count": count, "split.tensors.count": len(NAMES)})
            assert hashes(file) == hashes(whole)
        check(f"split.count {count}: a file like others, of any name", alone)


def bad_cases(run):
    def case(name, expected, change=None, prepare=None, opened=1):
        def body():
            write(run, parts(change=change))
            if prepare:
                prepare(run.folder)
            run.bad(run.folder / part_name(opened), expected)
        check(name, body)

    def value(number, key, v):
        return lambda files: files[part_name(number)][0].update({key: v})

    def without(number, key):
        return lambda files: files[part_name(number)][0].pop(key)

    def rename(folder):
        (folder / part_name(1)).rename(folder / "second.gguf")

    for i in 0, 2:
        case(f"part {i + 1} is missing", f"{part_name(i)}: No such file", prepare=lambda f: (f / part_name(i)).unlink())
        case(f"part {i + 1} is no GGUF", f"{part_name(i)}: not a GGUF file", prepare=lambda f: (f / part_name(i)).write_bytes(b"GGML" * 99))
        case(f"part {i + 1} ends early", part_name(i), prepare=lambda f: (f / part_name(i)).write_bytes((f / part_name(i)).read_bytes()[:-100]))
        case(f"part {i + 1} is empty", part_name(i), prepare=lambda f: (f / part_name(i)).write_bytes(b""))
        case(f"part {i + 1} is a copy of part 2", f"{part_name(i)}: split.no 1, split.count 3", prepare=lambda f: (f / part_name(i)).write_bytes(
            (f / part_name(1)).read_bytes()))
        case(f"part {i + 1} is of no split model", f"{part_name(i)}: split.no 0, split.count 0", without(i, "split.count"))
        case(f"part {i + 1} is of a model in four parts", f"{part_name(i)}: split.no {i}, split.count 4", value(i, "split.count", 4))
        case(f"part {i + 1} is of a model with more tensors", "split.tensors.count 99, expected", value(i, "split.tensors.count", 99))
        case(f"part {i + 1} does not say which it is", f"{part_name(i)}: key split.no is missing", without(i, "split.no"))
        case(f"part {i + 1} does not say how many tensors there are", "key split.tensors.count is missing", without(i, "split.tensors.count"))
    case("a part number beyond the count", "split.no: found 3, expected at most 2", value(1, "split.no", 3))
    case("a part with another's number", f"{part_name(1)}: a part of a split model, expected a name that ends in -00001-of-00003", value(1, "split.no", 0))
    case("too many parts", "split.count: found 4000000000, expected at most 512", value(1, "split.count", 4000000000))
    case("a count that is text", "split.count: value of type 8", value(1, "split.count", "3"))
    case("a tensor in two parts", f"{part_name(2)}: tensor {NAMES[0]} is in an earlier part, too", lambda files: (
        files[part_name(2)][1].update({NAMES[0]: TENSORS[NAMES[0]]}), files[part_name(2)][1].pop(NAMES[-1])))
    for number, words in ((len(NAMES) - 1, "more tensors up to this part"), (len(NAMES) + 1, f"{len(NAMES)} tensors in its 3 parts")):
        case(f"{number} tensors, it says", words, lambda files: [v[0].update({"split.tensors.count": number}) for v in files.values()])
    case("the model's keys in another part", "key general.architecture is missing", lambda files: (
        files[part_name(0)][0].pop("general.architecture"), files[part_name(1)][0].update({"general.architecture": "llama"})))

    def renamed():
        write(run, parts())
        rename(run.folder)
        run.bad(run.folder / "second.gguf", "expected a name that ends in -00002-of-00003.gguf")
        run.bad(run.folder / part_name(0), f"{part_name(1)}: No such file")

    check("a part under another name", renamed)


def cache_cases(run):
    """infer-run converts a split model once, and again when any of its parts is another one."""
    cache = run.folder / "cache"

    def converted(opened):
        p = subprocess.run([run.convert.with_name("infer-run"), run.folder / part_name(opened), "--tokenizer", run.tokenizer, "é", "-n", "1"],
                           capture_output=True, timeout=60, env={**os.environ, "XDG_CACHE_HOME": str(cache)})
        assert p.returncode == 0, p.stderr.decode()
        return b"was converted" in p.stderr

    def once():
        write(run, parts())
        (run.folder / "model-00001-of-00009.gguf").write_bytes(b"of another model")
        assert converted(0) and not converted(0)
        (run.folder / "model-00001-of-00009.gguf").write_bytes(b"of another model, and longer")
        assert not converted(0)

    def touched(number, opened):
        part = run.folder / part_name(number)
        converted(opened)
        os.utime(part, ns=(part.stat().st_atime_ns, part.stat().st_mtime_ns + 1))
        assert converted(opened) and not converted(opened)

    check("cache: once, whatever becomes of another model's parts", once)
    for i in range(COUNT):
        check(f"cache: again after part {i + 1} was written", touched, i, 0)
    check("cache: opened by part 2, again after part 3 was written", touched, 2, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.tools, pathlib.Path(folder), 7)
        good_cases(run)
        bad_cases(run)
        cache_cases(run)
    return finish()


sys.exit(main())
