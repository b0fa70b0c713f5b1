/* model.c - the tables of networks and normalisations, and opening one by name. */
#include "models/model.h"

#include <string.h>

#include "base/str.h"

#define MODEL(name, help) void model_build_##name(Net *n, Node x, const ModelOptions *o, ModelNodes *out);
#include "models/models.def"
#undef MODEL
static const ModelDef MODELS[] = {
#define MODEL(name, help) {#name, help, model_build_##name},
#include "models/models.def"
#undef MODEL
};
#define N_MODELS ((int)(sizeof MODELS / sizeof *MODELS))

#define LIST(...) {__VA_ARGS__}
static const NormDef NORMS[] = {
#define NORM(name, bgr, mean, std, help) {name, LIST mean, LIST std, bgr, help},
#include "models/norms.def"
#undef NORM
};
#define N_NORMS ((int)(sizeof NORMS / sizeof *NORMS))

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
static Err unknown(const char *what, const char *name, const char *const *names, int n) {
    const char *near = str_nearest(name, names, n);
    return err_set(E(EXIT_USAGE, 76), "%s: no %s of this name; %s%s", name, what, near ? "did you mean " : "choose ", near ? near : names[0]);
}
static Err check_options(const ModelOptions *o) {
    const char *names[N_MODELS + N_NORMS];
    if (!o->model) return err_set(E(EXIT_USAGE, 76), "model: no network is named; give model=NAME");
    if (!model_find(o->model)) return unknown("network", o->model, names, model_names(names, N_MODELS));
    if (o->norm && !norm_find(o->norm)) {
        for (int i = 0; i < N_NORMS; i++) names[i] = NORMS[i].name;
        return unknown("normalisation", o->norm, names, N_NORMS);
    }
    if (o->classes < 1) return err_set(E(EXIT_USAGE, 37), "%s: %d classes; give classes=N or a data set", o->model, o->classes);
    if (o->output_stride != 0 && o->output_stride != 8 && o->output_stride != 16 && o->output_stride != 32)
        return err_set(E(EXIT_USAGE, 76), "%s: output_stride %d; choose 8, 16 or 32", o->model, o->output_stride);
    if (o->width != 0 && !(o->width >= 0.1 && o->width <= 8))
        return err_set(E(EXIT_USAGE, 76), "%s: width %g; choose 0.1 to 8", o->model, o->width);
    return OK;
}
/* The inputs and the normalised image, N x 3 x H x W. */
static Node image_input(Net *n, const NormDef *norm, int h, int w, ModelNodes *out) {
    if (!strcmp(norm->name, "none")) return out->image = net_input(n, "image", DT_F32, SHAPE(1, 3, h, w));
    NormalizeAttr a = {.bgr = norm->bgr};
    for (int c = 0; c < 3; c++) a.mean[c] = norm->mean[c], a.inv_std[c] = 1 / norm->std[c];
    out->image = net_input(n, "image", DT_U8, SHAPE(1, h, w, 3));
    out->rects = net_input(n, "rects", DT_I32, SHAPE(1, 4));
    return net_add(n, &op_normalize, "normalize", &a, sizeof a, (Node[]){out->image, out->rects}, 2, NULL, 0);
}
Err model_open(const ModelOptions *o, int h, int w, Net **net, ModelNodes *nodes) {
    TRY(check_options(o));
    const NormDef *norm = norm_find(o->norm ? o->norm : NORMS[0].name);
    Net *n = net_open(o->model);
    n->frozen = o->frozen, n->bn_frozen = o->bn_frozen, n->dropout_off = o->dropout_off;
    ModelNodes out = {0};
    model_find(o->model)->build(n, image_input(n, norm, h, w, &out), o, &out);
    nn_tap(n, out.logits, "logits");
    nn_tap(n, out.features, "features");
    if (out.aux.id) nn_tap(n, out.aux, "aux");
    Err rc = net_finish(n);
    if (rc) {
        net_close(n);
        return rc;
    }
    *net = n, *nodes = out;
    return OK;
}
