/* check_data.c - the part of the check that looks at images and labels. */
#include "cli/check_priv.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "camvid/train": the data set and its split. */
typedef struct {
    char s[96];
} Title;
static Title title(const Dataset *d) {
    Title t;
    snprintf(t.s, sizeof t.s, "%.30s%s%.60s", d->n_classes ? d->def->name : "",
             d->n_classes ? "/" : "", d->split);
    return t;
}

static const char *label_name(const Dataset *d, int i) {
    return d->label_paths ? d->label_paths[i] : d->names[i];
}
static const char *image_name(const Dataset *d, int i) {
    return d->image_paths ? d->image_paths[i] : d->names[i];
}

/* ---- what a split holds ---------------------------------------------------------------------- */
static void tell_classes(const Check *k, const Dataset *d, const Survey *s) {
    Str t = {0};
    double all = 0;
    for (int c = 0; c < d->n_classes; c++) all += (double)s->pixels[c];
    str_add(&t, "    share %   images  class\n");
    for (int c = 0; c < d->n_classes; c++)
        str_addf(&t, "  %9.3f %8d  %.100s%s\n",
                 all > 0 ? 100 * (double)s->pixels[c] / all : 0.0, s->images[c], d->class_names[c],
                 s->images[c] ? "" : "   never seen");
    str_addf(&t, "  void: %.3f %% of all pixels",
             100 * (double)s->pixels[IGNORE_U8] / fmax(1, all + (double)s->pixels[IGNORE_U8]));
    check_say(k, "%s", t.s);
    str_free(&t);
}

static void note_absent(Check *k, const Dataset *d, const Survey *s) {
    enum { SHOWN = 12 };
    Str names = {0};
    int n = 0;
    for (int c = 0; c < d->n_classes; c++)
        if (!s->images[c] && n++ < SHOWN)
            str_addf(&names, "%s%s", n > 1 ? ", " : "", d->class_names[c]);
    if (n)
        check_note(
            k,
            "%s: %d of %d classes never seen in %d labels: %s%s; check their ids or colours in "
            "data.classes, or take them out",
            title(d).s, n, d->n_classes, s->scanned - s->bad, names.s, n > SHOWN ? ", ..." : "");
    str_free(&names);
}

/* What is legal, but seldom meant. */
static Err note_oddities(Check *k, const Dataset *d, const Survey *s) {
    const int good = s->scanned - s->bad;
    if (s->turned)
        check_note(
            k,
            "%s: %d of %d images ask for a rotation (EXIF), %s is the first: it is not made, so "
            "labels must fit the pixels as stored; else turn the files themselves",
            title(d).s, s->turned, good, image_name(d, s->first_turned));
    if (!d->n_classes) return OK;    /* images without labels */
    if (good && s->empty == good)
        return check_problem(k,
                             err_set(E(EXIT_DATA, 35),
                                     "%s: all %d labels are void all over, %s is the first; check "
                                     "data.ignore, and the ids or colours in data.classes",
                                     title(d).s, good, label_name(d, s->first_empty)));
    if (good) note_absent(k, d, s);
    if (s->empty)
        check_note(k,
                   "%s: %d of %d labels are void all over, %s is the first: nothing is learnt from "
                   "them; take them out, or check data.ignore",
                   title(d).s, s->empty, good, label_name(d, s->first_empty));
    return OK;
}

static Err look_at(Check *k, Dataset *d, double share, Survey *s) {
    TRY(survey_run(d, check_time_until(k, share), (uint64_t)k->c->seed, s));
    Str size = {0};
    if (s->h[1])
        str_addf(&size, ", %dx%d to %dx%d pixels (height x width)", s->h[0], s->w[0], s->h[1],
                 s->w[1]);
    check_say(k, "%s: %d of %d samples looked at, %d cannot be used%s", title(d).s, s->scanned,
              s->total, s->bad, size.n ? size.s : "");
    str_free(&size);
    if (d->n_classes && s->scanned > s->bad) tell_classes(k, d, s);
    faults_join(&k->found, &s->faults);
    if (s->scanned < s->total)
        check_unreached(k, "%d of %d samples of %s", s->total - s->scanned, s->total, d->split);
    return note_oddities(k, d, s);
}

static Err look_at_unlabelled(Check *k, Dataset *d) {
    Survey s;
    TRY(look_at(k, d, 0.42, &s));
    survey_free(&s);
    return OK;
}

/* ---- both splits ----------------------------------------------------------------------------- */
/* A network is not to be judged by what it learnt from. Copies are perhaps meant, one file in both is not. */
static Err check_overlap(Check *k) {
    const Dataset *a = k->split[TRAIN], *b = k->split[VAL];
    int at[2], n = survey_shared_files(a, b, at);
    if (n)
        return check_problem(
            k, err_set(E(EXIT_DATA, 0),
                       "%d of %d images of %s are in train too, %s is the first; correct "
                       "data.split or the lists",
                       n, b->n, b->split, b->image_paths[at[1]]));
    n = survey_shared_pictures(&k->seen[TRAIN], &k->seen[VAL], at);
    if (n)
        check_note(
            k,
            "%d images of %s equal one of train, pixel by pixel: %s and %s are the first; remove one "
            "of them, or give data.split a group",
            n, b->split, image_name(b, at[1]), image_name(a, at[0]));
    return OK;
}

Err check_data(Check *k) {
    const Config *c = k->c;
    static const double shares[] = {0.35, 0.5};
    const char *const splits[] = {"train", c->eval_split};
    const bool same = !strcmp(splits[TRAIN], splits[VAL]);
    if (!c->data.kind)
        return check_problem(
            k, err_set(E(EXIT_USAGE, 76), "data.kind is not set; give data=camvid:DIR"));
    DataOptions all = c->data;
    all.max_bad = 0;                 /* bad ones are to be seen here, not left out */
    for (int i = 0; i < CHECK_SPLITS; i++) {
        TRY(check_problem(k, i == TRAIN ? dataset_open_training(&all, &k->split[i])
                                        : dataset_open(&all, splits[i], &k->split[i])));
        if (k->split[i] && !(i && same)) TRY(look_at(k, k->split[i], shares[i], &k->seen[i]));
        if (k->split[i] && k->split[i]->unlabelled)
            TRY(look_at_unlabelled(k, k->split[i]->unlabelled));
    }
    if (!k->split[TRAIN] || !k->split[VAL]) return OK;
    if (k->split[TRAIN]->n_classes != k->split[VAL]->n_classes)
        TRY(check_problem(k, err_set(E(EXIT_DATA, 37),
                                     "train and %s have different classes; give both one "
                                     "data.classes",
                                     c->eval_split)));
    return same ? OK : check_overlap(k);
}
