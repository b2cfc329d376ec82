/*
 * The whole operating system of a Bochs run: loads one static x86-64 Linux executable from the disk, hands it its arguments and serves the
 * system calls that a static glibc program without files or threads makes. The program runs in ring 0 on an identity map, interrupts off.
 * Standard output goes to COM1, standard error to COM2, the end ("exit STATUS") to COM3. A CPU exception ends the run with 128 + the signal
 * Linux would send: an instruction that the CPU model lacks gives 132.
 *
 * Freestanding, general registers only: the SIMD state belongs to the program.
 */
#include <stddef.h>
#include <stdint.h>

/* Memory: below 1 MiB page tables (rom.S); 1 MiB this program; 4 MiB the executable as linked, then its break; */
#define MMAP_START 0x10000000u
#define MMAP_END 0x3e000000u
#define STACK_TOP 0x3ff00000u
#define IMAGE 0x40000000u /* the disk, read whole */

enum { SECTOR = 512, HEADER_SECTORS = 8, EXCEPTIONS = 20, MAX_WORDS = 600 };
enum { OUT, ERR, END };                             /* serial ports */
enum { STATUS_MACHINE = 126, STATUS_SIGNAL = 128 }; /* exit statuses */
enum { SIG_ILL = 4, SIG_TRAP = 5, SIG_BUS = 7, SIG_FPE = 8, SIG_SEGV = 11 };
enum { NO_ENTRY = -2, BAD_FD = -9, NO_MEMORY = -12, NO_DEVICE = -19, INVALID = -22, NOT_TTY = -25, NOT_SEEKABLE = -29, NO_SYSCALL = -38 };

/* Written by image.py; the program lies at a multiple of 4096. */
struct image {
    char magic[8];                                /* "BOCHSRUN" */
    uint64_t bytes, elf_offset, arguments_offset; /* arguments: argv, "", environment, "", NUL-terminated each */
    uint64_t input_offset, input_bytes;           /* what standard input says */
};

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_offset, section_offset;
    uint32_t flags;
    uint16_t header_size, program_entry_size, program_count, section_entry_size, section_count, names;
};

struct elf_program {
    uint32_t type, flags;
    uint64_t offset, virtual_address, physical_address, file_size, memory_size, align;
};

/* start.S */
extern void syscall_entry(void);
extern void enter_program(uint64_t entry, uint64_t stack) __attribute__((noreturn));
extern const uint64_t exception_entries[EXCEPTIONS];
extern uint8_t bss_start[], bss_end[];

void machine_main(void);
void do_exception(uint64_t vector, uint64_t error, const uint8_t *rip, uint64_t cr2);
int64_t do_syscall(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/* ---- the processor ---- */

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static uint64_t clock_ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void cpuid(uint32_t leaf, uint32_t *eax, uint32_t *ecx, uint32_t *edx)
{
    uint32_t ebx;
    __asm__ volatile("cpuid" : "=a"(*eax), "=b"(ebx), "=c"(*ecx), "=d"(*edx) : "a"(leaf), "c"(0));
}

/* The compiler may call these. */
void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void *memset(void *to, int byte, size_t n)
{
    void *p = to;
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(byte) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *p = to;
    __asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n)::"memory");
    return to;
}

static size_t string_length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

/* ---- serial ports ---- */

static const uint16_t uart[] = {0x3f8, 0x2f8, 0x3e8};
enum { UART_COUNT = sizeof uart / sizeof uart[0], UART_STATUS = 5, UART_FIFO_FREE = 0x20, UART_IDLE = 0x60, UART_FIFO_BYTES = 16 };

static void start_uarts(void)
{
    for (int i = 0; i < UART_COUNT; i++) {
        out8(uart[i] + 1, 0);    /* no interrupts */
        out8(uart[i] + 3, 0x80); /* divisor 1 */
        out8(uart[i], 1);
        out8(uart[i] + 1, 0);
        out8(uart[i] + 3, 3); /* 8N1 */
        out8(uart[i] + 2, 7); /* FIFOs */
        out8(uart[i] + 4, 3);
    }
}

static void put(int port, const char *s, size_t n)
{
    while (n > 0) {
        while (!(in8(uart[port] + UART_STATUS) & UART_FIFO_FREE))
            ;
        for (int i = 0; i < UART_FIFO_BYTES && n > 0; i++, n--)
            out8(uart[port], (uint8_t)*s++);
    }
}

static void put_string(int port, const char *s)
{
    put(port, s, string_length(s));
}

static void put_number(int port, uint64_t value, uint32_t base)
{
    char digits[20];
    int i = sizeof digits;

    do {
        digits[--i] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put(port, digits + i, sizeof digits - (size_t)i);
}

/* ---- the end ---- */

__attribute__((noreturn)) static void finish(int status)
{
    put_string(END, "exit ");
    put_number(END, (uint64_t)(status & 255), 10);
    put_string(END, "\n");
    for (int i = 0; i < UART_COUNT; i++)
        while ((in8(uart[i] + UART_STATUS) & UART_IDLE) != UART_IDLE)
            ;
    for (const char *s = "Shutdown"; *s; s++) /* Bochs' own power switch */
        out8(0x8900, (uint8_t)*s);
    for (;;)
        __asm__ volatile("cli; hlt");
}

__attribute__((noreturn)) static void fail(const char *message)
{
    put_string(ERR, "machine: ");
    put_string(ERR, message);
    put_string(ERR, "\n");
    finish(STATUS_MACHINE);
}

void do_exception(uint64_t vector, uint64_t error, const uint8_t *rip, uint64_t cr2)
{
    static const struct {
        const char *name;
        int signal;
    } known[EXCEPTIONS] = {
        [0] = {"divide error", SIG_FPE},
        [3] = {"breakpoint", SIG_TRAP},
        [6] = {"instruction that this CPU model lacks", SIG_ILL},
        [13] = {"general protection", SIG_SEGV},
        [14] = {"page fault", SIG_SEGV},
        [16] = {"x87 exception", SIG_FPE},
        [17] = {"alignment check", SIG_BUS},
        [19] = {"SIMD exception", SIG_FPE},
    };

    put_string(ERR, "machine: exception ");
    put_number(ERR, vector, 10);
    put_string(ERR, known[vector].name ? ", " : "");
    put_string(ERR, known[vector].name ? known[vector].name : "");
    put_string(ERR, ", error 0x");
    put_number(ERR, error, 16);
    put_string(ERR, " cr2 0x");
    put_number(ERR, cr2, 16);
    put_string(ERR, " rip 0x");
    put_number(ERR, (uint64_t)rip, 16);
    put_string(ERR, " bytes");
    for (int i = 0; i < 12; i++) {
        put_string(ERR, rip[i] < 16 ? " 0" : " ");
        put_number(ERR, rip[i], 16);
    }
    put_string(ERR, "\n");
    finish(STATUS_SIGNAL + (known[vector].signal ? known[vector].signal : SIG_SEGV));
}

/* ---- disk: ATA, programmed input ---- */

static void read_disk(uint32_t sector, uint32_t count, uint8_t *to)
{
    while (count > 0) {
        uint32_t n = count < 256 ? count : 256; /* 256 is written as 0 */
        while (in8(0x1f7) & 0x80)
            ;
        out8(0x3f6, 2);
        out8(0x1f6, (uint8_t)(0xe0 | (sector >> 24 & 15)));
        out8(0x1f2, (uint8_t)n);
        out8(0x1f3, (uint8_t)sector);
        out8(0x1f4, (uint8_t)(sector >> 8));
        out8(0x1f5, (uint8_t)(sector >> 16));
        out8(0x1f7, 0x20);
        for (uint32_t i = 0; i < n; i++, to += SECTOR) {
            uint8_t status;
            void *at = to;
            size_t words = SECTOR / 2;
            do
                status = in8(0x1f7);
            while ((status & 0x80) || !(status & 0x09));
            if (status & 1)
                fail("disk error");
            __asm__ volatile("rep insw" : "+D"(at), "+c"(words) : "d"((uint16_t)0x1f0) : "memory");
        }
        sector += n;
        count -= n;
    }
}

/* ---- system calls ---- */

static uint64_t break_start, break_now, mmap_now = MMAP_START;

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t sys_read(uint64_t fd, void *to, uint64_t n)
{
    static uint64_t done;
    const struct image *image = (const void *)(uint64_t)IMAGE;

    if (fd != 0)
        return BAD_FD;
    n = n < image->input_bytes - done ? n : image->input_bytes - done;
    memcpy(to, (const char *)image + image->input_offset + done, n);
    done += n;
    return (int64_t)n;
}

static int64_t sys_write(uint64_t fd, const char *data, size_t n)
{
    if (fd != 1 && fd != 2)
        return BAD_FD;
    put(fd == 2 ? ERR : OUT, data, n);
    return (int64_t)n;
}

static int64_t sys_writev(uint64_t fd, const uint64_t *vectors, uint64_t count)
{
    int64_t total = 0;

    for (uint64_t i = 0; i < count; i++) {
        int64_t n = sys_write(fd, (const char *)vectors[2 * i], vectors[2 * i + 1]);
        if (n < 0)
            return n;
        total += n;
    }
    return total;
}

static int64_t sys_brk(uint64_t to)
{
    if (to >= break_start && to < MMAP_START) {
        if (to > break_now)
            memset((void *)break_now, 0, to - break_now);
        break_now = to;
    }
    return (int64_t)break_now;
}

/* Anonymous only. Nothing is ever protected, so that guard pages do not guard here. */
static int64_t sys_mmap(uint64_t at, uint64_t n, uint64_t flags)
{
    enum { FIXED = 0x10, ANONYMOUS = 0x20 };

    n = round_up(n, 4096);
    if (!(flags & ANONYMOUS))
        return NO_DEVICE;
    if (!(flags & FIXED)) {
        at = mmap_now;
        if (n > MMAP_END - at)
            return NO_MEMORY;
        mmap_now = at + n;
    }
    memset((void *)at, 0, n);
    return (int64_t)at;
}

static int64_t sys_munmap(uint64_t at, uint64_t n)
{
    if (at + round_up(n, 4096) == mmap_now) /* only what was mapped last comes back */
        mmap_now = at;
    return 0;
}

/* Standard input and the outputs are pipes; nothing else exists. */
static int64_t sys_fstat(uint64_t fd, uint64_t *stat)
{
    if (fd > 2)
        return BAD_FD;
    memset(stat, 0, 144);
    ((uint32_t *)stat)[6] = 0010000 | 0600;
    stat[7] = 4096;
    return 0;
}

static int64_t sys_arch_prctl(uint64_t code, uint64_t address)
{
    enum { SET_GS = 0x1001, SET_FS = 0x1002 };

    if (code != SET_FS && code != SET_GS)
        return INVALID;
    write_msr(code == SET_FS ? 0xc0000100 : 0xc0000101, address);
    return 0;
}

static int64_t sys_getrandom(uint8_t *to, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        to[i] = (uint8_t)(i * 37 + 11); /* every run is the same run */
    return (int64_t)n;
}

/* One CPU. */
static int64_t sys_sched_getaffinity(uint64_t bytes, uint64_t *mask)
{
    if (bytes < sizeof *mask)
        return INVALID;
    *mask = 1;
    return sizeof *mask;
}

/* One clock tick counts as a nanosecond. */
static int64_t sys_clock_gettime(uint64_t *time)
{
    uint64_t now = clock_ticks();

    time[0] = now / 1000000000;
    time[1] = now % 1000000000;
    return 0;
}

int64_t do_syscall(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    switch (number) {
    case 0:
        return sys_read(a, (void *)b, c);
    case 1:
        return sys_write(a, (const char *)b, c);
    case 3: /* close */
        return 0;
    case 5:
        return sys_fstat(a, (uint64_t *)b);
    case 8: /* lseek */
        return NOT_SEEKABLE;
    case 9:
        return sys_mmap(a, b, d);
    case 11:
        return sys_munmap(a, b);
    case 12:
        return sys_brk(a);
    case 10:  /* mprotect */
    case 13:  /* rt_sigaction */
    case 14:  /* rt_sigprocmask */
    case 28:  /* madvise */
    case 131: /* sigaltstack */
    case 202: /* futex */
    case 273: /* set_robust_list */
        return 0;
    case 16: /* ioctl */
        return NOT_TTY;
    case 20:
        return sys_writev(a, (const uint64_t *)b, c);
    case 2:   /* open */
    case 21:  /* access */
    case 89:  /* readlink */
    case 257: /* openat */
    case 267: /* readlinkat */
        return NO_ENTRY;
    case 262: /* newfstatat: of a file descriptor when the path is empty */
        return *(const char *)b ? NO_ENTRY : sys_fstat(a, (uint64_t *)c);
    case 39:  /* getpid */
    case 186: /* gettid */
    case 218: /* set_tid_address */
        return 1;
    case 60:
    case 231: /* exit_group */
        finish((int)a);
    case 62:  /* kill */
    case 200: /* tkill */
        finish(STATUS_SIGNAL + (int)b);
    case 234: /* tgkill */
        finish(STATUS_SIGNAL + (int)c);
    case 158:
        return sys_arch_prctl(a, b);
    case 201: /* time */
        return (int64_t)(clock_ticks() / 1000000000);
    case 204:
        return sys_sched_getaffinity(b, (uint64_t *)c);
    case 228:
        return sys_clock_gettime((uint64_t *)b);
    case 302: /* prlimit64 */
        if (d) {
            ((uint64_t *)d)[0] = 8u << 20;
            ((uint64_t *)d)[1] = UINT64_MAX;
        }
        return 0;
    case 318:
        return sys_getrandom((uint8_t *)a, b);
    case 334: /* rseq */
        return NO_SYSCALL;
    default:
        put_string(ERR, "machine: system call ");
        put_number(ERR, number, 10);
        put_string(ERR, " is not served\n");
        return NO_SYSCALL;
    }
}

/* ---- starting ---- */

static struct {
    uint16_t offset_low, selector;
    uint8_t stack, attributes;
    uint16_t offset_middle;
    uint32_t offset_high, zero;
} __attribute__((packed)) interrupts[32];

static struct {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, stacks[7], reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed)) task;

static uint8_t exception_stack[16384] __attribute__((aligned(16)));
static uint64_t segments[7];

static void set_tables(void)
{
    const uint64_t base = (uint64_t)&task;
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdt = {sizeof segments - 1, (uint64_t)segments}, idt = {sizeof interrupts - 1, (uint64_t)interrupts};

    segments[1] = 0x00cf9b000000ffff; /* 08: 32-bit code */
    segments[2] = 0x00cf93000000ffff; /* 10: data */
    segments[3] = 0x00af9b000000ffff; /* 18: 64-bit code */
    segments[4] = 0x00cf93000000ffff; /* 20: data again, where SYSRET expects it */
    segments[5] = (sizeof task - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56; /* 28: the task */
    segments[6] = base >> 32;
    task.stacks[0] = (uint64_t)(exception_stack + sizeof exception_stack);
    for (int i = 0; i < EXCEPTIONS; i++) {
        uint64_t entry = exception_entries[i];
        interrupts[i].offset_low = (uint16_t)entry;
        interrupts[i].selector = 0x18;
        interrupts[i].stack = 1;
        interrupts[i].attributes = 0x8e;
        interrupts[i].offset_middle = (uint16_t)(entry >> 16);
        interrupts[i].offset_high = (uint32_t)(entry >> 32);
    }
    __asm__ volatile("lgdt %0; lidt %1; ltr %w2" ::"m"(gdt), "m"(idt), "r"(0x28));
}

/* x87, SSE and, where the model has them, AVX and AVX-512, as an operating system would. Returns leaf 1 edx for the program. */
static uint32_t enable_simd(void)
{
    enum { CR0_EM_TS = 0xc, CR0_MP_NE = 0x22, CR4_OSFXSR_OSXMMEXCPT = 0x600, CR4_OSXSAVE = 1 << 18, CPUID_XSAVE = 1 << 26 };
    uint32_t eax, ecx, edx, features_ecx, features_edx;
    uint64_t cr;

    __asm__ volatile("mov %%cr0, %0" : "=r"(cr));
    cr = (cr & ~(uint64_t)CR0_EM_TS) | CR0_MP_NE;
    __asm__ volatile("mov %0, %%cr0" ::"r"(cr));
    cpuid(1, &eax, &features_ecx, &features_edx);
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr));
    cr |= CR4_OSFXSR_OSXMMEXCPT;
    if (features_ecx & CPUID_XSAVE)
        cr |= CR4_OSXSAVE;
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr));
    __asm__ volatile("fninit");
    if (features_ecx & CPUID_XSAVE) {
        cpuid(0xd, &eax, &ecx, &edx);
        __asm__ volatile("xsetbv" ::"c"(0), "a"(eax & 0x600e7), "d"(0)); /* x87, SSE, AVX, AVX-512, AMX */
    }
    return features_edx;
}

/* Copies the executable to where it was linked. */
static const struct elf_header *load(const uint8_t *elf, uint64_t *program_headers)
{
    const struct elf_header *h = (const void *)elf;
    const struct elf_program *p = (const void *)(elf + h->program_offset);
    uint64_t end = 0;

    if (*(const uint32_t *)elf != 0x464c457f || h->machine != 62 || h->type != 2)
        fail("not an x86-64 executable with fixed addresses (link it -static -no-pie)");
    *program_headers = 0;
    for (int i = 0; i < h->program_count; i++) {
        if (p[i].type != 1)
            continue;
        memcpy((void *)p[i].virtual_address, elf + p[i].offset, p[i].file_size);
        memset((void *)(p[i].virtual_address + p[i].file_size), 0, p[i].memory_size - p[i].file_size);
        if (p[i].offset <= h->program_offset && h->program_offset < p[i].offset + p[i].file_size)
            *program_headers = p[i].virtual_address + h->program_offset - p[i].offset;
        if (p[i].virtual_address + p[i].memory_size > end)
            end = p[i].virtual_address + p[i].memory_size;
    }
    break_start = break_now = round_up(end, 4096);
    return h;
}

/* argc, argv, environment and auxiliary vector, as the ABI wants them on the stack. */
static uint64_t make_stack(const struct elf_header *h, uint64_t program_headers, uint32_t hwcap, const char *arguments)
{
    enum { PHDR = 3, PHENT, PHNUM, PAGESZ, ENTRY = 9, UID = 11, EUID, GID, EGID, HWCAP = 16, CLKTCK, SECURE = 23, RANDOM = 25 };
    static uint64_t words[MAX_WORDS];
    static const uint8_t random[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    const uint64_t auxiliary[] = {PHDR,   program_headers,
                                  PHENT,  h->program_entry_size,
                                  PHNUM,  h->program_count,
                                  PAGESZ, 4096,
                                  ENTRY,  h->entry,
                                  UID,    0,
                                  EUID,   0,
                                  GID,    0,
                                  EGID,   0,
                                  HWCAP,  hwcap,
                                  CLKTCK, 100,
                                  SECURE, 0,
                                  RANDOM, (uint64_t)random,
                                  0,      0};
    enum { AUXILIARY_WORDS = sizeof auxiliary / sizeof auxiliary[0] };
    size_t n = 1;
    uint64_t stack;

    for (int list = 0; list < 2; list++) {
        for (; *arguments; arguments += string_length(arguments) + 1) {
            if (n + 2 + AUXILIARY_WORDS >= MAX_WORDS)
                fail("too many arguments");
            words[n++] = (uint64_t)arguments;
        }
        if (list == 0)
            words[0] = n - 1;
        arguments++;
        words[n++] = 0;
    }
    memcpy(words + n, auxiliary, sizeof auxiliary);
    n += AUXILIARY_WORDS;
    stack = (STACK_TOP - n * 8) & ~63ull;
    memcpy((void *)stack, words, n * 8);
    return stack;
}

void machine_main(void)
{
    const struct image *image = (const void *)(uint64_t)IMAGE;
    const struct elf_header *h;
    uint64_t program_headers;
    uint32_t hwcap;

    memset(bss_start, 0, (size_t)(bss_end - bss_start)); /* Bochs does not clear its memory */
    start_uarts();
    set_tables();
    hwcap = enable_simd();
    write_msr(0xc0000081, 0x18ull << 32 | 0x18ull << 48); /* STAR, LSTAR, SFMASK: system calls */
    write_msr(0xc0000082, (uint64_t)syscall_entry);
    write_msr(0xc0000084, 0x700);
    read_disk(0, HEADER_SECTORS, (uint8_t *)(uint64_t)IMAGE);
    if (*(const uint64_t *)image->magic != 0x4e55525348434f42ull)
        fail("no disk image");
    read_disk(HEADER_SECTORS, (uint32_t)((image->bytes + SECTOR - 1) / SECTOR) - HEADER_SECTORS,
              (uint8_t *)(uint64_t)IMAGE + HEADER_SECTORS * SECTOR);
    h = load((const uint8_t *)image + image->elf_offset, &program_headers);
    enter_program(h->entry, make_stack(h, program_headers, hwcap, (const char *)image + image->arguments_offset));
}
