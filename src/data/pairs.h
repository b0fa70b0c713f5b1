/* pairs.h - which image belongs to which label, and to which split: patterns, list files, shares.
 *
 * Everything that names files ends here: entries stay beneath data.root, names are unique, and what
 * is unpaired is told all at once. */
#ifndef RETORT_DATA_PAIRS_H
#define RETORT_DATA_PAIRS_H
#include "data/data.h"

typedef struct PairSpec {
    const char *images;              /* "img/{id}.jpg" below root, or a list file (no {id}) */
    const char *labels;              /* "gt/{id}_L.png"; not read where lists name both files */
    const char *split;               /* YAML of data.split; "": the pattern holds {split} */
    const char *lists;               /* list file of splits that `split` does not name, or NULL */
    const char *word;                /* what {split} stands for; NULL: the split's name */
    bool base_names;                 /* samples are called after the last part of their {id} */
} PairSpec;
/* Fill names, paths and n of d. E3030, E3031, E3032, E3045, E3046, E2076. */
Err  pairs_open(Dataset *d, const DataOptions *o, const PairSpec *spec);

/* For data sets with rules of their own: add one pair (texts live in d's arena), then check all. */
typedef struct PairList {
    const char **name, **image, **label;
    int n, cap;
} PairList;
void pairs_free(PairList *l);
void pairs_add(PairList *l, const char *name, const char *image, const char *label);
/* Links, names, missing files; the list becomes d's. Frees l in any case. */
Err  pairs_finish(Dataset *d, const DataOptions *o, PairList *l);
/* The lines of a list file: at most two words each; a line with a tab is cut there alone. */
typedef struct ListLine {
    const char *where, *word[2];     /* "val.txt:3"; word[1] "": none */
} ListLine;
Err  pairs_read_list(Arena *a, const char *path, ListLine **out, int *n);
/* "{id}", "{split}" replaced in a pattern; lives in a. */
char *pairs_fill(Arena *a, const char *pattern, const char *what, const char *by);
#endif
