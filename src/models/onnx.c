/* onnx.c - an ONNX file as a network: its graph built into a Net behind our own image input.
 *
 * The file's shapes are arithmetic over the image's size, which is folded away; so attributes hold sizes,
 * and a plan for another size or batch builds the nodes again (net->rebuild) and takes the attributes of
 * those; parameters stay. A file exported for one size gets a bilinear resize before it.
 * Only what the outputs and taps need is built. Softmax, ArgMax and their like at the end of the graph are
 * left out: what lies before them are the logits (onnx_ends.c). The features are what the last convolution
 * reads. */
#include "models/model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "models/onnx_priv.h"
#include "models/parts.h"

typedef struct { OnnxModel *m; ModelOptions o; Arena *arena; } Origin;      /* arena: of the options' text */
enum { NOMINAL_STEP = 64 };          /* networks halve their maps up to six times */

static Err bad(const OnnxModel *m, const char *what, const char *name, const char *why) {
    return err_set(E(EXIT_MODEL, 60), "%s: %s %s %s", m->name, what, name, why);
}

/* ---- nodes -------------------------------------------------------------------------------------------- */

static Err build_node(OnnxBuild *b, const OnnxNode *n) {
    bool done;
    b->node = n;
    const OnnxOp *op = *n->domain ? NULL : onnx_op_find(n->op);
    if (!*n->domain) TRY(onnx_fold(b, n, &done));
    else done = false;
    if (done) return OK;
    if (!op)
        return ob_refuse(b, "operator %s%s%s is not supported; export the network without it",
                         n->domain, *n->domain ? "." : "", n->op);
    if (b->m->opset < op->since)
        return ob_refuse(b, "is of opset %d; export with opset %d or newer", b->m->opset,
                         op->since);
    if (b->m->opset > op->until)
        return ob_refuse(b, "is of opset %d; export with opset %d or older", b->m->opset,
                         op->until);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !ob_constant(b, i) && !b->slot[n->in[i]].node.id)
            return ob_refuse(b, "its input %s is not supported", b->m->value[n->in[i]].name);
    Err rc = op->build(b, n);
    return !rc && b->net->err ? ob_refuse(b, "%s", b->net->err_msg) : rc;
}
/* Marks what value v needs, itself included. */
static void need(const OnnxModel *m, bool *needed, int v) {
    if (m->value[v].node < 0) return;
    needed[m->value[v].node] = true;
    for (int i = m->value[v].node; i >= 0; i--)
        for (int k = 0; needed[i] && k < m->node[i].n_in; k++)
            if (m->value[m->node[i].in[k]].node >= 0)
                needed[m->value[m->node[i].in[k]].node] = true;
}
static Err build_nodes(OnnxBuild *b, const int *wanted, int n) {
    const OnnxModel *m = b->m;
    bool *needed = arena_alloc(b->arena, (size_t)m->n_node + 1);
    for (int i = 0; i < n; i++) need(m, needed, wanted[i]);
    for (int i = 0; i < m->n_node; i++)
        if (needed[i]) TRY(build_node(b, &m->node[i]));
    return OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

static Err find_tap(const OnnxModel *m, const char *tap, int *out) {
    *out = tap ? onnx_find_value(m, tap) : 0;
    if (!tap || *out) return OK;
    const char **names = xcalloc((size_t)m->n_value, sizeof *names);
    for (int i = 1; i < m->n_value; i++) names[i - 1] = m->value[i].name;
    const char *near = str_nearest(tap, names, m->n_value - 1);
    free(names);
    return err_set(E(EXIT_USAGE, 76), "taps: %s holds no value %s%s%s", m->name, tap,
                   near ? "; did you mean " : "", near ? near : "");
}
/* A value that is tapped is taken as it is, unless the user says what it is. */
static Err choose_output(const OnnxModel *m, ModelOutput said, int tap, int output,
                         OnnxOutput *out) {
    if (said) return onnx_said_output(m, tap ? tap : output, said, out);
    if (tap) out->value = tap;
    else onnx_logits_of(m, output, out);
    return OK;
}
static Err build_graph(OnnxBuild *b, const ModelOptions *o, int h, int w, ModelNodes *out) {
    const OnnxModel *m = b->m;
    int tap[3];
    OnnxOutput logits = {0}, aux = {0};
    if (!m->n_output) return err_set(E(EXIT_MODEL, 60), "%s: has no output", m->name);
    for (int i = 0; i < 3; i++) TRY(find_tap(m, o->tap[i], &tap[i]));
    TRY(choose_output(m, o->output, tap[0], m->output[0], &logits));
    if (tap[1]) TRY(choose_output(m, o->output, tap[1], 0, &aux));
    else if (m->n_output > 1 && choose_output(m, o->output, 0, m->output[1], &aux))
        aux = (OnnxOutput){0};       /* a second output of another kind is not an auxiliary head */
    TRY(onnx_add_image(b, o, h, w, out));
    TRY(build_nodes(b, (int[]){logits.value, aux.value, tap[2]}, 3));
    return onnx_add_outputs(b, &logits, &aux, out);
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
        if (t->dtype != DT_F32 || shape_count(t->shape) != shape_count(p->shape))
            return bad(b->m, "tensor", p->name, "holds no weights of its layer");
        TRY(model_check_values(p, t, b->m->name));
        memcpy(p->data, t->data, (size_t)shape_count(p->shape) * sizeof(float));
    }
    return OK;
}
static Net *open_net(const Origin *from) {
    Net *n = net_open(path_base(from->m->name));
    n->frozen = from->o.frozen, n->bn_frozen = from->o.bn_frozen,
    n->dropout_off = from->o.dropout_off;
    return n;
}
static bool same_nodes(const Net *a, const Net *b) {
    for (int i = 1; i < b->n_nodes; i++) {
        const NetNode *x = &a->nodes[i], *y = &b->nodes[i];
        if (i >= a->n_nodes || x->n_src != y->n_src || x->n_param != y->n_param ||
            memcmp(x->src, y->src, sizeof x->src) || memcmp(x->param, y->param, sizeof x->param))
            return false;
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
    b.again = true;
    ModelNodes nodes = {0};
    Err rc = build_graph(&b, &from->o, (int)h, (int)w, &nodes);
    if (rc) rc = err_wrap(rc, "for %" PRId64 " images of %" PRId64 "x%" PRId64, image.d[0], h, w);
    else if (!same_nodes(n, sized))
        rc = err_set(E(EXIT_MODEL, 60),
                     "%s: its layers change with the image's size; export it with a fixed size",
                     from->m->name);
    build_close(&b);
    if (rc) return net_close(sized), rc;
    return *out = sized, OK;
}
static void close_origin(void *origin) {
    Origin *from = origin;
    onnx_close(from->m);
    arena_close(from->arena);
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
    return *net = n, *nodes = out, OK;
}

bool model_is_onnx(const char *name) { return name && str_ends(name, ".onnx"); }

Err model_open_onnx(const ModelOptions *o, int h, int w, Net **net, ModelNodes *nodes) {
    OnnxModel *m;
    TRY(onnx_read(o->model, &m));
    Origin *from = xcalloc(1, sizeof *from);
    *from = (Origin){m, *o, arena_open()};
    from->o.norm = o->norm ? arena_strdup(from->arena, o->norm) : NULL;
    for (int i = 0; i < 3; i++)
        from->o.tap[i] = o->tap[i] ? arena_strdup(from->arena, o->tap[i]) : NULL;
    Net *n = NULL;
    Err rc = build_net(from, h, w, &n, nodes);
    const int up_h = (h + NOMINAL_STEP - 1) / NOMINAL_STEP * NOMINAL_STEP,
              up_w = (w + NOMINAL_STEP - 1) / NOMINAL_STEP * NOMINAL_STEP;
    if (rc && !o->exact_size && (up_h != h || up_w != w) && !build_net(from, up_h, up_w, &n, nodes)) rc = OK;      /* a plan of its own size will tell */
    if (rc) return close_origin(from), rc;
    n->rebuild = rebuild, n->origin = from, n->close_origin = close_origin, n->has_weights = true;
    const int64_t classes = net_shape(n, nodes->logits).d[1];
    if (o->classes && !o->class_map && o->classes != classes) {
        net_close(n);
        return err_set(E(EXIT_USAGE, 37), "%s: has %" PRId64 " classes, %d are wanted", o->model,
                       classes, o->classes);
    }
    return *net = n, OK;
}
