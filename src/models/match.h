/* match.h - which tensor of a file is which parameter of a network, and what to say when they do not fit. */
#ifndef RETORT_MODELS_MATCH_H
#define RETORT_MODELS_MATCH_H
#include "base/str.h"
#include "io/weights.h"
#include "models/model.h"

typedef struct Names { Str text; int n; } Names;         /* the first few names, and how many in all */
typedef struct Match {
    const Tensor **of;                  /* per parameter; NULL where the file has none */
    const char *layout;                 /* title of the layout (rules.def) by which names were read; "": their own */
    Names missing, extra, wrong;
    int   matched, matched_outside;     /* parameters; those of them that are not the backbone's */
    int   missing_inside;               /* parameters of the backbone that the file lacks */
} Match;
/* Pair by the layout that fits best. Extra tensors are listed; match_check lists the rest. */
void match_names(const Net *n, const TensorList *list, Match *m);
void match_check(const Net *n, Match *m);
void match_close(Match *m);
/* "188 of 191 tensors match, 3 missing: ..."; appended to s. */
void match_text(const Match *m, int total, Str *s);
/* The error of a file that does not fit: E4061. f says how the file is read in PyTorch. */
Err  match_refuse(const Net *n, const SafeFile *f, const Match *m, const char *where);
bool match_is_float(Dtype t);
bool match_fits(const NetParam *p, const Tensor *t);      /* by type and shape */
bool match_is_backbone(const char *name);
#endif
