/* The plain driver of a fuzz target: runs its seeds, the inputs that once failed (corpus/TARGET),
 * and then inputs made of those by a fixed rule. The same numbers give the same inputs on every
 * machine, so what fails here fails again. It knows nothing of coverage; libFuzzer searches, this
 * one makes sure that nothing found before comes back.
 *
 *     fuzz_wire [--runs N] [--first N] [FILE|DIR...]   N inputs after the seeds and files
 *     fuzz_wire --write DIR                            the seeds as files, for libFuzzer
 *
 * An input that ends the process is named on stderr by its number, and `--first NUMBER --runs 1`
 * runs it alone. */
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "prng.h"

#define INPUTS_MAX 4096
#define BYTES_MAX  (64 << 10) /* of an input that is made here */

struct blob {
    uint8_t *bytes;
    size_t count;
};

/* What there is to start from. The driver is one thread and one run; its state is the process. */
static struct {
    struct blob inputs[INPUTS_MAX];
    unsigned count;
    char running[64]; /* for the report of a signal */
} driver;

static void add_input(const void *bytes, size_t count)
{
    FUZZ_CHECK(driver.count < INPUTS_MAX, "more than %d inputs to start from", INPUTS_MAX);
    driver.inputs[driver.count++] = (struct blob){fuzz_copy(bytes, count), count};
}

/* ---- files ---- */

static void read_file(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    FUZZ_CHECK(file, "%s: cannot be read", path);
    add_input(bytes, fread(bytes, 1, sizeof bytes, file));
    fclose(file);
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* In the order of names, so that numbers mean the same everywhere. A folder that is not there is
 * an empty one: most targets have never failed. */
static void read_path(const char *path)
{
    struct stat stat_of;
    struct dirent **names;
    if (stat(path, &stat_of) < 0)
        return;
    if (!S_ISDIR(stat_of.st_mode)) {
        read_file(path);
        return;
    }
    int count = scandir(path, &names, is_visible, alphasort);
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, names[i]->d_name);
        read_file(name);
        free(names[i]);
    }
    free(names);
}

static int write_seeds(const char *dir)
{
    for (unsigned i = 0; i < driver.count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/seed-%04u", dir, i);
        FILE *file = fopen(name, "wb");
        FUZZ_CHECK(file, "%s: cannot be written", name);
        size_t put = fwrite(driver.inputs[i].bytes, 1, driver.inputs[i].count, file);
        FUZZ_CHECK(fclose(file) == 0 && put == driver.inputs[i].count, "%s: cannot be written",
                   name);
    }
    return 0;
}

/* ---- inputs of inputs ---- */

static uint8_t odd_byte(struct prng *prng)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xc0, 0xc1, 0xdc, 0xff};
    return prng_below(prng, 2) ? odd[prng_below(prng, sizeof odd)] : (uint8_t)prng_next(prng);
}

/* Moves the tail from `from` to `to`; returns the new count. */
static size_t move_tail(uint8_t *bytes, size_t count, size_t from, size_t to)
{
    if (count - from + to > BYTES_MAX)
        return count;
    memmove(bytes + to, bytes + from, count - from);
    return count - from + to;
}

static size_t change_once(struct prng *prng, uint8_t *bytes, size_t count)
{
    size_t at = prng_below(prng, (uint32_t)count), run = 1 + prng_below(prng, 8), grown;
    run = run < count - at ? run : count - at;
    switch (prng_below(prng, 6)) {
    case 0: /* one bit */
        bytes[at] ^= (uint8_t)(1u << prng_below(prng, 8));
        return count;
    case 1: /* some bytes */
        for (size_t i = 0; i < run; i++)
            bytes[at + i] = odd_byte(prng);
        return count;
    case 2: /* a little more or less */
        bytes[at] = (uint8_t)(bytes[at] + prng_below(prng, 9) - 4);
        return count;
    case 3: /* some are gone */
        return run < count ? move_tail(bytes, count, at + run, at) : count;
    case 4: /* some are there twice, or new ones are */
        grown = move_tail(bytes, count, at, at + run);
        for (size_t i = 0; grown > count && prng_below(prng, 2) && i < run; i++)
            bytes[at + i] = odd_byte(prng);
        return grown;
    default: /* the end is missing */
        return prng_below(prng, 4) ? count : at + 1;
    }
}

/* The head of one input and the tail of another. */
static size_t join(struct prng *prng, uint8_t *bytes, size_t count)
{
    const struct blob *other = &driver.inputs[prng_below(prng, driver.count)];
    size_t at = prng_below(prng, (uint32_t)count + 1);
    size_t from = prng_below(prng, (uint32_t)other->count + 1);
    if (at + other->count - from > BYTES_MAX)
        return count;
    memcpy(bytes + at, other->bytes + from, other->count - from);
    return at + other->count - from;
}

static struct blob make_input(uint64_t number)
{
    static uint8_t bytes[BYTES_MAX];
    struct prng prng;
    prng_init(&prng, 2026, number);
    const struct blob *start = &driver.inputs[prng_below(&prng, driver.count)];
    size_t count = start->count < BYTES_MAX ? start->count : BYTES_MAX;
    if (count > 0)
        memcpy(bytes, start->bytes, count);
    if (prng_below(&prng, 8) == 0)
        count = join(&prng, bytes, count);
    for (uint32_t changes = 1 + prng_below(&prng, 6); changes > 0 && count > 0; changes--)
        count = change_once(&prng, bytes, count);
    return (struct blob){bytes, count};
}

/* ---- running ---- */

static void report(int signal_number)
{
    const char said[] = "the input that ends the process: ";
    ssize_t written = write(STDERR_FILENO, said, sizeof said - 1);
    written = write(STDERR_FILENO, driver.running, strlen(driver.running));
    (void)written;
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void run(const char *what, uint64_t number, const struct blob *input)
{
    snprintf(driver.running, sizeof driver.running, "%s %llu\n", what, (unsigned long long)number);
    uint8_t *copy = fuzz_copy(input->bytes, input->count);
    LLVMFuzzerTestOneInput(copy, input->count);
    free(copy);
}

int main(int argc, char **argv)
{
    uint64_t runs = 0, first = 0;
    const char *write_to = NULL;
    fuzz_seeds(add_input);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--runs") && i + 1 < argc)
            runs = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--first") && i + 1 < argc)
            first = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--write") && i + 1 < argc)
            write_to = argv[++i];
        else
            read_path(argv[i]);
    }
    FUZZ_CHECK(driver.count > 0, "the target has no seeds");
    if (write_to)
        return write_seeds(write_to);
    signal(SIGABRT, report);
    signal(SIGSEGV, report);
    for (unsigned i = 0; first == 0 && i < driver.count; i++)
        run("start", i, &driver.inputs[i]);
    for (uint64_t i = 0; i < runs; i++) {
        struct blob input = make_input(first + i);
        run("made", first + i, &input);
    }
    printf("%u inputs to start from and %llu made of them: nothing found\n", driver.count,
           (unsigned long long)runs);
    for (unsigned i = 0; i < driver.count; i++)
        free(driver.inputs[i].bytes);
    return 0;
}
