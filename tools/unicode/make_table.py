#!/usr/bin/env python3
"""Writes runtime/text/unicode_table.h from Unicode's UnicodeData.txt (Debian: unicode-data, /usr/share/unicode/UnicodeData.txt).

Usage: make_table.py UnicodeData.txt > runtime/text/unicode_table.h
The classes are general categories L* (letters) and N* (numbers). Each entry is (last code point of a run) * 4 + class: what lies after
the previous entry, up to this one, has this class (0: neither).
"""
import sys

LETTER, NUMBER = 1, 2


def classes(path):
    table = bytearray(0x110000)
    first = None
    with open(path, encoding="ascii") as lines:
        for line in lines:
            field = line.split(";")
            code, name = int(field[0], 16), field[1]
            kind = {"L": LETTER, "N": NUMBER}.get(field[2][0], 0)
            if name.endswith(", First>"):
                first = code
            for c in range(first if name.endswith(", Last>") else code, code + 1):
                table[c] = kind
    return table


def main():
    table = classes(sys.argv[1])
    runs = [c << 2 | table[c] for c in range(0x110000) if c == 0x10FFFF or table[c] != table[c + 1]]
    print("/* Made by tools/unicode/make_table.py from UnicodeData.txt: do not edit. Letters (1) and numbers (2): see the script. */")
    print("static const uint32_t unicode_runs[%d] = {" % len(runs))
    for i in range(0, len(runs), 12):
        print("    " + ", ".join("0x%x" % r for r in runs[i:i + 12]) + ",")
    print("};")


if __name__ == "__main__":
    main()
