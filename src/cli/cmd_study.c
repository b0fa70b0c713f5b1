/* cmd_study.c - `retort study CONFIG.yaml`: reads what arms there are, and hands over to study.c.
 *
 * In a file, beside the options that all arms share:
 *
 *     arms:
 *       base: {}
 *       kd: {teacher: {model: runs/teacher}, distill: {losses: [kd]}}
 *     study: {seeds: 5, time: 9h, against: base, teacher: {student: {model: deeplabv3_resnet18}}}
 *
 * On the command line arms= is such a map, a file that holds one, or the names of some arms of the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "cli/args.h"
#include "cli/study.h"
#include "io/yaml.h"

static const char usage[] =
    "study CONFIG.yaml [arms=...] [seeds=N] [time=9h] [key=value ...]\n\n"
    "Trains every arm with every seed under one schedule, OUT/ARM/seed-N each an ordinary run, and\n"
    "compares them: OUT/study.html and OUT/study.json. The same command goes on where it was stopped\n"
    "or killed. A run that fails is named and left out, the others go on; the exit code is its, and\n"
    "the same command tries it again. --print-config shows each arm's whole configuration and stops.\n"
    "Takes what `retort train` takes, for all arms, and, with or without study. before them:";

typedef struct Own {
    const char *arms, *split, *against, *group, *teacher;
    int64_t seeds;
    double time_s;
} Own;
static const Option options[] = {
    {"arms", OPT_FLOW, offsetof(Own, arms), "", "",
     "{NAME: {options}, ...}, a file that holds such a map (or `arms:` with it), or names of some arms of CONFIG.yaml: base,kd",
     0, NULL, 0, 0},
    {"seeds", OPT_INT, offsetof(Own, seeds), "5", "",
     "runs per arm, with seeds 1, 2, ...; may be raised later", 0, NULL, 1, STUDY_SEEDS_MAX},
    {"time", OPT_TIME, offsetof(Own, time_s), "0", "",
     "choose train.steps, the same for all arms, so that all of it takes about this long (9h); 0: as configured",
     0, NULL, 0, 0},
    {"against", OPT_STR, offsetof(Own, against), "", "",
     "the arm that others are compared with; default the first", 0, NULL, 0, 0},
    {"split", OPT_STR, offsetof(Own, split), "test", "",
     "read once, at the end, with the last weights of every run", 0, NULL, 0, 0},
    {"group", OPT_STR, offsetof(Own, group), "auto", "",
     "images that belong together are drawn together: a regular expression over their names, none, or auto: data.split.group where it is given, otherwise the sequences of camvid and cityscapes",
     0, NULL, 0, 0},
    {"teacher", OPT_FLOW, offsetof(Own, teacher), "{}", "",
     "only as study.teacher: options of a run OUT/teacher before all arms; in arms teacher.model=study means its last weights",
     0, NULL, 0, 0},
    {0}};

/* ---- where arms come from -------------------------------------------------------------------- */
static Err arms_file(const char *path, Arena *a, YNode **out) {
    Bytes b;
    TRY(sys_read_file(path, 1 << 20, EXIT_USAGE, &b));
    Err rc = yaml_parse((const char *)b.data, b.bytes, path, a, out);
    free(b.data);
    if (!rc && yaml_get(*out, "arms")) *out = yaml_get(*out, "arms");
    return rc;
}

/* "base,kd" or "[base, kd]": these of the file's, in this order. */
static Err choose_arms(const char *text, const YNode *all, Arena *a, YNode **out) {
    const char *names[STUDY_ARMS_MAX + 1];
    char *copy = arena_strdup(a, text), *rest = copy, *word;
    YNode *some = arena_alloc(a, sizeof *some);
    if (!all || all->kind != Y_MAP)
        return err_set(
            E(EXIT_USAGE, 76),
            "arms=%s: is no file, and CONFIG.yaml names no arms; give arms='{base: {}, kd: {...}}'",
            text);
    *some = (YNode){.kind = Y_MAP, .where = "command line"};
    some->item = arena_alloc(a, (size_t)all->n * sizeof *some->item + 1),
    some->key = arena_alloc(a, (size_t)all->n * sizeof *some->key + 1);
    for (int i = 0; i < all->n && i < STUDY_ARMS_MAX; i++) names[i] = all->key[i];
    while ((word = strtok_r(rest, "[], ", &rest))) {
        YNode *arm = yaml_get(all, word);
        const char *near =
            arm ? NULL
                : str_nearest(word, names, all->n < STUDY_ARMS_MAX ? all->n : STUDY_ARMS_MAX);
        if (!arm)
            return err_set(E(EXIT_USAGE, 76),
                           "arms=%s: %s is neither a file nor an arm of CONFIG.yaml%s%s%s", text,
                           word, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
        if (yaml_get(some, word))
            return err_set(E(EXIT_USAGE, 76), "arms=%s: %s is named twice", text, word);
        some->key[some->n] = word, some->item[some->n++] = arm;
    }
    *out = some;
    return OK;
}

static Err find_arms(const char *text, const char *file, Arena *a, YNode **out) {
    YNode *own = NULL;
    if (file) TRY(config_part(file, "arms", a, &own));
    *out = own;
    if (!*text) return OK;
    if (*text == '{') return yaml_parse(text, strlen(text), "command line", a, out);
    return sys_exists(text) ? arms_file(text, a, out) : choose_arms(text, own, a, out);
}

static bool good_name(const char *s) {
    const size_t n = strlen(s);
    return n && n <= 40 && *s != '.' && *s != '-' &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") == n;
}

static Err add_arm(StudySpec *s, const char *name, const YNode *y, Arena *a) {
    if (s->n + s->has_teacher == STUDY_ARMS_MAX)
        return err_set(E(EXIT_USAGE, 76), "%s: more than %d arms", y->where,
                       STUDY_ARMS_MAX - s->has_teacher);
    if (!good_name(name) || !strcmp(name, "teacher"))
        return err_set(
            E(EXIT_USAGE, 76),
            "%s: \"%s\" cannot name an arm, which is a folder; use letters, digits, . _ + - (and not \"teacher\")",
            y->where, name);
    const bool none = y->kind == Y_SCALAR && !*y->text;
    if (y->kind != Y_MAP && !none)
        return err_set(E(EXIT_USAGE, 76),
                       "%s: arm %s is a group of options, as in {distill: {losses: [kd]}}",
                       y->where, name);
    s->arm[s->n].name = arena_strdup(a, name);
    return y->kind == Y_MAP ? config_map_args(y, a, &s->arm[s->n++].args) : (s->n++, OK);
}

static Err read_arms(StudySpec *s, const Own *o, Arena *a) {
    YNode *arms;
    TRY(find_arms(o->arms, s->file, a, &arms));
    if (!arms || arms->kind != Y_MAP || !arms->n)
        return err_set(
            E(EXIT_USAGE, 76),
            "study: no arms; give `arms: {base: {}, kd: {...}}` in the file or as arms='{...}'");
    for (int i = 0; i < arms->n; i++) TRY(add_arm(s, arms->key[i], arms->item[i], a));
    if (!*o->against) return OK;
    for (s->base = 0; s->base < s->n; s->base++)
        if (!strcmp(s->arm[s->base].name, o->against)) break;
    if (s->base == s->n)
        return err_set(E(EXIT_USAGE, 76), "against=%s: is no arm of this study", o->against);
    const int at = s->base;          /* it comes first: those before it would not be compared */
    for (int i = at; i > 0; i--) {
        const char *name = s->arm[i].name;
        const ArgList args = s->arm[i].args;
        s->arm[i].name = s->arm[i - 1].name, s->arm[i].args = s->arm[i - 1].args;
        s->arm[i - 1].name = name, s->arm[i - 1].args = args;
    }
    s->base = 0;
    return OK;
}

static Err read_teacher(StudySpec *s, const Own *o, Arena *a) {
    YNode *y;
    TRY(yaml_parse(o->teacher, strlen(o->teacher), "study.teacher", a, &y));
    s->has_teacher = y->kind == Y_MAP && y->n > 0;
    return s->has_teacher ? config_map_args(y, a, &s->teacher) : OK;
}

/* ---- its own options ------------------------------------------------------------------------- */
static Err own_from_file(const char *file, Own *o, Arena *a) {
    YNode *part = NULL;
    if (file) TRY(config_part(file, "study", a, &part));
    if (part && part->kind != Y_MAP)
        return err_set(E(EXIT_USAGE, 76), "%s: study is a group: {seeds: 5, time: 9h}",
                       part->where);
    for (int i = 0; part && i < part->n; i++) {
        char *text = yaml_flow(part->item[i]);
        Err rc = option_set(options, o, a, "study.", part->key[i], text, part->item[i]->where);
        free(text);
        TRY(rc);
    }
    return OK;
}

/* Those of the study are taken, the rest is for all runs. out is the study's folder. */
static Err own_from_args(const CliArgs *args, Own *o, StudySpec *s, Arena *a) {
    for (int i = 0; i < args->n_opt;) {
        const int first = i;
        const char *key, *value;
        if (strchr(args->opt[i], '=') ||
            (i + 1 < args->n_opt && !str_starts(args->opt[i + 1], "--") &&
             !strchr(args->opt[i + 1], '='))) {
            TRY(cli_option(args, &i, a, &key, &value));
            const bool spelt_out = str_starts(key, "study.");        /* as in a file */
            if (!strcmp(key, "out")) { s->out = value; continue; }
            if (spelt_out) key += strlen("study.");
            if (spelt_out || (option_find(options, key) && strcmp(key, "teacher"))) {
                TRY(option_set(options, o, a, spelt_out ? "study." : "", key, value, "command line"));
                continue;
            }
        } else i++;
        for (int k = first; k < i; k++) {
            if (s->common.n == ARG_LIST_MAX)
                return err_set(E(EXIT_USAGE, 76), "study: more than %d options", ARG_LIST_MAX);
            s->common.v[s->common.n++] = args->opt[k];
        }
    }
    return OK;
}

/* As of a training: out of the file, otherwise runs/NAME. */
static Err default_out(StudySpec *s, Arena *a) {
    Config *c;
    if (s->out) return OK;
    TRY(config_read("train", s->file, s->common.v, s->common.n, &c));
    if (c->out) s->out = arena_strdup(a, c->out);
    config_close(c);
    return s->out ? OK : err_set(E(EXIT_USAGE, 76), "study: out is not set; give out=DIR");
}

static Err study(const CliArgs *args, Arena *a) {
    Own o = {0};
    StudySpec s = {.command = "study", .file = args->n_word ? args->word[0] : NULL};
    option_defaults(options, &o, a);
    TRY(own_from_file(s.file, &o, a));
    TRY(own_from_args(args, &o, &s, a));
    TRY(read_teacher(&s, &o, a));
    TRY(read_arms(&s, &o, a));
    TRY(default_out(&s, a));
    s.title = arena_printf(a, "Study %s", path_base(s.out));
    s.seeds = o.seeds, s.time_s = o.time_s, s.split = o.split, s.group = o.group;
    return study_run(&s);
}

Err cmd_study(int argc, char **argv) {
    CliArgs args;
    if (cli_wants_help(argc, argv)) {
        help_print("retort %s\n\n", usage);
        option_help(options, "");
        printf("\nretort train --help lists the rest.\n");
        return OK;
    }
    TRY(cli_args("study", usage, argc, argv, 0, 1, &args));
    Arena *a = arena_open();
    Err rc = study(&args, a);
    arena_close(a);
    cli_args_close(&args);
    return rc;
}
