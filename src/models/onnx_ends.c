/* onnx_ends.c - what enters and what leaves the graph of a file: the image and its normalisation; logits.
 *
 * Networks are shipped with more around them than a student learns from: pixels as bytes and channels last,
 * the normalisation, a softmax, an argmax, a resize behind one of them. What does not change the logits is
 * left out; probabilities that were resized become logits again by their logarithm; of a class map what its
 * argmax reads is taken, however the map was resized. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "models/onnx_priv.h"
#include "models/parts.h"

static Err bad(const OnnxModel *m, const char *what, const char *name, const char *why) {
    return err_set(E(EXIT_MODEL, 60), "%s: %s %s %s", m->name, what, name, why);
}
static bool is_one_of(const OnnxNode *n, const char *const *ops) {
    for (; *ops; ops++)
        if (!*n->domain && !strcmp(n->op, *ops)) return true;
    return false;
}
static const OnnxNode *maker(const OnnxModel *m, int v) {
    return m->value[v].node >= 0 ? &m->node[m->value[v].node] : NULL;
}

/* ---- the image: its layout ------------------------------------------------------------------------------ */

typedef struct { const OnnxValue *v; bool last; int64_t batch, h, w; } Input;      /* sizes -1: free; last: N x H x W x 3 */

static Err check_input(const OnnxModel *m, Input *out) {
    if (m->n_input != 1)
        return err_set(E(EXIT_MODEL, 60), "%s: %d inputs; export a network of one image", m->name,
                       m->n_input);
    const OnnxValue *v = &m->value[m->input[0]];
    const bool real = v->typed && (v->dtype == DT_F32 || v->dtype == DT_F16 ||
                                   v->dtype == DT_BF16 || v->dtype == DT_F64);
    const bool four = v->shape.rank == 4,
               first = four && (v->shape.d[1] == 3 || v->shape.d[1] == -1),
               last = four && v->shape.d[3] == 3 && v->shape.d[1] != 3;
    if ((!real && !(v->typed && v->dtype == DT_U8)) || (!first && !last))
        return bad(m, "input", v->name,
                   "is no N x 3 x H x W image of floats or bytes; export the network with one");
    *out = (Input){v, last, v->shape.d[0], v->shape.d[last ? 1 : 2], v->shape.d[last ? 2 : 3]};
    return OK;
}

/* ---- the image: its normalisation ------------------------------------------------------------------------ */

/* A constant of one number, or one per channel. */
static const Tensor *small_constant(const OnnxModel *m, int v) {
    const OnnxNode *n = maker(m, v);
    const OnnxAttr *a = n && !strcmp(n->op, "Constant") ? onnx_attr(n, "value") : NULL;
    const Tensor *t = a && a->kind == ONNX_TENSOR ? a->tensor : m->value[v].tensor;
    return t && t->dtype == DT_F32 && (shape_count(t->shape) == 1 || shape_count(t->shape) == 3)
               ? t
               : NULL;
}
/* The only node that reads v, or NULL. */
static const OnnxNode *only_reader(const OnnxModel *m, int v) {
    const OnnxNode *found = NULL;
    for (int i = 0; i < m->n_node; i++)
        for (int k = 0; k < m->node[i].n_in; k++) {
            if (m->node[i].in[k] != v) continue;
            if (found) return NULL;
            found = &m->node[i];
        }
    return found;
}
/* Is this the arithmetic of pixels in 0..255? Large means, a division by 255, a product with 1 / 255. */
static bool is_of_bytes(const OnnxNode *n, const Tensor *t) {
    float most = 0;
    for (int64_t i = 0; i < shape_count(t->shape); i++) {
        const float c = ((const float *)t->data)[i];
        if (c > most || -c > most) most = c < 0 ? -c : c;
    }
    return !strcmp(n->op, "Mul") ? most < 0.1f : most > (strcmp(n->op, "Div") ? 2.0f : 10.0f);
}
/* The arithmetic with constants that the file does before anything else: *node, the first of it; NULL: none. */
static const char *own_norm(const OnnxModel *m, const OnnxNode **node) {
    static const char *const PASS[] = {"Cast", "Identity", "Transpose", NULL}, *const SUMS[] = {
                                                                                   "Add", "Sub",
                                                                                   "Mul", "Div",
                                                                                   NULL};
    enum { STEPS_MAX = 16 };
    *node = NULL;
    for (int v = m->input[0], step = 0; step < STEPS_MAX; step++) {
        const OnnxNode *n = only_reader(m, v);
        const bool sum = n && is_one_of(n, SUMS) && n->n_in == 2;
        const Tensor *t = sum ? small_constant(m, n->in[n->in[0] == v]) : NULL;
        if (t) {
            *node = n;
            return is_of_bytes(n, t) ? "rgb-raw" : "rgb-unit";
        }
        if (!n || !is_one_of(n, PASS) || !n->n_out || !n->out[0]) return NULL;
        v = n->out[0];
    }
    return NULL;
}
static const NormDef *choose_norm(const OnnxModel *m, const Input *in, const char *asked,
                                  bool quiet) {
    const OnnxNode *node;
    const char *own = own_norm(m, &node);
    if (!own && in->v->dtype == DT_U8) own = "rgb-raw";
    if (!asked) return norm_find(own ? own : "rgb-imagenet");
    const bool left =
        !strcmp(asked, "none") || !strcmp(asked, "rgb-raw") || !strcmp(asked, "rgb-unit");
    if (own && !left && !quiet)
        log_warn("%s normalises its input itself%s%s; norm=%s comes on top, norm=%s would not",
                 m->name, node ? ", in node " : "", node ? node->name : "", asked, own);
    return norm_find(asked);
}

Err onnx_add_image(OnnxBuild *b, const ModelOptions *o, int h, int w, ModelNodes *out) {
    Input in = {0};
    TRY(check_input(b->m, &in));
    const int64_t to_h = in.h > 0 ? in.h : h, to_w = in.w > 0 ? in.w : w;
    if (in.batch > 1 && in.batch != b->batch)
        return bad(b->m, "input", in.v->name,
                   "is fixed to another batch; export with a free batch dimension");
    if (to_h > UINT16_MAX || to_w > UINT16_MAX)
        return bad(b->m, "input", in.v->name, "has sides above 65535; export with smaller ones");
    if (o->exact_size && (to_h != h || to_w != w))
        return err_set(E(EXIT_USAGE, 76),
                       "%s takes images of %" PRId64 "x%" PRId64
                       ", not %dx%d; give data.crop=%" PRId64 "x%" PRId64
                       " or teacher.input=resize",
                       b->m->name, to_h, to_w, h, w, to_h, to_w);
    b->fixed_batch = in.batch == 1 && b->batch != 1;
    Node x =
        model_image_input(b->net, choose_norm(b->m, &in, o->norm, b->again), b->batch, h, w, out);
    if (in.h > 0 || in.w > 0) {
        const ResizeAttr a = {.out_h = (int)to_h, .out_w = (int)to_w};
        x = net_add(b->net, &op_resize, "fit", &a, sizeof a, &x, 1, NULL, 0);
    }
    const TransposeAttr last = {{0, 2, 3, 1}};
    if (in.last)
        x = net_add(b->net, &op_transpose, "channels_last", &last, sizeof last, &x, 1, NULL, 0);
    b->slot[b->m->input[0]].node = x;
    net_alias(b->net, x, in.v->name);
    return OK;
}

/* ---- outputs ----------------------------------------------------------------------------------------------- */

int onnx_find_value(const OnnxModel *m, const char *name) {
    for (int i = 1; i < m->n_value; i++)
        if (!strcmp(m->value[i].name, name)) return i;
    return 0;
}
int onnx_before(const OnnxModel *m, int v, const char *const *ops) {
    const OnnxNode *n;
    while ((n = maker(m, v)) && is_one_of(n, ops) && n->n_in && n->in[0]) v = n->in[0];
    return v;
}
static bool is_made_by(const OnnxModel *m, int v, const char *op) {
    const OnnxNode *n = maker(m, v);
    return n && is_one_of(n, (const char *const[]){op, NULL}) && n->n_in && n->in[0];
}
/* The same, and through a turn to N x H x W x C. */
static int before_turned(const OnnxModel *m, int v, const char *const *ops) {
    static const int64_t LAST[] = {0, 2, 3, 1};
    for (;;) {
        v = onnx_before(m, v, ops);
        const OnnxNode *n = maker(m, v);
        const OnnxAttr *perm = is_made_by(m, v, "Transpose") ? onnx_attr(n, "perm") : NULL;
        if (!perm || perm->kind != ONNX_INTS || perm->n != 4 ||
            memcmp(perm->ints, LAST, sizeof LAST))
            return v;
        v = n->in[0];
    }
}
/* The argmax that the map of classes v is made by, or 0. */
static int argmax_of(const OnnxModel *m, int v) {
    static const char *const MAP[] = {"Resize",  "Cast",     "Squeeze", "Unsqueeze",
                                      "Reshape", "Identity", NULL};
    v = onnx_before(m, v, MAP);
    return is_made_by(m, v, "ArgMax") ? v : 0;
}
void onnx_logits_of(const OnnxModel *m, int v, OnnxOutput *out) {
    static const char *const LAST[] = {"Softmax", "LogSoftmax", "Sigmoid",  "ArgMax",
                                       "Cast",    "Squeeze",    "Identity", NULL};
    static const char *const KEEP[] = {"Resize", "Cast", "Identity", NULL};
    const int argmax = argmax_of(m, v);
    out->value = before_turned(m, argmax ? argmax : v, LAST);
    out->probabilities = is_made_by(m, onnx_before(m, out->value, KEEP), "Softmax");
}
Err onnx_said_output(const OnnxModel *m, int v, ModelOutput said, OnnxOutput *out) {
    if (said == OUTPUT_CLASSMAP && !argmax_of(m, v))
        return bad(
            m, "output", m->value[v].name,
            "is no argmax, resized or not; name the logits instead: teacher.taps.logits=VALUE");
    onnx_logits_of(m, v, out);
    if (said == OUTPUT_PROBABILITIES &&
        out->value == before_turned(m, v, (const char *const[]){"Cast", "Identity", NULL}))
        out->probabilities = true;
    return OK;
}
/* The last convolution's result that could be logits, for the advice. */
static const char *likely_logits(const OnnxBuild *b) {
    for (int i = b->m->n_node - 1; i >= 0; i--) {
        const OnnxNode *n = &b->m->node[i];
        const Node x = n->n_out && n->out[0] ? b->slot[n->out[0]].node : NO_NODE;
        const Shape s = x.id ? net_shape(b->net, x) : (Shape){0};
        if (!strcmp(n->op, "Conv") && s.rank == 4 && s.d[0] == b->batch && s.d[1] > 1 &&
            s.d[1] <= 256)
            return b->m->value[n->out[0]].name;
    }
    return NULL;
}
static Err output_node(const OnnxBuild *b, int v, Node *out) {
    *out = b->slot[v].node;
    const Shape s = out->id ? net_shape(b->net, *out) : (Shape){0};
    if (s.rank == 4 && s.d[0] == b->batch && s.d[1] <= 256) return OK;
    const char *name = likely_logits(b),
               *what = out->id ? shape_text(s).s : "not built from the image";
    if (name)
        return err_set(
            E(EXIT_MODEL, 60),
            "%s: output %s is %s, no logits of N x classes x h x w; the tensor to tap instead may be %s: give teacher.taps.logits=%s",
            b->m->name, b->m->value[v].name, what, name, name);
    return err_set(
        E(EXIT_MODEL, 60),
        "%s: output %s is %s, no N x classes x h x w; export the network so that its first output are the logits",
        b->m->name, b->m->value[v].name, what);
}
/* What the last convolution before x reads, through operators of one input. */
static Node features_of(const Net *n, Node x) {
    for (const NetNode *node = net_node(n, x); node->n_src == 1;
         node = net_node(n, (Node){node->src[0]}))
        if (node->op == &op_conv2d) return (Node){node->src[0]};
    return x;
}
Err onnx_add_outputs(OnnxBuild *b, const OnnxOutput *logits, const OnnxOutput *aux,
                     ModelNodes *out) {
    TRY(output_node(b, logits->value, &out->logits));
    out->features = features_of(b->net, out->logits);
    if (logits->probabilities) out->logits = model_log_of(b->net, out->logits);
    if (!aux->value) return OK;
    if (output_node(b, aux->value, &out->aux) ||
        net_shape(b->net, out->aux).d[1] != net_shape(b->net, out->logits).d[1])
        out->aux = NO_NODE;
    else if (aux->probabilities) out->aux = model_log_of(b->net, out->aux);
    return OK;
}
