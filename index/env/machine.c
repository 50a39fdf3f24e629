/* The machine and its page cache, for reports. mmap is here only so that mincore can be asked where
 * the kernel has no cachestat: the pages are never touched. */
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "env.h"
#include "mem.h"

/* Since Linux 6.5; the headers of older systems lack them. */
#define SYS_CACHESTAT 451
struct cachestat_range {
    uint64_t offset, length; /* length 0: to the end */
};
struct cachestat_counts {
    uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

static void read_cpu(char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !value)
            continue;
        snprintf(out, out_bytes, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        break;
    }
    fclose(file);
}

void env_machine_describe(struct env_machine *out)
{
    struct utsname name;
    *out = (struct env_machine){.kernel = "unknown", .cpus = env_cpu_count()};
    read_cpu(out->cpu, sizeof out->cpu);
    if (!uname(&name))
        snprintf(out->kernel, sizeof out->kernel, "%.20s %.70s", name.sysname, name.release);
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0)
        out->memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
}

void env_peak_rss_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (!file)
        return;
    fputs("5", file); /* refused at the latest on fclose; either way nothing else changes */
    fclose(file);
}

/* ---- the page cache ---- */

/* Counts by mapping the file and asking which pages are there. */
static int64_t count_by_mincore(int fd, uint64_t bytes, size_t page_bytes)
{
    size_t pages = (size_t)((bytes + page_bytes - 1) / page_bytes);
    unsigned char *present = mem_alloc(pages);
    if (!present)
        return -ENOMEM;
    int64_t cached = 0;
    void *map = mmap(NULL, bytes, PROT_NONE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED || mincore(map, bytes, present))
        cached = -errno;
    for (size_t i = 0; cached >= 0 && i < pages; i++)
        cached += present[i] & 1;
    if (map != MAP_FAILED)
        munmap(map, bytes);
    mem_free(present);
    return cached;
}

static int64_t count_cached_bytes(int fd, uint64_t bytes)
{
    struct cachestat_range range = {0, 0};
    struct cachestat_counts counts = {0};
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    if (!bytes)
        return 0;
    if (!syscall(SYS_CACHESTAT, fd, &range, &counts, 0))
        return (int64_t)counts.cached * page_bytes;
    int64_t pages = count_by_mincore(fd, bytes, (size_t)page_bytes);
    return pages < 0 ? pages : pages * page_bytes;
}

static int64_t forget(int fd, uint64_t bytes)
{
    (void)bytes;
    return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* The sum of what visit says of each regular file in dir, or its first negative answer. */
static int64_t sum_over_files(const char *dir, int64_t (*visit)(int fd, uint64_t bytes))
{
    int64_t sum = 0;
    DIR *stream = opendir(dir);
    if (!stream)
        return -errno;
    for (const struct dirent *entry; sum >= 0 && (entry = readdir(stream));) {
        struct stat stat_of;
        int fd = openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            continue; /* gone since it was listed, or not ours to read */
        if (!fstat(fd, &stat_of) && S_ISREG(stat_of.st_mode)) {
            int64_t part = visit(fd, (uint64_t)stat_of.st_size);
            sum = part < 0 ? part : sum + part;
        }
        close(fd);
    }
    closedir(stream);
    return sum;
}

int64_t env_cached_bytes(const char *dir)
{
    return sum_over_files(dir, count_cached_bytes);
}

int env_cache_drop(const char *dir)
{
    return (int)sum_over_files(dir, forget);
}
