/* survey.c - see survey.h. */
#include "data/survey.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"

/* ---- faults ------------------------------------------------------------------------------------ */
/* Where the remedy begins: "; what to do", or the end. */
static const char *remedy_of(const char *text) {
    const char *at = text + strlen(text);
    for (const char *p = text; (p = strstr(p, "; ")); p++) at = p;
    return at;
}

/* Behind the path: "label id 34 at (3,2) is ...". */
static const char *what_of(const char *text) {
    const char *colon = strstr(text, ": ");
    return colon ? colon : text;
}

static bool same_but_numbers(const char *a, const char *b) {
    static const char digits[] = "0123456789";
    for (;; a++, b++) {
        a += strspn(a, digits), b += strspn(b, digits);
        if (*a != *b || !*a) return *a == *b;
    }
}

/* The fault that such a one belongs to, perhaps a new one; NULL: there are too many. Notes (code OK) are alike when they
 * are the same. */
static Fault *find_kind(FaultList *l, Err code, const char *text) {
    Fault *last = NULL;
    int n = 0;
    for (int i = 0; i < l->n; i++) {
        Fault *f = &l->v[i];
        if (f->code != code) continue;
        if (code ? same_but_numbers(what_of(f->text[0]), what_of(text)) : !strcmp(f->text[0], text))
            return f;
        if (!strcmp(remedy_of(f->text[0]), remedy_of(text))) last = f, n++;
    }
    if (code && n >= FAULT_KINDS) return last;
    if (l->n == FAULTS_MAX) return NULL;
    l->v[l->n].code = code;
    return &l->v[l->n++];
}

static void add_example(Fault *f, const char *text) {
    for (int i = 0; i < FAULT_EXAMPLES; i++)
        if (!f->text[i]) {
            const char *end = i ? remedy_of(text) : text + strlen(text);
            f->text[i] = xprintf("%.*s", (int)(end - text), text);
            return;
        }
}

void faults_add(FaultList *l, Err code, const char *text) {
    Fault *f = find_kind(l, code, text);
    if (f && f->count && !strcmp(f->text[0], text)) return;
    if (!f) l->more++;
    else add_example(f, text), f->count++;
}

void faults_join(FaultList *l, const FaultList *other) {
    for (int i = 0; i < other->n; i++) {
        const Fault *o = &other->v[i];
        Fault *f = find_kind(l, o->code, o->text[0]);
        for (int k = 0; f && k < FAULT_EXAMPLES && o->text[k]; k++) add_example(f, o->text[k]);
        *(f ? &f->count : &l->more) += o->count;
    }
    l->more += other->more;
}

void faults_free(FaultList *l) {
    for (int i = 0; i < l->n; i++)
        for (int k = 0; k < FAULT_EXAMPLES; k++) free(l->v[i].text[k]);
    *l = (FaultList){0};
}

/* ---- samples ----------------------------------------------------------------------------------- */
static void widen(int range[2], int v) {
    if (!range[0] || v < range[0]) range[0] = v;
    if (v > range[1]) range[1] = v;
}

/* Counts of what is one sample in many; the first of them is the one with the lowest number. */
static void mark(int *count, int *first, int i) {
    if (!*count || i < *first) *first = i;
    ++*count;
}

static uint64_t picture_hash(const Sample *x) {
    const Digest d = hash_digest(x->rgb, (size_t)x->h * (size_t)x->w * 3);
    return hash_fnv1a(d.hex) | 1;
}

static void add_sample(Survey *s, int i, const Sample *x) {
    const int64_t n = (int64_t)x->h * x->w;
    int64_t count[256] = {0};
    for (int64_t p = 0; p < n; p++) count[x->label[p]]++;
    for (int k = 0; k < 256; k++) s->pixels[k] += count[k], s->images[k] += count[k] > 0;
    widen(s->h, x->h), widen(s->w, x->w);
    if (count[IGNORE_U8] == n) mark(&s->empty, &s->first_empty, i);
    if (x->turned) mark(&s->turned, &s->first_turned, i);
    s->picture[i] = picture_hash(x);
}

Err survey_run(Dataset *d, double seconds, uint64_t seed, Survey *out) {
    Progress progress = progress_start("samples", d->n, "looking at %s", d->split);
    if (seconds > 0) progress.until = progress.start + seconds;
    uint32_t *order = xcalloc((size_t)d->n, sizeof *order);
    Rng r = rng_stream(seed, RNG_SHUFFLE, 0, 1); /* of a stream that no epoch uses */
    rng_permutation(&r, order, (uint32_t)d->n);
    *out = (Survey){.total = d->n, .picture = xcalloc((size_t)d->n, sizeof *out->picture)};
    int signal = 0;
    for (int i = 0; i < d->n && !(signal = sys_signal_pending()); i++) {
        Sample own = {0};
        Err rc = d->def->read(d, (int)order[i], &own); /* each once: the cache would only fill */
        if (rc) out->bad++, faults_add(&out->faults, rc, err_text());
        else add_sample(out, (int)order[i], &own);
        sample_free(&own);
        out->scanned++;
        progress_to(&progress, i + 1);
        if (progress.until > 0 && sys_now() > progress.until) break;
    }
    progress_end(&progress);
    free(order);
    return signal ? err_set(128 + signal, "stopped by signal %d", signal) : OK;
}

void survey_free(Survey *s) {
    faults_free(&s->faults);
    free(s->picture);
    *s = (Survey){0};
}

/* ---- the same picture twice --------------------------------------------------------------------- */
typedef struct Key {
    const char *path;                /* NULL: the hash counts */
    uint64_t hash;
    int at;
} Key;
static int by_key(const void *a, const void *b) {
    const Key *x = a, *y = b;
    return x->path ? strcmp(x->path, y->path) : (x->hash > y->hash) - (x->hash < y->hash);
}

/* Numbers of b's keys that a has too; the keys' order is lost. */
static int shared(Key *a, int n, const Key *b, int m, int at[2]) {
    int count = 0;
    if (n) qsort(a, (size_t)n, sizeof *a, by_key);
    for (int i = 0; i < m && n; i++) {
        const Key *same = bsearch(&b[i], a, (size_t)n, sizeof *a, by_key);
        if (same && !count++) at[0] = same->at, at[1] = b[i].at;
    }
    return count;
}

static Key *file_keys(const Dataset *d) {
    Key *k = xcalloc((size_t)d->n, sizeof *k);
    for (int i = 0; i < d->n; i++) k[i] = (Key){.path = d->image_paths[i], .at = i};
    return k;
}

int survey_shared_files(const Dataset *a, const Dataset *b, int at[2]) {
    if (!a->image_paths || !b->image_paths) return 0;
    Key *x = file_keys(a), *y = file_keys(b);
    const int n = shared(x, a->n, y, b->n, at);
    free(x), free(y);
    return n;
}

static Key *picture_keys(const Survey *s, int *n) {
    Key *k = xcalloc((size_t)s->total + 1, sizeof *k);
    *n = 0;
    for (int i = 0; i < s->total; i++)
        if (s->picture[i]) k[(*n)++] = (Key){.hash = s->picture[i], .at = i};
    return k;
}

int survey_shared_pictures(const Survey *a, const Survey *b, int at[2]) {
    int n, m;
    Key *x = picture_keys(a, &n), *y = picture_keys(b, &m);
    const int count = shared(x, n, y, m, at);
    free(x), free(y);
    return count;
}
