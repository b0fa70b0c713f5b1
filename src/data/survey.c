/* survey.c - see survey.h. */
#include "data/survey.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/sys.h"

enum { FAULTS_MAX = 10 };

static void add_fault(Survey *s, Err code) {
    s->bad++;
    if (s->n_faults == FAULTS_MAX) return;
    if (!s->fault) s->fault = xcalloc(FAULTS_MAX, sizeof *s->fault);
    s->fault[s->n_faults++] = (Fault){code, xstrdup(err_text())};
}

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
        if (rc) add_fault(out, rc);
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
    for (int i = 0; i < s->n_faults; i++) free(s->fault[i].text);
    free(s->fault), free(s->picture);
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
