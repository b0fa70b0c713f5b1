/* dnn.c - oneDNN 2.6 and 3.x behind one set of functions (dnn.h).
 *
 * The two differ in three things, each in one place below: memory descriptions (a struct, then a
 * handle), how a convolution is described (an op descriptor, then one call), and post-op arguments. */
#include "backend/cpu/dnn.h"

#include <stdio.h>
#include <string.h>

#include "dnnl.h"

struct DnnMd {
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_t h;
#else
    dnnl_memory_desc_t h[1];                 /* so that both versions pass `m->h` */
#endif
    DnnMd *next;
};
struct DnnPrim {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
    dnnl_exec_arg_t args[DNN_ARG_COUNT];
    int   n_args, of[DNN_ARG_COUNT];         /* which DnnArg each one is */
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

/* A status here is a bug of ours or of the library: the shapes were checked by the op. */
#define DNN(call) CHECK((call) == dnnl_success)

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
        for (int i = 0; i < m->n_args; i++) dnnl_memory_destroy(m->args[i].memory);
        dnnl_primitive_destroy(m->prim);
        dnnl_primitive_desc_destroy(m->pd);
    }
#if DNNL_VERSION_MAJOR >= 3
    for (DnnMd *m = p->cpu->mds; m; m = m->next) dnnl_memory_desc_destroy(m->h);
#endif
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
#if DNNL_VERSION_MAJOR >= 3
    DNN(dnnl_memory_desc_create_with_tag(&m->h, rank, dims, data_type(t), tag));
#else
    DNN(dnnl_memory_desc_init_by_tag(m->h, rank, dims, data_type(t), tag));
#endif
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

typedef struct { dnnl_dims_t d; } MdDims;
static MdDims md_dims(const DnnMd *m, Dtype *t) {
    MdDims s = {{0}};
    int ndims = 0;
    dnnl_data_type_t type;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_dims_t *dims;
    dnnl_memory_desc_query(m->h, dnnl_query_ndims_s32, &ndims);
    dnnl_memory_desc_query(m->h, dnnl_query_dims, &dims);
    dnnl_memory_desc_query(m->h, dnnl_query_data_type, &type);
    const int64_t *d = *dims;
#else
    ndims = m->h->ndims, type = m->h->data_type;
    const int64_t *d = m->h->dims;
#endif
    for (int i = 0; i < ndims && i < 4; i++) s.d[i] = d[i];
    *t = type == dnnl_bf16 ? DT_BF16 : type == dnnl_u8 ? DT_U8 : type == dnnl_s8 ? DT_I8 : DT_F32;
    return s;
}

bool dnn_md_layout(const DnnMd *m, Layout *out) {
    static const dnnl_format_tag_t tag[] = {dnnl_nchw, dnnl_nhwc, dnnl_nChw8c, dnnl_nChw16c};
    Dtype t;
    MdDims s = md_dims(m, &t);
    for (int l = LAYOUT_C16; l >= LAYOUT_PLAIN; l--) {
#if DNNL_VERSION_MAJOR >= 3
        dnnl_memory_desc_t other;
        DNN(dnnl_memory_desc_create_with_tag(&other, 4, s.d, data_type(t), tag[l]));
        bool same = dnnl_memory_desc_equal(m->h, other);
        dnnl_memory_desc_destroy(other);
#else
        dnnl_memory_desc_t other;
        DNN(dnnl_memory_desc_init_by_tag(&other, 4, s.d, data_type(t), tag[l]));
        bool same = dnnl_memory_desc_equal(m->h, &other);
#endif
        if (same) return *out = (Layout)l, true;
    }
    return false;
}

static DnnMd *md_of_query(Plan *p, dnnl_primitive_desc_t pd, dnnl_query_t what) {
    DnnMd *m = new_md(p);
#if DNNL_VERSION_MAJOR >= 3
    DNN(dnnl_memory_desc_clone(&m->h, dnnl_primitive_desc_query_md(pd, what, 0)));
#else
    *m->h = *dnnl_primitive_desc_query_md(pd, what, 0);
#endif
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

static void append_sum(dnnl_post_ops_t ops) {
#if DNNL_VERSION_MAJOR >= 3
    DNN(dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef));
#else
    DNN(dnnl_post_ops_append_sum(ops, 1.0f));
#endif
}

static void append_act(dnnl_post_ops_t ops, Act act) {
    dnnl_alg_kind_t alg = act == ACT_RELU6 ? dnnl_eltwise_clip : dnnl_eltwise_relu;
#if DNNL_VERSION_MAJOR >= 3
    DNN(dnnl_post_ops_append_eltwise(ops, alg, 0.0f, act == ACT_RELU6 ? 6.0f : 0.0f));
#else
    DNN(dnnl_post_ops_append_eltwise(ops, 1.0f, alg, 0.0f, act == ACT_RELU6 ? 6.0f : 0.0f));
#endif
}

static dnnl_primitive_attr_t attributes(bool sum, Act act) {
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    DNN(dnnl_primitive_attr_create(&attr));
    DNN(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
    DNN(dnnl_post_ops_create(&ops));
    if (sum) append_sum(ops);
    if (act) append_act(ops, act);
    DNN(dnnl_primitive_attr_set_post_ops(attr, ops));
    DNN(dnnl_post_ops_destroy(ops));
    return attr;
}

typedef struct { DnnMd *src, *weights, *bias, *dst; dnnl_dims_t stride, pad, pad_end, dilation; } ConvMds;

static ConvMds conv_mds(Plan *p, const DnnConv *c) {
    return (ConvMds){dnn_md_activation(p, c->src, DT_F32, c->src_layout), dnn_md_weights(p, c->weights, c->groups, DT_F32, true),
                     c->bias ? dnn_md_vector(p, c->weights.d[0]) : NULL, dnn_md_activation(p, c->dst, DT_F32, c->dst_layout),
                     {c->stride, c->stride}, {c->pad[0], c->pad[1]}, {c->pad_end[0], c->pad_end[1]}, {c->dilation - 1, c->dilation - 1}};
}

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t forward_pd(Plan *p, const DnnConv *c, ConvMds *m, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd) {
    return dnnl_convolution_forward_primitive_desc_create(pd, p->cpu->engine,
        c->inference ? dnnl_forward_inference : dnnl_forward_training, dnnl_convolution_direct, m->src->h, m->weights->h,
        m->bias ? m->bias->h : NULL, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end, attr);
}
static dnnl_status_t data_pd(Plan *p, ConvMds *m, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd) {
    return dnnl_convolution_backward_data_primitive_desc_create(pd, p->cpu->engine, dnnl_convolution_direct, m->src->h,
        m->weights->h, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end, hint, attr);
}
static dnnl_status_t weights_pd(Plan *p, ConvMds *m, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd) {
    return dnnl_convolution_backward_weights_primitive_desc_create(pd, p->cpu->engine, dnnl_convolution_direct, m->src->h,
        m->weights->h, m->bias ? m->bias->h : NULL, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end, hint, attr);
}
#else
static dnnl_status_t forward_pd(Plan *p, const DnnConv *c, ConvMds *m, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd) {
    dnnl_convolution_desc_t d;
    DNN(dnnl_dilated_convolution_forward_desc_init(&d, c->inference ? dnnl_forward_inference : dnnl_forward_training,
        dnnl_convolution_direct, m->src->h, m->weights->h, m->bias ? m->bias->h : NULL, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end));
    return dnnl_primitive_desc_create(pd, &d, attr, p->cpu->engine, NULL);
}
static dnnl_status_t data_pd(Plan *p, ConvMds *m, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd) {
    dnnl_convolution_desc_t d;
    DNN(dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, m->src->h, m->weights->h, m->dst->h,
        m->stride, m->dilation, m->pad, m->pad_end));
    return dnnl_primitive_desc_create(pd, &d, attr, p->cpu->engine, hint);
}
static dnnl_status_t weights_pd(Plan *p, ConvMds *m, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd) {
    dnnl_convolution_desc_t d;
    DNN(dnnl_dilated_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, m->src->h, m->weights->h,
        m->bias ? m->bias->h : NULL, m->dst->h, m->stride, m->dilation, m->pad, m->pad_end));
    return dnnl_primitive_desc_create(pd, &d, attr, p->cpu->engine, hint);
}
#endif

/* A backward pass is described beside the forward pass it belongs to (the hint, thrown away here). */
static dnnl_status_t conv_pd(Plan *p, const DnnConv *c, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd) {
    ConvMds m = conv_mds(p, c);
    if (c->pass == DNN_FORWARD) return forward_pd(p, c, &m, attr, pd);
    DnnConv f = *c;
    f.pass = DNN_FORWARD, f.inference = false, f.act = ACT_NONE, f.residual = false;
    dnnl_primitive_desc_t hint;
    ConvMds fm = conv_mds(p, &f);
    dnnl_status_t status = forward_pd(p, &f, &fm, attr, &hint);
    if (status) return status;
    status = c->pass == DNN_BACKWARD_DATA ? data_pd(p, &m, attr, hint, pd) : weights_pd(p, &m, attr, hint, pd);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

Err dnn_conv(Plan *p, const DnnConv *c, DnnPrim **out) {
    state(p);
    dnnl_primitive_desc_t pd;
    dnnl_primitive_attr_t attr = attributes(c->residual, c->act);
    dnnl_status_t status = conv_pd(p, c, attr, &pd);
    dnnl_primitive_attr_destroy(attr);
    if (status)
        return err_set(E(EXIT_BUG, 0), "oneDNN refuses a convolution of %s by %s (status %d); report this",
                       shape_text(c->src).s, shape_text(c->weights).s, (int)status);
    DnnPrim *m = new_prim(p, pd);
    bool fwd = c->pass == DNN_FORWARD, data = c->pass == DNN_BACKWARD_DATA;
    add_arg(p, m, DNN_SRC, data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, data ? dnnl_query_diff_src_md : dnnl_query_src_md);
    add_arg(p, m, DNN_DST, fwd ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, fwd ? dnnl_query_dst_md : dnnl_query_diff_dst_md);
    bool dw = c->pass == DNN_BACKWARD_WEIGHTS;
    add_arg(p, m, DNN_WEIGHTS, dw ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, dw ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    if (c->bias && !data) {
        m->md[DNN_BIAS] = dnn_md_vector(p, c->weights.d[0]);
        int i = m->n_args++;
        m->of[i] = DNN_BIAS, m->args[i].arg = dw ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS;
        DNN(dnnl_memory_create(&m->args[i].memory, m->md[DNN_BIAS]->h, p->cpu->engine, DNNL_MEMORY_NONE));
    }
    return *out = m, OK;
}

DnnPrim *dnn_reorder(Plan *p, const DnnMd *from, const DnnMd *to, bool add) {
    CpuState *s = state(p);
    dnnl_primitive_desc_t pd;
    dnnl_primitive_attr_t attr = attributes(add, ACT_NONE);
    DNN(dnnl_reorder_primitive_desc_create(&pd, from->h, s->engine, to->h, s->engine, attr));
    dnnl_primitive_attr_destroy(attr);
    DnnPrim *m = new_prim(p, pd);
    add_arg(p, m, DNN_SRC, DNNL_ARG_FROM, dnnl_query_src_md);
    add_arg(p, m, DNN_DST, DNNL_ARG_TO, dnnl_query_dst_md);
    return m;
}

const DnnMd *dnn_prim_md(const DnnPrim *m, DnnArg arg) { return m->md[arg]; }
size_t dnn_prim_scratch(const DnnPrim *m) { return m->md[DNN_SCRATCH] ? dnn_md_bytes(m->md[DNN_SCRATCH]) : 0; }

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
    DNN(dnnl_primitive_execute(m->prim, m->stream, m->n_args, m->args));
    DNN(dnnl_stream_wait(m->stream));
}

const char *dnn_version(void) {
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

void dnn_isa(char *out, size_t bytes) {
    int isa = (int)dnnl_get_effective_cpu_isa();
    bool bf16 = (isa & 0x80) != 0, vnni = (isa & 0x40) != 0, avx512 = (isa & 0x20) != 0;
    snprintf(out, bytes, "%s", bf16 ? "avx512_bf16" : vnni ? "avx512_vnni" : avx512 ? "avx512" : isa > 3 ? "avx2" : "sse4.1");
}

void plan_library(char *out, size_t bytes) {
    char isa[32];
    dnn_isa(isa, sizeof isa);
    snprintf(out, bytes, "oneDNN %s %s", dnn_version(), isa);
}
