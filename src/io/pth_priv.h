/* pth_priv.h - between pth_graph.c, which finds the tensors in the pickled graph, and pth.c, which reads them. */
#ifndef RETORT_IO_PTH_PRIV_H
#define RETORT_IO_PTH_PRIV_H
#include "io/pickle.h"
#include "io/pth.h"

typedef struct PthNamed { const char *name; const PkNode *tensor; } PthNamed;
/* What the search found; texts live in the arena given, *v belongs to the caller. */
typedef struct PthFound { PthNamed *v; int n, cap; const char *path; } PthFound;
Err pth_search(const char *file, PkNode *root, Arena *a, PthFound *out);

/* One of torch's storages as a pickle names it. */
typedef struct PthStorage {
    const char *key; size_t n_key;
    const char *type;                   /* element type as PyTorch calls it, for messages */
    Dtype   dtype;                      /* DT_COUNT: one that is not read here */
    size_t  element;                    /* bytes of an element */
    int64_t numel, view_at, view_numel; /* of the storage; the part that a view of it sees (old files) */
} PthStorage;
/* A tensor: elements of a storage. Its dtype is the storage's, or its own over an untyped storage. */
typedef struct PthView { PthStorage storage; Dtype dtype; const char *type; Shape shape; int64_t at, stride[RANK_MAX]; int rank; } PthView;

bool pth_is_tensor(const PkNode *x);
/* False when x is no storage at all (other persistent ids: the source code of a class). */
bool pth_storage(const PkNode *persistent, PthStorage *out);
/* *why: what is wrong with it, for E4058. rank > RANK_MAX and dtype DT_COUNT are left to the caller. */
bool pth_view(const PkNode *tensor, PthView *out, const char **why);
#endif
