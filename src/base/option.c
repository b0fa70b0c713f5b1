/* option.c - text to value and back, by the rows of a table.
 *
 * Each type is one row of `types`: how to read it, how to print it. All reading is whole-string and
 * locale-free; a value that does not fit says what was expected. */
#include "base/option.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/sys.h"

/* Readers store into `at` and return NULL, or what was expected. */
typedef const char *(*ReadFn)(const Option *o, void *at, Arena *a, const char *text);
typedef void (*PrintFn)(const Option *o, const void *at, Str *out);

static bool in_range(const Option *o, double v) {
    return (o->lo == 0 && o->hi == 0) || (v >= o->lo && v <= o->hi);
}
static bool is_auto(const Option *o, const char *text) {
    return (o->flags & OPT_AUTO) && (!strcmp(text, "auto") || !strcmp(text, "none"));
}

/* ---- one value ------------------------------------------------------------------------------- */
static const char *read_bool(const Option *o, void *at, Arena *a, const char *text) {
    bool yes = !strcmp(text, "true") || !strcmp(text, "on"),
         no = !strcmp(text, "false") || !strcmp(text, "off");
    if (!yes && !no) return "true or false";
    *(bool *)at = yes;
    return NULL;
}
static void print_bool(const Option *o, const void *at, Str *out) {
    str_add(out, *(const bool *)at ? "true" : "false");
}

static const char *read_int(const Option *o, void *at, Arena *a, const char *text) {
    int64_t v = 0;
    if (!is_auto(o, text) && (!parse_i64(text, &v) || !in_range(o, (double)v)))
        return "a whole number";
    *(int64_t *)at = v;
    return NULL;
}
static void print_int(const Option *o, const void *at, Str *out) {
    int64_t v = *(const int64_t *)at;
    if (v == 0 && (o->flags & OPT_AUTO)) str_add(out, "auto");
    else str_addf(out, "%" PRId64, v);
}

static const char *read_i32(const Option *o, void *at, Arena *a, const char *text) {
    int64_t v;
    const char *wrong = read_int(o, &v, a, text);
    if (wrong || v < INT32_MIN || v > INT32_MAX) return "a whole number";
    *(int *)at = (int)v;
    return NULL;
}
static void print_i32(const Option *o, const void *at, Str *out) {
    print_int(o, &(int64_t){*(const int *)at}, out);
}

static const char *read_f64(const Option *o, void *at, Arena *a, const char *text) {
    double v = 0;
    if (!is_auto(o, text) && (!parse_f64(text, &v) || !in_range(o, v))) return "a number";
    *(double *)at = v;
    return NULL;
}
static void print_f64(const Option *o, const void *at, Str *out) {
    double v = *(const double *)at;
    if (v == 0 && (o->flags & OPT_AUTO)) str_add(out, "auto");
    else str_json_number(out, v);
}

static const char *read_str(const Option *o, void *at, Arena *a, const char *text) {
    *(const char **)at = arena_strdup(a, text);
    return NULL;
}
static void print_str(const Option *o, const void *at, Str *out) {
    const char *s = *(const char *const *)at;
    str_add(out, s ? s : "");
}

/* Choice number i of "a|b|c" as pointer and length; false past the end. */
static bool choice_at(const char *choices, int i, const char **s, size_t *n) {
    for (; i > 0; i--) {
        choices = strchr(choices, '|');
        if (!choices) return false;
        choices++;
    }
    *s = choices, *n = strcspn(choices, "|");
    return true;
}
static const char *read_enum(const Option *o, void *at, Arena *a, const char *text) {
    const char *s;
    size_t n;
    for (int i = 0; choice_at(o->choices, i, &s, &n); i++)
        if (strlen(text) == n && !memcmp(s, text, n)) {
            *(int *)at = i;
            return NULL;
        }
    return "one of";
}
static void print_enum(const Option *o, const void *at, Str *out) {
    const char *s;
    size_t n;
    CHECK(choice_at(o->choices, *(const int *)at, &s, &n));
    str_addn(out, s, n);
}

/* ---- two values ------------------------------------------------------------------------------ */
static const char *read_size(const Option *o, void *at, Arena *a, const char *text) {
    int64_t *v = at, h = 0, w = 0;
    if (!is_auto(o, text)) {
        const char *x = strchr(text, 'x');
        char *first = arena_printf(a, "%.*s", x ? (int)(x - text) : 0, text);
        bool good = x && parse_i64(first, &h) && parse_i64(x + 1, &w) && h > 0 && w > 0;
        if (!good || !in_range(o, (double)h) || !in_range(o, (double)w)) return "HEIGHTxWIDTH";
    }
    v[0] = h, v[1] = w;
    return NULL;
}
static void print_size(const Option *o, const void *at, Str *out) {
    const int64_t *v = at;
    if (v[0] == 0 && (o->flags & OPT_AUTO)) str_add(out, "auto");
    else str_addf(out, "%" PRId64 "x%" PRId64, v[0], v[1]);
}

static const char *read_size32(const Option *o, void *at, Arena *a, const char *text) {
    int64_t v[2];
    const char *wrong = read_size(o, v, a, text);
    if (wrong || v[0] > INT32_MAX || v[1] > INT32_MAX) return "HEIGHTxWIDTH";
    ((int *)at)[0] = (int)v[0], ((int *)at)[1] = (int)v[1];
    return NULL;
}
static void print_size32(const Option *o, const void *at, Str *out) {
    print_size(o, (int64_t[2]){((const int *)at)[0], ((const int *)at)[1]}, out);
}

/* "[lo, hi]", "lo,hi" or one number for both. */
static const char *read_range(const Option *o, void *at, Arena *a, const char *text) {
    double *v = at, lo = 0, hi = 0;
    if (!is_auto(o, text)) {
        if (str_starts(text, "[") != str_ends(text, "]")) return "[LOW, HIGH]";
        char *s = arena_alloc(a, strlen(text) + 1), *end = s;
        for (const char *p = text; *p; p++)
            if (!strchr("[] \t", *p)) *end++ = *p;
        char *comma = strchr(s, ',');
        if (comma) *comma = 0;
        if (!parse_f64(s, &lo) || !parse_f64(comma ? comma + 1 : s, &hi)) return "[LOW, HIGH]";
        if (lo > hi || !in_range(o, lo) || !in_range(o, hi)) return "[LOW, HIGH]";
    }
    v[0] = lo, v[1] = hi;
    return NULL;
}
static void print_range(const Option *o, const void *at, Str *out) {
    const double *v = at;
    if (v[0] == 0 && v[1] == 0 && (o->flags & OPT_AUTO)) {
        str_add(out, "none");
        return;
    }
    str_add(out, "[");
    str_json_number(out, v[0]);
    str_add(out, ", ");
    str_json_number(out, v[1]);
    str_add(out, "]");
}

/* ---- times ----------------------------------------------------------------------------------- */
static const struct { const char *name; double seconds; } units[] = {
    {"d", 86400}, {"h", 3600}, {"min", 60}, {"ms", 0.001}, {"s", 1},
};

/* "10min" to seconds; *unit tells whether one was given. */
static bool parse_time(const char *text, double *seconds, bool *unit) {
    size_t n = strspn(text, "0123456789.");
    char number[64];
    if (n == 0 || n >= sizeof number) return false;
    memcpy(number, text, n), number[n] = 0;
    *unit = text[n] != 0;
    double factor = *unit ? 0 : 1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(text + n, units[i].name)) factor = units[i].seconds;
    if (factor <= 0 || !parse_f64(number, seconds)) return false;
    *seconds *= factor;
    return true;
}
static void print_seconds(double seconds, Str *out) {
    double factor = 1;
    const char *name = "s";
    for (size_t i = 0; i < 3; i++)      /* the largest unit that divides it */
        if (seconds > 0 && fmod(seconds, units[i].seconds) == 0) {
            factor = units[i].seconds, name = units[i].name;
            break;
        }
    str_json_number(out, seconds / factor);
    str_add(out, name);
}

static const char *read_time(const Option *o, void *at, Arena *a, const char *text) {
    bool unit;
    double v = 0;
    if (!is_auto(o, text) && (!parse_time(text, &v, &unit) || !in_range(o, v)))
        return "a time such as 60s, 10min or 2h";
    *(double *)at = v;
    return NULL;
}
static void print_time(const Option *o, const void *at, Str *out) {
    print_seconds(*(const double *)at, out);
}

static const char *read_every(const Option *o, void *at, Arena *a, const char *text) {
    OptEvery v = {0, 0};
    bool unit = false;
    if (!is_auto(o, text) && !(parse_i64(text, &v.steps) && v.steps >= 0) &&
        !(parse_time(text, &v.seconds, &unit) && unit))
        return "a number of steps such as 2000, or a time such as 10min";
    *(OptEvery *)at = v;
    return NULL;
}
static void print_every(const Option *o, const void *at, Str *out) {
    const OptEvery *v = at;
    if (v->seconds > 0) print_seconds(v->seconds, out);
    else str_addf(out, "%" PRId64, v->steps);
}

static const struct { ReadFn read; PrintFn print; } types[] = {
    [OPT_BOOL] = {read_bool, print_bool},    [OPT_INT] = {read_int, print_int},
    [OPT_F64] = {read_f64, print_f64},       [OPT_STR] = {read_str, print_str},
    [OPT_FLOW] = {read_str, print_str},
    [OPT_ENUM] = {read_enum, print_enum},    [OPT_SIZE] = {read_size, print_size},
    [OPT_RANGE] = {read_range, print_range}, [OPT_TIME] = {read_time, print_time},
    [OPT_EVERY] = {read_every, print_every}, [OPT_I32] = {read_i32, print_i32},
    [OPT_SIZE32] = {read_size32, print_size32},
};
_Static_assert(sizeof types / sizeof *types == OPT_TYPES, "one row per type");

/* ---- tables ---------------------------------------------------------------------------------- */
int option_count(const Option *table) {
    int n = 0;
    while (table && table[n].name) n++;
    return n;
}

const Option *option_find(const Option *table, const char *name) {
    for (const Option *o = table; o && o->name; o++)
        if (!strcmp(o->name, name)) return o;
    return NULL;
}

void option_defaults(const Option *table, void *out, Arena *a) {
    for (const Option *o = table; o && o->name; o++) {
        if (!o->def) continue;          /* no default: stays zero or NULL */
        CHECK(!types[o->type].read(o, (char *)out + o->offset, a, o->def));
    }
}

/* "prefix.name", or the name alone; returns (caller frees). */
static char *full_name(const char *prefix, const char *name) {
    if (!prefix || !*prefix) return xstrdup(name);
    return xprintf("%s%s%s", prefix, str_ends(prefix, ".") ? "" : ".", name);
}

static Err unknown_option(const Option *table, const char *prefix, const char *name,
                          const char *where) {
    int n = option_count(table);
    const char **names = xcalloc((size_t)n + 1, sizeof *names);
    for (int i = 0; i < n; i++) names[i] = table[i].name;
    const char *near = str_nearest(name, names, n);
    char *full = full_name(prefix, name), *guess = near ? full_name(prefix, near) : NULL;
    Err rc = guess ? err_set(E(EXIT_USAGE, 76), "%s: %s is not an option; did you mean %s?", where,
                             full, guess)
                   : err_set(E(EXIT_USAGE, 76), "%s: %s is not an option; see --help for the list",
                             where, full);
    free(guess);
    free(full);
    free(names);
    return rc;
}

static Err bad_value(const Option *o, const char *prefix, const char *value, const char *expected,
                     const char *where) {
    Str want = {0};
    str_add(&want, expected);
    if (o->type == OPT_ENUM) str_addf(&want, " %s", o->choices);
    if (o->flags & OPT_AUTO) str_add(&want, " or auto");
    if (o->lo != 0 || o->hi != 0) {
        str_add(&want, " from ");
        str_json_number(&want, o->lo);
        str_add(&want, " to ");
        if (isfinite(o->hi)) str_json_number(&want, o->hi);
        else str_add(&want, "infinity");
    }
    char *full = full_name(prefix, o->name);
    Err rc = err_set(E(EXIT_USAGE, 76), "%s: %s=%s is not %s; correct the value", where, full,
                     value, want.s);
    free(full);
    str_free(&want);
    return rc;
}

Err option_set(const Option *table, void *out, Arena *a, const char *prefix, const char *name,
               const char *value, const char *where) {
    const Option *o = option_find(table, name);
    if (!o) return unknown_option(table, prefix, name, where);
    const char *expected = types[o->type].read(o, (char *)out + o->offset, a, value);
    return expected ? bad_value(o, prefix, value, expected, where) : OK;
}

char *option_text(const Option *row, const void *in) {
    Str s = {0};
    str_add(&s, "");
    types[row->type].print(row, (const char *)in + row->offset, &s);
    return s.s;
}

static int help_columns(void) {
    enum { USUAL = 80, LEAST = 40 };
    const int columns = sys_columns(STDOUT_FILENO);
    return columns <= 0 ? USUAL : columns < LEAST ? LEAST : columns;
}

void option_help(const Option *table, const char *prefix) {
    enum { NAME_AT = 2, TEXT_AT = 6 };
    const int columns = help_columns();
    for (const Option *o = table; o && o->name; o++) {
        Str line = {0}, out = {0};
        char *full = full_name(prefix, o->name);
        str_addf(&line, "%s=%s", full, o->def ? o->def : "");
        str_addf(&out, "%*s", NAME_AT, "");
        str_wrap(&out, line.s, NAME_AT, TEXT_AT, columns);
        line.n = 0;
        str_add(&line, o->help ? o->help : "");
        if (o->choices) str_addf(&line, " (%s)", o->choices);
        if (o->unit && *o->unit) str_addf(&line, " [%s]", o->unit);
        if (o->flags & OPT_REQUIRED) str_add(&line, " (required)");
        str_addf(&out, "\n%*s", TEXT_AT, "");
        str_wrap(&out, line.s, TEXT_AT, TEXT_AT, columns);
        puts(out.s);
        free(full), str_free(&line), str_free(&out);
    }
}

/* A line that is too long goes on a little further in than it began. */
void help_print(const char *fmt, ...) {
    enum { FURTHER = 2 };
    const int columns = help_columns();
    Str all = {0}, out = {0};
    va_list ap;
    va_start(ap, fmt);
    str_addv(&all, fmt, ap);
    va_end(ap);
    for (const char *text = all.s; *text;) {
        const size_t n = strcspn(text, "\n");
        char *line = xprintf("%.*s", (int)n, text);
        str_wrap(&out, line, 0, (int)strspn(line, " ") + FURTHER, columns);
        str_add(&out, "\n");
        free(line);
        text += n + (text[n] == '\n');
    }
    fputs(out.s, stdout);
    str_free(&all), str_free(&out);
}
