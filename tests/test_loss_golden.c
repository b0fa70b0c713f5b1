/* Every loss of tests/golden/losses.safetensors, PyTorch's value and gradients in float64, on both backends
 * and at every instruction set (tools/golden_losses.py writes the file). */
#include "backend/plan.h"
#include "base/cpu.h"
#include "base/str.h"
#include "distill/method.h"
#include "io/safetensors.h"
#include "test.h"

/* Of the largest element; what the specification asks for, and where a softmax over positions is involved. */
static double tolerance(const char *method) {
    static const char *const loose[] = {"cwd", "dsd", "cirkd"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(method, loose[i])) return 1e-4;
    if (!strcmp(method, "lovasz")) return 1e-3;          /* its gradient turns where two errors change ranks */
    return 1e-5;
}
enum { FIELDS = 10, STUDENTS = 4, IN_SITE = 6 };
/* The student's first; those of a method's site last, the others are asked for by name. */
static const struct { const char *name; size_t offset;
} FIELD[FIELDS] = {{"student.mid", 0},
                   {"student.features", 0},
                   {"student.logits", offsetof(KdSite, logits)},
                   {"student.aux", offsetof(KdSite, aux)},
                   {"teacher.mid", 0},
                   {"teacher.features", 0},
                   {"teacher.logits", offsetof(KdSite, t_logits)},
                   {"teacher.aux", offsetof(KdSite, t_aux)},
                   {"teacher.flip", offsetof(KdSite, t_flip)},
                   {"labels", offsetof(KdSite, labels)}};

typedef struct Case {
    const SafeFile *file;
    const char *group, *text, *prefix;   /* "every", "kd tau=4", "every/kd tau=4" */
    Net  *net;
    Node  node[FIELDS], loss;
    const void *data[FIELDS];
    const KdMethod *method;
} Case;

static Node find_layer(const KdSite *s, Net *n, bool teacher, const char *name) {
    return net_find(n, arena_printf(n->arena, "%s.%s", teacher ? "teacher" : "student", name));
}
static const Tensor *find(const Case *c, const char *scope, const char *name) {
    return tensor_find(c->file->tensors, arena_printf(c->net->arena, "%s/%s", scope, name));
}
/* Labels lie there as bytes, 255 = void. */
static const void *data_of(Case *c, const Tensor *t) {
    if (t->dtype == DT_F32) return t->data;
    int32_t *y = arena_alloc(c->net->arena, sizeof *y * (size_t)shape_count(t->shape));
    for (int64_t i = 0; i < shape_count(t->shape); i++)
        y[i] = ((const uint8_t *)t->data)[i] == 255 ? -1 : ((const uint8_t *)t->data)[i];
    return y;
}
/* "rdd-tse rule=or": a stage of rdd, or a method's own name; then options. */
static void build(Case *c) {
    Net *n = c->net;
    KdSite site = {.tap = find_layer};
    for (int i = 0; i < FIELDS; i++) {
        const Tensor *t = find(c, c->group, FIELD[i].name);
        if (!t) continue;
        c->data[i] = data_of(c, t);
        c->node[i] = net_input(n, FIELD[i].name, t->dtype == DT_F32 ? DT_F32 : DT_I32, t->shape);
        if (FIELD[i].offset || !strcmp(FIELD[i].name, "student.logits"))
            *(Node *)((char *)&site + FIELD[i].offset) = c->node[i];
    }
    char *rest = arena_strdup(n->arena, c->text), *word = strtok_r(rest, " ", &rest);
    site.only = !strcmp(word, "rdd-tfe") ? KD_TFE : !strcmp(word, "rdd-tse") ? KD_TSE : 0;
    c->method = method_find(site.only ? "rdd" : word);
    CHECK(c->method != NULL);
    void *opt = arena_alloc(n->arena, c->method->option_bytes);
    method_bare_options(c->method, opt, n->arena);
    while ((word = strtok_r(NULL, " ", &rest))) {
        char *value = strchr(word, '=');
        *value++ = 0;
        EXPECT_OK(option_set(c->method->options, opt, n->arena, "", word, value, "golden"));
    }
    site.classes = (int)net_shape(n, site.logits).d[1];
    c->loss = c->method->build(n, &site, opt);
    EXPECT_OK(net_finish(n));
    net_init_params(n, 0, 1);
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *p = &n->params[i];
        const Tensor *t = find(c, c->group, p->name);
        if (t) memcpy(p->data, t->data, sizeof(float) * (size_t)shape_count(p->shape));
    }
}
static void compare(const Case *c, const char *what, const char *name, const float *got,
                    const Tensor *want) {
    double worst = 0, size = 0;
    for (int64_t i = 0; i < shape_count(want->shape); i++) {
        double w = (double)((const float *)want->data)[i],
               d = fabs((got ? (double)got[i] : 0.0) - w);
        if (!(d <= worst)) worst = d;
        size = fmax(size, fabs(w));
    }
    if (!(worst <= tolerance(c->method->name) * size))
        FAIL("%s on %s: %s is off by %.2g of %.2g", c->prefix, what, name, worst, size);
}
/* What a method remembers, as it was before any run. */
static void fill_states(const Case *c) {
    for (int i = 0; i < c->net->n_states; i++) {
        Tensor *s = c->net->states[i];
        const Tensor *t = find(c, c->group, s->name);
        CHECK(t != NULL && shape_equal(t->shape, s->shape) && t->dtype == s->dtype);
        memcpy(s->data, t->data, dtype_bytes(s->dtype) * (size_t)shape_count(s->shape));
    }
}
static void run_on(Case *c, BackendKind backend, const char *what) {
    fill_states(c);
    Plan *plan;
    Node wanted[STUDENTS];
    int n_wanted = 0;
    for (int i = 0; i < STUDENTS; i++)
        if (c->node[i].id) wanted[n_wanted++] = c->node[i];
    EXPECT_OK(plan_make(c->net,
                        &(PlanSpec){.backend = backend,
                                    .training = true,
                                    .loss = c->loss,
                                    .outputs = &c->loss,
                                    .n_outputs = 1,
                                    .wanted = wanted,
                                    .n_wanted = n_wanted},
                        &plan));
    for (int i = 0; i < FIELDS; i++)
        if (c->data[i]) plan_bind(plan, c->node[i], c->data[i]);
    plan_run(plan, &(OpRun){.training = true}, false);
    if (c->method->check) EXPECT_OK(c->method->check(plan_saved(plan, c->loss)));
    compare(c, what, "loss", plan_value(plan, c->loss), find(c, c->prefix, "loss"));
    for (int i = 0; i < STUDENTS; i++) {
        const Tensor *want =
            find(c, c->prefix, arena_printf(c->net->arena, "grad.%s", FIELD[i].name));
        if (want) compare(c, what, FIELD[i].name, plan_gradient(plan, c->node[i]), want);
    }
    for (int i = 0; i < c->net->n_params; i++) {
        const NetParam *p = &c->net->params[i];
        const Tensor *want = find(c, c->prefix, arena_printf(c->net->arena, "grad.%s", p->name));
        if (want) compare(c, what, p->name, p->grad, want);
    }
    plan_close(plan);
}
static void run_case(const SafeFile *f, char *name) {        /* "GROUP/METHOD OPTION .../loss", cut to pieces */
    char *slash = strchr(name, '/'), *end = strrchr(name, '/');
    *end = 0;
    Case c = {.file = f, .prefix = name, .text = slash + 1, .net = net_open("loss")};
    c.group = arena_printf(c.net->arena, "%.*s", (int)(slash - name), name);
    build(&c);
    if (!c.net->err) {
        run_on(&c, BACKEND_REF, "ref");
        for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++) {
            cpu_force((CpuLevel)level);
            run_on(&c, BACKEND_CPU, cpu_level_name((CpuLevel)level));
        }
    }
    net_close(c.net);
}
/* The cases of one method, whose names begin so. */
static void run_method(const char *method, int least) {
    SafeFile f;
    EXPECT_OK(st_read(SOURCE_DIR "/tests/golden/losses.safetensors", EXIT_MODEL, &f));
    int count = 0;
    for (int i = 0; i < f.tensors->n && test_failures < 10; i++) {
        const char *name = f.tensors->v[i].name, *slash = strchr(name, '/'),
                   *end = strrchr(name, '/');
        if (strcmp(end, "/loss") || !str_starts(slash + 1, method) ||
            !strchr(" /", slash[1 + strlen(method)]))
            continue;
        char *copy = xstrdup(name);
        run_case(&f, copy);
        free(copy);
        count++;
    }
    if (count < least) FAIL("%d cases of %s, expected %d or more", count, method, least);
    st_close(&f);
}
TEST(ce_equals_torch) { run_method("ce", 6); }
TEST(ohem_equals_torch) { run_method("ohem", 10); }
TEST(kd_equals_torch) { run_method("kd", 13); }
TEST(tfe_equals_torch) { run_method("rdd-tfe", 22); }
TEST(tse_equals_torch) { run_method("rdd-tse", 38); }
TEST(at_equals_torch) { run_method("at", 12); }
TEST(fitnet_equals_torch) { run_method("fitnet", 6); }
TEST(ifvd_equals_torch) { run_method("ifvd", 7); }
TEST(cwd_equals_torch) { run_method("cwd", 10); }
TEST(dsd_equals_torch) { run_method("dsd", 10); }
TEST(dist_equals_torch) { run_method("dist", 6); }
TEST(skd_pa_equals_torch) { run_method("skd.pa", 6); }
TEST(cirkd_equals_torch) { run_method("cirkd", 8); }
TEST(dice_equals_torch) { run_method("dice", 2); }
TEST(lovasz_equals_torch) { run_method("lovasz", 2); }
TEST_MAIN(T(dice_equals_torch), T(lovasz_equals_torch), T(skd_pa_equals_torch),
          T(cirkd_equals_torch), T(at_equals_torch), T(fitnet_equals_torch), T(ifvd_equals_torch),
          T(cwd_equals_torch), T(dsd_equals_torch), T(dist_equals_torch), T(ce_equals_torch),
          T(ohem_equals_torch), T(kd_equals_torch), T(tfe_equals_torch), T(tse_equals_torch))
