/* Text that people write: numbers, sizes and times of command lines, the server's configuration
 * file and environment, plans of faults. What is taken is within the bounds that were asked for
 * and reads back the same where it can be written; what is refused is refused in words. */
#include "fuzz.h"

#include "config.h"
#include "fault.h"
#include "tool.h"

static void run_numbers(const char *text)
{
    uint64_t number = 0;
    double real = 0;
    char written[64];
    if (tool_parse_u64(text, 5, 1000, &number))
        FUZZ_CHECK(number >= 5 && number <= 1000, "'%s' is %llu", text, (unsigned long long)number);
    if (tool_parse_f64(text, -1, 2.5, &real))
        FUZZ_CHECK(real >= -1 && real <= 2.5, "'%s' is %g", text, real);
    if (tool_parse_bytes(text, &number)) {
        uint64_t again = 0;
        snprintf(written, sizeof written, "%llu", (unsigned long long)number);
        FUZZ_CHECK(tool_parse_bytes(written, &again) && again == number, "'%s' is %llu, not %llu",
                   text, (unsigned long long)number, (unsigned long long)again);
        tool_format_bytes(number, written);
    }
    if (tool_parse_duration_ns(text, &number))
        tool_format_duration_ns(number, written);
}

static void run_config(const char *text)
{
    struct config config;
    struct fathom_error err = {0};
    FUZZ_CHECK(config_init(&config) == 0, "no memory");
    int status = config_load_text(&config, text, "fuzz.conf", &err);
    FUZZ_CHECK(status == 0 || (status == err.code && strstr(err.msg, "fuzz.conf")),
               "%d without file and line: '%s'", status, err.msg);
    status = config_check(&config, &err);
    FUZZ_CHECK(status == 0 || err.msg[0], "%d without a word", status);
    config_fini(&config);
}

/* One variable a line. */
static void run_environment(char *text)
{
    enum { VARIABLES_MAX = 16 };
    char *variables[VARIABLES_MAX + 1] = {0}, *rest = NULL;
    struct config config;
    struct fathom_error err = {0};
    unsigned count = 0;
    for (char *line = strtok_r(text, "\n", &rest); line && count < VARIABLES_MAX;
         line = strtok_r(NULL, "\n", &rest))
        variables[count++] = line;
    FUZZ_CHECK(config_init(&config) == 0, "no memory");
    int status = config_load_environment(&config, variables, &err);
    FUZZ_CHECK(status == 0 || strstr(err.msg, "FATHOM_"), "%d without its variable: '%s'", status,
               err.msg);
    config_fini(&config);
}

static void run_plan(const char *text)
{
    struct fault_env fault;
    struct fathom_error err = {0};
    int status = fault_init(&fault, env_os(), text, &err);
    FUZZ_CHECK(status == 0 || err.msg[0], "a plan is refused without a word");
    FUZZ_CHECK(status != 0 || fault.rule_count <= FAULT_RULES_MAX, "%u rules", fault.rule_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count < 1)
        return 0;
    char *text = malloc(count);
    FUZZ_CHECK(text, "no memory");
    memcpy(text, bytes + 1, count - 1);
    text[count - 1] = 0;
    switch (bytes[0] % 4) {
    case 0:
        run_numbers(text);
        break;
    case 1:
        run_config(text);
        break;
    case 2:
        run_environment(text);
        break;
    default:
        run_plan(text);
    }
    free(text);
    return 0;
}

void fuzz_seeds(fuzz_seed_fn *seed)
{
    static const char *const texts[] = {
        "00",
        "0999",
        "01.5",
        "0-1e-3",
        "064MiB",
        "01.5 GiB",
        "0250us",
        "05ms",
        "02s",
        "0 7",
        "018446744073709551615",
        "016EiB",
        "00x10",
        "0nan",
        "0inf",
        "0+3",
        "1# comment\n\nindex = words=indexes/words\nlisten = 127.0.0.1:7117\n",
        "1dram-budget = 1GiB\nworkers = 4\nlog-format = json\nlog-level=debug\nhttp = off\n",
        "1io = pread\r\nmax-queue = 100\nidle-timeout = 5m\n",
        "2FATHOM_INDEX=a=b,c=d\nFATHOM_DRAM_BUDGET=1GiB\nFATHOM_IO=uring\nPATH=x\n",
        "2FATHOM_LISTEN=unix:a,127.0.0.1:0\nFATHOM_WORKERS=0\nFATHOM_WHAT=1\n",
        "3op=17:ENOSPC",
        "3op=17+:EIO;read#5:short=512",
        "3read~20:flip=bit777;alloc#88:fail",
        "3ring_init:ENOMEM;read#9:stall=5s;op=3:kill",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        seed(texts[i], strlen(texts[i]));
}
