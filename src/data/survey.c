/* survey.c - see survey.h. */
#include "data/survey.h"

#include <stdlib.h>

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

static void add_sample(Survey *s, const Sample *x) {
    int64_t count[256] = {0};
    for (size_t p = 0, n = (size_t)x->h * (size_t)x->w; p < n; p++) count[x->label[p]]++;
    for (int k = 0; k < 256; k++) s->pixels[k] += count[k], s->images[k] += count[k] > 0;
    widen(s->h, x->h), widen(s->w, x->w);
    s->turned += x->turned;
}

Err survey_run(Dataset *d, double seconds, uint64_t seed, Survey *out) {
    Progress progress = progress_start("samples", d->n, "looking at %s", d->split);
    if (seconds > 0) progress.until = progress.start + seconds;
    uint32_t *order = xcalloc((size_t)d->n, sizeof *order);
    Rng r = rng_stream(seed, RNG_SHUFFLE, 0, 1); /* of a stream that no epoch uses */
    rng_permutation(&r, order, (uint32_t)d->n);
    *out = (Survey){.total = d->n};
    int signal = 0;
    for (int i = 0; i < d->n && !(signal = sys_signal_pending()); i++) {
        Sample own = {0};
        Err rc = d->def->read(d, (int)order[i], &own); /* each once: the cache would only fill */
        if (rc) add_fault(out, rc);
        else add_sample(out, &own);
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
    free(s->fault);
    *s = (Survey){0};
}
