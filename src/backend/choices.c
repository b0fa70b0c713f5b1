/* choices.c - see choices.h. The cache is one text file per machine:
 *
 *     retort choices 1<TAB>processor, library, threads, version
 *     KEY<TAB>WAY
 *
 * A file of another machine or format, and every line that is not of this form, counts as not there. */
#include "backend/choices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/str.h"
#include "base/sys.h"

enum { CACHE_BYTES_MAX = 1 << 24 };
static const double LOCK_WAIT_S = 300;

typedef struct Choice { uint64_t hash; char *key, *way; bool used; } Choice;
struct Choices {
    Choice  *v; int n, cap;
    bool     locked_out;                     /* locked_out: another process held the lock too long */
    DirLock *lock;                           /* held from the first miss until choices_save */
    char    *machine, *path;                 /* of the cache; NULL when replayed */
    int      measured, left;                 /* left: for want of time */
    double   seconds, limit_s, begun, floor; /* floor: least operations of a layer, in a round */
    bool     rounds;                         /* what is asked for now is not yet used */
};

/* ---- the table --------------------------------------------------------------------------------- */

static Choice *lookup(const Choices *c, const char *key) {
    const uint64_t hash = hash_fnv1a(key);
    for (int i = 0; i < c->n; i++)
        if (c->v[i].hash == hash && !strcmp(c->v[i].key, key)) return &c->v[i];
    return NULL;
}

/* The first one counts. */
static Choice *add(Choices *c, const char *key, const char *way) {
    Choice *old = lookup(c, key);
    if (old) return old;
    GROW(c->v, c->n, c->cap);
    c->v[c->n] = (Choice){.hash = hash_fnv1a(key), .key = xstrdup(key), .way = xstrdup(way)};
    return &c->v[c->n++];
}

static void read_lines(Choices *c, const char *text) {
    for (const char *line = text; *line;) {
        const size_t length = strcspn(line, "\n"), key = strcspn(line, "\t\n");
        if (key && key + 1 < length) {
            char *copy = xprintf("%.*s", (int)length, line);
            copy[key] = 0;
            if (!strchr(copy + key + 1, '\t')) add(c, copy, copy + key + 1);
            free(copy);
        }
        line += length + (line[length] == '\n');
    }
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(const Choice *const *)a)->key, (*(const Choice *const *)b)->key);
}

static void write_lines(Str *s, const Choices *c, bool all) {
    const Choice **v = xcalloc((size_t)c->n + 1, sizeof *v);
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (all || c->v[i].used) v[n++] = &c->v[i];
    qsort(v, (size_t)n, sizeof *v, by_key);
    for (int i = 0; i < n; i++) str_addf(s, "%s\t%s\n", v[i]->key, v[i]->way);
    free(v);
}

/* ---- the cache --------------------------------------------------------------------------------- */

static char *machine_text(void) {
    char library[96];
    plan_library(library, sizeof library);
    return xprintf("retort choices 1\t%s, %s, %s, %d threads, %s\n", sys_cpu_name(), library,
                   cpu_level_name(cpu_level()), parallel_threads(), RETORT_VERSION);
}

static void read_cache(Choices *c) {
    Bytes b;
    if (!sys_exists(c->path) || sys_read_file(c->path, CACHE_BYTES_MAX, EXIT_OUTPUT, &b)) return;
    const char *text = (const char *)b.data;
    if (str_starts(text, c->machine)) read_lines(c, text + strlen(c->machine));
    free(b.data);
}

/* Whoever held the lock may have measured what is missing here. */
static void lock_cache(Choices *c) {
    const double start = sys_now();
    bool told = false;
    if (sys_mkdirs(sys_cache_dir())) { c->locked_out = true; return; }
    while (!c->lock && !c->locked_out) {
        Err rc = lock_open(sys_cache_dir(), &c->lock);
        if (!rc) break;
        c->locked_out =
            rc != E(EXIT_USAGE, 10) || sys_now() - start > LOCK_WAIT_S || sys_signal_pending();
        if (!told && !c->locked_out)
            log_info("another process is measuring layers on this machine; waiting for it");
        told = true;
        if (!c->locked_out) sys_sleep(0.02);
    }
    read_cache(c);
}

Choices *choices_replay(const char *text) {
    Choices *c = xcalloc(1, sizeof *c);
    read_lines(c, text);
    return c;
}

Choices *choices_of_machine(double limit_s) {
    Choices *c = xcalloc(1, sizeof *c);
    char name[64];
    c->limit_s = limit_s;
    c->machine = machine_text();
    snprintf(name, sizeof name, "choices-%016llx.txt", (unsigned long long)hash_fnv1a(c->machine));
    c->path = path_join(sys_cache_dir(), name);
    read_cache(c);
    return c;
}

void choices_close(Choices *c) {
    if (!c) return;
    for (int i = 0; i < c->n; i++) free(c->v[i].key), free(c->v[i].way);
    lock_close(c->lock);
    free(c->v), free(c->machine), free(c->path), free(c);
}

const char *choices_find(Choices *c, const char *key) {
    Choice *x = lookup(c, key);
    if (!x && c->path && !c->lock && !c->locked_out) lock_cache(c), x = lookup(c, key);
    if (!x) x = lookup(c, "*");
    if (x) x->used |= !c->rounds;
    return x ? x->way : NULL;
}

bool choices_measure(const Choices *c) { return c->path != NULL; }

void choices_add(Choices *c, const char *key, const char *way, double seconds) {
    Choice *x = add(c, key, way);            /* what was there meant nothing */
    free(x->way);
    x->way = xstrdup(way), x->used |= !c->rounds;
    c->measured++, c->seconds += seconds;
}

void choices_begin(Choices *c) { c->begun = c->seconds, c->rounds = true; }
void choices_round(Choices *c, double least_flops) { c->floor = least_flops; }
void choices_end(Choices *c) { c->floor = 0, c->rounds = false; }
bool choices_over(const Choices *c) { return c->limit_s > 0 && c->seconds - c->begun >= c->limit_s; }
bool choices_measures(const Choices *c, double flops) {
    return choices_measure(c) && flops >= c->floor;
}
void choices_leave(Choices *c, const char *key) {
    Choice *x = add(c, key, CHOICE_USUAL);
    x->used |= !c->rounds;
    c->left++;
}

char *choices_text(const Choices *c) {
    Str s = {0};
    str_add(&s, "");
    write_lines(&s, c, false);
    return s.s;
}

void choices_save(Choices *c, char **why) {
    *why = NULL;
    if (c->measured || c->left) {
        Str s = {0};
        str_add(&s, c->machine);
        write_lines(&s, c, true);
        if (durable_write_all(c->path, s.s, s.n)) *why = xstrdup(err_text());
        str_free(&s);
    }
    lock_close(c->lock);
    c->lock = NULL;
}

ChoiceStats choices_stats(const Choices *c) {
    ChoiceStats s = {.measured = c->measured, .left = c->left, .seconds = c->seconds, .limit_s = c->limit_s, .path = c->path};
    for (int i = 0; i < c->n; i++) s.used += c->v[i].used;
    return s;
}
