/* Parses fault plans; see fault.h for the language. A rule that could never act is refused, so that
 * a mistyped plan does not pass for a test. */
#include "fault_plan.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RULE_TEXT_MAX 64
#define ERRNO_MAX     4095

/* Moves *text past prefix when it starts with it. */
static bool skip(const char **text, const char *prefix)
{
    size_t length = strlen(prefix);
    if (strncmp(*text, prefix, length))
        return false;
    *text += length;
    return true;
}

static bool take_number(const char **text, uint64_t *out)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    *out = strtoull(*text, &end, 10);
    *text = end;
    return true;
}

static bool parse_target(const char *text, struct fault_rule *rule)
{
    if (!strcmp(text, "ring_init")) {
        rule->target = FAULT_RING_INIT;
        return true;
    }
    if (skip(&text, "op="))
        rule->target = FAULT_OP;
    else if (skip(&text, "read#"))
        rule->target = FAULT_READ;
    else if (skip(&text, "read~"))
        rule->target = FAULT_READ_RANDOM;
    else if (skip(&text, "alloc#"))
        rule->target = FAULT_ALLOC;
    else
        return false;
    if (!take_number(&text, &rule->at) || rule->at == 0)
        return false;
    rule->onward = rule->target != FAULT_READ_RANDOM && skip(&text, "+");
    return *text == 0;
}

static bool parse_stall(const char *text, uint64_t *ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    if (!take_number(&text, ns))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strcmp(text, units[i].name))
            return !__builtin_mul_overflow(*ns, units[i].ns, ns);
    return false;
}

static bool parse_errno(const char *text, uint64_t *value)
{
    for (int code = 1; code <= ERRNO_MAX; code++) {
        const char *name = strerrorname_np(code);
        if (name && !strcmp(name, text)) {
            *value = (uint64_t)code;
            return true;
        }
    }
    return false;
}

static bool parse_action(const char *text, struct fault_rule *rule)
{
    rule->action = FAULT_KILL;
    if (!strcmp(text, "kill"))
        return true;
    rule->action = FAULT_FAIL;
    if (!strcmp(text, "fail"))
        return true;
    rule->action = FAULT_SHORT;
    if (skip(&text, "short="))
        return take_number(&text, &rule->value) && *text == 0;
    rule->action = FAULT_FLIP;
    if (skip(&text, "flip=bit"))
        return take_number(&text, &rule->value) && *text == 0;
    rule->action = FAULT_STALL;
    if (skip(&text, "stall="))
        return parse_stall(text, &rule->value);
    rule->action = FAULT_ERRNO;
    return parse_errno(text, &rule->value);
}

/* Which actions make sense where. EINPROGRESS is how a held back read answers (env.h), so no read
 * can fail with it. */
static bool can_act(const struct fault_rule *rule)
{
    if (rule->action == FAULT_ERRNO && rule->value == EINPROGRESS)
        return false;
    switch (rule->target) {
    case FAULT_ALLOC:
        return rule->action == FAULT_FAIL || rule->action == FAULT_KILL;
    case FAULT_RING_INIT:
        return rule->action == FAULT_ERRNO || rule->action == FAULT_KILL;
    case FAULT_OP:
        return rule->action != FAULT_FAIL && rule->action != FAULT_FLIP;
    default:
        return rule->action != FAULT_FAIL;
    }
}

static bool parse_rule(char *text, struct fault_rule *rule)
{
    char *colon = strchr(text, ':');
    if (!colon)
        return false;
    *colon = 0;
    bool ok = parse_target(text, rule) && parse_action(colon + 1, rule) && can_act(rule);
    *colon = ':';
    return ok;
}

int fault_plan_parse(const char *plan, struct fault_rule rules[FAULT_RULES_MAX], unsigned *count,
                     struct fathom_error *err)
{
    char text[RULE_TEXT_MAX];
    *count = 0;
    while (*plan) {
        size_t length = strcspn(plan, ";");
        if (*count == FAULT_RULES_MAX)
            return error_set(err, FATHOM_EARGUMENT, "fault plan: more than %d rules",
                             FAULT_RULES_MAX);
        if (length >= sizeof text)
            return error_set(err, FATHOM_EARGUMENT, "fault plan: rule too long: '%.40s...'", plan);
        memcpy(text, plan, length);
        text[length] = 0;
        rules[*count] = (struct fault_rule){.at = 0};
        if (!parse_rule(text, &rules[*count]))
            return error_set(err, FATHOM_EARGUMENT,
                             "fault plan: '%s' is not TARGET:ACTION as in op=17:ENOSPC or "
                             "read#9:flip=bit777",
                             text);
        ++*count;
        plan += length + (plan[length] == ';');
    }
    return 0;
}
