/* relation.h - similarities of positions with positions, in tiles (skd.pa, cirkd): memory grows with the positions,
 * never with their square.
 *
 * The unit vectors of an image's positions lie in panels of PANEL columns (gemm.h), channels padded to a multiple of
 * PANEL_ROWS, positions to one of PANEL, both by zeros. A sweep visits the tiles (I, J), I <= J, of a range of panels,
 * once each: by symmetry the transposed tile comes with it. For one I the tiles run over the threads in chunks of
 * neighbouring J; what belongs to J is added by its own chunk, what belongs to I is added by chunks apart and summed
 * in their order. So the bits do not depend on the threads. */
#ifndef RETORT_DISTILL_RELATION_H
#define RETORT_DISTILL_RELATION_H
#include <stddef.h>

#include "distill/gemm.h"

typedef struct Panels {
    int     images, per_image, C, rows;          /* panels of an image; channels, and padded */
    int64_t P;                                   /* positions of an image */
    float  *x;                                   /* [images * per_image] panels of rows x PANEL */
    double *size;                                /* [images * P] lengths before they were made 1 */
} Panels;
/* Sets sizes and takes memory from *at (64-byte aligned), which moves on; base 0 counts. */
void   panels_open(Panels *p, int images, int C, int64_t P, char **at);
/* map: images x C x P; positions where mask is 0 become 0 (NULL: none). */
void   panels_fill(const Panels *p, const float *map, const float *mask);
/* d: gradient by the panels -> coef times that by the map (overwritten), through the division by the length. */
void   panels_gradient(const Panels *p, const float *d, const float *mask, double coef, float *dmap);
static inline size_t panel_floats(const Panels *p) { return (size_t)p->rows * PANEL; }
static inline float *panel_at(const Panels *p, int i) { return p->x + (size_t)i * panel_floats(p); }
static inline int panel_count(const Panels *p, int i) {      /* positions in panel i */
    const int64_t left = p->P - (int64_t)(i % p->per_image) * PANEL;
    return left < PANEL ? (int)left : PANEL;
}

typedef struct Sweep {
    const Panels *s, *t;
    int from, to;                                /* panels */
    float *part, *dx;                            /* sweep_part_floats; as s->x, added to; both NULL: no gradient */
    /* s, t: similarities; leaves in s what pulls the two panels towards each other. Writes only what belongs to J or
     * to (I, chunk). */
    void (*tile)(void *arg, int I, int J, int chunk, float *s, const float *t);
    void (*row_done)(void *arg, int I);          /* all tiles of I were visited; NULL: nothing */
    void *arg;
} Sweep;
int    sweep_chunks(const Panels *p);            /* of all images; a chunk lies within one */
int    sweep_chunk_of(const Panels *p, int panel);
size_t sweep_part_floats(const Panels *p);
void   sweep_run(const Sweep *s);
#endif
