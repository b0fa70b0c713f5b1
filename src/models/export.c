/* export.c - see export.h: the walk over a Net, and what stands before and behind it.
 *
 * Only what the logits need is written, in the Net's order. A convolution whose one consumer is batch norm
 * is written in the latter's place, with weights w s and bias (b - mean) s + beta, s = gamma / sqrt(var + eps),
 * in double. Dropout is left out. With free sizes, pooling and resizing take theirs from Shape. */
#include "models/export.h"

#include <stdlib.h>
#include <string.h>

#include "models/export_priv.h"

static void count_uses(Export *e) {
    e->uses[e->logits.id] = 1;
    for (int id = e->logits.id; id > 0; id--) {
        const NetNode *x = &e->sized->nodes[id];
        for (int i = 0; i < x->n_src && e->uses[id]; i++) e->uses[x->src[i]]++;
    }
}

/* ---- the image ------------------------------------------------------------------------------- */

static OnnxDim side(int64_t size, const char *name) {
    return size ? (OnnxDim){.size = size} : (OnnxDim){.name = name};
}

/* float32 RGB N x 3 x H x W, from whatever comes in. */
static const char *write_image(Export *e) {
    const OnnxDim n = side(e->o->batch, "batch"), h = side(e->o->h, "height"),
                  w = side(e->o->w, "width"), rgb = {.size = 3};
    if (!e->o->bytes) return onnx_write_input(e->w, "image", DT_F32, (OnnxDim[]){n, rgb, h, w}, 4);
    static const int64_t nchw[] = {0, 3, 1, 2};
    const char *x = onnx_write_input(e->w, "image", DT_U8, (OnnxDim[]){n, h, w, rgb}, 4);
    x = onnx_write_node(e->w, "Cast", "image.float", INPUTS(x), ATTRS(ATTR_INT("to", 1)));
    return onnx_write_node(e->w, "Transpose", "image.nchw", INPUTS(x),
                           ATTRS(ATTR_INTS("perm", nchw)));
}

/* ---- the output ------------------------------------------------------------------------------ */

static void write_output(Export *e, const char *image) {
    const Shape s = net_shape(e->sized, e->logits);
    const OnnxDim n = side(e->o->batch, "batch"), k = {.size = s.d[1]};
    const bool full = e->o->output != EXPORT_LOGITS;
    const char *x = e->value[e->logits.id];
    if (!full) {
        const OnnxDim h = side(e->fixed ? s.d[2] : 0, "logits_height"),
                      w = side(e->fixed ? s.d[3] : 0, "logits_width");
        onnx_write_output(e->w, x, DT_F32, (OnnxDim[]){n, k, h, w}, 4);
        return;
    }
    const OnnxDim h = side(e->o->h, "height"), w = side(e->o->w, "width");
    x = export_resize(e, "logits.full", e->logits.id, image, e->o->h, e->o->w,
                      &(ResizeAttr){.align_corners = true});
    if (e->o->output == EXPORT_LOGITS_FULL)
        onnx_write_output(e->w, x, DT_F32, (OnnxDim[]){n, k, h, w}, 4);
    else {
        x = onnx_write_node(e->w, "ArgMax", "labels.argmax", INPUTS(x),
                            ATTRS(ATTR_INT("axis", 1), ATTR_INT("keepdims", 0)));
        onnx_write_output(e->w, x, DT_I64, (OnnxDim[]){n, h, w}, 3);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static Err write_graph(Export *e) {
    const char *image = e->value[e->image.id] = write_image(e);
    for (int id = 1; id <= e->logits.id; id++)
        if (e->uses[id] && id != e->image.id && !export_absorbed_by(e, id)) TRY(export_op(e, id));
    write_output(e, image);
    return OK;
}
/* The nodes at the exported size. *own: a Net that the caller closes, or NULL. */
static Err size_nodes(Export *e, const ModelNodes *nodes, Net **own) {
    const ExportOptions *o = e->o;
    *own = NULL;
    if (!e->net->rebuild) return OK;
    if (!o->h)
        return err_set(E(EXIT_USAGE, 76),
                       "%s: an imported network is exported for one size; add size=HxW",
                       e->net->name);
    const bool bytes = net_node(e->net, nodes->image)->dtype == DT_U8;
    TRY(e->net->rebuild(
        e->net, bytes ? SHAPE(o->batch, o->h, o->w, 3) : SHAPE(o->batch, 3, o->h, o->w), own));
    return e->sized = *own, OK;
}
Err model_export(const Net *n, const ModelNodes *nodes, const ExportOptions *options,
                 OnnxWriter **out) {
    Net *own;
    ExportOptions o = *options;
    if (n->rebuild && !o.batch) o.batch = 1;             /* its attributes hold the batch too */
    Export e = {.net = n,
                .sized = n,
                .logits = nodes->logits,
                .image = nodes->image,
                .o = &o,
                .fixed = o.h > 0};
    TRY(size_nodes(&e, nodes, &own));
    e.value = xcalloc((size_t)n->n_nodes, sizeof *e.value),
    e.uses = xcalloc((size_t)n->n_nodes, sizeof *e.uses);
    e.w = onnx_write_open(n->name, o.opset, o.output == EXPORT_ARGMAX ? "labels" : "logits");
    count_uses(&e);
    Err rc = write_graph(&e);
    free(e.value), free(e.uses);
    net_close(own);
    if (rc) return onnx_write_close(e.w), rc;
    return *out = e.w, OK;
}
