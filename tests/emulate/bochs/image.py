#!/usr/bin/env python3
"""image.py OUT PROGRAM [ARGUMENT...] <INPUT: the disk of a Bochs run, as machine.c reads it; INPUT becomes the program's standard input."""
import struct
import sys

PAGE, CYLINDER = 4096, 16 * 63 * 512


def padded(data, multiple):
    return data + bytes(-len(data) % multiple)


def main():
    out, program, *arguments = sys.argv[1:]
    with open(program, "rb") as file:
        elf = padded(file.read(), PAGE)
    strings = b"".join(a.encode() + b"\0" for a in [program, *arguments]) + b"\0" + b"\0"
    arguments_offset = PAGE + len(elf)
    given = sys.stdin.buffer.read()
    input_offset = arguments_offset + len(strings)
    header = struct.pack("<8s5Q", b"BOCHSRUN", input_offset + len(given), PAGE, arguments_offset, input_offset, len(given))
    with open(out, "wb") as file:
        file.write(padded(padded(header, PAGE) + elf + strings + given, CYLINDER))


main()
