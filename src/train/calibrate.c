/* calibrate.c - see calibrate.h. The float32 plan runs once, image by image: it gives the ranges of all values
 * and the logits that the 8-bit plan is then held against. A range is the largest value seen. What came out is
 * remembered in the cache folder: the next start with the same teacher and images calibrates nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "base/str.h"
#include "train/calibrate.h"

/* ---- images ------------------------------------------------------------------------------------------- */

static Err draw_sample(Dataset *d, const DataOptions *o, uint64_t seed, int i, Batch *b) {
    const size_t pixels = (size_t)b->h * (size_t)b->w;
    Sample own = {0};
    const Sample *in;
    TRY(dataset_borrow(d, (int)((int64_t)i * d->n / b->n), &own, &in));
    Err rc =
        augment_sample(in, o, seed, 0, (uint64_t)i, b->h, b->w, b->images + (size_t)i * pixels * 3,
                       b->labels + (size_t)i * pixels, b->rects + (size_t)i * 4);
    sample_free(&own);
    return rc;
}
static void draw_noise(Batch *b) {
    const int64_t pixels = (int64_t)b->n * b->h * b->w;
    const Rng r = rng_stream(1, RNG_SCENES, 0, 0);
    for (int64_t i = 0; i < 3 * pixels; i++)
        b->images[i] = (uint8_t)rng_below(&r, (uint64_t)i, 256);
    for (int64_t i = 0; i < pixels; i++) b->labels[i] = -1;
    for (int i = 0; i < b->n; i++) b->rects[4 * i + 2] = b->w, b->rects[4 * i + 3] = b->h;
}
Err calibration_images(Dataset *d, const DataOptions *o, uint64_t seed, int n, Batch *out) {
    const size_t pixels = (size_t)n * (size_t)o->crop_h * (size_t)o->crop_w;
    *out = (Batch){.n = n, .h = o->crop_h, .w = o->crop_w};
    out->images = xcalloc(pixels, 3), out->labels = xcalloc(pixels, sizeof(int32_t)),
    out->rects = xcalloc((size_t)n, 4 * sizeof(int32_t));
    if (!d) return draw_noise(out), OK;
    Err rc = OK;
    for (int i = 0; i < n && !rc; i++) rc = draw_sample(d, o, seed, i, out);
    if (rc) calibration_free(out);
    return rc;
}
void calibration_free(Batch *b) {
    free(b->images), free(b->labels), free(b->rects);
    *b = (Batch){0};
}

/* ---- runs --------------------------------------------------------------------------------------------- */

typedef struct Heads { Shape main, aux; float *v[2]; } Heads;      /* of all images: logits, auxiliary logits; aux.rank 0: none */

static bool is_output(const PlanSpec *s, Node x) {
    bool found = false;
    for (int i = 0; i < s->n_outputs; i++) found |= x.id && s->outputs[i].id == x.id;
    return found;
}
static void heads_free(Heads *h) { free(h->v[0]), free(h->v[1]); }

/* All images through a plan, as many at a time as it takes; the last turn is filled with the first ones. */
static Heads run_images(Plan *p, const ModelNodes *m, bool with_aux, const Batch *b) {
    const Node at[2] = {m->logits, m->aux};
    Heads h = {.main = plan_shape(p, m->logits)};
    if (with_aux) h.aux = plan_shape(p, m->aux);
    const int64_t turn = plan_shape(p, m->image).d[0], pixels = (int64_t)b->h * b->w;
    Shape *shape[2] = {&h.main, &h.aux};
    int64_t each[2] = {0};
    for (int k = 0; k < 2; k++)
        if (shape[k]->rank)
            shape[k]->d[0] = 1, each[k] = shape_count(*shape[k]),
            h.v[k] = xcalloc((size_t)(b->n * each[k]), sizeof(float));
    uint8_t *images = xcalloc((size_t)(turn * pixels), 3);
    int32_t *rects = xcalloc((size_t)turn, 4 * sizeof *rects);
    plan_bind(p, m->image, images), plan_bind(p, m->rects, rects);
    for (int64_t first = 0; first < b->n && !sys_signal_pending(); first += turn) {
        for (int64_t i = 0; i < turn; i++) {
            memcpy(images + i * pixels * 3, b->images + (first + i) % b->n * pixels * 3,
                   (size_t)pixels * 3);
            memcpy(rects + 4 * i, b->rects + (first + i) % b->n * 4, 4 * sizeof *rects);
        }
        plan_run(p, &(OpRun){0}, false);
        const int64_t n = b->n - first < turn ? b->n - first : turn;
        for (int k = 0; k < 2; k++)
            if (h.v[k])
                memcpy(h.v[k] + first * each[k], plan_value(p, at[k]),
                       (size_t)(n * each[k]) * sizeof(float));
    }
    free(images), free(rects);
    return h;
}

/* ---- agreement ---------------------------------------------------------------------------------------- */

static const float THETA = 0.7f;         /* RDD's: a pixel is hard where its label is no likelier */

/* KL(softmax(a) || softmax(b)) over the channels at one place; they lie `step` apart. */
static double divergence(const float *a, const float *b, int64_t channels, int64_t step) {
    double top[2] = {a[0], b[0]}, sum[2] = {0}, cross = 0;
    for (int64_t c = 1; c < channels; c++)
        top[0] = fmax(top[0], a[c * step]), top[1] = fmax(top[1], b[c * step]);
    for (int64_t c = 0; c < channels; c++)
        sum[0] += exp(a[c * step] - top[0]), sum[1] += exp(b[c * step] - top[1]);
    for (int64_t c = 0; c < channels; c++)
        cross +=
            exp(a[c * step] - top[0]) / sum[0] * ((a[c * step] - top[0]) - (b[c * step] - top[1]));
    return cross - log(sum[0]) + log(sum[1]);
}
static double mean_divergence(const Heads *a, const Heads *b, int n) {
    const int64_t channels = a->main.d[1], grid = a->main.d[2] * a->main.d[3];
    double sum = 0;
    for (int64_t i = 0; i < n * grid; i++) {
        const int64_t at = i / grid * channels * grid + i % grid;
        sum += divergence(a->v[0] + at, b->v[0] + at, channels, grid);
    }
    return sum / (double)(n * grid);
}
void agreement_pixels(const float *exact, const float *rounded, Shape one, const Batch *images,
                      Agreement *out) {
    const float *logits[2] = {exact, rounded};
    const int64_t each = shape_count(one), pixels = (int64_t)images->h * images->w, K = one.d[1];
    uint8_t *class[2];
    float *probs[2];
    int64_t equal = 0, labelled = 0, both = 0, either = 0;
    for (int k = 0; k < 2; k++)
        class[k] = xcalloc((size_t)pixels, 1),
        probs[k] = xcalloc((size_t)(K * pixels), sizeof(float));
    for (int i = 0; i < images->n; i++) {
        const int32_t *label = images->labels + i * pixels;
        for (int k = 0; k < 2; k++)
            predictor_classes(logits[k] + i * each, one, images->h, images->w, class[k], probs[k]);
        for (int64_t x = 0; x < pixels; x++) {
            equal += class[0][x] == class[1][x];
            if (label[x] < 0) continue;
            const bool hard[2] = {!(probs[0][label[x] * pixels + x] > THETA),
                                  !(probs[1][label[x] * pixels + x] > THETA)};
            labelled++, both += hard[0] && hard[1], either += hard[0] || hard[1];
        }
    }
    for (int k = 0; k < 2; k++) free(class[k]), free(probs[k]);
    out->equal = (double)equal / (double)(images->n * pixels);
    out->moved = labelled ? (double)(either - both) / (double)labelled : NAN;
    out->hard = either ? (double)both / (double)either : NAN;
}

typedef struct { double value; int64_t at; } Ranked;
static int by_value(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    return x->value != y->value ? (x->value > y->value) - (x->value < y->value)
                                : (x->at > y->at) - (x->at < y->at);
}
/* rank[i] of the i-th place when all are sorted by how far the heads are apart there */
static void rank_places(const Heads *h, int n, int64_t *rank) {
    const int64_t channels = h->main.d[1], grid = h->main.d[2] * h->main.d[3];
    Ranked *r = xcalloc((size_t)(n * grid), sizeof *r);
    for (int64_t i = 0; i < n * grid; i++) {
        const int64_t at = i / grid * channels * grid + i % grid;
        r[i] = (Ranked){divergence(h->v[1] + at, h->v[0] + at, channels, grid), i};
    }
    qsort(r, (size_t)(n * grid), sizeof *r, by_value);
    for (int64_t i = 0; i < n * grid; i++) rank[r[i].at] = i;
    free(r);
}
/* Spearman's: 1 - 6 sum of squared differences of ranks / (n (n^2 - 1)). exp(-d) falls where d rises: both alike. */
static double rank_correlation(const Heads *a, const Heads *b, int n) {
    const int64_t places = n * a->main.d[2] * a->main.d[3];
    if (!a->v[1] || !shape_equal(a->main, a->aux) || places < 2) return NAN;
    int64_t *rank = xcalloc((size_t)places, 2 * sizeof *rank);
    rank_places(a, n, rank), rank_places(b, n, rank + places);
    double sum = 0;
    for (int64_t i = 0; i < places; i++)
        sum += (double)(rank[i] - rank[places + i]) * (double)(rank[i] - rank[places + i]);
    free(rank);
    return 1 - 6 * sum / ((double)places * ((double)places * (double)places - 1));
}

/* ---- remembered ---------------------------------------------------------------------------------------- */

/* Ops, shapes and sources, and how pixels are normalised, which no parameter's value shows. */
static void add_graph(Str *s, const Net *n) {
    for (int i = 1; i < n->n_nodes; i++) {
        const NetNode *x = &n->nodes[i];
        str_addf(s, " %s %s", x->op->name, shape_text(x->shape).s);
        for (int k = 0; k < x->n_src; k++) str_addf(s, ",%d", x->src[k]);
        if (x->op != &op_normalize) continue;
        const NormalizeAttr *a = x->attr;
        for (int c = 0; c < 3; c++) str_addf(s, " %a %a", (double)a->mean[c], (double)a->inv_std[c]);
        str_addf(s, " %d", a->bgr);
    }
}

/* RETORT_CACHE/ranges-DIGEST: ranges and agreement, which follow from what the digest is of (so a resumed run gets the same
 * plan with and without the file), then a digest of both. Anything else counts as not there. */
static char *memory_path(const Net *n, const PlanSpec *spec, const Batch *b) {
    const size_t pixels = (size_t)b->n * (size_t)b->h * (size_t)b->w;
    char library[96], name[64];
    plan_library(library, sizeof library);
    Str s = {0};
    str_addf(&s, "%s %s, %d threads, %d nodes, %s, %d x %d x %d", RETORT_VERSION, library,
             parallel_threads(), n->n_nodes, dtype_name(spec->precision), b->n, b->h, b->w);
    for (int i = 0; i < spec->n_outputs; i++) str_addf(&s, " %d", spec->outputs[i].id);
    add_graph(&s, n);
    str_addf(&s, " %s", hash_digest(n->values, (size_t)n->n_values * sizeof(float)).hex);
    str_addf(&s, " %s", hash_digest(b->images, 3 * pixels).hex);
    str_addf(&s, " %s", hash_digest(b->rects, (size_t)b->n * 4 * sizeof *b->rects).hex);
    snprintf(name, sizeof name, "ranges-%s", hash_digest(s.s, s.n).hex);
    str_free(&s);
    return path_join(sys_cache_dir(), name);
}
static bool recall(const char *path, float *ranges, size_t n, Agreement *a) {
    const size_t body = n * sizeof *ranges + sizeof *a;
    Bytes b;
    if (!sys_exists(path) || sys_read_file(path, body + sizeof(Digest), EXIT_OUTPUT, &b))
        return false;
    const bool good = b.bytes == body + sizeof(Digest) &&
                      !strcmp(hash_digest(b.data, body).hex, (const char *)b.data + body);
    if (good)
        memcpy(ranges, b.data, n * sizeof *ranges),
            memcpy(a, b.data + n * sizeof *ranges, sizeof *a);
    free(b.data);
    return good;
}
static void remember(const char *path, const float *ranges, size_t n, const Agreement *a) {
    const size_t body = n * sizeof *ranges + sizeof *a;
    uint8_t *b = xcalloc(body + sizeof(Digest), 1);
    memcpy(b, ranges, n * sizeof *ranges), memcpy(b + n * sizeof *ranges, a, sizeof *a);
    const Digest d = hash_digest(b, body);
    memcpy(b + body, d.hex, sizeof d.hex);
    if (sys_mkdirs(sys_cache_dir()) || durable_write_all(path, b, body + sizeof d))
        log_warn("%s; the next start calibrates again", err_text());
    free(b);
}

/* ---- both --------------------------------------------------------------------------------------------- */

static Err measure(Net *n, const ModelNodes *m, const PlanSpec *spec, const Batch *b, float *ranges,
                   Heads *out) {
    Shape shapes[2] = {SHAPE(1, b->h, b->w, 3), SHAPE(1, 4)};
    PlanSpec one = *spec;
    Plan *p;
    one.precision = DT_F32, one.choices = NULL, one.inputs = (Node[]){m->image, m->rects},
    one.input_shapes = shapes, one.n_inputs = 2;
    TRY(plan_make(n, &one, &p));
    plan_watch(p, ranges);
    *out = run_images(p, m, is_output(spec, m->aux), b);
    plan_close(p);
    return sys_poll();
}

Err calibrate(Net *n, const ModelNodes *m, const PlanSpec *spec, const Batch *images, Plan **out,
              Agreement *agreement) {
    CHECK(is_output(spec, m->logits));
    Heads exact = {0}, rounded = {0};
    PlanSpec bytes = *spec;
    const size_t nodes = (size_t)n->n_nodes;
    float *ranges = xcalloc(nodes, sizeof *ranges);
    char *path = memory_path(n, spec, images);
    const bool known = recall(path, ranges, nodes, agreement);
    Err rc = known ? OK : measure(n, m, spec, images, ranges, &exact);
    bytes.ranges = ranges;
    if (!rc) rc = plan_make(n, &bytes, out);
    if (!rc && !known) {
        rounded = run_images(*out, m, is_output(spec, m->aux), images);
        rc = sys_poll();                                 /* cut short: nothing to remember */
    }
    if (!rc && !known) {
        memset(agreement, 0, sizeof *agreement);         /* its gaps too: they are remembered */
        agreement->images = images->n;
        agreement_pixels(exact.v[0], rounded.v[0], exact.main, images, agreement);
        agreement->kl = mean_divergence(&exact, &rounded, images->n),
        agreement->easiness = rank_correlation(&exact, &rounded, images->n);
        remember(path, ranges, nodes, agreement);
    }
    heads_free(&exact), heads_free(&rounded), free(ranges), free(path);
    return rc;
}
