/* cmd_run.c - `retort run MODEL IN OUT`: a network on given tensors, for porting and parity tests.
 *
 * IN holds image (B x 3 x H x W float32, normalised) and, for loss=ce, labels (B x H x W int32,
 * ignore = -1). OUT holds logits, aux, features and the taps; with loss=ce also loss and grad.NAME
 * of every trainable parameter, or gradsum.NAME = (L2 norm, dot product with the parameter). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/given.h"
#include "cli/open_model.h"
#include "distill/method.h"

static const char usage[] =
    "run MODEL IN OUT [mode=eval|train] [taps=NAME,...] [loss=ce] [grads=all|summary]\n\n"
    "Runs a network on the tensors of IN (safetensors): `image`, B x 3 x H x W\n"
    "float32, already normalised, and for loss=ce `labels`, B x H x W int32, -1 =\n"
    "ignored. OUT gets logits, aux, features, the taps, loss and grad.NAME.\n"
    "weights=formula:SEED needs no file; see docs/formats.md.";
enum { TAPS_MAX = 32, NOMINAL = 65 };
typedef struct {
    Node node[TAPS_MAX + 3];
    const char *name[TAPS_MAX + 3];
    int n;
} Outputs;

/* taps="a,b" or "[a, b]" */
static Err add_taps(const Net *net, const char *taps, Arena *a, Outputs *out) {
    char *text = arena_strdup(a, taps ? taps : ""), *save = NULL;
    for (char *t = strtok_r(text, "[], ", &save); t; t = strtok_r(NULL, "[], ", &save)) {
        Node x = net_find(net, t);
        if (!x.id) return model_unknown_tap(net, t);
        if (out->n == TAPS_MAX + 3)
            return err_set(E(EXIT_USAGE, 76), "taps: more than %d; ask in two runs", TAPS_MAX);
        out->node[out->n] = x, out->name[out->n++] = t;
    }
    return OK;
}

static Err check_inputs(const SafeFile *in, const char *path, int classes, bool labels,
                        const Tensor **image, const Tensor **label) {
    TRY(given_map(in, path, "image", true, image));
    Shape x = (*image)->shape;
    if (x.d[1] != 3)
        return err_set(E(EXIT_MODEL, 51), "%s: image is %s; it must be B x 3 x H x W", path,
                       shape_text(x).s);
    *label = NULL;
    return labels ? given_labels(in, path, x.d[0], x.d[2], x.d[3], classes, label) : OK;
}

/* Mean cross-entropy at full resolution + 0.4 times the auxiliary one, as a scalar of the net. */
static Node add_loss(OpenModel *m, Node *label_node) {
    const KdMethod *ce = method_find("ce");
    CHECK(ce != NULL);
    void *opt = xcalloc(ce->option_bytes + 1, 1);
    if (ce->options) option_defaults(ce->options, opt, m->config->arena);
    *label_node = net_input(m->net, "labels", DT_I32, SHAPE(1, NOMINAL, NOMINAL));
    KdSite site = {.logits = m->nodes.logits,
                   .aux = m->nodes.aux,
                   .labels = *label_node};
    Node loss = ce->build(m->net, &site, opt);
    free(opt);
    return loss;
}

static void put_values(TensorList *out, const Plan *p, const Outputs *o) {
    for (int i = 0; i < o->n; i++) {
        Shape s = plan_shape(p, o->node[i]);
        if (tensor_find(out, o->name[i])) continue;
        memcpy(tensor_add(out, o->name[i], DT_F32, s)->data, plan_value(p, o->node[i]),
               (size_t)shape_count(s) * sizeof(float));
    }
}

static void put_gradients(TensorList *out, const Net *n, bool summary) {
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *q = &n->params[i];
        if (!q->grad) continue;
        int64_t count = shape_count(q->shape);
        char *name = arena_printf(out->arena, "%s.%s", summary ? "gradsum" : "grad", q->name);
        Tensor *t = tensor_add(out, name, DT_F32, summary ? SHAPE(2) : q->shape);
        if (!summary) {
            memcpy(t->data, q->grad, (size_t)count * sizeof(float));
            continue;
        }
        double square = 0, dot = 0;
        for (int64_t k = 0; k < count; k++)
            square += (double)q->grad[k] * q->grad[k], dot += (double)q->grad[k] * q->data[k];
        ((float *)t->data)[0] = (float)sqrt(square), ((float *)t->data)[1] = (float)dot;
    }
}

static Err run_plan(OpenModel *m, const Tensor *image, const Tensor *label, Outputs *o,
                    const char *out_path) {
    const Config *c = m->config;
    bool training = !strcmp(c->mode, "train"), summary = !strcmp(c->grads, "summary");
    Node loss = NO_NODE, label_node = NO_NODE, inputs[2] = {m->nodes.image};
    Shape shapes[2] = {image->shape};
    if (label) {
        loss = add_loss(m, &label_node);
        TRY(m->net->err ? err_set(m->net->err, "%s", m->net->err_msg) : OK);
        inputs[1] = label_node, shapes[1] = label->shape;
        o->node[o->n] = loss, o->name[o->n++] = "loss";
    }
    Plan *p;
    TRY(plan_make(m->net,
                  &(PlanSpec){.training = training,
                              .precision = c->precision,
                              .loss = loss,
                              .outputs = o->node,
                              .n_outputs = o->n,
                              .inputs = inputs,
                              .input_shapes = shapes,
                              .n_inputs = label ? 2 : 1},
                  &p));
    plan_bind(p, m->nodes.image, image->data);
    if (label) plan_bind(p, label_node, label->data);
    plan_run(p, &(OpRun){.training = training, .seed = (uint64_t)c->seed}, false);
    TensorList *out = tensor_list_open();
    put_values(out, p, o);
    if (label) put_gradients(out, m->net, summary);
    Err rc = st_write(out_path, out->v, out->n, NULL, 0);
    if (!rc && label) log_info("loss %.7g", (double)*plan_value(p, loss));
    if (!rc) log_info("wrote %d tensors to %s", out->n, out_path);
    tensor_list_close(out);
    plan_close(p);
    return rc;
}

static Err run_model(OpenModel *m, const SafeFile *in, const CliArgs *args) {
    const Config *c = m->config;
    const Tensor *image, *label;
    bool with_loss = c->loss != NULL;
    TRY(cli_choice("mode", c->mode, "eval", "train"));
    TRY(cli_choice("loss", c->loss, "ce", NULL));
    TRY(cli_choice("grads", c->grads, "all", "summary"));
    TRY(check_inputs(in, args->word[1], m->options.classes, with_loss, &image, &label));
    Outputs o = {
        .node = {m->nodes.logits, m->nodes.features}, .name = {"logits", "features"}, .n = 2};
    if (m->nodes.aux.id) o.node[o.n] = m->nodes.aux, o.name[o.n++] = "aux";
    TRY(add_taps(m->net, c->taps, m->config->arena, &o));
    return run_plan(m, image, label, &o, args->word[2]);
}

Err cmd_run(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("run", usage, argc, argv, 3, 3, &args));
    if (args.help) return OK;
    OpenModel m = {0};
    SafeFile in = {0};
    Err rc = st_read(args.word[1], EXIT_MODEL, &in);
    bool read = !rc;
    if (!rc) rc = open_model("run", args.word[0], &args, OPEN_RAW, NOMINAL, NOMINAL, &m);
    if (!rc) rc = run_model(&m, &in, &args);
    open_model_close(&m);
    if (read) st_close(&in);
    cli_args_close(&args);
    return rc;
}
