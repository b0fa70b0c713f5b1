/* option.h - options: every one has one row in one table (name, type, default, unit, help).
 *
 * A table describes a struct: each row says where in the struct its value lies. The same table reads
 * YAML values and key=value overrides, prints --help and the documentation, and dumps a resolved
 * configuration. Unknown names are errors with the place and the nearest known name. */
#ifndef RETORT_BASE_OPTION_H
#define RETORT_BASE_OPTION_H
#include "base/mem.h"

typedef enum {
    OPT_BOOL,                        /* bool: true | false */
    OPT_INT,                         /* int64_t; "auto" is 0 where flags has OPT_AUTO */
    OPT_F64,                         /* double */
    OPT_STR,                         /* const char * */
    OPT_FLOW,                        /* const char *: any YAML value on one line, {a: 1} */
    OPT_ENUM,                        /* int: index into choices, "xor|or|and" */
    OPT_SIZE,                        /* int64_t[2]: HxW */
    OPT_RANGE,                       /* double[2]: [lo, hi] */
    OPT_TIME,                        /* double seconds: 10min, 60s, 2h, 90 */
    OPT_EVERY,                       /* OptEvery: "2000" steps or "10min" */
    OPT_I32,                         /* int, otherwise as OPT_INT */
    OPT_SIZE32,                      /* int[2], otherwise as OPT_SIZE */
    OPT_TYPES
} OptType;
typedef struct { int64_t steps; double seconds; } OptEvery;
enum { OPT_RESUME = 1,               /* a resumed run may change it: cannot change the result */
       OPT_AUTO = 2,                 /* "auto" or "none" may be given: zero */
       OPT_REQUIRED = 4,
       OPT_TERM_WEIGHT = 8 };        /* weighs a part of a loss term: `retort loss`, where no weight applies, takes 1 */
typedef struct Option {
    const char *name;                /* "train.lr", or "tau" within a method's table */
    OptType     type;
    size_t      offset;              /* in the struct */
    const char *def;                 /* default, as one would type it */
    const char *unit;                /* "steps", "px", "" */
    const char *help;
    unsigned    flags;
    const char *choices;             /* OPT_ENUM: "a|b|c" */
    double      lo, hi;              /* numbers: allowed range, ignored when both 0 */
} Option;

int   option_count(const Option *table);
const Option *option_find(const Option *table, const char *name);   /* NULL when absent */
void  option_defaults(const Option *table, void *out, Arena *a);
/* Set one by name from text; `where` ("a.yaml:12" or "command line") and `prefix` go into the error (E2076). */
Err   option_set(const Option *table, void *out, Arena *a, const char *prefix, const char *name, const char *value, const char *where);
char *option_text(const Option *row, const void *in);        /* the value as typed; caller frees */
/* To stdout, as wide as the terminal, or 80 columns: rows of a table; lines of text. */
void  option_help(const Option *table, const char *prefix);
void  help_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#endif
