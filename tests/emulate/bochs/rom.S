/* The 64 KiB ROM: from reset to 64-bit mode on an identity map of 4 GiB, then copies machine.bin to 1 MiB and jumps there. */
    .text
    .code16
start:
    cli
    lgdtl %cs:(gdt_pointer - start)
    movl %cr0, %eax
    orl $1, %eax
    andl $0x9fffffff, %eax      /* caches on */
    movl %eax, %cr0
    ljmpl $0x08, $protected

    .code32
protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $0x9000, %esp
    /* Page tables: PML4 at 0x1000, PDPT at 0x2000, four directories of 2 MiB pages from 0x3000 on. */
    cld
    xorl %eax, %eax
    movl $0x1000, %edi
    movl $0x1800, %ecx
    rep stosl
    movl $0x2003, 0x1000
    movl $0x3003, 0x2000
    movl $0x4003, 0x2008
    movl $0x5003, 0x2010
    movl $0x6003, 0x2018
    movl $0x3000, %edi
    movl $0x83, %eax
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    cmpl $0x7000, %edi
    jne 1b
    movl $0x1000, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax             /* PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x101, %eax            /* long mode, SYSCALL */
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x18, $long_mode

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ss
    movl $0x1f0000, %esp
    movl $machine, %esi
    movl $0x100000, %edi
    movl $(machine_end - machine), %ecx
    rep movsb
    movl $0x100000, %eax
    jmp *%rax

    .balign 16
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08: 32-bit code */
    .quad 0x00cf93000000ffff    /* 10: data */
    .quad 0x00af9b000000ffff    /* 18: 64-bit code */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .balign 16
machine:
    .incbin "machine.bin"
machine_end:

    .org 0xfff0                 /* the reset vector */
    .code16
reset:
    .byte 0xe9
    .word (start - (reset + 3)) & 0xffff
    .org 0x10000
