/* onnx.c - an ONNX file as a network: its graph built into a Net behind our own image input.
 *
 * The file's shapes are arithmetic over the image's size, which is folded away; so attributes hold sizes,
 * and a plan for another size or batch builds the nodes again (net->rebuild) and takes the attributes of
 * those; parameters stay. A file exported for one size gets a bilinear resize before it.
 * Only what the outputs need is built. Softmax, ArgMax and their like at the end of the graph are left
 * out: what lies before them are the logits. The features are what the last convolution reads. */
#include "models/model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "models/onnx_priv.h"
#include "models/parts.h"

typedef struct { OnnxModel *m; ModelOptions o; } Origin;
enum { NOMINAL_STEP = 64 };          /* networks halve their maps up to six times */

static Err bad(const OnnxModel *m, const char *what, const char *name, const char *why) {
    return err_set(E(EXIT_MODEL, 60), "%s: %s %s %s", m->name, what, name, why);
}

/* ---- the image ------------------------------------------------------------------------------------- */

static Err check_input(const OnnxModel *m, const OnnxValue **out) {
    if (m->n_input != 1) return err_set(E(EXIT_MODEL, 60), "%s: %d inputs; export a network of one image", m->name, m->n_input);
    const OnnxValue *v = &m->value[m->input[0]];
    const bool real = v->typed && (v->dtype == DT_F32 || v->dtype == DT_F16 || v->dtype == DT_BF16 || v->dtype == DT_F64);
    if (!real || v->shape.rank != 4 || (v->shape.d[1] != 3 && v->shape.d[1] != -1))
        return bad(m, "input", v->name, "is no float N x 3 x H x W image; export the network with one");
    return *out = v, OK;
}
/* Nodes of our input, normalised, at the size and for the batch that the file was exported for. */
static Err add_image(OnnxBuild *b, const NormDef *norm, int h, int w, ModelNodes *out) {
    const OnnxValue *v = NULL;
    TRY(check_input(b->m, &v));
    const int64_t batch = v->shape.d[0];
    if (batch > 1 && batch != b->batch) return bad(b->m, "input", v->name, "is fixed to another batch; export with a free batch dimension");
    b->fixed_batch = batch == 1 && b->batch != 1;
    Node x = model_image_input(b->net, norm, b->batch, h, w, out);
    const int64_t to_h = v->shape.d[2] > 0 ? v->shape.d[2] : h, to_w = v->shape.d[3] > 0 ? v->shape.d[3] : w;
    if (v->shape.d[2] > 0 || v->shape.d[3] > 0) {
        const ResizeAttr a = {.out_h = (int)to_h, .out_w = (int)to_w};
        x = net_add(b->net, &op_resize, "fit", &a, sizeof a, &x, 1, NULL, 0);
    }
    b->slot[b->m->input[0]].node = x;
    net_alias(b->net, x, v->name);
    return OK;
}

/* ---- nodes -------------------------------------------------------------------------------------------- */

static Err build_node(OnnxBuild *b, const OnnxNode *n) {
    bool done;
    b->node = n;
    const OnnxOp *op = *n->domain ? NULL : onnx_op_find(n->op);
    if (!*n->domain) TRY(onnx_fold(b, n, &done));
    else done = false;
    if (done) return OK;
    if (!op) return ob_refuse(b, "operator %s%s%s is not supported; export the network without it", n->domain, *n->domain ? "." : "", n->op);
    if (b->m->opset < op->since) return ob_refuse(b, "is of opset %d; export with opset %d or newer", b->m->opset, op->since);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !ob_constant(b, i) && !b->slot[n->in[i]].node.id) return ob_refuse(b, "its input %s is not supported", b->m->value[n->in[i]].name);
    Err rc = op->build(b, n);
    return !rc && b->net->err ? ob_refuse(b, "%s", b->net->err_msg) : rc;
}
/* Marks what value v needs, itself included. */
static void need(const OnnxModel *m, bool *needed, int v) {
    if (m->value[v].node < 0) return;
    needed[m->value[v].node] = true;
    for (int i = m->value[v].node; i >= 0; i--)
        for (int k = 0; needed[i] && k < m->node[i].n_in; k++)
            if (m->value[m->node[i].in[k]].node >= 0) needed[m->value[m->node[i].in[k]].node] = true;
}
static Err build_nodes(OnnxBuild *b, int logits, int aux) {
    const OnnxModel *m = b->m;
    bool *needed = arena_alloc(b->arena, (size_t)m->n_node + 1);
    need(m, needed, logits);
    need(m, needed, aux);
    for (int i = 0; i < m->n_node; i++)
        if (needed[i]) TRY(build_node(b, &m->node[i]));
    return OK;
}

/* ---- outputs -------------------------------------------------------------------------------------------- */

/* The value before the operators that only turn logits into probabilities or classes. */
static int before_the_end(const OnnxModel *m, int v) {
    static const char *const LAST[] = {"Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "Cast", "Squeeze", "Identity"};
    for (int node; (node = m->value[v].node) >= 0;) {
        bool passes = false;
        for (size_t i = 0; i < sizeof LAST / sizeof *LAST; i++) passes |= !*m->node[node].domain && !strcmp(m->node[node].op, LAST[i]);
        if (!passes || !m->node[node].n_in || !m->node[node].in[0]) break;
        v = m->node[node].in[0];
    }
    return v;
}
static Err output_node(const OnnxBuild *b, int v, Node *out) {
    *out = b->slot[v].node;
    const Shape s = out->id ? net_shape(b->net, *out) : (Shape){0};
    if (s.rank == 4 && s.d[0] == b->batch && s.d[1] <= 256) return OK;
    return err_set(E(EXIT_MODEL, 60), "%s: output %s is %s, no N x classes x h x w; export the network so that its first output are the logits",
                   b->m->name, b->m->value[v].name, out->id ? shape_text(s).s : "constant");
}
/* What the last convolution before x reads, through operators of one input. */
static Node features_of(const Net *n, Node x) {
    for (const NetNode *node = net_node(n, x); node->n_src == 1; node = net_node(n, (Node){node->src[0]}))
        if (node->op == &op_conv2d) return (Node){node->src[0]};
    return x;
}
static Err add_outputs(OnnxBuild *b, int logits, int aux, ModelNodes *out) {
    TRY(output_node(b, logits, &out->logits));
    if (aux) {
        if (output_node(b, aux, &out->aux) || net_shape(b->net, out->aux).d[1] != net_shape(b->net, out->logits).d[1]) out->aux = NO_NODE;
    }
    out->features = features_of(b->net, out->logits);
    return OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

static Err build_graph(OnnxBuild *b, const ModelOptions *o, int h, int w, ModelNodes *out) {
    const OnnxModel *m = b->m;
    if (!m->n_output) return err_set(E(EXIT_MODEL, 60), "%s: has no output", m->name);
    const int logits = before_the_end(m, m->output[0]), aux = m->n_output > 1 ? before_the_end(m, m->output[1]) : 0;
    TRY(add_image(b, norm_find(o->norm), h, w, out));
    TRY(build_nodes(b, logits, aux));
    return add_outputs(b, logits, aux, out);
}
static OnnxBuild build_open(const OnnxModel *m, Net *n, int64_t batch) {
    OnnxBuild b = {.m = m, .net = n, .batch = batch, .arena = arena_open()};
    b.slot = xcalloc((size_t)m->n_value, sizeof *b.slot);
    b.param = xcalloc((size_t)m->n_value, sizeof *b.param);
    for (int i = 0; i < m->n_value; i++) b.param[i] = -1;
    return b;
}
static void build_close(OnnxBuild *b) {
    free(b->slot), free(b->param), free(b->fill);
    arena_close(b->arena);
}
static Err fill(OnnxBuild *b) {
    TRY(net_finish(b->net));
    for (int i = 0; i < b->n_fill; i++) {
        NetParam *p = &b->net->params[b->fill[i].param];
        const Tensor *t = b->fill[i].from;
        if (t->dtype != DT_F32 || shape_count(t->shape) != shape_count(p->shape)) return bad(b->m, "tensor", p->name, "holds no weights of its layer");
        memcpy(p->data, t->data, (size_t)shape_count(p->shape) * sizeof(float));
    }
    return OK;
}
static Net *open_net(const Origin *from) {
    Net *n = net_open(path_base(from->m->name));
    n->frozen = from->o.frozen, n->bn_frozen = from->o.bn_frozen, n->dropout_off = from->o.dropout_off;
    return n;
}
static bool same_nodes(const Net *a, const Net *b) {
    for (int i = 1; i < b->n_nodes; i++) {
        const NetNode *x = &a->nodes[i], *y = &b->nodes[i];
        if (i >= a->n_nodes || x->n_src != y->n_src || x->n_param != y->n_param || memcmp(x->src, y->src, sizeof x->src) ||
            memcmp(x->param, y->param, sizeof x->param)) return false;
    }
    for (int i = 0; i < b->n_params; i++)
        if (i >= a->n_params || !shape_equal(a->params[i].shape, b->params[i].shape)) return false;
    return true;
}
/* The nodes of n for images of another shape (as its input gives it); n's parameters, not values, are declared. */
static Err rebuild(const Net *n, Shape image, Net **out) {
    const Origin *from = n->origin;
    const bool bytes = net_node(n, n->image)->dtype == DT_U8;
    const int64_t h = image.d[bytes ? 1 : 2], w = image.d[bytes ? 2 : 3];
    Net *sized = open_net(from);
    OnnxBuild b = build_open(from->m, sized, image.d[0]);
    ModelNodes nodes = {0};
    Err rc = build_graph(&b, &from->o, (int)h, (int)w, &nodes);
    if (rc) rc = err_wrap(rc, "for %" PRId64 " images of %" PRId64 "x%" PRId64, image.d[0], h, w);
    else if (!same_nodes(n, sized)) rc = err_set(E(EXIT_MODEL, 60), "%s: its layers change with the image's size; export it with a fixed size", from->m->name);
    build_close(&b);
    if (rc) return net_close(sized), rc;
    return *out = sized, OK;
}
static void close_origin(void *origin) {
    Origin *from = origin;
    onnx_close(from->m);
    free((char *)(uintptr_t)from->o.norm);
    free(from);
}
static Err build_net(Origin *from, int h, int w, Net **net, ModelNodes *nodes) {
    Net *n = open_net(from);
    OnnxBuild b = build_open(from->m, n, 1);
    ModelNodes out = {0};
    Err rc = build_graph(&b, &from->o, h, w, &out);
    if (!rc) rc = fill(&b);
    build_close(&b);
    if (rc) return net_close(n), rc;
    n->image = out.image;
    nn_tap(n, out.logits, "logits");
    nn_tap(n, out.features, "features");
    if (out.aux.id) nn_tap(n, out.aux, "aux");
    return *net = n, *nodes = out, OK;
}

bool model_is_onnx(const char *name) { return name && str_ends(name, ".onnx"); }

Err model_open_onnx(const ModelOptions *o, int h, int w, Net **net, ModelNodes *nodes) {
    OnnxModel *m;
    TRY(onnx_read(o->model, &m));
    Origin *from = xcalloc(1, sizeof *from);
    *from = (Origin){m, *o};
    from->o.norm = xstrdup(o->norm ? o->norm : "rgb-imagenet");
    Net *n = NULL;
    Err rc = build_net(from, h, w, &n, nodes);
    const int up_h = (h + NOMINAL_STEP - 1) / NOMINAL_STEP * NOMINAL_STEP, up_w = (w + NOMINAL_STEP - 1) / NOMINAL_STEP * NOMINAL_STEP;
    if (rc && (up_h != h || up_w != w) && !build_net(from, up_h, up_w, &n, nodes)) rc = OK;      /* a plan of its own size will tell */
    if (rc) return close_origin(from), rc;
    n->rebuild = rebuild, n->origin = from, n->close_origin = close_origin, n->has_weights = true;
    const int64_t classes = net_shape(n, nodes->logits).d[1];
    if (o->classes && o->classes != classes) {
        net_close(n);
        return err_set(E(EXIT_USAGE, 37), "%s: has %" PRId64 " classes, %d are wanted", o->model, classes, o->classes);
    }
    return *net = n, OK;
}
