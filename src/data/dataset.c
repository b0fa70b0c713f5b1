/* dataset.c - opening data sets, reading samples through the cache, and the checks all of them
 * share.
 *
 * Decoded samples stay in memory as they are read, until a quarter of the memory that was free at
 * open is used; the rest is decoded again each time. Nothing is ever evicted: which images are kept
 * does not matter for an epoch's cost, and lent samples can stay where they are until the data set
 * is closed.
 *
 * Each sample is also looked at once for what is no error but worth a warning: classes that never
 * occur, labels that are all void, rotations asked for and not made. */
#include "data/data.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/data_priv.h"

const char *const street_names[STREET_CLASSES] = {
    "sky",  "building", "pole", "road",       "pavement", "tree",
    "sign", "fence",    "car",  "pedestrian", "cyclist",
};
const uint8_t street_palette[STREET_CLASSES][3] = {
    {128, 128, 128}, {128, 0, 0},   {192, 192, 128}, {128, 64, 128}, {60, 40, 222}, {128, 128, 0},
    {192, 128, 128}, {64, 64, 128}, {64, 0, 128},    {64, 64, 0},    {0, 128, 192},
};

#define DATASET(name) &dataset_##name,
static const DatasetDef *const defs[] = {
#include "data/datasets.def"
};
#undef DATASET
enum { N_DEFS = (int)(sizeof defs / sizeof *defs) };

const DatasetDef *dataset_find(const char *kind) {
    for (int i = 0; i < N_DEFS; i++)
        if (!strcmp(defs[i]->name, kind)) return defs[i];
    return NULL;
}

static Err unknown_kind(const char *kind) {
    const char *names[N_DEFS];
    for (int i = 0; i < N_DEFS; i++) names[i] = defs[i]->name;
    const char *near = str_nearest(kind, names, N_DEFS);
    if (near)
        return err_set(E(EXIT_USAGE, 76), "data.kind: there is no data set %s; did you mean %s?",
                       kind, near);
    if (sys_is_dir(kind))
        return err_set(E(EXIT_USAGE, 76),
                       "data.kind: there is no data set %s; for a folder of your own give "
                       "data=folder:%s",
                       kind, kind);
    Str list = {0};
    for (int i = 0; i < N_DEFS; i++) str_addf(&list, "%s%s", i ? ", " : "", names[i]);
    Err rc = err_set(E(EXIT_USAGE, 76), "data.kind: there is no data set %s; choose one of %s",
                     kind, list.s);
    str_free(&list);
    return rc;
}

void sample_free(Sample *s) {
    free(s->rgb);
    free(s->label);
    *s = (Sample){0};
}

/* ---- worth a warning ----------------------------------------------------------------------------
 */
struct Tally {
    bool *looked; /* [n] */
    int left, empty, turned;
    bool seen[256];
};

static struct Tally *tally_open(int n) {
    struct Tally *t = xcalloc(1, sizeof *t);
    t->looked = xcalloc((size_t)n, sizeof *t->looked);
    t->left = n;
    return t;
}

static void tally_close(struct Tally *t) {
    if (t) free(t->looked);
    free(t);
}

static void tally_warn(const Dataset *d) {
    enum { SHOWN = 12 };
    const struct Tally *t = d->tally;
    Str absent = {0};
    int n = 0;
    for (int k = 0; k < d->n_classes; k++)
        if (!t->seen[k] && n++ < SHOWN)
            str_addf(&absent, "%s%s", n > 1 ? ", " : "", d->class_names[k]);
    if (n)
        log_warn("%s/%s: %d classes that no label shows: %s%s", d->def->name, d->split, n, absent.s,
                 n > SHOWN ? ", ..." : "");
    if (t->empty)
        log_warn("%s/%s: %d of %d labels are void all over", d->def->name, d->split, t->empty,
                 d->n);
    if (t->turned)
        log_warn(
            "%s/%s: %d of %d images ask for a rotation (EXIF); pixels are taken as stored, which "
            "is what their labels fit",
            d->def->name, d->split, t->turned, d->n);
    str_free(&absent);
}

/* Called with the gate locked. */
static void tally_add(Dataset *d, int i, const Sample *s) {
    struct Tally *t = d->tally;
    if (!t || t->looked[i]) return;
    t->looked[i] = true;
    bool any = false;
    for (size_t p = 0, n = (size_t)s->h * (size_t)s->w; p < n; p++) {
        t->seen[s->label[p]] = true;
        any |= s->label[p] != IGNORE_U8;
    }
    t->empty += !any;
    t->turned += s->turned;
    if (--t->left == 0) tally_warn(d);
}

/* ---- opening ------------------------------------------------------------------------------------
 */
void dataset_move(Dataset *d, int from, int to) {
    d->names[to] = d->names[from];
    d->image_paths[to] = d->image_paths[from];
    if (d->label_paths) d->label_paths[to] = d->label_paths[from];
}

/* Read every file once and leave out at most max_bad that cannot be used. */
static Err drop_bad(Dataset *d, int64_t max_bad) {
    int kept = 0, bad = 0;
    Progress progress = progress_start("samples", d->n, "reading all samples");
    Err rc = OK;
    for (int i = 0; i < d->n && !rc; i++) {
        Sample s = {0};
        if ((rc = sys_poll())) break;
        const Err one = d->def->read(d, i, &s);
        sample_free(&s);
        progress_to(&progress, i + 1);
        if (!one) dataset_move(d, i, kept++);
        else if (err_exit_code(one) != EXIT_DATA) rc = one;
        else if (++bad > max_bad)
            rc = err_wrap(one, "more than data.max_bad=%lld bad samples", (long long)max_bad);
        else log_warn("left out, %d of at most %lld: %s", bad, (long long)max_bad, err_text());
    }
    progress_end(&progress);
    if (!rc) d->n = kept;
    return rc;
}

static Err open_samples(Dataset *d, const DataOptions *o) {
    TRY(d->def->open(d, o, d->split));
    if (o->max_bad > 0 && d->image_paths) TRY(drop_bad(d, o->max_bad));
    if (d->n > 0) return OK;
    return err_set(E(EXIT_DATA, 30), "%s: 0 pairs found for split %s; give it at least one image",
                   d->def->name, d->split);
}

static Err open_as(const DatasetDef *def, const DataOptions *o, const char *split, Dataset **out) {
    Dataset *d = xcalloc(1, sizeof *d);
    d->def = def;
    d->arena = arena_open();
    d->gate = gate_open();
    d->split = arena_strdup(d->arena, split);
    Err rc = open_samples(d, o);
    if (rc) return dataset_close(d), rc;
    d->cache = xcalloc((size_t)d->n, sizeof *d->cache);
    d->cache_left = sys_mem_available() / 4;
    d->resize = o->resize;
    *out = d;
    return OK;
}

Err dataset_open(const DataOptions *o, const char *split, Dataset **out) {
    const char *kind = o->kind ? o->kind : "scenes";
    const DatasetDef *def = dataset_find(kind);
    if (!def) return unknown_kind(kind);
    Dataset *d;
    TRY(open_as(def, o, split, &d));
    d->tally = tally_open(d->n);
    Err rc = o->unlabelled && !strcmp(split, "train")
                 ? open_as(&dataset_unlabelled, o, "unlabelled", &d->unlabelled)
                 : OK;
    if (rc) return dataset_close(d), rc;
    *out = d;
    return OK;
}

Err dataset_crop(Dataset *d, DataOptions *o) {
    Sample s = {0};
    if (o->crop_h) return OK;
    TRY(dataset_read(d, 0, &s));
    o->crop_h = s.h, o->crop_w = s.w;
    sample_free(&s);
    return OK;
}

Err dataset_open_training(const DataOptions *o, Dataset **out) {
    TRY(dataset_open(o, "train", out));
    (*out)->resized = o->resize.h > 0;
    if ((*out)->unlabelled) (*out)->unlabelled->resized = (*out)->resized;
    return OK;
}

void dataset_close(Dataset *d) {
    if (!d) return;
    dataset_close(d->unlabelled);
    if (d->def->close) d->def->close(d);
    for (int i = 0; d->cache && i < d->n; i++) sample_free(&d->cache[i]);
    free(d->cache);
    tally_close(d->tally);
    gate_close(d->gate);
    arena_close(d->arena);
    free(d);
}

static size_t sample_bytes(const Sample *s) {
    return (size_t)s->h * (size_t)s->w * 4;
}

static void resize_sample(Resize to, Sample *s) {
    const size_t pixels = (size_t)to.h * (size_t)to.w;
    Sample out = {to.h, to.w, xcalloc(pixels, 3), xcalloc(pixels, 1), s->turned};
    resize_rgb(to, s->rgb, s->h, s->w, out.rgb);
    resize_labels(to, s->label, s->h, s->w, out.label);
    sample_free(s);
    *s = out;
}

/* Move *s into the cache when it fits. Another thread may have been faster: then *s stays the
 * caller's. */
static const Sample *cache_keep(Dataset *d, int i, Sample *s) {
    const Sample *kept = NULL;
    gate_lock(d->gate);
    tally_add(d, i, s);
    if (d->cache[i].rgb) {
        kept = &d->cache[i];
    } else if (sample_bytes(s) <= d->cache_left) {
        d->cache_left -= sample_bytes(s);
        d->cache[i] = *s;
        *s = (Sample){0};
        kept = &d->cache[i];
    }
    gate_unlock(d->gate);
    return kept;
}

Err dataset_borrow(Dataset *d, int i, Sample *own, const Sample **out) {
    CHECK(i >= 0 && i < d->n);
    gate_lock(d->gate);
    bool there = d->cache[i].rgb != NULL;
    gate_unlock(d->gate);
    if (there) return *out = &d->cache[i], OK;
    TRY(d->def->read(d, i, own));
    if (d->resized && (own->h != d->resize.h || own->w != d->resize.w))
        resize_sample(d->resize, own);
    const Sample *kept = cache_keep(d, i, own);
    *out = kept ? kept : own;
    return OK;
}

Err dataset_read(Dataset *d, int i, Sample *out) {
    Sample own = {0};
    const Sample *s;
    TRY(dataset_borrow(d, i, &own, &s));
    if (s == &own) return *out = own, OK;
    size_t pixels = (size_t)s->h * (size_t)s->w;
    *out = (Sample){s->h, s->w, xcalloc(pixels, 3), xcalloc(pixels, 1), s->turned};
    memcpy(out->rgb, s->rgb, pixels * 3);
    memcpy(out->label, s->label, pixels);
    sample_free(&own);
    return OK;
}

static void add_files(const Dataset *d, Str *s) {
    str_addf(s, "%s %s %d\n%s\n", d->def->name, d->split, d->n, d->recipe ? d->recipe : "");
    for (int i = 0; i < d->n; i++) {
        uint64_t image = 0, label = 0; /* a file that vanished counts as empty: it differs */
        if (d->image_paths && sys_file_size(d->image_paths[i], EXIT_DATA, &image)) image = 0;
        if (d->label_paths && sys_file_size(d->label_paths[i], EXIT_DATA, &label)) label = 0;
        str_addf(s, "%s %llu %llu\n", d->names[i], (unsigned long long)image,
                 (unsigned long long)label);
    }
}

Digest dataset_fingerprint(const Dataset *d) {
    Str s = {0};
    add_files(d, &s);
    if (d->unlabelled) add_files(d->unlabelled, &s);
    Digest digest = hash_digest(s.s, s.n);
    str_free(&s);
    return digest;
}
