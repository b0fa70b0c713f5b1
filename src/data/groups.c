/* groups.c - which samples belong together, by a regular expression over their names. */
#include <regex.h>

#include "base/str.h"
#include "data/data.h"

/* \d, \w and \s, which POSIX has not, as sets. */
static char *posix_regex(Arena *a, const char *text) {
    Str s = {0};
    bool set = false;
    str_add(&s, "");
    for (const char *p = text; *p; p++) {
        const char *what = p[0] != '\\' ? NULL : p[1] == 'd' ? "0-9" : p[1] == 'w' ? "A-Za-z0-9_"
                                             : p[1] == 's' ? "[:space:]" : NULL;
        if (*p == '[') set = true;
        if (*p == ']') set = false;
        if (what) str_addf(&s, set ? "%s" : "[%s]", what), p++;
        else if (*p == '\\' && p[1]) str_addn(&s, p++, 2);
        else str_addn(&s, p, 1);
    }
    char *out = arena_strdup(a, s.s);
    str_free(&s);
    return out;
}

static const char *group_of(Arena *a, const regex_t *re, const char *name) {
    regmatch_t m[2];
    if (regexec(re, name, 2, m, 0)) return name;
    const regmatch_t *use = re->re_nsub && m[1].rm_so >= 0 ? &m[1] : &m[0];
    return arena_printf(a, "%.*s", (int)(use->rm_eo - use->rm_so), name + use->rm_so);
}

Err group_names(Arena *a, const char *pattern, const char *const *names, int n, const char **out) {
    regex_t re;
    if (regcomp(&re, posix_regex(a, pattern), REG_EXTENDED))
        return err_set(E(EXIT_USAGE, 76),
                       "%s is no regular expression; write for example '^(drive\\d+)'", pattern);
    for (int i = 0; i < n; i++) out[i] = group_of(a, &re, names[i]);
    regfree(&re);
    return OK;
}
