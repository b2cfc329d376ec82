#!/usr/bin/env python3
"""The table of limits in SECURITY.md against the constants in the sources. Reports in TAP."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def number(text):
    """65,536; 0.9; 1 MiB; 4 Mi."""
    found = re.fullmatch(r"([\d,.]+)(?: ([KMG])i(?:B)?)?", text)
    return float(found.group(1).replace(",", "")) * UNITS[found.group(2) or ""]


def expression(text):
    """1u << 20."""
    if not re.fullmatch(r"[\da-fA-FxuU<().\s]+", text):
        return None
    plain = re.sub(r"(?<=[\da-fA-F])[uf]\b", "", text.strip())
    return float(eval(plain, {"__builtins__": {}}))  # digits, shifts and parentheses only


def constants(path):
    """name: its values."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    found = {}
    for name, value in re.findall(r"^#define (\w+) (.+)$", text, re.MULTILINE) + re.findall(r"\b(\w*MAX\w*) = (\w+)", text):
        if expression(value) is not None:
            found[name] = [expression(value)]
    for name, a, b in re.findall(r"\b(\w+_limits) = \{([^,{}]+), ([^,{}]+)\}", text):
        found[name] = [expression(a), expression(b)]
    return found


def main():
    rows = re.findall(r"^\| (.+?) \| (.+?) \| `(\S+)` `(\w+)` \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    listed, problems = {(path, name) for _, _, path, name in rows}, []
    for what, value, path, name in rows:
        found = constants(ROOT / path).get(name)
        if found != [number(part) for part in value.split(" and ")]:
            problems.append(f"{what}: the table says {value}, {path} has {name} = {found}")
    files = {str(p.relative_to(ROOT)) for folder in ("runtime", "formats") for p in (ROOT / folder).rglob("*.[ch]")} | {path for path, _ in listed}
    missing = sorted((path, name) for path in files for name in constants(ROOT / path)
                     if re.search(r"(^|_)(MAX|LIMIT|LIMITS|LARGEST|limits)(_|$)", name) and (path, name) not in listed)
    print("1..2")
    print(("not ok" if problems or not rows else "ok") + " 1 - each limit in SECURITY.md is that of the source")
    print("\n".join("# " + p for p in problems), end="\n" * bool(problems))
    print(("not ok" if missing else "ok") + " 2 - each limit of the sources is in SECURITY.md")
    print("\n".join(f"# {path}: {name} has no line in the table" for path, name in missing), end="\n" * bool(missing))
    return bool(problems or missing or not rows)


if __name__ == "__main__":
    sys.exit(main())
