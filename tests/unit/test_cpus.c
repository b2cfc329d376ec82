/* The default number of threads, from recorded files of machines of several kinds. */
#include "core/core.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/infer-cpus-XXXXXX"; /* each test is a process of its own */

static void make_root(void) { cr_assert(mkdtemp(root) != NULL); }
static void remove_root(void)
{
    tree_clear(root);
    rmdir(root);
}

TestSuite(cpus, .init = make_root, .fini = remove_root);

static void put(const char *path, const char *line) { tree_put(root, path, line); }

/* Hardware threads cpu and cpu + cores share a core. */
static void put_siblings(int cores)
{
    for (int cpu = 0; cpu < 2 * cores; cpu++) {
        char path[96], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        snprintf(text, sizeof text, "%d,%d", cpu % cores, cpu % cores + cores);
        put(path, text);
    }
}

static void expect(const uint8_t *allowed, uint32_t size, infer_cpus wanted)
{
    infer_cpus found;
    infer_cpus_count(root, allowed, size, &found);
    cr_expect_eq(found.logical, wanted.logical, "logical: found %u, expected %u", found.logical, wanted.logical);
    cr_expect_eq(found.cores, wanted.cores, "cores: found %u, expected %u", found.cores, wanted.cores);
    cr_expect_eq(found.node_cores, wanted.node_cores, "node_cores: found %u, expected %u", found.node_cores, wanted.node_cores);
    cr_expect_eq(found.nodes, wanted.nodes, "nodes: found %u, expected %u", found.nodes, wanted.nodes);
}

static const uint8_t all[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

Test(cpus, nothing_can_be_read)
{
    expect(all, 4, (infer_cpus){4, 4, 4, 1});
}

Test(cpus, no_cpu_is_allowed)
{
    static const uint8_t none[4];
    expect(none, 4, (infer_cpus){1, 1, 1, 1});
}

Test(cpus, laptop_with_hardware_threads)
{
    put_siblings(4);
    put("/sys/devices/system/node/has_cpu", "0");
    put("/sys/devices/system/node/node0/cpulist", "0-7");
    expect(all, 8, (infer_cpus){8, 4, 4, 1});
}

Test(cpus, second_hardware_threads_alone_are_cores)
{
    static const uint8_t upper[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    put_siblings(4);
    expect(upper, 8, (infer_cpus){4, 4, 4, 1});
}

/* Two sockets of four cores: node 1 has cores 4..7 and their second threads 12..15. */
static void put_two_sockets(void)
{
    put_siblings(8);
    put("/sys/devices/system/node/has_cpu", "0-1");
    put("/sys/devices/system/node/node0/cpulist", "0-3,8-11");
    put("/sys/devices/system/node/node1/cpulist", "4-7,12-15");
}

Test(cpus, two_nodes)
{
    put_two_sockets();
    expect(all, 16, (infer_cpus){16, 8, 4, 2});
}

Test(cpus, the_node_with_most_allowed_cores_counts)
{
    static const uint8_t some[16] = {1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0};
    put_two_sockets();
    expect(some, 16, (infer_cpus){8, 4, 3, 2});
}

Test(cpus, a_node_without_cpus_is_none)
{
    put_siblings(2);
    put("/sys/devices/system/node/has_cpu", "0,2"); /* memory expanders have no list of CPUs */
    put("/sys/devices/system/node/node0/cpulist", "0-3");
    put("/sys/devices/system/node/node2/cpulist", "");
    expect(all, 4, (infer_cpus){4, 2, 2, 1});
}

Test(cpus, quota_of_the_cgroup)
{
    put_two_sockets();
    put("/proc/self/cgroup", "0::/box/one");
    put("/sys/fs/cgroup/box/one/cpu.max", "250000 100000");
    expect(all, 16, (infer_cpus){3, 3, 3, 2});
}

Test(cpus, no_quota)
{
    put_siblings(2);
    put("/proc/self/cgroup", "0::/");
    put("/sys/fs/cgroup/cpu.max", "max 100000");
    expect(all, 4, (infer_cpus){4, 2, 2, 1});
}

Test(cpus, files_that_make_no_sense)
{
    put("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "99999999999999999999-0,x");
    put("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0-18446744073709551615");
    put("/sys/devices/system/node/has_cpu", "0-18446744073709551615");
    put("/sys/devices/system/node/node0/cpulist", "0-4294967295");
    put("/sys/devices/system/node/node1023/cpulist", "-");
    put("/proc/self/cgroup", "0::/");
    put("/sys/fs/cgroup/cpu.max", "18446744073709551615 1");
    expect(all, 4, (infer_cpus){4, 3, 3, 1});
}
