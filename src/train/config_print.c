/* config_print.c - the resolved configuration as YAML with origins, its comparison on resume, --help. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "train/config_priv.h"

typedef struct Printer { Str s; char group[8][64]; int depth; } Printer;

char *config_row_text(const Config *c, int row) {
    const Option *r = &config_rows[row];
    const void *raw = &c->origin->raw;
    if (r->type != OPT_STR) return option_text(r, raw);
    const char *v = *(const char *const *)((const char *)raw + r->offset);
    return xstrdup(v ? v : "");
}

static void print_value(Printer *p, OptType type, const char *key, const char *value, const char *where) {
    size_t start = p->s.n;
    str_addf(&p->s, "%*s%s: ", 2 * p->depth, "", key);
    if (type == OPT_STR && strcmp(value, "{}") && value[0] != '{') yaml_quote(&p->s, value);
    else str_add(&p->s, value);
    int pad = 44 - (int)(p->s.n - start);
    str_addf(&p->s, "%*s# ", pad > 1 ? pad : 1, "");
    str_escape_terminal(&p->s, where ? where : "default");
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

/* weight and all options of a method, at the present depth. */
static void print_term(Printer *p, const LossTerm *t, const TermSource *src) {
    char weight[40];
    snprintf(weight, sizeof weight, "%.17g", t->weight);
    double shorter;
    for (int digits = 6; digits < 17; digits++) {
        char text[40];
        snprintf(text, sizeof text, "%.*g", digits, t->weight);
        if (parse_f64(text, &shorter) && shorter == t->weight) { memcpy(weight, text, sizeof weight); break; }
    }
    const TermOption *o = term_option(src, "weight");
    print_value(p, OPT_F64, "weight", weight, o ? o->where : "default");
    for (const Option *r = t->method->options; r && r->name; r++) {
        char *text;
        const char *s = r->type == OPT_STR ? *(const char *const *)((const char *)t->opt + r->offset) : NULL;
        text = r->type == OPT_STR ? xstrdup(s ? s : "") : option_text(r, t->opt);
        o = term_option(src, r->name);
        print_value(p, r->type, r->name, text, o ? o->where : "default");
        free(text);
    }
}

static void print_losses(Printer *p, const Config *c) {
    enter_groups(p, "distill.task.weight");
    print_term(p, &c->task, &c->origin->task);
    enter_groups(p, "distill.losses");
    str_addf(&p->s, "  losses:%s\n", c->n_losses ? "" : " []");
    for (int i = 0; i < c->n_losses; i++) {
        str_addf(&p->s, "    - %s:\n", c->losses[i].method->name);
        p->depth = 4;
        print_term(p, &c->losses[i], &c->origin->loss[i]);
    }
    p->depth = 1;
}

/* Rows of the command line alone are no part of a configuration. */
static bool in_file(int row) { return config_row_commands(row) & IN_TRAIN; }

char *config_text(const Config *c) {
    Printer p = {0};
    bool losses = false;
    for (int i = 0; i < config_row_count(); i++) {
        const char *name = config_rows[i].name;
        if (!in_file(i) || !strcmp(name, "print_config")) continue;
        if (!losses && str_starts(name, "train.")) print_losses(&p, c), losses = true;
        char *text = config_row_text(c, i);
        const char *key = enter_groups(&p, name);
        print_value(&p, config_rows[i].type, key, text, c->origin->where[i]);
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

/* The terms as text without origins, for comparing. */
static char *terms_text(const Config *c) {
    Printer p = {0};
    TermSource none = {0};
    str_addf(&p.s, "%s\n", c->task.method->name);
    print_term(&p, &c->task, &none);
    for (int i = 0; i < c->n_losses; i++) {
        str_addf(&p.s, "%s\n", c->losses[i].label);
        print_term(&p, &c->losses[i], &none);
    }
    return p.s.s;
}

static void list_changed_terms(Str *s, const Config *old, const Config *new) {
    char *a = terms_text(old), *b = terms_text(new), *sa = NULL, *sb = NULL;
    const char *la = strtok_r(a, "\n", &sa), *lb = strtok_r(b, "\n", &sb);
    while (la || lb) {                       /* the first line that differs says enough */
        if (!la || !lb || strcmp(la, lb)) {
            const char *ca = la ? strstr(la, "  #") : NULL, *cb = lb ? strstr(lb, "  #") : NULL;
            str_addf(s, "%sdistill: %.*s -> %.*s", s->n ? ", " : "", la ? (int)(ca ? ca - la : (long)strlen(la)) : 4, la ? la : "none",
                     lb ? (int)(cb ? cb - lb : (long)strlen(lb)) : 4, lb ? lb : "none");
            break;
        }
        la = strtok_r(NULL, "\n", &sa), lb = strtok_r(NULL, "\n", &sb);
    }
    free(a), free(b);
}

Err config_check_resume(const Config *c, const char *path) {
    Bytes b;
    Config *old;
    TRY(sys_read_file(path, 1 << 20, EXIT_CHECKPOINT, &b));
    char *text = xcalloc(b.bytes + 1, 1);
    memcpy(text, b.data, b.bytes);
    free(b.data);
    Err rc = config_read_text(text, path, &old);
    free(text);
    if (rc) return err_wrap(E(5, 15), "the run was started by another version");
    Str s = {0};
    for (int i = 0; i < config_row_count(); i++) {
        if (!in_file(i) || (config_rows[i].flags & OPT_RESUME)) continue;
        char *was = config_row_text(old, i), *is = config_row_text(c, i);
        if (strcmp(was, is)) str_addf(&s, "%s%s: %s -> %s", s.n ? ", " : "", config_rows[i].name, was, is);
        free(was), free(is);
    }
    list_changed_terms(&s, old, c);
    config_close(old);
    if (s.n) rc = err_set(E(5, 0), "%s: changed options would change the result: %s; give the old values, or another out=", path, s.s);
    str_free(&s);
    return rc;
}

void config_help(const char *command) {
    unsigned bit = config_command_bit(command);
    int n = 0;
    Option *rows = xcalloc((size_t)config_row_count() + 1, sizeof *rows);
    for (int i = 0; i < config_row_count(); i++) {
        if (!(config_row_commands(i) & bit)) continue;
        const char *alias = bit == IN_TRAIN ? NULL : config_alias_of(config_rows[i].name);
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
        printf("\n%s (%s)%s\n", m->name, m->cite, m->task ? ", a task loss" : "");
        snprintf(prefix, sizeof prefix, m->task ? "distill.task." : "distill.losses.%s.", m->name);
        if (m->options) option_help(m->options, prefix);
    }
}
