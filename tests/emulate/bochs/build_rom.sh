#!/bin/bash
# build_rom.sh FOLDER: FOLDER/rom.bin from machine.c, start.S and rom.S, unless it is newer than they are.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
cd "$1"
if [ -f rom.bin ] && [ -z "$(find "$here" -newer rom.bin -name '*.[cS]' -o -newer rom.bin -name '*.ld')" ]; then
    exit 0
fi
gcc -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none -mno-red-zone -mgeneral-regs-only \
    -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -c "$here/machine.c" -o machine.o
gcc -c "$here/start.S" -o start.o
ld -T "$here/machine.ld" -z noexecstack --no-warn-rwx-segments start.o machine.o -o machine.elf
objcopy -O binary machine.elf machine.bin
gcc -c "$here/rom.S" -o rom.o # takes in machine.bin
ld -Ttext=0xffff0000 -e 0 --oformat=binary rom.o -o rom.bin.new
mv rom.bin.new rom.bin
