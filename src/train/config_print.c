/* config_print.c - the resolved configuration as YAML with origins, its comparison on resume,
 * --help. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "train/config_priv.h"

typedef struct Printer {
    Str s;
    char group[8][64];
    int depth;
} Printer;

char *config_row_text(const Config *c, int row) {
    return option_text(&config_rows[row], &c->origin->raw);
}

/* was: what the value took the place of, or NULL. */
static void print_value(Printer *p, OptType type, const char *key, const char *value,
                        const char *where, const char *was) {
    size_t start = p->s.n;
    str_addf(&p->s, "%*s%s: ", 2 * p->depth, "", key);
    const bool flow = type == OPT_FLOW && *value && strchr("[{", *value); /* YAML already */
    if ((type == OPT_STR || type == OPT_FLOW) && !flow) yaml_quote(&p->s, value);
    else str_add(&p->s, value);
    int pad = 44 - (int)(p->s.n - start);
    str_addf(&p->s, "%*s# ", pad > 1 ? pad : 1, "");
    str_escape_terminal(&p->s, where ? where : "default");
    if (was) str_add(&p->s, "; was "), str_escape_terminal(&p->s, was);
    str_add(&p->s, "\n");
}

/* Close and open groups so that the next key stands at the right depth; returns that key. */
static const char *enter_groups(Printer *p, const char *name) {
    int depth = 0;
    const char *dot;
    while ((dot = strchr(name, '.'))) {
        char part[64];
        snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
        if (depth >= p->depth || strcmp(p->group[depth], part)) {
            memcpy(p->group[depth], part, sizeof part);
            str_addf(&p->s, "%*s%s:\n", 2 * depth, "", part);
            p->depth = depth + 1;
        }
        depth++;
        name = dot + 1;
    }
    p->depth = depth;
    return name;
}

static char *number_text(double v) {
    Str s = {0};
    str_json_number(&s, v);
    return s.s;
}

/* weight and all options of a method, at the present depth. */
static void print_term(Printer *p, const LossTerm *t, const TermSource *src) {
    char *weight = number_text(t->weight);
    const TermOption *o = term_option(src, "weight");
    print_value(p, OPT_F64, "weight", weight, o ? o->where : "default", NULL);
    free(weight);
    for (const Option *r = t->method->options; r && r->name; r++) {
        char *text = option_text(r, t->opt);
        o = term_option(src, r->name);
        print_value(p, r->type, r->name, text, o ? o->where : "default", NULL);
        free(text);
    }
}

static void print_losses(Printer *p, const Config *c) {
    enter_groups(p, "distill.task.weight");
    print_term(p, &c->task, &c->origin->task);
    enter_groups(p, "distill.losses");
    p->depth = 1;
    print_value(p, OPT_ENUM, "losses", c->n_losses ? "" : "[]", c->origin->losses_where,
                c->origin->losses_was);
    for (int i = 0; i < c->n_losses; i++) {
        str_addf(&p->s, "    - %s:\n", c->losses[i].method->name);
        p->depth = 4;
        print_term(p, &c->losses[i], &c->origin->loss[i]);
    }
    p->depth = 1;
}

/* Rows of the command line alone are no part of a configuration. */
static bool in_file(int row) {
    return config_row_commands(row) & IN_TRAIN;
}

char *config_text(const Config *c) {
    Printer p = {0};
    bool losses = false;
    for (int i = 0; i < c->origin->n_base; i++) {
        str_add(&p.s, "# base: ");
        str_escape_terminal(&p.s, c->origin->base[i]);
        str_add(&p.s, "\n");
    }
    for (int i = 0; i < config_row_count(); i++) {
        const char *name = config_rows[i].name;
        if (!in_file(i) || !strcmp(name, "print_config")) continue;
        if (!losses && str_starts(name, "train.")) print_losses(&p, c), losses = true;
        char *text = config_row_text(c, i);
        const char *key = enter_groups(&p, name);
        print_value(&p, config_rows[i].type, key, text, c->origin->where[i], c->origin->was[i]);
        free(text);
    }
    return p.s.s;
}

Err config_write(const Config *c, const char *path) {
    char *text = config_text(c);
    Err rc = durable_write_all(path, text, strlen(text));
    free(text);
    return rc;
}

/* ---- comparison on resume ------------------------------------------------------------------- */

typedef struct Setting {
    const char *key;
    char *value;
} Setting; /* key: lives in the config's arena */
typedef struct Settings {
    Setting *v;
    int n, cap;
} Settings;

static void settings_add(Settings *s, const char *key, char *value) { /* takes value */
    GROW(s->v, s->n, s->cap);
    s->v[s->n++] = (Setting){key, value};
}

static void settings_free(Settings *s) {
    for (int i = 0; i < s->n; i++) free(s->v[i].value);
    free(s->v);
}

static void settings_of_term(Settings *s, const Config *c, const char *prefix, const LossTerm *t) {
    settings_add(s, arena_printf(c->arena, "%sweight", prefix), number_text(t->weight));
    for (const Option *r = t->method->options; r && r->name; r++)
        settings_add(s, arena_printf(c->arena, "%s%s", prefix, r->name), option_text(r, t->opt));
}

/* Everything that a resumed run may not change, by the names one would type. */
static Settings settings_of(const Config *c) {
    Settings s = {0};
    Str losses = {0};
    str_add(&losses, "[");
    for (int i = 0; i < config_row_count(); i++)
        if (in_file(i) && !(config_rows[i].flags & OPT_RESUME))
            settings_add(&s, config_rows[i].name, config_row_text(c, i));
    settings_of_term(&s, c, "distill.task.", &c->task);
    for (int i = 0; i < c->n_losses; i++) {
        str_addf(&losses, "%s%s", i ? ", " : "", c->losses[i].method->name);
        settings_of_term(&s, c, arena_printf(c->arena, "distill.losses.%s.", c->losses[i].label),
                         &c->losses[i]);
    }
    str_add(&losses, "]");
    settings_add(&s, "distill.losses", losses.s);
    return s;
}

static const char *value_of(const Settings *s, const char *key) {
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->v[i].key, key)) return s->v[i].value;
    return NULL;
}

static void list_changes(Str *out, const Settings *was, const Settings *is) {
    for (int i = 0; i < was->n; i++) {
        const char *now = value_of(is, was->v[i].key);
        if (now && !strcmp(now, was->v[i].value)) continue;
        str_addf(out, "%s%s: %s -> %s", out->n ? ", " : "", was->v[i].key, was->v[i].value,
                 now ? now : "absent");
    }
    for (int i = 0; i < is->n; i++)
        if (!value_of(was, is->v[i].key))
            str_addf(out, "%s%s: absent -> %s", out->n ? ", " : "", is->v[i].key, is->v[i].value);
}

char *config_changes(const Config *was, const Config *is) {
    Settings a = settings_of(was), b = settings_of(is);
    Str s = {0};
    str_add(&s, "");
    list_changes(&s, &a, &b);
    settings_free(&a), settings_free(&b);
    return s.s;
}

Err config_check_resume(const Config *c, const char *text, const char *path) {
    Config *old;
    if (config_read_text(text, path, &old))
        return err_wrap(E(5, 15), "the run was started by another version");
    char *changes = config_changes(old, c);
    config_close(old);
    Err rc = *changes
                 ? err_set(E(5, 0),
                           "%s: changed options would change the result: %s; give the old values, "
                           "or another out=",
                           path, changes)
                 : OK;
    free(changes);
    return rc;
}

void config_help(const char *command) {
    unsigned bit = config_command_bit(command);
    int n = 0;
    Option *rows = xcalloc((size_t)config_row_count() + 1, sizeof *rows);
    for (int i = 0; i < config_row_count(); i++) {
        if (!(config_row_commands(i) & bit)) continue;
        const char *alias = bit & (IN_TRAIN | IN_CHECK) ? NULL : config_alias_of(config_rows[i].name);
        rows[n] = config_rows[i];
        if (alias) rows[n].name = alias;
        n++;
    }
    option_help(rows, "");
    free(rows);
    const char *names[64];
    int n_names = bit & IN_DISTILL ? method_names(names, 64) : 0;
    for (int i = 0; i < n_names; i++) {
        const KdMethod *m = method_find(names[i]);
        char prefix[64];
        help_print("\n%s (%s)%s\n", m->name, m->cite, m->task ? ", a task loss" : "");
        snprintf(prefix, sizeof prefix, m->task ? "distill.task." : "distill.losses.%s.", m->name);
        if (m->options) option_help(m->options, prefix);
    }
}
