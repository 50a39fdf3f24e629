/* The language of fault plans (fault.h). Pure: text in, rules out. */
#ifndef ENV_FAULT_PLAN_H
#define ENV_FAULT_PLAN_H

#include "fault.h"

/* Fills up to FAULT_RULES_MAX rules. FATHOM_EARGUMENT with the offending piece in err. */
int fault_plan_parse(const char *plan, struct fault_rule rules[FAULT_RULES_MAX], unsigned *count,
                     struct fathom_error *err) FATHOM_MUST_USE;

#endif
