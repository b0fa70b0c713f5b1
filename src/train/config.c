/* config.c - reading the configuration: base files, the file, then arguments.
 *
 * Every source becomes a small tree (io/yaml.c) that is walked and assigned row by row, later sources
 * winning; what a value's last source was is kept per row. Terms (distill.task, distill.losses) are
 * collected as text, because their options belong to methods; config_resolve.c turns all of it into
 * the public struct. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "train/config_priv.h"

enum { CONFIG_BYTES_MAX = 1 << 20, TERM_OPTIONS_MAX = 48 };

/* One walk over one source. bit 0: a file, which may hold rows of any command. */
typedef struct Walk {
    Config *c;
    unsigned bit;
    const char *command;
} Walk;

static Err assign(Walk *w, const char *path, YNode *y);

static Err term_add(Config *c, TermSource *t, const char *name, const char *value,
                    const char *where) {
    if (!t->option)
        t->option = arena_alloc(c->arena, TERM_OPTIONS_MAX * sizeof *t->option),
        t->cap = TERM_OPTIONS_MAX;
    if (t->n == t->cap)
        return err_set(E(2, 76), "%s: more than %d options of one term", where, t->cap);
    t->option[t->n++] =
        (TermOption){arena_strdup(c->arena, name), arena_strdup(c->arena, value), where};
    return OK;
}

static Err term_add_node(Config *c, TermSource *t, const char *name, const YNode *y) {
    if (y->kind == Y_MAP)
        return err_set(E(2, 76), "%s: %s takes a value, not a group", y->where, name);
    char *text = yaml_flow(y);
    Err rc = term_add(c, t, name, text, y->where);
    free(text);
    return rc;
}

/* One entry of distill.losses: `kd`, or `kd: {weight: 1}`. */
static Err loss_add(Config *c, const YNode *y) {
    ConfigOrigin *o = c->origin;
    if (c->n_losses == LOSSES_MAX)
        return err_set(E(2, 76), "%s: more than %d losses", y->where, LOSSES_MAX);
    TermSource *t = &o->loss[c->n_losses++];
    *t = (TermSource){.where = y->where};
    if (y->kind == Y_SCALAR) return t->name = y->text, OK;
    if (y->kind != Y_MAP || y->n != 1)
        return err_set(E(2, 76), "%s: a loss is `name` or `name: {option: value}`", y->where);
    t->name = y->key[0];
    const YNode *options = y->item[0];
    if (options->kind == Y_SCALAR && !*options->text) return OK;
    if (options->kind != Y_MAP)
        return err_set(E(2, 76), "%s: the options of %s must be a group, as in `%s: {weight: 1}`",
                       y->where, t->name, t->name);
    for (int i = 0; i < options->n; i++)
        TRY(term_add_node(c, t, options->key[i], options->item[i]));
    return OK;
}

/* Do two places ("a.yaml:12", "command line") lie in the same source? Within one the order of
 * options does not matter, so what belongs to a method survives that the method is named after it.
 */
static bool same_source(const char *a, const char *b) {
    const char *x = strrchr(a, ':'), *y = strrchr(b, ':');
    size_t n = x ? (size_t)(x - a) : strlen(a), m = y ? (size_t)(y - b) : strlen(b);
    return n == m && !memcmp(a, b, n);
}

static int keep_of_source(TermOption *o, int n, const char *where) {
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (same_source(o[i].where, where)) o[kept++] = o[i];
    return kept;
}

/* What a list of losses takes the place of: "[kd, at] (WHERE)". */
static void losses_replaced(Config *c, const char *where) {
    ConfigOrigin *o = c->origin;
    Str s = {0};
    if (!o->losses_where || same_source(o->losses_where, where)) return;
    for (int i = 0; i < c->n_losses; i++) str_addf(&s, "%s%s", i ? ", " : "", o->loss[i].name);
    o->losses_was = arena_printf(c->arena, "[%s] (%s)", s.n ? s.s : "", o->losses_where);
    str_free(&s);
}

/* A list replaces the whole list of what came before it. */
static Err losses_set(Config *c, const YNode *y) {
    losses_replaced(c, y->where);
    c->n_losses = 0;
    c->origin->n_override = keep_of_source(c->origin->override, c->origin->n_override, y->where);
    c->origin->losses_where = y->where;
    if (y->kind == Y_SCALAR) return !*y->text || !strcmp(y->text, "none") ? OK : loss_add(c, y);
    if (y->kind == Y_LIST)
        for (int i = 0; i < y->n; i++) TRY(loss_add(c, y->item[i]));
    if (y->kind == Y_MAP)
        for (int i = 0; i < y->n; i++) {
            YNode one = {
                .kind = Y_MAP, .where = y->where, .n = 1, .item = &y->item[i], .key = &y->key[i]};
            TRY(loss_add(c, &one));
        }
    return OK;
}

/* distill.losses.kd.tau=2 (or distill.kd.tau=2): an option of a term that the list holds. */
static Err override_add(Config *c, const char *name, const YNode *y) {
    ConfigOrigin *o = c->origin;
    if (y->kind == Y_MAP)
        return err_set(E(2, 76), "%s: %s takes a value, not a group", y->where, name);
    if (o->n_override == TERM_OVERRIDES_MAX)
        return err_set(E(2, 76), "%s: too many options of losses", y->where);
    char *text = yaml_flow(y);
    o->override[o->n_override++] =
        (TermOption){arena_strdup(c->arena, name), arena_strdup(c->arena, text), y->where};
    free(text);
    return OK;
}

/* The row's value, old until now, comes from `where`: remember what it took the place of. */
static void replaced(Config *c, int row, const char *old, const char *where) {
    ConfigOrigin *o = c->origin;
    char *now = config_row_text(c, row);
    if (!strcmp(old, now)) o->was[row] = NULL;
    else if (!same_source(o->where[row], where))
        o->was[row] = arena_printf(c->arena, "%s (%s)", *old ? old : "none", o->where[row]);
    o->where[row] = where;
    free(now);
}

static Err row_set(Walk *w, int row, const char *value, const char *where) {
    Config *c = w->c;
    const Option *r = &config_rows[row];
    if (w->bit && !(config_row_commands(row) & w->bit))
        return err_set(E(2, 76), "%s: %s is no option of `retort %s`; see retort %s --help", where,
                       r->name, w->command, w->command);
    if (!strcmp(value, "none") &&
        (!strcmp(r->name, "teacher.model") || !strcmp(r->name, "data.kind")))
        value = "";
    TermSource *task = &c->origin->task;
    if (!strcmp(r->name, "distill.task.kind") && strcmp(value, c->origin->raw.task_kind))
        task->n = keep_of_source(task->option, task->n,
                                 where); /* options of another method mean nothing to this one */
    char *old = config_row_text(c, row);
    Err rc = option_set(config_rows, &c->origin->raw, c->arena, "", r->name, value, where);
    if (!rc) replaced(c, row, old, where);
    free(old);
    return rc;
}

static Err unknown(const char *path, const char *where) {
    const char *near = config_nearest(path);
    if (near)
        return err_set(E(2, 76), "%s: unknown option %s; did you mean %s?", where, path, near);
    return err_set(E(2, 76), "%s: unknown option %s; see retort train --help", where, path);
}

static Err later_set(const char *path, const YNode *y, const char *accepted) {
    char *text = yaml_flow(y);
    bool good = false;
    size_t n = strlen(text);
    for (const char *p = accepted; *p && !good; p += strcspn(p, "|"), p += *p == '|')
        good = strcspn(p, "|") == n && !strncmp(p, text, n);
    Err rc = good ? OK
                  : err_set(E(2, 76), "%s: %s=%s comes with a later version; %s%s", y->where, path,
                            text, *accepted ? "here it can only be " : "leave it out", accepted);
    free(text);
    return rc;
}

/* `task: rdd`, `data: camvid:DIR`, `teacher: NAME`, `optimizer: adamw`, `schedule: poly`, `check: full`. */
static Err short_form(Walk *w, const char *path, YNode *y, bool *done) {
    static const char *const forms[][2] = {
        {"distill.task", "distill.task.kind"},
        {"student", "student.model"},
        {"teacher", "teacher.model"},
        {"train.optimizer", "train.optimizer.kind"},
        {"train.schedule", "train.schedule.kind"},
        {"check", "check.kind"},
    };
    *done = true;
    if (y->kind == Y_SCALAR && !strcmp(path, "data")) {
        const char *colon = strchr(y->text, ':');
        if (!colon) return assign(w, "data.kind", y);
        YNode kind = *y, root = *y;
        kind.text = arena_printf(w->c->arena, "%.*s", (int)(colon - y->text), y->text);
        root.text = colon + 1;
        TRY(assign(w, "data.kind", &kind));
        return assign(w, "data.root", &root);
    }
    for (size_t i = 0; y->kind == Y_SCALAR && i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(path, forms[i][0])) return assign(w, forms[i][1], y);
    *done = false;
    return OK;
}

/* Paths below distill. that belong to methods. */
static Err distill_set(Walk *w, const char *path, YNode *y, bool *done) {
    Config *c = w->c;
    *done = true;
    if (w->bit && !(w->bit & IN_DISTILL)) return unknown(path, y->where);
    if (!strcmp(path, "distill.losses")) return losses_set(c, y);
    if (y->kind != Y_MAP && str_starts(path, "distill.losses."))
        return override_add(c, path + 15, y);
    if (y->kind != Y_MAP && str_starts(path, "distill.task."))
        return term_add_node(c, &c->origin->task, path + 13, y);
    if (!strcmp(path, "distill.task") &&
        y->kind == Y_MAP) { /* the kind first: a change drops options */
        YNode *kind = yaml_get(y, "kind");
        if (kind) TRY(assign(w, "distill.task.kind", kind));
        for (int i = 0; i < y->n; i++)
            if (y->item[i] != kind)
                TRY(assign(w, arena_printf(c->arena, "distill.task.%s", y->key[i]), y->item[i]));
        return OK;
    }
    const char *rest = path + 8;                     /* a method's name may hold a dot: skd.pa */
    for (const char *dot = strchr(rest, '.'); y->kind != Y_MAP && dot; dot = strchr(dot + 1, '.')) {
        char *method = arena_printf(c->arena, "%.*s", (int)(dot - rest), rest);
        if (method_find(method)) return override_add(c, rest, y);
    }
    *done = false;
    return OK;
}

static Err assign(Walk *w, const char *path, YNode *y) {
    bool done;
    int row = config_row_find(path);
    const char *accepted = row < 0 ? config_later(path) : NULL;
    if (accepted) return later_set(path, y, accepted);
    const bool group = !strcmp(path, "check") && w->bit != IN_EXPORT; /* there it is an option */
    if (row >= 0 && !group) {
        if (y->kind == Y_MAP && config_rows[row].type != OPT_FLOW)
            return err_set(E(2, 76), "%s: %s takes a value, not a group", y->where, path);
        char *text = yaml_flow(y);
        Err rc = row_set(w, row, text, y->where);
        free(text);
        return rc;
    }
    TRY(short_form(w, path, y, &done));
    if (done) return OK;
    if (str_starts(path, "distill.")) {
        TRY(distill_set(w, path, y, &done));
        if (done) return OK;
    }
    if (y->kind == Y_SCALAR && !*y->text && !w->bit) return OK; /* `data:` with nothing below it */
    if (y->kind != Y_MAP) return unknown(path, y->where);
    for (int i = 0; i < y->n; i++)
        TRY(assign(w, *path ? arena_printf(w->c->arena, "%s.%s", path, y->key[i]) : y->key[i],
                   y->item[i]));
    return OK;
}

/* What a file may hold beside options: whom it inherits, and a study's arms. */
static bool is_part(const char *key) {
    return !strcmp(key, "base") || !strcmp(key, "arms") || !strcmp(key, "study");
}

static Err walk_root(Config *c, const YNode *root) {
    Walk w = {.c = c};
    if (root->kind != Y_MAP)
        return err_set(E(2, 76), "%s: a configuration is a map of options", root->where);
    for (int i = 0; i < root->n; i++)
        if (!is_part(root->key[i])) TRY(assign(&w, root->key[i], root->item[i]));
    return OK;
}

/* A base file: beside the file that names it, or from where the program was started. */
static const char *base_path(Arena *a, const char *file, const char *base) {
    const char *slash = strrchr(file, '/');
    if (*base == '/' || !slash) return base;
    const char *beside = arena_printf(a, "%.*s/%s", (int)(slash - file), file, base);
    return sys_exists(beside) || !sys_exists(base) ? beside : base;
}

static Err read_tree(Arena *a, const char *file, YNode **out) {
    Bytes b;
    TRY(sys_read_file(file, CONFIG_BYTES_MAX, EXIT_USAGE, &b));
    Err rc = yaml_parse((const char *)b.data, b.bytes, arena_strdup(a, file), a, out);
    free(b.data);
    return rc;
}

static Err read_files(Config *c, const char *file) {
    YNode *tree[BASE_DEPTH_MAX];
    char *real[BASE_DEPTH_MAX];
    int n = 0;
    Err rc = OK;
    while (file && !rc) {
        if (n == BASE_DEPTH_MAX) {
            rc = err_set(E(2, 76), "%s: more than %d base files", file, BASE_DEPTH_MAX);
            break;
        }
        if ((rc = read_tree(c->arena, file, &tree[n]))) break;
        if (n) c->origin->base[n - 1] = file;
        char *r = realpath(file, NULL);
        real[n] = r ? r : xstrdup(file);
        for (int i = 0; i < n && !rc; i++)
            if (!strcmp(real[i], real[n]))
                rc = err_set(E(2, 76), "%s: base goes round in a circle; remove one of them", file);
        const YNode *base = yaml_get(tree[n++], "base");
        if (base && base->kind != Y_SCALAR)
            rc = err_set(E(2, 76), "%s: base is the path of one file", base->where);
        file = base && !rc ? base_path(c->arena, file, base->text) : NULL;
    }
    c->origin->n_base = n > 1 ? n - 1 : 0;
    for (int i = n - 1; i >= 0 && !rc; i--) rc = walk_root(c, tree[i]);
    for (int i = 0; i < n; i++) free(real[i]);
    return rc;
}

Err config_part(const char *file, const char *key, Arena *a, YNode **out) {
    *out = NULL;
    for (int depth = 0; file && !*out && depth < BASE_DEPTH_MAX; depth++) {
        YNode *root;
        TRY(read_tree(a, file, &root));
        *out = yaml_get(root, key);
        const YNode *base = yaml_get(root, "base");
        file = base && base->kind == Y_SCALAR ? base_path(a, file, base->text) : NULL;
    }
    return OK;
}

/* Groups are gone into, down to what one option takes. */
static Err map_args(const YNode *y, const char *path, Arena *a, ArgList *out) {
    const int row = config_row_find(path);
    const bool whole = !strcmp(path, "distill.losses") || !strcmp(path, "distill.task") ||
                       (row >= 0 && config_rows[row].type == OPT_FLOW);
    if (y->kind != Y_MAP || whole) {
        if (out->n == ARG_LIST_MAX)
            return err_set(E(2, 76), "%s: more than %d options", y->where, ARG_LIST_MAX);
        char *text = yaml_flow(y);
        out->v[out->n++] = arena_printf(a, "%s=%s", path, text);
        free(text);
        return OK;
    }
    for (int i = 0; i < y->n; i++)
        TRY(map_args(y->item[i], *path ? arena_printf(a, "%s.%s", path, y->key[i]) : y->key[i], a,
                     out));
    return OK;
}

Err config_map_args(const YNode *map, Arena *a, ArgList *out) { return map_args(map, "", a, out); }

static bool is_switch(const char *name) {
    const char *full = config_alias(name, 0) ? config_alias(name, 0) : name;
    int row = config_row_find(full);
    return row >= 0 && config_rows[row].type == OPT_BOOL;
}

/* "print-config" -> "print_config" */
static void dashes(char *s) {
    for (; *s && *s != '='; s++)
        if (*s == '-') *s = '_';
}

static Err assign_arg(Config *c, const char *command, const char *key, const char *value) {
    Walk w = {.c = c, .bit = config_command_bit(command), .command = command};
    const char *full = config_alias(key, w.bit);
    const int row = config_row_find(key);
    if (full && (row < 0 || !(config_row_commands(row) & w.bit))) key = full;
    if (!strcmp(key, "base")) return err_set(E(2, 76), "command line: base belongs into the file");
    YNode *y = yaml_scalar(c->arena, value, "command line");
    if (*value && strchr("[{\"'", *value)) {
        TRY(yaml_parse(value, strlen(value), "command line", c->arena, &y));
        y->where = "command line";
    }
    return assign(&w, key, y);
}

static Err read_args(Config *c, const char *command, char *const *args, int n) {
    for (int i = 0; i < n; i++) {
        const char *a = args[i];
        bool dashed = str_starts(a, "--");
        char *key = arena_strdup(c->arena, dashed ? a + 2 : a), *eq = strchr(key, '=');
        if (dashed) dashes(key);
        const char *value = eq ? eq + 1 : NULL;
        if (eq) *eq = 0;
        if (!eq && !dashed)
            return err_set(E(2, 76), "command line: %s is no option; options are key=value", a);
        if (!value && !is_switch(key) && i + 1 < n && !strchr(args[i + 1], '=') &&
            !str_starts(args[i + 1], "--"))
            value = args[++i];
        if (!value && !is_switch(key))
            return err_set(E(2, 76), "command line: %s needs a value; write %s=VALUE", a, key);
        TRY(assign_arg(c, command, key, value ? value : "true"));
    }
    return OK;
}

void config_split_args(int argc, char **argv, char **pos, int *n_pos, char **args, int *n_args) {
    *n_pos = *n_args = 0;
    for (int i = 0; i < argc; i++) {
        const char *eq = strchr(argv[i], '=');
        size_t word = strspn(argv[i], "abcdefghijklmnopqrstuvwxyz_.0123456789-");
        if (str_starts(argv[i], "--")) {
            char name[128];
            snprintf(name, sizeof name, "%s", argv[i] + 2);
            dashes(name);
            args[(*n_args)++] = argv[i];
            if (!eq && !is_switch(name) && i + 1 < argc && !str_starts(argv[i + 1], "--") &&
                !strchr(argv[i + 1], '='))
                args[(*n_args)++] = argv[++i];
        } else if (eq && eq > argv[i] && argv[i] + word == eq) {
            args[(*n_args)++] = argv[i];
        } else {
            pos[(*n_pos)++] = argv[i];
        }
    }
}

static Config *config_new(void) {
    Arena *a = arena_open();
    Config *c = arena_alloc(a, sizeof *c);
    c->arena = a;
    c->origin = arena_alloc(a, sizeof *c->origin);
    c->origin->where = arena_alloc(a, (size_t)config_row_count() * sizeof *c->origin->where);
    c->origin->was = arena_alloc(a, (size_t)config_row_count() * sizeof *c->origin->was);
    for (int i = 0; i < config_row_count(); i++) c->origin->where[i] = "default";
    c->origin->losses_where = "default";
    option_defaults(config_rows, &c->origin->raw, a);
    return c;
}

Err config_read(const char *command, const char *file, char *const *args, int n_args,
                Config **out) {
    CHECK(config_command_bit(command));
    Config *c = config_new();
    Err rc = read_files(c, file);
    if (!rc) rc = read_args(c, command, args, n_args);
    if (!rc) rc = config_resolve(c, file, config_command_bit(command));
    if (rc) return config_close(c), rc;
    *out = c;
    return OK;
}

Err config_read_over(const char *command, const char *text, const char *name, char *const *args,
                     int n_args, Config **out) {
    Config *c = config_new();
    YNode *root = NULL;
    Err rc = yaml_parse(text, strlen(text), arena_strdup(c->arena, name), c->arena, &root);
    if (!rc) rc = walk_root(c, root);
    if (!rc) rc = read_args(c, command, args, n_args);
    if (!rc) rc = config_resolve(c, NULL, config_command_bit(command));
    if (rc) return config_close(c), rc;
    *out = c;
    return OK;
}

Err config_read_text(const char *text, const char *name, Config **out) {
    return config_read_over("train", text, name, NULL, 0, out);
}

void config_close(Config *c) {
    if (c) arena_close(c->arena);
}
