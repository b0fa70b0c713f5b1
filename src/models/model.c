/* model.c - the tables of networks (the product of two lists) and normalisations, and opening one by name. */
#include "models/parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#include "models/backbones.def"
#include "models/heads.def"
#define COUNT(table) ((int)(sizeof(table) / sizeof *(table)))

#define BACKBONE_BUILDER(name, build, ...) Backbone build(Net *, Node, int, const ModelOptions *, int);
#define BACKBONE_AT(name, ...) AT_##name,
#define BACKBONE_ROW(name, build, variant, traits, title, ...) {#name, title, build, variant, traits},
BACKBONES(BACKBONE_BUILDER, )
enum { BACKBONES(BACKBONE_AT, ) };
static const BackboneDef BACKBONE[] = {BACKBONES(BACKBONE_ROW, )};

#define HEAD_BUILDER(name, ...) void name##_head(Net *, const Backbone *, int, int, ModelNodes *);
#define HEAD_AT(name, ...) AT_##name,
#define HEAD_ROW(name, narrow, wide, stride, title) {#name, title, name##_head, {narrow, wide}, stride},
HEADS(HEAD_BUILDER)
enum { HEADS(HEAD_AT) };
static const HeadDef HEAD[] = {HEADS(HEAD_ROW)};

#define MODEL_ROW(name, build, variant, traits, title, head, head_title) \
    {#head "_" #name, head_title " on " title, &BACKBONE[AT_##name], &HEAD[AT_##head]},
#define MODEL_ROWS(name, narrow, wide, stride, title) BACKBONES(MODEL_ROW, name, title)
static const ModelDef MODELS[] = {HEADS(MODEL_ROWS)};
#define N_MODELS COUNT(MODELS)

#define LIST(...) {__VA_ARGS__}
static const NormDef NORMS[] = {
#define NORM(name, bgr, mean, std, help) {name, LIST mean, LIST std, bgr, help},
#include "models/norms.def"
#undef NORM
};
#define N_NORMS COUNT(NORMS)

const ModelDef *model_find(const char *name) {
    for (int i = 0; i < N_MODELS; i++)
        if (!strcmp(MODELS[i].name, name)) return &MODELS[i];
    return NULL;
}
const NormDef *norm_find(const char *name) {
    for (int i = 0; i < N_NORMS; i++)
        if (!strcmp(NORMS[i].name, name)) return &NORMS[i];
    return NULL;
}
int model_names(const char **out, int max) {
    int n = 0;
    for (; n < N_MODELS && n < max; n++) out[n] = MODELS[n].name;
    return n;
}
Node model_classifier(const Net *n, Node x, int i) {
    const NetNode *node = net_node(n, x);
    if (node->n_param) return i ? NO_NODE : x;
    return i < node->n_src ? (Node){node->src[i]} : NO_NODE;
}
const char *model_head(int i, const char **title) {
    if (i >= COUNT(HEAD)) return NULL;
    *title = HEAD[i].title;
    return HEAD[i].name;
}
const char *model_backbone(int i, const char **title) {
    if (i >= COUNT(BACKBONE)) return NULL;
    *title = BACKBONE[i].title;
    return BACKBONE[i].name;
}
static Err unknown(const char *what, const char *name, const char *const *names, int n) {
    const char *near = str_nearest(name, names, n);
    return err_set(E(EXIT_USAGE, 76), "%s: no %s of this name; %s%s", name, what, near ? "did you mean " : "choose ", near ? near : names[0]);
}
/* An option that the backbone does not have must not be given in vain. */
static Err check_traits(const ModelOptions *o, const BackboneDef *b) {
    if (o->width != 0 && o->width != 1 && !(b->traits & HAS_WIDTH))
        return err_set(E(EXIT_USAGE, 76), "%s: width %g, but %s has one width only; leave it out", o->model, o->width, b->title);
    if (o->plain_stem && !(b->traits & HAS_STEMS))
        return err_set(E(EXIT_USAGE, 76), "%s: stem plain, but %s has one stem only; leave it out", o->model, b->title);
    return OK;
}
static Err check_norm(const char *norm) {
    const char *names[N_NORMS];
    for (int i = 0; i < N_NORMS; i++) names[i] = NORMS[i].name;
    return !norm || norm_find(norm) ? OK : unknown("normalisation", norm, names, N_NORMS);
}
static Err check_options(const ModelOptions *o) {
    const char *names[N_MODELS];
    if (!model_find(o->model)) return unknown("network", o->model, names, model_names(names, N_MODELS));
    if (o->classes < 1) return err_set(E(EXIT_USAGE, 37), "%s: %d classes; give classes=N or a data set", o->model, o->classes);
    if (o->output_stride != 0 && o->output_stride != 8 && o->output_stride != 16 && o->output_stride != 32)
        return err_set(E(EXIT_USAGE, 76), "%s: output_stride %d; choose 8, 16 or 32", o->model, o->output_stride);
    if (o->width != 0 && !(o->width >= 0.1 && o->width <= 8))
        return err_set(E(EXIT_USAGE, 76), "%s: width %g; choose 0.1 to 8", o->model, o->width);
    return check_traits(o, model_find(o->model)->backbone);
}
Node model_image_input(Net *n, const NormDef *norm, int64_t batch, int h, int w, ModelNodes *out) {
    if (!strcmp(norm->name, "none")) return out->image = net_input(n, "image", DT_F32, SHAPE(batch, 3, h, w));
    NormalizeAttr a = {.bgr = norm->bgr};
    for (int c = 0; c < 3; c++) a.mean[c] = norm->mean[c], a.inv_std[c] = 1 / norm->std[c];
    out->image = net_input(n, "image", DT_U8, SHAPE(batch, h, w, 3));
    out->rects = net_input(n, "rects", DT_I32, SHAPE(batch, 4));
    return net_add(n, &op_normalize, "normalize", &a, sizeof a, (Node[]){out->image, out->rects}, 2, NULL, 0);
}
static void build(Net *n, const ModelDef *m, Node x, const ModelOptions *o, ModelNodes *out) {
    const int stride = o->output_stride ? o->output_stride : m->head->output_stride;
    const Backbone b = m->backbone->build(n, x, m->backbone->variant, o, stride);
    m->head->build(n, &b, m->head->width[(m->backbone->traits & WIDE_HEADS) != 0], o->classes, out);
    nn_tap(n, b.aux, "mid");
    if (o->aux) out->aux = fcn_block(n, b.aux, "auxlayer", o->classes, NULL);
}
/* ---- other taps and classes ----------------------------------------------------------------------- */

Err model_unknown_tap(const Net *n, const char *tap) {
    const char **names = xcalloc((size_t)n->n_nodes, sizeof *names);
    for (int i = 1; i < n->n_nodes; i++) names[i - 1] = n->nodes[i].name;
    const char *near = str_nearest(tap, names, n->n_nodes - 1);
    free(names);
    if (near) return err_set(E(EXIT_USAGE, 76), "taps: %s has no layer %s; did you mean %s?", n->name, tap, near);
    return err_set(E(EXIT_USAGE, 76), "taps: %s has no layer %s; retort info %s lists them", n->name, tap, n->name);
}
static Err apply_taps(const ModelOptions *o, Net *n, ModelNodes *at) {
    Node *own[] = {&at->logits, &at->aux, &at->features};
    const bool taken = o->output && model_is_onnx(o->model);          /* onnx.c made logits of what logits and aux name */
    for (int i = taken ? 2 : 0; i < 3; i++) {
        if (!o->tap[i]) continue;
        *own[i] = net_find(n, o->tap[i]);
        if (!own[i]->id) return model_unknown_tap(n, o->tap[i]);
        if (net_shape(n, *own[i]).rank != 4)
            return err_set(E(EXIT_USAGE, 76), "taps: %s of %s is %s; a map of N x C x h x w is wanted", o->tap[i], n->name,
                           shape_text(net_shape(n, *own[i])).s);
    }
    return OK;
}
static Err apply_class_map(const ModelOptions *o, Net *n, ModelNodes *at) {
    Node *head[] = {&at->logits, &at->aux};
    for (int i = 0; o->class_map && i < 2; i++) {
        if (!head[i]->id) continue;
        const int64_t own = net_shape(n, *head[i]).d[1];
        for (int k = 0; k < o->n_class_map; k++)
            if (o->class_map[k] < 0 || o->class_map[k] >= own)
                return err_set(E(EXIT_USAGE, 37), "classes: the list asks for class %d, %s has 0 to %" PRId64, o->class_map[k], n->name, own - 1);
        *head[i] = nn_gather_channels(n, *head[i], o->class_map, o->n_class_map);
    }
    return n->err ? err_set(n->err, "%s", n->err_msg) : OK;
}
Node model_log_of(Net *n, Node p) {
    const UnaryAttr clip = {UNARY_CLIP, 1e-7f, INFINITY}, log_of = {UNARY_LOG, 0, 0};
    p = net_add(n, &op_unary, "probabilities", &clip, sizeof clip, &p, 1, NULL, 0);
    return net_add(n, &op_unary, "log_probabilities", &log_of, sizeof log_of, &p, 1, NULL, 0);
}
/* Our own networks give logits; onnx_ends.c knows a file's. */
static Err check_output(const ModelOptions *o) {
    static const char *const other[] = {[OUTPUT_PROBABILITIES] = "probabilities", [OUTPUT_CLASSMAP] = "class map"};
    if (o->output == OUTPUT_LOGITS || model_is_onnx(o->model)) return OK;
    return err_set(E(EXIT_USAGE, 76), "%s gives logits, no %s; leave teacher.output out", o->model, other[o->output]);
}
/* What the options ask for beyond the network as it is; names its taps. */
static Err finish(const ModelOptions *o, Net *n, ModelNodes *at) {
    TRY(apply_taps(o, n, at));
    TRY(apply_class_map(o, n, at));
    nn_tap(n, at->logits, "logits");
    nn_tap(n, at->features, "features");
    if (at->aux.id) nn_tap(n, at->aux, "aux");
    return net_finish(n);
}

static Err open_named(const ModelOptions *o, int h, int w, Net **net, ModelNodes *out) {
    TRY(check_options(o));
    const NormDef *norm = norm_find(o->norm ? o->norm : NORMS[0].name);
    Net *n = *net = net_open(o->model);
    n->frozen = o->frozen, n->bn_frozen = o->bn_frozen, n->dropout_off = o->dropout_off;
    build(n, model_find(o->model), model_image_input(n, norm, 1, h, w, out), o, out);
    return n->err ? err_set(n->err, "%s", n->err_msg) : OK;
}
Err model_open(const ModelOptions *o, int h, int w, Net **net, ModelNodes *nodes) {
    Net *n = NULL;
    ModelNodes out = {0};
    if (!o->model) return err_set(E(EXIT_USAGE, 76), "model: no network is named; give model=NAME");
    TRY(check_norm(o->norm));
    TRY(check_output(o));
    Err rc = model_is_onnx(o->model) ? model_open_onnx(o, h, w, &n, &out) : open_named(o, h, w, &n, &out);
    if (!rc) rc = finish(o, n, &out);
    if (rc) return net_close(n), rc;
    return *net = n, *nodes = out, OK;
}
