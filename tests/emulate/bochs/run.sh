#!/bin/bash
# run.sh MODEL PROGRAM [ARGUMENT...]: a static x86-64 executable on a Bochs CPU model, without an operating system (machine.c serves its
# system calls). It gets the whole of standard input; its standard output, standard error and exit status come back; 132 is an instruction that the model lacks, 125 and 126 are
# failures of the emulation itself. "bochs --help cpu" lists the models.
#   BOCHS          the binary; default: Debian's
#   BOCHS_ROM      rom.bin as build_rom.sh made it
#   BOCHS_TIMEOUT  seconds, default 300
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 2 ] || { echo 'usage: run.sh MODEL PROGRAM [ARGUMENT...]' >&2; exit 125; }
model=$1
shift
bochs=${BOCHS:-/usr/bin/bochs-bin}
folder=$(mktemp -d "${TMPDIR:-/tmp}/bochs.XXXXXX") || exit 125
trap 'rm -rf "$folder"' EXIT
python3 "$here/image.py" "$folder/disk" "$@" || exit 125
touch "$folder/out" "$folder/err" "$folder/end"
# Debian's build has the debugger, which waits for a command, and no display but a terminal; ours has neither.
command=("$bochs" -q -f "$folder/bochsrc")
display=nogui
if [ "$bochs" = /usr/bin/bochs-bin ]; then
    printf 'c\nquit\n' >"$folder/debugger"
    command=(script -qec "$bochs -q -f $folder/bochsrc -rc $folder/debugger" /dev/null)
    display=term
fi
cat >"$folder/bochsrc" <<EOF
display_library: $display
cpu: model=$model, count=1, ips=5000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1536, host=1536
romimage: file=${BOCHS_ROM:?}, address=0xffff0000
vgaromimage: file=/usr/share/vgabios/vgabios.bin
com1: enabled=1, mode=file, dev=$folder/out
com2: enabled=1, mode=file, dev=$folder/err
com3: enabled=1, mode=file, dev=$folder/end
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="$folder/disk", mode=flat, cylinders=0, heads=16, spt=63
ata1: enabled=0
clock: sync=none
log: $folder/log
panic: action=fatal
error: action=report
info: action=ignore
EOF
TERM=vt100 timeout -k 5 "${BOCHS_TIMEOUT:-300}" "${command[@]}" </dev/null >"$folder/terminal" 2>&1
result=$?
cat "$folder/out"
cat "$folder/err" >&2
word='' status=''
read -r word status <"$folder/end"
[ "$word" = exit ] && exit "$status"
echo "bochs/run.sh: the machine stopped without an exit status (Bochs: $result)" >&2
tail -3 "$folder/log" >&2
exit 125
