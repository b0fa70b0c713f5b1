/* fullres_priv.h - between fullres.c and its kernels (fullres_simd.c, fullres_ref.c). */
#ifndef RETORT_DISTILL_FULLRES_PRIV_H
#define RETORT_DISTILL_FULLRES_PRIV_H
#include "base/cpu.h"
#include "distill/fullres.h"

enum { FR_LANES = 16 };                  /* rows of full-size maps are padded to this many pixels */

/* Upsampling from one grid to the labels'. Pixel x lies between columns col[x] and col[x] + 1 at fx. */
typedef struct FrMap {
    int h, w, H, W, Wp;                  /* Wp: W padded to FR_LANES */
    int intervals;                       /* low-resolution row intervals: max(h - 1, 1) */
    int32_t *col, *start;                /* [Wp]; [w + 1] first x of each column */
    float   *fx;                         /* [Wp] */
} FrMap;
/* Rows y0 <= y < y1 lie between low rows r and r + 1 (the last interval includes the end). */
static inline void fr_rows(const FrMap *m, int r, int *y0, int *y1) {
    int64_t a = m->H - 1, b = m->h - 1;
    *y0 = b <= 0 ? 0 : a == 0 ? (r > 0) : (int)((r * a + b - 1) / b);
    *y1 = r == m->intervals - 1 ? m->H : a == 0 ? 1 : (int)(((r + 1) * a + b - 1) / b);
}
static inline double fr_frac(const FrMap *m, int y, int r) {     /* position of row y in interval r */
    return m->h < 2 || m->H < 2 ? 0.0
        : (double)((int64_t)y * (m->h - 1) - (int64_t)r * (m->H - 1)) / (double)(m->H - 1);
}

/* One pass over one head. A work item is (image, interval). */
typedef struct FrPass {
    const FrMap   *map;
    const float   *logits;               /* N x K x h x w */
    const int32_t *labels;               /* N x H x W */
    int n, k;
    float    theta;                      /* prob: counts q <= theta */
    float   *q;                          /* prob: N x H x Wp out; void and padding: +inf */
    int32_t *row_count;                  /* prob: [N * H] out */
    const float *weight;                 /* grad: N x H x Wp */
    float   *partial;                    /* grad: N x intervals x 2 x K x w out: shares of low rows r, r + 1 */
    double  *row_loss;                   /* grad: [N * H] out */
} FrPass;

/* The weights of all pixels of one head, row by row; shapes as above. */
typedef struct FrWeights {
    int n, k, H, W, Wp;
    const int32_t *labels;
    const float *class_weight;           /* NULL: 1 */
    float   plain;                       /* ce: weight 1 / Z; 0: off */
    const FrMap *map;                    /* tfe: the teacher's */
    const float *easy;                   /* tfe: N x h x w; NULL: off */
    float   tfe;                         /* tfe: stage weight / Z */
    float  *q, *qt;                      /* tse: student's map (overwritten by weights), teacher's; qt NULL: off */
    const float *theta, *theta_t;        /* [N] */
    float   tse;                         /* stage weight / Z */
    unsigned rule;
    int32_t *kept; double *sum;          /* mask_row: [N * H] out */
} FrWeights;

/* KL between two maps of logits, softmax over K at temperature 1 / scale, pixels contiguous. */
typedef struct FrKl {
    const float *p, *q;                  /* N x K x P: KL(softmax(p) || softmax(q)) */
    int n, k; int64_t pixels;
    float scale;
    const float *weight;                 /* [N x P] of each pixel, multiplies value and gradient; NULL: 1 */
    float  *value;                       /* [N x P] out, or NULL */
    float  *dq;                          /* N x K x P out: coef * weight * (softmax(q) - softmax(p)); NULL: none */
    float   coef;
    double *sum;                         /* [N * chunks] out: of weight * KL; or NULL */
} FrKl;
enum { KL_CHUNK = 256 };                 /* pixels of a work item */
static inline int64_t kl_chunks(int64_t pixels) { return (pixels + KL_CHUNK - 1) / KL_CHUNK; }

typedef struct FrKernels {
    void (*prob_item)(const FrPass *, int64_t item);
    void (*grad_item)(const FrPass *, int64_t item);
    void (*mask_row)(const FrWeights *, int64_t row);
    void (*weight_row)(const FrWeights *, int64_t row);
    void (*kl_item)(const FrKl *, int64_t item);
} FrKernels;
const FrKernels *fr_kernels(void);       /* of cpu_level() */

/* fullres_kth.c: k-th smallest (k >= 1) of n non-negative values. bins: RADIX_PARTS x RADIX_BINS. */
enum { RADIX_PARTS = 16, RADIX_BINS = 2048 };
float fr_kth(const float *q, int64_t n, int64_t k, uint32_t *bins);

/* fullres_ref.c: whole passes, double. */
void fr_ref_prob(const FrPass *p);
void fr_ref_grad(const FrPass *p, float *dlogits, double a, double *acc);
void fr_ref_weights(const FrWeights *w);
void fr_ref_kl(const FrKl *k);
float fr_ref_kth(const float *q, float *sorted, int64_t n, int64_t k);
#endif
