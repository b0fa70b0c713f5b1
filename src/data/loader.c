/* loader.c - threads that fill a ring of batches ahead of the trainer.
 *
 * Batch number b holds the samples first_sample + b * n .. + n - 1 and lives in slot b modulo the
 * ring. A worker claims the next number once its slot is free, fills it without the lock, and marks
 * it ready; loader_next lends the numbers strictly in order. Which worker fills what never shows in
 * the bytes. A worker's error stays in its slot with its text and is returned when that batch's
 * turn comes, and again on every later call.
 *
 * Of a batch with unlabelled images the first n - u samples count on through the labelled ones, the
 * last u through the unlabelled: two sequences of samples, each keyed by its own numbers. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/sys.h"
#include "data/data.h"

static const uint64_t UNLABELLED = (uint64_t)1 << 63; /* in epochs and samples: streams of their own */
enum { WORKERS_MAX = 64, AHEAD = 2, TEXT_MAX = 1024 };
#ifdef NDEBUG
enum { POISON = 0 };
#else
enum { POISON = 1 }; /* returned batches are filled with 0xaa */
#endif

typedef enum { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_LENT } SlotState;
typedef struct {
    Batch batch;
    SlotState state;
    Err err;
    char text[TEXT_MAX];
} Slot;

struct Loader {
    Dataset *data; /* borrows */
    DataOptions options;
    uint64_t seed, first_sample;
    int batch, unlabelled, h, w; /* unlabelled: of each batch */
    Gate *gate; /* guards all below */
    Slot *slots;
    int n_slots;
    uint64_t claimed, lent; /* the next batch number to fill, to lend */
    bool stop;
    Thread *threads[WORKERS_MAX];
    int n_threads;
};

/* The order of one epoch, kept by each worker; consecutive samples nearly always share it. */
typedef struct {
    uint32_t *order;
    uint64_t epoch;
    bool there;
} EpochOrder;

static uint32_t epoch_image(EpochOrder *e, const Loader *l, uint32_t n, uint64_t epoch,
                            uint64_t k) {
    if (!e->there || e->epoch != epoch) {
        if (!e->order) e->order = xcalloc(n, sizeof *e->order);
        Rng r = rng_stream(l->seed, RNG_SHUFFLE, epoch, 0);
        rng_permutation(&r, e->order, n);
        e->epoch = epoch, e->there = true;
    }
    return e->order[k];
}

/* Sample i of a batch. e: the orders of the labelled and of the unlabelled. */
static Err fill_sample(Loader *l, EpochOrder e[2], Augment *a, Batch *b, int i) {
    const int labelled = l->batch - l->unlabelled, bare = i >= labelled;
    const uint64_t number = b->first_sample / (uint64_t)l->batch, key = bare ? UNLABELLED : 0;
    Dataset *d = bare ? l->data->unlabelled : l->data;
    const uint64_t before = number * (uint64_t)l->unlabelled, n = (uint64_t)d->n;
    const uint64_t s = bare ? before + (uint64_t)(i - labelled)
                            : b->first_sample - before + (uint64_t)i,
                   epoch = s / n;
    Sample own = {0};
    const Sample *in;
    TRY(dataset_borrow(d, (int)epoch_image(&e[bare], l, (uint32_t)n, epoch | key, s % n), &own,
                       &in));
    size_t pixels = (size_t)l->h * (size_t)l->w;
    Err rc = augment_run(a, in, l->seed, epoch | key, s | key, b->images + (size_t)i * pixels * 3,
                         b->labels + (size_t)i * pixels, b->rects + (size_t)i * 4);
    sample_free(&own);
    return rc;
}

static Slot *slot_of(Loader *l, uint64_t number) {
    return &l->slots[number % (uint64_t)l->n_slots];
}

/* Claim the next batch number, or NULL when the loader closes. */
static Slot *claim(Loader *l) {
    gate_lock(l->gate);
    while (!l->stop && slot_of(l, l->claimed)->state != SLOT_FREE) gate_wait(l->gate);
    Slot *slot = NULL;
    if (!l->stop) {
        slot = slot_of(l, l->claimed);
        slot->state = SLOT_FILLING;
        slot->batch.first_sample = l->first_sample + l->claimed * (uint64_t)l->batch;
        l->claimed++;
    }
    gate_unlock(l->gate);
    return slot;
}

static void worker(void *arg) {
    Loader *l = arg;
    EpochOrder order[2] = {0};
    Augment *augment = augment_open(&l->options, l->h, l->w);
    for (Slot *slot; (slot = claim(l));) {
        Err rc = OK;
        for (int i = 0; i < l->batch && !rc; i++)
            rc = fill_sample(l, order, augment, &slot->batch, i);
        gate_lock(l->gate);
        slot->err = rc;
        if (rc) {
            strncpy(slot->text, err_text(), TEXT_MAX - 1);
            l->stop = true; /* what lies behind an error is never lent */
        }
        slot->state = SLOT_READY;
        gate_wake(l->gate);
        gate_unlock(l->gate);
    }
    for (int k = 0; k < 2; k++) free(order[k].order);
    augment_close(augment);
}

/* Batches have one size: the crop, or else that of the first image. */
static Err batch_size(Loader *l) {
    l->h = l->options.crop_h, l->w = l->options.crop_w;
    if (l->h > 0 && l->w > 0) return OK;
    Sample own = {0};
    const Sample *s;
    TRY(dataset_borrow(l->data, 0, &own, &s));
    l->h = s->h, l->w = s->w;
    sample_free(&own);
    return OK;
}

static Err slot_open(const Loader *l, Slot *s) {
    size_t pixels = (size_t)l->batch * (size_t)l->h * (size_t)l->w;
    s->batch = (Batch){.n = l->batch, .h = l->h, .w = l->w};
    TRY(block_alloc((void **)&s->batch.images, pixels * 3, "images of the loader"));
    TRY(block_alloc((void **)&s->batch.labels, pixels * sizeof(int32_t), "labels of the loader"));
    return block_alloc((void **)&s->batch.rects, (size_t)l->batch * 4 * sizeof(int32_t),
                       "rectangles of the loader");
}

Err loader_open(Dataset *d, const DataOptions *o, int batch, uint64_t seed, uint64_t first_sample,
                Loader **out) {
    CHECK(batch > 0 && d->n > 0);
    Loader *l = xcalloc(1, sizeof *l);
    *l = (Loader){
        .data = d, .options = *o, .seed = seed, .first_sample = first_sample, .batch = batch};
    l->unlabelled = d->unlabelled ? unlabelled_count(o, batch) : 0;
    l->gate = gate_open();
    int workers = o->workers > 0 ? o->workers : 1;
    if (workers > WORKERS_MAX) workers = WORKERS_MAX;
    Err rc = batch_size(l);
    if (rc) goto fail;
    l->n_slots = workers + AHEAD + (o->lent > 1 ? o->lent - 1 : 0);
    l->slots = xcalloc((size_t)l->n_slots, sizeof *l->slots);
    for (int i = 0; i < l->n_slots; i++)
        if ((rc = slot_open(l, &l->slots[i]))) goto fail;
    for (; l->n_threads < workers; l->n_threads++)
        if ((rc = thread_open(&l->threads[l->n_threads], worker, l))) goto fail;
    *out = l;
    return OK;
fail:
    loader_close(l);
    return rc;
}

Err loader_next(Loader *l, const Batch **out) {
    double start = sys_now();
    gate_lock(l->gate);
    Slot *slot = slot_of(l, l->lent);
    CHECK(slot->state != SLOT_LENT); /* the whole ring is lent: loader_done was forgotten */
    while (slot->state != SLOT_READY) gate_wait(l->gate);
    Err rc = slot->err;
    if (!rc) {
        slot->state = SLOT_LENT;
        l->lent++;
    }
    gate_unlock(l->gate);
    if (rc) return err_set(rc, "%s", slot->text);
    slot->batch.wait_s = sys_now() - start;
    *out = &slot->batch;
    return OK;
}

static void poison(Batch *b) {
    size_t pixels = (size_t)b->n * (size_t)b->h * (size_t)b->w;
    memset(b->images, 0xaa, pixels * 3);
    memset(b->labels, 0xaa, pixels * sizeof *b->labels);
    memset(b->rects, 0xaa, (size_t)b->n * 4 * sizeof *b->rects);
}

void loader_done(Loader *l, const Batch *b) {
    Slot *slot = NULL;
    for (int i = 0; i < l->n_slots; i++)
        if (&l->slots[i].batch == b) slot = &l->slots[i];
    CHECK(slot && slot->state == SLOT_LENT);
    if (POISON) poison(&slot->batch);
    gate_lock(l->gate);
    slot->state = SLOT_FREE;
    gate_wake(l->gate);
    gate_unlock(l->gate);
}

void loader_close(Loader *l) {
    if (!l) return;
    gate_lock(l->gate);
    l->stop = true;
    gate_wake(l->gate);
    gate_unlock(l->gate);
    for (int i = 0; i < l->n_threads; i++) thread_join(l->threads[i]);
    for (int i = 0; l->slots && i < l->n_slots; i++) {
        block_free(l->slots[i].batch.images);
        block_free(l->slots[i].batch.labels);
        block_free(l->slots[i].batch.rects);
    }
    free(l->slots);
    gate_close(l->gate);
    free(l);
}
