/* cmd_loss.c - `retort loss METHOD IN OUT [key=value]`: value and gradient of one loss on given
 * tensors.
 *
 * IN holds student.LAYER and teacher.LAYER (float32 B x C x h x w) for logits, aux, features, mid
 * or whatever layer an option names, teacher.flip, and labels (int32 B x H x W, -1 = ignore): those
 * the method needs; further, by their own names, the parameters a method adds (adapter.weight) and
 * what it remembers. OUT holds loss (one float32), grad.student.LAYER of every student tensor of
 * IN and grad.NAME of every trained parameter. METHOD is a row of methods.def; rdd-tfe and rdd-tse
 * are the two stages of rdd. No weight is applied to the value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/plan.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/given.h"
#include "cli/open_model.h"
#include "distill/method.h"

/* Layers with a place of their own in a method's site; the others are asked for by name. */
static const struct {
    const char *name;
    size_t offset;
} rows[] = {{"student.logits", offsetof(KdSite, logits)},
            {"student.aux", offsetof(KdSite, aux)},
            {"teacher.logits", offsetof(KdSite, t_logits)},
            {"teacher.aux", offsetof(KdSite, t_aux)},
            {"teacher.flip", offsetof(KdSite, t_flip)}};
enum { ROWS = sizeof rows / sizeof *rows, GIVEN_MAX = 32, RUNS_MAX = 1000 };

typedef struct Given {
    const Tensor *t;
    Node node;
    bool student;
} Given;

typedef struct LossRun {
    const KdMethod *method;
    void *opt;
    float stage[2];
    int only; /* the stage, of rdd-tfe and rdd-tse */
    BackendKind backend;
    int64_t runs; /* timed ones; 0: none */
    const char *in_path, *out_path;
    SafeFile in;
    Given given[GIVEN_MAX];
    int n_given;
    const Tensor *labels;
    Node label_node, stage_node, loss;
    Net *net;
    Plan *plan;
} LossRun;

/* Parts of methods that have a name here. */
static const struct {
    const char *name, *method;
    int only;
} parts[] = {{"rdd-tfe", "rdd", KD_TFE},
             {"rdd-tse", "rdd", KD_TSE},
             {"skd.ho-discriminator", "skd.ho", KD_DISCRIMINATOR}};
enum { PARTS = sizeof parts / sizeof *parts };

static Err find_method(const char *name, LossRun *r) {
    const char *names[64];
    int n = method_names(names, 64 - PARTS);
    if (!strcmp(name, "rdd"))
        return err_set(E(EXIT_USAGE, 76), "loss: rdd has two stages; choose rdd-tfe or rdd-tse");
    r->method = method_find(name);
    for (int i = 0; i < PARTS; i++) {
        names[n++] = parts[i].name;
        if (!strcmp(name, parts[i].name))
            r->method = method_find(parts[i].method), r->only = parts[i].only;
    }
    r->stage[0] = r->only == KD_TFE, r->stage[1] = r->only == KD_TSE;
    if (r->method) return OK;
    const char *near = str_nearest(name, names, n);
    if (near)
        return err_set(E(EXIT_USAGE, 76), "loss: there is no loss %s; did you mean %s?", name,
                       near);
    return err_set(E(EXIT_USAGE, 76), "loss: there is no loss %s; retort loss --help lists them",
                   name);
}

/* key=value of the method's own table, backend=cpu|ref and runs=N. */
static Err read_options(const CliArgs *args, Arena *a, LossRun *r) {
    r->opt = arena_alloc(a, r->method->option_bytes + 1);
    method_bare_options(r->method, r->opt, a);
    for (int i = 0; i < args->n_opt;) {
        const char *key, *value;
        TRY(cli_option(args, &i, a, &key, &value));
        if (!strcmp(key, "runs")) {
            if (!parse_i64(value, &r->runs) || r->runs < 1 || r->runs > RUNS_MAX)
                return err_set(E(EXIT_USAGE, 76), "loss: runs=%s; give 1 to %d", value, RUNS_MAX);
        } else if (!strcmp(key, "backend")) {
            TRY(cli_choice("backend", value, "cpu", "ref"));
            r->backend = !strcmp(value, "ref") ? BACKEND_REF : BACKEND_CPU;
        } else TRY(option_set(r->method->options, r->opt, a, "", key, value, "command line"));
    }
    return OK;
}

static const Tensor *given_find(const LossRun *r, const char *name) {
    for (int i = 0; i < r->n_given; i++)
        if (!strcmp(r->given[i].t->name, name)) return r->given[i].t;
    return NULL;
}

static Err read_tensors(LossRun *r) {
    const Tensor *unused;
    if (r->method->task || !strcmp(r->method->name, "kd"))
        TRY(given_map(&r->in, r->in_path, "student.logits", true, &unused));
    for (int i = 0; i < r->in.tensors->n; i++) {
        const char *name = r->in.tensors->v[i].name;
        const bool student = str_starts(name, "student.");
        if (!student && !str_starts(name, "teacher.")) continue;
        if (r->n_given == GIVEN_MAX)
            return err_set(E(EXIT_MODEL, 51), "%s: more than %d layers", r->in_path, GIVEN_MAX);
        Given *g = &r->given[r->n_given++], *first = r->given;
        TRY(given_map(&r->in, r->in_path, name, true, &g->t));
        g->student = student;
        if (g->t->shape.d[0] != first->t->shape.d[0])
            return err_set(E(EXIT_MODEL, 51), "%s: %s is %s, but %s is %s; the batch must agree",
                           r->in_path, name, shape_text(g->t->shape).s, first->t->name,
                           shape_text(first->t->shape).s);
    }
    if (!r->n_given)
        return err_set(E(EXIT_MODEL, 51), "%s: holds no student.LAYER; see docs/formats.md",
                       r->in_path);
    const Tensor *logits = given_find(r, "student.logits");
    const bool labels = tensor_find(r->in.tensors, "labels") || (r->method->taps & KD_LABELS);
    return labels ? given_labels(&r->in, r->in_path, r->given[0].t->shape.d[0], 0, 0,
                                 logits ? logits->shape.d[1] : 4096, &r->labels)
                  : OK;
}

/* KdSite.tap: a layer is a tensor of IN. */
static Node find_layer(const KdSite *s, Net *n, bool teacher, const char *name) {
    const LossRun *r = s->owner;
    char full[256];
    snprintf(full, sizeof full, "%s.%s", teacher ? "teacher" : "student", name);
    const Node x = net_find(n, full);
    if (!n->err && !x.id)
        net_fail(n, E(EXIT_MODEL, 51), "%s needs a tensor `%s`, float32, B x C x h x w", r->in_path,
                 full);
    return n->err ? NO_NODE : x;
}

static int count_classes(const LossRun *r) {
    const Tensor *logits = given_find(r, "student.logits");
    int32_t most = 0;
    if (logits) return (int)logits->shape.d[1];
    for (int64_t i = 0; r->labels && i < shape_count(r->labels->shape); i++) {
        const int32_t y = ((const int32_t *)r->labels->data)[i];
        most = y > most ? y : most;
    }
    return most + 1;
}

static Err copy_given(const LossRun *r, const char *name, Shape shape, Dtype type, void *to,
                      bool needed) {
    const Tensor *t = tensor_find(r->in.tensors, name);
    if (!t && !needed) return OK;
    if (!t)
        return err_set(E(EXIT_MODEL, 51), "%s: needs a tensor `%s`, %s %s", r->in_path, name,
                       dtype_name(type), shape_text(shape).s);
    if (t->dtype != type || !shape_equal(t->shape, shape))
        return err_set(E(EXIT_MODEL, 51), "%s: %s is %s %s; it must be %s %s", r->in_path, name,
                       dtype_name(t->dtype), shape_text(t->shape).s, dtype_name(type),
                       shape_text(shape).s);
    memcpy(to, t->data, (size_t)shape_count(shape) * dtype_bytes(type));
    return OK;
}

/* The parameters and states of the method: weights must be given, the rest starts as in training. */
static Err fill_params(LossRun *r) {
    Net *n = r->net;
    TRY(net_finish(n));
    net_init_params(n, 0, 1);
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *p = &n->params[i];
        if (p->kind == PARAM_COUNT) continue;
        TRY(copy_given(r, p->name, p->shape, DT_F32, p->data, p->kind <= PARAM_BIAS));
    }
    for (int i = 0; i < n->n_states; i++)
        TRY(copy_given(r, n->states[i]->name, n->states[i]->shape, n->states[i]->dtype,
                       n->states[i]->data, false));
    return OK;
}

static Err build(LossRun *r) {
    KdSide side = {.net = NULL};
    KdSite site = {.only = r->only,
                   .tap = find_layer,
                   .owner = r,
                   .side = &side,
                   .classes = count_classes(r),
                   .adapters = tensor_find(r->in.tensors, "adapter.weight") != NULL};
    Node wanted[GIVEN_MAX];
    int n_wanted = 0;
    r->net = net_open("loss");
    for (int i = 0; i < r->n_given; i++) {
        Given *g = &r->given[i];
        g->node = net_input(r->net, g->t->name, DT_F32, g->t->shape);
        for (int k = 0; k < ROWS; k++)
            if (!strcmp(rows[k].name, g->t->name))
                *(Node *)((char *)&site + rows[k].offset) = g->node;
        if (g->student) wanted[n_wanted++] = g->node;
    }
    if (r->labels)
        site.labels = r->label_node = net_input(r->net, "labels", DT_I32, r->labels->shape);
    site.stage = r->stage_node = net_input(r->net, "stage", DT_F32, SHAPE(2));
    r->loss = r->method->build(r->net, &site, r->opt);
    net_close(side.net); /* it is not trained here */
    TRY(fill_params(r));
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
    for (int i = 0; i < r->n_given; i++)
        plan_bind(r->plan, r->given[i].node, r->given[i].t->data);
    if (r->labels) plan_bind(r->plan, r->label_node, r->labels->data);
    plan_bind(r->plan, r->stage_node, r->stage);
    plan_run(r->plan, &(OpRun){.training = true}, false);
    const void *saved = plan_saved(r->plan, r->loss);
    return r->method->check && saved ? r->method->check(saved) : OK;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One line of JSON: the median time of forward and backward, and what memory they take beside their inputs. */
static void time_runs(const LossRun *r) {
    double ms[RUNS_MAX];
    const clock_t before = clock();
    for (int64_t i = 0; i < r->runs; i++) {
        const double start = sys_now();
        plan_run(r->plan, &(OpRun){.training = true}, false);
        ms[i] = 1e3 * (sys_now() - start);
    }
    const double cpu = 1e3 * (double)(clock() - before) / CLOCKS_PER_SEC / (double)r->runs;
    qsort(ms, (size_t)r->runs, sizeof *ms, by_size);
    const PlanStats s = plan_stats(r->plan);
    printf("{\"ms\": %.4f, \"cpu_ms\": %.4f, \"bytes\": %zu}\n", ms[r->runs / 2], cpu,
           s.arena_bytes);
}

/* grad: NULL when the loss does not depend on it; zeros. */
static void add_gradient(TensorList *out, const char *name, Shape s, const float *grad) {
    Tensor *t = tensor_add(out, arena_printf(out->arena, "grad.%s", name), DT_F32, s);
    if (grad) memcpy(t->data, grad, (size_t)shape_count(s) * sizeof(float));
}

static Err write_out(const LossRun *r) {
    TensorList *out = tensor_list_open();
    *(float *)tensor_add(out, "loss", DT_F32, SHAPE(1))->data = *plan_value(r->plan, r->loss);
    for (int i = 0; i < r->n_given; i++)
        if (r->given[i].student)
            add_gradient(out, r->given[i].t->name, r->given[i].t->shape,
                         plan_gradient(r->plan, r->given[i].node));
    for (int i = 0; i < r->net->n_params; i++) {
        const NetParam *p = &r->net->params[i];
        if (p->trainable) add_gradient(out, p->name, p->shape, p->grad);
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
    help_print("retort loss METHOD IN OUT [key=value ...]\n\n"
           "The value of one loss on the tensors of IN (safetensors: student.logits,\n"
           "teacher.logits, ..., labels), and its gradients, to OUT; see docs/formats.md.\n"
           "METHOD is one of these; rdd is rdd-tfe or rdd-tse, its two stages;\n"
           "skd.ho-discriminator is the loss of its discriminator.\n");
    for (int i = 0, n = method_names(names, 64); i < n; i++) {
        const KdMethod *m = method_find(names[i]);
        help_print("\n%s (%s)\n", m->name, m->cite);
        if (m->options) option_help(m->options, "");
    }
    printf("\nbackend  cpu, or ref: plain C\n"
           "runs     repeat so often and print the median time and the memory as JSON\n");
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
    if (!rc && r.runs) time_runs(&r);
    if (r.plan) plan_close(r.plan);
    if (r.net) net_close(r.net);
    if (read) st_close(&r.in);
    arena_close(a);
    cli_args_close(&args);
    return rc;
}
