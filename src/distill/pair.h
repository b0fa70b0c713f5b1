/* pair.h - what the terms on the low grid share: a map of the student's, one of the teacher's, labels.
 *
 * Sources of such an op: student N x C x h x w, teacher N x Ct x h x w, and, where only labelled positions
 * count, labels N x H x W, always the last. Another grid is mended on the student's side by a bilinear resize (align_corners),
 * other channels, where a formula compares them one by one, by a 1x1 convolution `adapter` without bias that
 * is trained with the student. The teacher's side is constant. */
#ifndef RETORT_DISTILL_PAIR_H
#define RETORT_DISTILL_PAIR_H
#include "distill/method.h"

typedef struct PairOptions { const char *tap, *teacher_tap; int mask; } PairOptions;
/* Rows of a method's table; `of` begins with a PairOptions called pair. */
#define PAIR_OPTIONS(of, layer)                                                                                                                          \
    {"tap", OPT_STR, offsetof(of, pair.tap), layer, "", "layer to compare: logits, features, mid, or a name of retort info", .flags = 0},              \
    {"teacher_tap", OPT_STR, offsetof(of, pair.teacher_tap), "", "", "the teacher's, where its name is another", .flags = 0},                          \
    {"mask", OPT_ENUM, offsetof(of, pair.mask), "none", "", "valid: leave out positions without a label", .choices = "none|valid"}

typedef struct Pair { Node student, teacher, labels; } Pair;      /* labels NO_NODE: every position counts */
/* The two layers, each on its own grid. */
Pair pair_open(Net *n, const KdSite *s, const char *method, const PairOptions *o);
/* The student's layer on the teacher's grid; adapt: with the teacher's channels as well. */
void pair_line_up(Net *n, const KdSite *s, Pair *p, bool adapt);
Node pair_add(Net *n, const OpDef *op, const void *attr, size_t attr_bytes, const Pair *p);

Err    pair_infer(const OpSite *s, Shape *dst);                    /* grids and batches agree */
Err    pair_infer_same(const OpSite *s, Shape *dst);               /* channels too */
size_t pair_saved_bytes(const OpSite *s, Shape dst);               /* the gradient by the student, at ddst = 1 */
void   pair_backward(const OpCall *c);                             /* dstudent += ddst * saved */
/* mask: N x h x w of 0 and 1, from labels at row round(i (H - 1) / (h - 1)), halves to even, h = 1: row 0, columns
 * likewise; all 1 when c has no labels. Returns how many are 1. */
int64_t pair_mask(const OpCall *c, int64_t h, int64_t w, float *mask);
/* What a mean over the grid divides by: of the micro-batch, or, of an update in parts, the mean over its parts, so that
 * their values average to the whole's. */
typedef enum { COUNT_POSITIONS, COUNT_IMAGES, COUNT_PAIRS, COUNT_NEAREST } PairCount;
double  pair_divisor(const OpCall *c, int64_t h, int64_t w, PairCount what);
/* Labels at row floor(i H / h), columns likewise: N x h x w. */
void    pair_labels_nearest(const int32_t *labels, Shape y, int64_t h, int64_t w, int32_t *out);
static inline int64_t grid_count(Shape s) { return s.d[2] * s.d[3]; }
#endif
