/* Entries of machine.c: from the ROM, from SYSCALL, from exceptions, and the way into the program. All in ring 0. */
    .section .text.start, "ax"
    .globl start
start:
    cld
    xorl %ebp, %ebp
    call machine_main
1:  hlt
    jmp 1b

    .text
/* rax number, rdi rsi rdx r10 arguments; rcx return address, r11 flags. Everything but rax, rcx and r11 is preserved. */
    .globl syscall_entry
syscall_entry:
    movq %rsp, program_rsp(%rip)
    leaq kernel_stack_top(%rip), %rsp
    pushq %rcx
    pushq %r11
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r10
    pushq %r8
    pushq %r9
    movq %r10, %r8
    movq %rdx, %rcx
    movq %rsi, %rdx
    movq %rdi, %rsi
    movq %rax, %rdi
    call do_syscall
    popq %r9
    popq %r8
    popq %r10
    popq %rdx
    popq %rsi
    popq %rdi
    popq %r11
    popq %rcx
    movq program_rsp(%rip), %rsp
    pushq %r11
    popfq
    jmp *%rcx

/* rdi entry, rsi stack */
    .globl enter_program
enter_program:
    movq %rsi, %rsp
    movq %rdi, %rax
    xorl %edx, %edx
    xorl %ebp, %ebp
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    xorl %esi, %esi
    xorl %edi, %edi
    jmp *%rax

/* On the exception stack: vector, error code, rip. The processor pushes an error code for vectors 8, 10 to 14 and 17. */
    .macro EXCEPTION n
exception_\n:
    .if (\n != 8) && (\n < 10 || \n > 14) && (\n != 17)
    pushq $0
    .endif
    pushq $\n
    jmp exception
    .endm
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19
    EXCEPTION \n
    .endr
exception:
    popq %rdi
    popq %rsi
    movq (%rsp), %rdx
    movq %cr2, %rcx
    andq $-16, %rsp
    call do_exception

    .section .rodata
    .balign 8
    .globl exception_entries
exception_entries:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19
    .quad exception_\n
    .endr

    .bss
    .balign 16
program_rsp:
    .skip 16
    .skip 65536
kernel_stack_top:
