/* cmd_loss.c - `retort loss METHOD IN OUT [key=value]`: value and gradient of one loss on given
 * tensors.
 *
 * IN holds student.logits, student.aux, student.features, teacher.logits, teacher.aux,
 * teacher.features, teacher.flip (float32 B x C x h x w) and labels (int32 B x H x W, -1 = ignore):
 * those the method needs. OUT holds loss (one float32) and grad.student.NAME of every student
 * tensor of IN. METHOD is a row of methods.def; rdd-tfe and rdd-tse are the two stages of rdd. No
 * weight is applied to the value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/given.h"
#include "cli/open_model.h"
#include "distill/method.h"

/* The tensors that IN may hold, and where a method's site wants them. */
static const struct {
    const char *name;
    size_t offset;
    bool student;
} rows[] = {{"student.logits", offsetof(KdSite, logits), true},
            {"student.aux", offsetof(KdSite, aux), true},
            {"student.features", offsetof(KdSite, features), true},
            {"teacher.logits", offsetof(KdSite, t_logits), false},
            {"teacher.aux", offsetof(KdSite, t_aux), false},
            {"teacher.features", offsetof(KdSite, t_features), false},
            {"teacher.flip", offsetof(KdSite, t_flip), false}};
enum { ROWS = sizeof rows / sizeof *rows };

typedef struct LossRun {
    const KdMethod *method;
    void *opt;
    float stage[2];
    int only; /* the stage, of rdd-tfe and rdd-tse */
    BackendKind backend;
    const char *in_path, *out_path;
    SafeFile in;
    const Tensor *given[ROWS], *labels;
    Node node[ROWS], label_node, stage_node, loss;
    Net *net;
    Plan *plan;
} LossRun;

static Err find_method(const char *name, LossRun *r) {
    const char *names[64] = {"rdd-tfe", "rdd-tse"};
    int n = 2 + method_names(names + 2, 62);
    bool tse = !strcmp(name, "rdd-tse");
    if (!strcmp(name, "rdd"))
        return err_set(E(EXIT_USAGE, 76), "loss: rdd has two stages; choose rdd-tfe or rdd-tse");
    r->only = tse ? KD_TSE : !strcmp(name, "rdd-tfe") ? KD_TFE : 0;
    r->method = method_find(r->only ? "rdd" : name);
    r->stage[0] = !tse, r->stage[1] = tse;
    if (r->method) return OK;
    const char *near = str_nearest(name, names, n);
    if (near)
        return err_set(E(EXIT_USAGE, 76), "loss: there is no loss %s; did you mean %s?", name,
                       near);
    return err_set(E(EXIT_USAGE, 76), "loss: there is no loss %s; retort loss --help lists them",
                   name);
}

/* key=value of the method's own table, and backend=cpu|ref. */
static Err read_options(const CliArgs *args, Arena *a, LossRun *r) {
    r->opt = arena_alloc(a, r->method->option_bytes + 1);
    if (r->method->options) option_defaults(r->method->options, r->opt, a);
    for (int i = 0; i < args->n_opt;) {
        const char *key, *value;
        TRY(cli_option(args, &i, a, &key, &value));
        if (strcmp(key, "backend")) {
            TRY(option_set(r->method->options, r->opt, a, "", key, value, "command line"));
            continue;
        }
        TRY(cli_choice("backend", value, "cpu", "ref"));
        r->backend = !strcmp(value, "ref") ? BACKEND_REF : BACKEND_CPU;
    }
    return OK;
}

static Err read_tensors(LossRun *r) {
    const bool labels = tensor_find(r->in.tensors, "labels") || (r->method->taps & KD_LABELS);
    bool features = (r->method->taps & KD_FEATURES) && !(r->method->taps & KD_LOGITS);
    for (int i = 0; i < ROWS; i++) {
        const char *main_tap = features ? "student.features" : "student.logits";
        TRY(given_map(&r->in, r->in_path, rows[i].name, !strcmp(rows[i].name, main_tap),
                      &r->given[i]));
        const Tensor *first = r->given[0] ? r->given[0] : r->given[2];
        if (r->given[i] && first && r->given[i]->shape.d[0] != first->shape.d[0])
            return err_set(E(EXIT_MODEL, 51), "%s: %s is %s, but %s is %s; the batch must agree",
                           r->in_path, rows[i].name, shape_text(r->given[i]->shape).s, first->name,
                           shape_text(first->shape).s);
    }
    const Tensor *logits = r->given[0];
    int64_t classes = logits ? logits->shape.d[1] : INT32_MAX,
            n = logits ? logits->shape.d[0] : r->given[2]->shape.d[0];
    return labels ? given_labels(&r->in, r->in_path, n, 0, 0, classes, &r->labels) : OK;
}

static Err build(LossRun *r) {
    KdSite site = {.only = r->only};
    Node wanted[ROWS];
    int n_wanted = 0;
    r->net = net_open("loss");
    for (int i = 0; i < ROWS; i++) {
        if (!r->given[i]) continue;
        Node x = net_input(r->net, rows[i].name, DT_F32, r->given[i]->shape);
        *(Node *)((char *)&site + rows[i].offset) = r->node[i] = x;
        if (rows[i].student) wanted[n_wanted++] = x;
    }
    if (r->labels)
        site.labels = r->label_node = net_input(r->net, "labels", DT_I32, r->labels->shape);
    site.stage = r->stage_node = net_input(r->net, "stage", DT_F32, SHAPE(2));
    r->loss = r->method->build(r->net, &site, r->opt);
    TRY(net_finish(r->net));
    return plan_make(r->net,
                     &(PlanSpec){.backend = r->backend,
                                 .training = true,
                                 .loss = r->loss,
                                 .outputs = &r->loss,
                                 .n_outputs = 1,
                                 .wanted = wanted,
                                 .n_wanted = n_wanted},
                     &r->plan);
}

static Err run(LossRun *r) {
    for (int i = 0; i < ROWS; i++)
        if (r->given[i]) plan_bind(r->plan, r->node[i], r->given[i]->data);
    if (r->labels) plan_bind(r->plan, r->label_node, r->labels->data);
    plan_bind(r->plan, r->stage_node, r->stage);
    plan_run(r->plan, &(OpRun){.training = true}, false);
    const void *saved = plan_saved(r->plan, r->loss);
    return r->method->check && saved ? r->method->check(saved) : OK;
}

static Err write_out(const LossRun *r) {
    TensorList *out = tensor_list_open();
    *(float *)tensor_add(out, "loss", DT_F32, SHAPE(1))->data = *plan_value(r->plan, r->loss);
    for (int i = 0; i < ROWS; i++) {
        if (!r->given[i] || !rows[i].student) continue;
        Shape s = r->given[i]->shape;
        Tensor *t = tensor_add(out, arena_printf(out->arena, "grad.%s", rows[i].name), DT_F32, s);
        const float *g =
            plan_gradient(r->plan, r->node[i]); /* NULL: the loss does not depend on it; zeros */
        if (g) memcpy(t->data, g, (size_t)shape_count(s) * sizeof(float));
    }
    Err rc = st_write(r->out_path, out->v, out->n, NULL, 0);
    if (!rc)
        log_info("loss %.7g; wrote it and its gradients to %s",
                 (double)*plan_value(r->plan, r->loss), r->out_path);
    tensor_list_close(out);
    return rc;
}

static void print_help(void) {
    const char *names[64];
    printf("retort loss METHOD IN OUT [key=value ...]\n\n"
           "The value of one loss on the tensors of IN (safetensors: student.logits,\n"
           "teacher.logits, ..., labels), and its gradients, to OUT; see docs/formats.md.\n"
           "METHOD is one of these; rdd is rdd-tfe or rdd-tse, its two stages.\n");
    for (int i = 0, n = method_names(names, 64); i < n; i++) {
        const KdMethod *m = method_find(names[i]);
        printf("\n%s (%s)\n", m->name, m->cite);
        if (m->options) option_help(m->options, "");
    }
    printf("\nbackend  cpu, or ref: plain C\n");
}

Err cmd_loss(int argc, char **argv) {
    if (cli_wants_help(argc, argv)) return print_help(), OK;
    CliArgs args;
    TRY(cli_args("loss", "loss METHOD IN OUT [key=value ...]", argc, argv, 3, 3, &args));
    Arena *a = arena_open();
    LossRun r = {.in_path = args.word[1], .out_path = args.word[2]};
    Err rc = find_method(args.word[0], &r);
    if (!rc) rc = read_options(&args, a, &r);
    bool read = !rc && !(rc = st_read(r.in_path, EXIT_MODEL, &r.in));
    if (!rc) rc = read_tensors(&r);
    if (!rc) rc = build(&r);
    if (!rc) rc = run(&r);
    if (!rc) rc = write_out(&r);
    if (r.plan) plan_close(r.plan);
    if (r.net) net_close(r.net);
    if (read) st_close(&r.in);
    arena_close(a);
    cli_args_close(&args);
    return rc;
}
