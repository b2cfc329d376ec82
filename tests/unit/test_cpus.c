/* The default number of threads, from recorded files of machines of several kinds. */
#include "core/core.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A folder of files as /proc and /sys have them. */
typedef struct tree {
    char root[64], *files[64];
    int count;
} tree;

static void tree_init(tree *t)
{
    t->count = 0;
    snprintf(t->root, sizeof t->root, "/tmp/infer-cpus-XXXXXX");
    cr_assert(mkdtemp(t->root) != NULL);
}

static void put(tree *t, const char *path, const char *text)
{
    char *full;
    FILE *f;
    cr_assert(t->count < 64 && asprintf(&full, "%s%s", t->root, path) > 0);
    t->files[t->count++] = full;
    for (char *slash = full + strlen(t->root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(full, 0755);
    }
    f = fopen(full, "w");
    cr_assert(f != NULL, "%s", full);
    fputs(text, f);
    fclose(f);
}

/* Hardware threads cpu and cpu + cores share a core. */
static void put_siblings(tree *t, int cores)
{
    for (int cpu = 0; cpu < 2 * cores; cpu++) {
        char path[96], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        snprintf(text, sizeof text, "%d,%d\n", cpu % cores, cpu % cores + cores);
        put(t, path, text);
    }
}

static void tree_remove(tree *t)
{
    for (int i = 0; i < t->count; i++) {
        remove(t->files[i]);
        for (char *slash; (slash = strrchr(t->files[i], '/')) && strlen(t->files[i]) > strlen(t->root);) {
            *slash = 0;
            remove(t->files[i]); /* fails until it is empty */
        }
        free(t->files[i]);
    }
    remove(t->root); /* where it held no file */
}

static void expect(tree *t, const uint8_t *allowed, uint32_t size, infer_cpus wanted)
{
    infer_cpus found;
    infer_cpus_count(t->root, allowed, size, &found);
    cr_expect_eq(found.logical, wanted.logical, "logical: found %u, expected %u", found.logical, wanted.logical);
    cr_expect_eq(found.cores, wanted.cores, "cores: found %u, expected %u", found.cores, wanted.cores);
    cr_expect_eq(found.node_cores, wanted.node_cores, "node_cores: found %u, expected %u", found.node_cores, wanted.node_cores);
    cr_expect_eq(found.nodes, wanted.nodes, "nodes: found %u, expected %u", found.nodes, wanted.nodes);
    tree_remove(t);
}

static const uint8_t all[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

Test(cpus, nothing_can_be_read)
{
    tree t;
    tree_init(&t);
    expect(&t, all, 4, (infer_cpus){4, 4, 4, 1});
}

Test(cpus, no_cpu_is_allowed)
{
    static const uint8_t none[4];
    tree t;
    tree_init(&t);
    expect(&t, none, 4, (infer_cpus){1, 1, 1, 1});
}

Test(cpus, laptop_with_hardware_threads)
{
    tree t;
    tree_init(&t);
    put_siblings(&t, 4);
    put(&t, "/sys/devices/system/node/has_cpu", "0\n");
    put(&t, "/sys/devices/system/node/node0/cpulist", "0-7\n");
    expect(&t, all, 8, (infer_cpus){8, 4, 4, 1});
}

Test(cpus, second_hardware_threads_alone_are_cores)
{
    static const uint8_t upper[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    tree t;
    tree_init(&t);
    put_siblings(&t, 4);
    expect(&t, upper, 8, (infer_cpus){4, 4, 4, 1});
}

/* Two sockets of four cores: node 1 has cores 4..7 and their second threads 12..15. */
static void put_two_sockets(tree *t)
{
    put_siblings(t, 8);
    put(t, "/sys/devices/system/node/has_cpu", "0-1\n");
    put(t, "/sys/devices/system/node/node0/cpulist", "0-3,8-11\n");
    put(t, "/sys/devices/system/node/node1/cpulist", "4-7,12-15\n");
}

Test(cpus, two_nodes)
{
    tree t;
    tree_init(&t);
    put_two_sockets(&t);
    expect(&t, all, 16, (infer_cpus){16, 8, 4, 2});
}

Test(cpus, the_node_with_most_allowed_cores_counts)
{
    static const uint8_t some[16] = {1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0};
    tree t;
    tree_init(&t);
    put_two_sockets(&t);
    expect(&t, some, 16, (infer_cpus){8, 4, 3, 2});
}

Test(cpus, a_node_without_cpus_is_none)
{
    tree t;
    tree_init(&t);
    put_siblings(&t, 2);
    put(&t, "/sys/devices/system/node/has_cpu", "0,2\n"); /* memory expanders have no list of CPUs */
    put(&t, "/sys/devices/system/node/node0/cpulist", "0-3\n");
    put(&t, "/sys/devices/system/node/node2/cpulist", "\n");
    expect(&t, all, 4, (infer_cpus){4, 2, 2, 1});
}

Test(cpus, quota_of_the_cgroup)
{
    tree t;
    tree_init(&t);
    put_two_sockets(&t);
    put(&t, "/proc/self/cgroup", "0::/box/one\n");
    put(&t, "/sys/fs/cgroup/box/one/cpu.max", "250000 100000\n");
    expect(&t, all, 16, (infer_cpus){3, 3, 3, 2});
}

Test(cpus, no_quota)
{
    tree t;
    tree_init(&t);
    put_siblings(&t, 2);
    put(&t, "/proc/self/cgroup", "0::/\n");
    put(&t, "/sys/fs/cgroup/cpu.max", "max 100000\n");
    expect(&t, all, 4, (infer_cpus){4, 2, 2, 1});
}

Test(cpus, files_that_make_no_sense)
{
    tree t;
    tree_init(&t);
    put(&t, "/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "99999999999999999999-0,x\n");
    put(&t, "/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0-18446744073709551615\n");
    put(&t, "/sys/devices/system/node/has_cpu", "0-18446744073709551615\n");
    put(&t, "/sys/devices/system/node/node0/cpulist", "0-4294967295\n");
    put(&t, "/sys/devices/system/node/node1023/cpulist", "-\n");
    put(&t, "/proc/self/cgroup", "0::/\n");
    put(&t, "/sys/fs/cgroup/cpu.max", "18446744073709551615 1\n");
    expect(&t, all, 4, (infer_cpus){4, 3, 3, 1});
}
