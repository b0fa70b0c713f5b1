/* dnn.c - oneDNN 2.6 and 3.x behind one set of functions (dnn.h).
 *
 * The two differ in four things: memory descriptions (a struct, then a handle), how a convolution is
 * described (an op descriptor, then one call), post-op arguments, and scales of 8-bit integers. The first part of this file is
 * the same small set of functions written twice; nothing after it knows a version. */
#include "backend/cpu/dnn.h"

#include <stdio.h>
#include <string.h>

#include "dnnl.h"

/* A status here is a bug of ours or of the library: the shapes were checked by the op. */
#define DNN(call) CHECK((call) == dnnl_success)

typedef struct ConvMds {
    DnnMd *src, *weights, *bias, *dst;
    dnnl_dims_t stride, pad, pad_end, dilation;
} ConvMds;
/* n factors of what argument `of` contributes: per output channel of weights, or one. */
typedef struct { const float *v; int64_t n; int groups, of; } Scales;
typedef struct {
    dnnl_engine_t engine;
    dnnl_prop_kind_t prop;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t hint;
} PdContext;

#if DNNL_VERSION_MAJOR >= 3
struct DnnMd { dnnl_memory_desc_t h; DnnMd *next; };

static void md_init(DnnMd *m, int rank, const dnnl_dims_t dims, dnnl_data_type_t t,
                    dnnl_format_tag_t tag) {
    DNN(dnnl_memory_desc_create_with_tag(&m->h, rank, dims, t, tag));
}
static void md_init_strides(DnnMd *m, int rank, const dnnl_dims_t dims, const dnnl_dims_t strides) {
    DNN(dnnl_memory_desc_create_with_strides(&m->h, rank, dims, dnnl_f32, strides));
}
static dnnl_status_t matmul_pd(const PdContext *c, DnnMd *a, DnnMd *b, DnnMd *dst,
                               dnnl_primitive_desc_t *pd) {
    return dnnl_matmul_primitive_desc_create(pd, c->engine, a->h, b->h, NULL, dst->h, c->attr);
}
static void md_copy(DnnMd *m, const_dnnl_memory_desc_t from) {
    DNN(dnnl_memory_desc_clone(&m->h, from));
}
static void md_free(DnnMd *m) { dnnl_memory_desc_destroy(m->h); }
/* Returns the number of dimensions; dims is borrowed. */
static int md_query(const DnnMd *m, const int64_t **dims, dnnl_data_type_t *t) {
    int rank = 0;
    dnnl_dims_t *d;
    DNN(dnnl_memory_desc_query(m->h, dnnl_query_ndims_s32, &rank));
    DNN(dnnl_memory_desc_query(m->h, dnnl_query_dims, &d));
    DNN(dnnl_memory_desc_query(m->h, dnnl_query_data_type, t));
    return *dims = *d, rank;
}
static void append_sum(dnnl_post_ops_t ops, float scale, dnnl_data_type_t t) {
    DNN(dnnl_post_ops_append_sum(ops, scale, 0, t));
}
/* Scales are a memory of the run; a bias comes after them. */
static void set_scales(dnnl_primitive_attr_t attr, const Scales *s) {
    DNN(dnnl_primitive_attr_set_scales_mask(attr, s->of, s->n == 1 ? 0 : s->groups > 1 ? 3 : 1));
}
static int scales_arg(const Scales *s) { return DNNL_ARG_ATTR_SCALES | s->of; }
float dnn_scaled_bias(float bias, float scale) { return (void)scale, bias; }
static void append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t alg, float a, float b) {
    DNN(dnnl_post_ops_append_eltwise(ops, alg, a, b));
}
static dnnl_status_t forward_pd(const PdContext *c, ConvMds *m, dnnl_primitive_desc_t *pd) {
    return dnnl_convolution_forward_primitive_desc_create(
        pd, c->engine, c->prop, dnnl_convolution_direct, m->src->h, m->weights->h,
        m->bias ? m->bias->h : NULL, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end,
        c->attr);
}
static dnnl_status_t data_pd(const PdContext *c, ConvMds *m, dnnl_primitive_desc_t *pd) {
    return dnnl_convolution_backward_data_primitive_desc_create(
        pd, c->engine, dnnl_convolution_direct, m->src->h, m->weights->h, m->dst->h, m->stride,
        m->dilation, m->pad, m->pad_end, c->hint, c->attr);
}
static dnnl_status_t weights_pd(const PdContext *c, ConvMds *m, dnnl_primitive_desc_t *pd) {
    return dnnl_convolution_backward_weights_primitive_desc_create(
        pd, c->engine, dnnl_convolution_direct, m->src->h, m->weights->h,
        m->bias ? m->bias->h : NULL, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end, c->hint,
        c->attr);
}
#else
struct DnnMd { dnnl_memory_desc_t h[1]; DnnMd *next; };      /* an array, so that both versions pass `m->h` */

static void md_init(DnnMd *m, int rank, const dnnl_dims_t dims, dnnl_data_type_t t,
                    dnnl_format_tag_t tag) {
    DNN(dnnl_memory_desc_init_by_tag(m->h, rank, dims, t, tag));
}
static void md_init_strides(DnnMd *m, int rank, const dnnl_dims_t dims, const dnnl_dims_t strides) {
    DNN(dnnl_memory_desc_init_by_strides(m->h, rank, dims, dnnl_f32, strides));
}
static dnnl_status_t matmul_pd(const PdContext *c, DnnMd *a, DnnMd *b, DnnMd *dst,
                               dnnl_primitive_desc_t *pd) {
    dnnl_matmul_desc_t d;
    DNN(dnnl_matmul_desc_init(&d, a->h, b->h, NULL, dst->h));
    return dnnl_primitive_desc_create(pd, &d, c->attr, c->engine, NULL);
}
static void md_copy(DnnMd *m, const dnnl_memory_desc_t *from) { *m->h = *from; }
static void md_free(DnnMd *m) { (void)m; }
static int md_query(const DnnMd *m, const int64_t **dims, dnnl_data_type_t *t) {
    return *dims = m->h->dims, *t = m->h->data_type, m->h->ndims;
}
static void append_sum(dnnl_post_ops_t ops, float scale, dnnl_data_type_t t) {
    DNN(dnnl_post_ops_append_sum_v2(ops, scale, t));
}
/* Scales are part of the primitive; a bias comes before them. */
static void set_scales(dnnl_primitive_attr_t attr, const Scales *s) {
    DNN(dnnl_primitive_attr_set_output_scales(attr, s->n, s->n == 1 ? 0 : 2, s->v));
}
static int scales_arg(const Scales *s) { return (void)s, 0; }
float dnn_scaled_bias(float bias, float scale) { return bias / scale; }
static void append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t alg, float a, float b) {
    DNN(dnnl_post_ops_append_eltwise(ops, 1.0f, alg, a, b));
}
static dnnl_status_t forward_pd(const PdContext *c, ConvMds *m, dnnl_primitive_desc_t *pd) {
    dnnl_convolution_desc_t d;
    DNN(dnnl_dilated_convolution_forward_desc_init(
        &d, c->prop, dnnl_convolution_direct, m->src->h, m->weights->h, m->bias ? m->bias->h : NULL,
        m->dst->h, m->stride, m->dilation, m->pad, m->pad_end));
    return dnnl_primitive_desc_create(pd, &d, c->attr, c->engine, NULL);
}
static dnnl_status_t data_pd(const PdContext *c, ConvMds *m, dnnl_primitive_desc_t *pd) {
    dnnl_convolution_desc_t d;
    DNN(dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, m->src->h,
                                                         m->weights->h, m->dst->h, m->stride,
                                                         m->dilation, m->pad, m->pad_end));
    return dnnl_primitive_desc_create(pd, &d, c->attr, c->engine, c->hint);
}
static dnnl_status_t weights_pd(const PdContext *c, ConvMds *m, dnnl_primitive_desc_t *pd) {
    dnnl_convolution_desc_t d;
    DNN(dnnl_dilated_convolution_backward_weights_desc_init(
        &d, dnnl_convolution_direct, m->src->h, m->weights->h, m->bias ? m->bias->h : NULL,
        m->dst->h, m->stride, m->dilation, m->pad, m->pad_end));
    return dnnl_primitive_desc_create(pd, &d, c->attr, c->engine, c->hint);
}
#endif

/* ---- one state per plan ---------------------------------------------------------------------------- */

struct DnnPrim {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
    dnnl_exec_arg_t args[DNN_ARG_COUNT + 1];
    int   n_args, of[DNN_ARG_COUNT];         /* which DnnArg each one is */
    int   n_fixed;                           /* args behind them whose memory is the primitive's own */
    void *last[DNN_ARG_COUNT];
    DnnMd *md[DNN_ARG_COUNT];
    dnnl_stream_t stream;
    DnnPrim *next;
};
typedef struct CpuState {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    DnnMd   *mds;
    DnnPrim *prims;
} CpuState;

static CpuState *state(Plan *p) {
    if (p->cpu) return p->cpu;
    p->cpu = arena_alloc(p->arena, sizeof *p->cpu);
    DNN(dnnl_engine_create(&p->cpu->engine, dnnl_cpu, 0));
    DNN(dnnl_stream_create(&p->cpu->stream, p->cpu->engine, dnnl_stream_default_flags));
    return p->cpu;
}

void cpu_close(Plan *p) {
    if (!p->cpu) return;
    for (DnnPrim *m = p->cpu->prims; m; m = m->next) {
        for (int i = 0; i < m->n_args + m->n_fixed; i++) dnnl_memory_destroy(m->args[i].memory);
        dnnl_primitive_destroy(m->prim);
        dnnl_primitive_desc_destroy(m->pd);
    }
    for (DnnMd *m = p->cpu->mds; m; m = m->next) md_free(m);
    dnnl_stream_destroy(p->cpu->stream);
    dnnl_engine_destroy(p->cpu->engine);
}

/* ---- memory descriptions -------------------------------------------------------------------------- */

static DnnMd *new_md(Plan *p) {
    CpuState *s = state(p);
    DnnMd *m = arena_alloc(p->arena, sizeof *m);
    m->next = s->mds, s->mds = m;
    return m;
}

static dnnl_data_type_t data_type(Dtype t) {
    switch (t) {
    case DT_BF16: return dnnl_bf16;
    case DT_U8: return dnnl_u8;
    case DT_I8: return dnnl_s8;
    case DT_I32: return dnnl_s32;
    default: return dnnl_f32;
    }
}

static DnnMd *md_by_tag(Plan *p, int rank, const int64_t *sizes, Dtype t, dnnl_format_tag_t tag) {
    DnnMd *m = new_md(p);
    dnnl_dims_t dims = {0};
    memcpy(dims, sizes, (size_t)rank * sizeof *sizes);
    md_init(m, rank, dims, data_type(t), tag);
    return m;
}

DnnMd *dnn_md_activation(Plan *p, Shape s, Dtype t, int layout) {
    static const dnnl_format_tag_t tag[] = {dnnl_nchw, dnnl_nhwc, dnnl_nChw8c, dnnl_nChw16c};
    return md_by_tag(p, 4, s.d, t, layout < 0 ? dnnl_format_tag_any : tag[layout]);
}

DnnMd *dnn_md_weights(Plan *p, Shape s, int groups, Dtype t, bool any) {
    if (groups <= 1) return md_by_tag(p, 4, s.d, t, any ? dnnl_format_tag_any : dnnl_oihw);
    int64_t d[5] = {groups, s.d[0] / groups, s.d[1], s.d[2], s.d[3]};
    return md_by_tag(p, 5, d, t, any ? dnnl_format_tag_any : dnnl_goihw);
}

DnnMd *dnn_md_vector(Plan *p, int64_t n) { return md_by_tag(p, 1, &n, DT_F32, dnnl_a); }
size_t dnn_md_bytes(const DnnMd *m) { return dnnl_memory_desc_get_size(m->h); }
bool dnn_md_equal(const DnnMd *a, const DnnMd *b) { return dnnl_memory_desc_equal(a->h, b->h); }

bool dnn_md_layout(const DnnMd *m, Layout *out) {
    static const dnnl_format_tag_t tag[] = {dnnl_nchw, dnnl_nhwc, dnnl_nChw8c, dnnl_nChw16c};
    const int64_t *dims;
    dnnl_data_type_t type;
    if (md_query(m, &dims, &type) != 4) return false;
    for (int l = LAYOUT_C16; l >= LAYOUT_PLAIN; l--) {
        DnnMd other;
        md_init(&other, 4, dims, type, tag[l]);
        bool same = dnn_md_equal(m, &other);
        md_free(&other);
        if (same) return *out = (Layout)l, true;
    }
    return false;
}

static DnnMd *md_of_query(Plan *p, dnnl_primitive_desc_t pd, dnnl_query_t what) {
    DnnMd *m = new_md(p);
    md_copy(m, dnnl_primitive_desc_query_md(pd, what, 0));
    return m;
}

/* ---- primitives ------------------------------------------------------------------------------------ */

static void add_arg(Plan *p, DnnPrim *m, DnnArg arg, int id, dnnl_query_t what) {
    m->md[arg] = md_of_query(p, m->pd, what);
    if (dnn_md_bytes(m->md[arg]) == 0) return;
    int i = m->n_args++;
    m->of[i] = arg;
    m->args[i].arg = id;
    DNN(dnnl_memory_create(&m->args[i].memory, m->md[arg]->h, p->cpu->engine, DNNL_MEMORY_NONE));
}

static DnnPrim *new_prim(Plan *p, dnnl_primitive_desc_t pd) {
    CpuState *s = state(p);
    DnnPrim *m = arena_alloc(p->arena, sizeof *m);
    m->pd = pd, m->stream = s->stream;
    DNN(dnnl_primitive_create(&m->prim, pd));
    m->next = s->prims, s->prims = m;
    add_arg(p, m, DNN_SCRATCH, DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md);
    return m;
}

/* After all other arguments. */
static void add_scales(Plan *p, DnnPrim *m, const Scales *s) {
    if (!s->v || !scales_arg(s)) return;
    float *own = arena_alloc(p->arena, (size_t)s->n * sizeof *own);
    memcpy(own, s->v, (size_t)s->n * sizeof *own);
    m->args[m->n_args].arg = scales_arg(s);
    DNN(dnnl_memory_create(&m->args[m->n_args].memory, dnn_md_vector(p, s->n)->h, p->cpu->engine,
                           own));
    m->n_fixed = 1;
}

typedef struct {
    bool sum;
    float sum_scale, six;
    dnnl_data_type_t sum_t;
    Act act;
    Scales scales;
} Attributes;
static dnnl_primitive_attr_t attributes(const Attributes *a) {
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    DNN(dnnl_primitive_attr_create(&attr));
    DNN(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
    DNN(dnnl_post_ops_create(&ops));
    if (a->sum) append_sum(ops, a->sum_scale, a->sum_t);
    if (a->act == ACT_RELU) append_eltwise(ops, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (a->act == ACT_RELU6) append_eltwise(ops, dnnl_eltwise_clip, 0.0f, a->six);
    if (a->scales.v) set_scales(attr, &a->scales);
    DNN(dnnl_primitive_attr_set_post_ops(attr, ops));
    DNN(dnnl_post_ops_destroy(ops));
    return attr;
}

static ConvMds conv_mds(Plan *p, const DnnConv *c) {
    Dtype weights = c->pass == DNN_BACKWARD_WEIGHTS ? DT_F32 : c->t == DT_U8 ? DT_I8 : c->t;
    return (ConvMds){dnn_md_activation(p, c->src, c->t, c->src_layout),
                     dnn_md_weights(p, c->weights, c->groups, weights, true),
                     c->bias ? dnn_md_vector(p, c->weights.d[0]) : NULL,
                     dnn_md_activation(p, c->dst, c->dst_t, c->dst_layout),
                     {c->stride, c->stride},
                     {c->pad[0], c->pad[1]},
                     {c->pad_end[0], c->pad_end[1]},
                     {c->dilation - 1, c->dilation - 1}};
}

/* A backward pass is described beside the forward pass it belongs to (the hint, thrown away here). */
static dnnl_status_t conv_pd(Plan *p, const DnnConv *c, dnnl_primitive_attr_t attr,
                             dnnl_primitive_desc_t *pd) {
    ConvMds m = conv_mds(p, c);
    PdContext at = {p->cpu->engine, c->inference ? dnnl_forward_inference : dnnl_forward_training,
                    attr, NULL};
    if (c->pass == DNN_FORWARD) return forward_pd(&at, &m, pd);
    DnnConv forward = *c;
    forward.pass = DNN_FORWARD;
    ConvMds fm = conv_mds(p, &forward);
    at.prop = dnnl_forward_training;
    dnnl_status_t status = forward_pd(&at, &fm, &at.hint);
    if (status) return status;
    status = c->pass == DNN_BACKWARD_DATA ? data_pd(&at, &m, pd) : weights_pd(&at, &m, pd);
    dnnl_primitive_desc_destroy(at.hint);
    return status;
}

Err dnn_conv(Plan *p, const DnnConv *c, DnnPrim **out) {
    state(p);
    dnnl_primitive_desc_t pd;
    const Attributes a = {.sum = c->residual,
                          .sum_scale = c->scales ? c->residual_scale : 1,
                          .act = c->act,
                          .six = c->scales ? c->six : 6,
                          .sum_t = c->scales ? data_type(c->residual_t) : dnnl_data_type_undef,
                          .scales = {c->scales, c->weights.d[0], c->groups, DNNL_ARG_WEIGHTS}};
    dnnl_primitive_attr_t attr = attributes(&a);
    dnnl_status_t status = conv_pd(p, c, attr, &pd);
    dnnl_primitive_attr_destroy(attr);
    if (status)
        return err_set(E(EXIT_BUG, 0),
                       "oneDNN refuses a convolution of %s by %s (status %d); report this",
                       shape_text(c->src).s, shape_text(c->weights).s, (int)status);
    DnnPrim *m = new_prim(p, pd);
    bool fwd = c->pass == DNN_FORWARD, data = c->pass == DNN_BACKWARD_DATA;
    add_arg(p, m, DNN_SRC, data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC,
            data ? dnnl_query_diff_src_md : dnnl_query_src_md);
    add_arg(p, m, DNN_DST, fwd ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST,
            fwd ? dnnl_query_dst_md : dnnl_query_diff_dst_md);
    bool dw = c->pass == DNN_BACKWARD_WEIGHTS;
    add_arg(p, m, DNN_WEIGHTS, dw ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS,
            dw ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    if (c->bias && !data) {
        m->md[DNN_BIAS] = dnn_md_vector(p, c->weights.d[0]);
        int i = m->n_args++;
        m->of[i] = DNN_BIAS, m->args[i].arg = dw ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS;
        DNN(dnnl_memory_create(&m->args[i].memory, m->md[DNN_BIAS]->h, p->cpu->engine,
                               DNNL_MEMORY_NONE));
    }
    add_scales(p, m, &a.scales);
    return *out = m, OK;
}

/* A plain matrix; turned: its last two dimensions are given in the other order than they lie. */
static DnnMd *md_matrix(Plan *p, Shape s, bool turned) {
    DnnMd *m = new_md(p);
    dnnl_dims_t dims = {0}, strides = {0};
    int64_t step = 1;
    for (int i = s.rank - 1; i >= 0; i--) dims[i] = s.d[i], strides[i] = step, step *= s.d[i];
    const int a = s.rank - 2, b = s.rank - 1;
    if (turned) dims[a] = s.d[b], dims[b] = s.d[a], strides[a] = 1, strides[b] = s.d[b];
    md_init_strides(m, s.rank, dims, strides);
    return m;
}
Err dnn_matmul(Plan *p, const DnnMatmul *m, DnnPrim **out) {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_attr_t attr = attributes(&(Attributes){0});
    const PdContext at = {state(p)->engine, dnnl_forward_inference, attr, NULL};
    dnnl_status_t status =
        matmul_pd(&at, md_matrix(p, m->a, m->trans_a), md_matrix(p, m->b, m->trans_b),
                  md_matrix(p, m->dst, false), &pd);
    dnnl_primitive_attr_destroy(attr);
    if (status)
        return err_set(E(EXIT_BUG, 0),
                       "oneDNN refuses a product of %s and %s (status %d); report this",
                       shape_text(m->a).s, shape_text(m->b).s, (int)status);
    *out = new_prim(p, pd);
    add_arg(p, *out, DNN_SRC, DNNL_ARG_SRC, dnnl_query_src_md);
    add_arg(p, *out, DNN_WEIGHTS, DNNL_ARG_WEIGHTS, dnnl_query_weights_md);
    add_arg(p, *out, DNN_DST, DNNL_ARG_DST, dnnl_query_dst_md);
    return OK;
}

static DnnPrim *make_reorder(Plan *p, const DnnMd *from, const DnnMd *to, const Attributes *a) {
    CpuState *s = state(p);
    dnnl_primitive_desc_t pd;
    dnnl_primitive_attr_t attr = attributes(a);
    DNN(dnnl_reorder_primitive_desc_create(&pd, from->h, s->engine, to->h, s->engine, attr));
    dnnl_primitive_attr_destroy(attr);
    DnnPrim *m = new_prim(p, pd);
    add_arg(p, m, DNN_SRC, DNNL_ARG_FROM, dnnl_query_src_md);
    add_arg(p, m, DNN_DST, DNNL_ARG_TO, dnnl_query_dst_md);
    add_scales(p, m, &a->scales);
    return m;
}
DnnPrim *dnn_reorder(Plan *p, const DnnMd *from, const DnnMd *to, bool add) {
    return make_reorder(p, from, to, &(Attributes){.sum = add, .sum_scale = 1});
}
DnnPrim *dnn_rescale(Plan *p, const DnnMd *from, const DnnMd *to, float factor) {
    return make_reorder(
        p, from, to, &(Attributes){.scales = {factor == 1 ? NULL : &factor, 1, 1, DNNL_ARG_FROM}});
}

const DnnMd *dnn_prim_md(const DnnPrim *m, DnnArg arg) { return m->md[arg]; }
size_t dnn_prim_scratch(const DnnPrim *m) {
    return m->md[DNN_SCRATCH] ? dnn_md_bytes(m->md[DNN_SCRATCH]) : 0;
}

const char *dnn_prim_impl(const DnnPrim *m) {
    const char *text = "";
    dnnl_primitive_desc_query(m->pd, dnnl_query_impl_info_str, 0, (void *)&text);
    return text;
}

void dnn_run(DnnPrim *m, void *const ptr[DNN_ARG_COUNT]) {
    for (int i = 0; i < m->n_args; i++) {
        void *want = ptr[m->of[i]];
        if (m->last[i] == want) continue;
        DNN(dnnl_memory_set_data_handle(m->args[i].memory, want));
        m->last[i] = want;
    }
    DNN(dnnl_primitive_execute(m->prim, m->stream, m->n_args + m->n_fixed, m->args));
    DNN(dnnl_stream_wait(m->stream));
}

const char *backend_version(void) {
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* The enumerators are sets of bits; a level holds the bits of those it includes. */
const char *backend_isa(void) {
    static const struct { int bits; const char *name;
    } levels[] = {{dnnl_cpu_isa_avx512_core_bf16, "avx512_bf16"},
                  {dnnl_cpu_isa_avx512_core_vnni, "avx512_vnni"},
                  {dnnl_cpu_isa_avx512_core, "avx512"},
                  {dnnl_cpu_isa_avx2, "avx2"},
                  {dnnl_cpu_isa_avx, "avx"}};
    const int isa = (int)dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if ((isa & levels[i].bits) == levels[i].bits) return levels[i].name;
    return "sse4.1";
}

static bool cpu_isa(int bits) { return ((int)dnnl_get_effective_cpu_isa() & bits) == bits; }
/* Without dot products of bytes oneDNN rounds sums of two to 16 bits. */
static bool has_int8(void) {
    return cpu_isa(dnnl_cpu_isa_avx512_core_vnni) || cpu_isa(dnnl_cpu_isa_avx2_vnni);
}
bool backend_has(Dtype t) {
    return t == DT_F32 || (t == DT_BF16 && cpu_isa(dnnl_cpu_isa_avx512_core)) ||
           (t == DT_I8 && has_int8());
}
bool backend_fast(Dtype t) {
    return t == DT_F32 || (t == DT_BF16 && cpu_isa(dnnl_cpu_isa_avx512_core_bf16));
}

void plan_library(char *out, size_t bytes) {
    snprintf(out, bytes, "oneDNN %s %s", backend_version(), backend_isa());
}
