/* test_distill.c - ce, ohem, rdd and kd: the reference against finite differences, the fused kernels
 * against the reference at every instruction set, and the corner cases of the specification.
 *
 * A case builds a small net of inputs and one method, then calls the op's functions directly. */
#include "base/cpu.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "distill/fullres.h"
#include "measure.h"
#include "test.h"

typedef struct Case {
    int n, k, h, w, H, W;
    int th, tw;                          /* teacher's grid; 0: the student's */
    bool no_aux, no_t_aux, no_teacher, flip;
    bool near_teacher;                   /* the student's logits are the teacher's and a tenth of noise */
    float boost;                         /* every label is 0 and the logits of class 0 are raised by this */
    double void_share;                   /* of the labels */
    double spread, t_spread;             /* scale of the student's and the teacher's logits; 0: 2 */
    float  stage[2];
    int  only;                           /* KdSite.only */
    const char *method, *options;        /* "theta=0.5 rule=or" */
} Case;
enum { STUDENT, S_AUX, TEACHER, T_AUX, T_FLIP, FIELDS };
typedef struct Run {
    Case c;
    Net *net;
    Node loss;
    const NetNode *node;
    float *field[FIELDS];                /* logits of the heads */
    float *grad[2];                      /* of STUDENT and S_AUX */
    int32_t *labels;
    double value;
    void *saved, *scratch;
    Shape shape[FIELDS];
    int64_t count[FIELDS];
    const void *input[16];               /* data by node id */
    OpRun run;
} Run;

static void set_options(const KdMethod *m, void *opt, Arena *a, const char *text) {
    char *copy = arena_strdup(a, text ? text : ""), *rest = copy;
    option_defaults(m->options, opt, a);
    for (char *item; (item = strtok_r(rest, " ", &rest));) {
        char *value = strchr(item, '=');
        CHECK(value != NULL);
        *value++ = 0;
        CHECK(option_set(m->options, opt, a, m->name, item, value, "test") == OK);
    }
}
static Node add_field(Run *r, int i, const char *name) {
    int64_t h = i >= TEACHER && r->c.th ? r->c.th : r->c.h,
            w = i >= TEACHER && r->c.tw ? r->c.tw : r->c.w;
    r->shape[i] = SHAPE(r->c.n, r->c.k, h, w);
    r->count[i] = shape_count(r->shape[i]);
    r->field[i] = xcalloc((size_t)r->count[i], sizeof(float));
    Rng g = rng_stream(7, RNG_METHOD, 0, (uint64_t)i);
    double spread = i >= TEACHER ? r->c.t_spread : r->c.spread;
    for (int64_t e = 0; e < r->count[i]; e++)
        r->field[i][e] = rng_normal(&g, (uint64_t)e) * (float)(spread > 0 ? spread : 2.0);
    for (int64_t e = 0; e < r->count[i]; e++)
        r->field[i][e] += e / (h * w) % r->c.k ? 0 : r->c.boost;
    Node x = net_input(r->net, name, DT_F32, r->shape[i]);
    r->input[x.id] = r->field[i];
    return x;
}
static void fill_labels(Run *r) {
    int64_t n = (int64_t)r->c.n * r->c.H * r->c.W;
    Rng g = rng_stream(9, RNG_METHOD, 0, 0);
    r->labels = xcalloc((size_t)n, sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) {
        bool is_void = (double)rng_uniform(&g, (uint64_t)(2 * i)) < r->c.void_share;
        r->labels[i] =
            is_void ? -1 : (int32_t)rng_below(&g, (uint64_t)(2 * i + 1), (uint32_t)r->c.k);
        if (r->c.boost > 0) r->labels[i] = 0;
    }
}
/* Builds net and data; the caller checks r->net->err where it expects one. */
static Run make(Case c) {
    Run r = {.c = c, .net = net_open("test")};
    KdSite s = {.logits = add_field(&r, STUDENT, "s"), .only = c.only};
    if (!c.no_aux) s.aux = add_field(&r, S_AUX, "sa");
    if (!c.no_teacher) s.t_logits = add_field(&r, TEACHER, "t");
    if (!c.no_t_aux && !c.no_teacher) s.t_aux = add_field(&r, T_AUX, "ta");
    if (c.flip) s.t_flip = add_field(&r, T_FLIP, "tf");
    for (int64_t e = 0; c.near_teacher && e < r.count[STUDENT]; e++)
        r.field[STUDENT][e] = r.field[TEACHER][e] + 0.05f * r.field[STUDENT][e];
    fill_labels(&r);
    s.labels = net_input(r.net, "labels", DT_I32, SHAPE(c.n, c.H, c.W));
    s.stage = net_input(r.net, "stage", DT_F32, SHAPE(2));
    r.input[s.labels.id] = r.labels;
    const KdMethod *m = method_find(c.method);
    void *opt = arena_alloc(r.net->arena, m->option_bytes);
    set_options(m, opt, r.net->arena, c.options);
    r.loss = m->build(r.net, &s, opt);
    r.input[s.stage.id] = arena_alloc(r.net->arena, sizeof r.c.stage);
    memcpy((void *)r.input[s.stage.id], r.c.stage, sizeof r.c.stage);
    for (int j = 0; j < 2; j++)
        r.grad[j] = xcalloc((size_t)(r.count[j] ? r.count[j] : 1), sizeof(float));
    r.node = r.net->err ? NULL : net_node(r.net, r.loss);
    return r;
}
static void run(Run *r, bool fast) {
    const NetNode *node = r->node;
    CHECK(node != NULL);
    const void *src[NODE_SRC_MAX] = {0};
    Shape shape[NODE_SRC_MAX];
    Dtype type[NODE_SRC_MAX];
    float *dsrc[NODE_SRC_MAX] = {0}, value = 0, one = 2.0f;
    for (int i = 0; i < node->n_src; i++) {
        src[i] = r->input[node->src[i]];
        shape[i] = r->net->nodes[node->src[i]].shape, type[i] = r->net->nodes[node->src[i]].dtype;
        for (int j = 0; j < 2; j++)
            if (src[i] == r->field[j]) dsrc[i] = r->grad[j];
    }
    OpSite site = {.attr = node->attr, .n_src = node->n_src, .src = shape, .src_dtype = type};
    size_t saved = node->op->saved_bytes(&site, node->shape),
           scratch = node->op->scratch_bytes(&site, node->shape);
    free(r->saved), free(r->scratch);
    CHECK(posix_memalign(&r->saved, 64, saved) == 0 &&
          posix_memalign(&r->scratch, 64, scratch) == 0);
    memset(r->saved, 0xaa, saved), memset(r->scratch, 0xaa, scratch);
    OpCall call = {.attr = node->attr,
                   .n_src = node->n_src,
                   .src_shape = shape,
                   .shape = node->shape,
                   .src = src,
                   .dst = &value,
                   .saved = r->saved,
                   .scratch = r->scratch,
                   .run = &r->run};
    (fast ? node->op->fast_forward : node->op->forward)(&call);
    for (int j = 0; j < 2; j++) memset(r->grad[j], 0, sizeof(float) * (size_t)r->count[j]);
    const void *none[NODE_SRC_MAX] = {0};
    call.src = none, call.dst = NULL, call.ddst = &one, call.dsrc = dsrc;
    (fast ? node->op->fast_backward : node->op->backward)(&call);
    for (int j = 0; j < 2; j++)
        for (int64_t i = 0; i < r->count[j]; i++) r->grad[j][i] /= 2.0f;      /* ddst was 2 */
    r->value = (double)value;
}
static void drop(Run *r) {
    for (int i = 0; i < FIELDS; i++) free(r->field[i]);
    for (int j = 0; j < 2; j++) free(r->grad[j]);
    free(r->labels), free(r->saved), free(r->scratch);
    net_close(r->net);
}
/* max |a - b| / max |b|; 0 when both are 0. */
static double differ(const float *a, const float *b, int64_t n) {
    double d = 0, m = max_abs(b, n);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= d)) d = fabs((double)a[i] - (double)b[i]);
    return d == 0 ? 0 : d / m;
}

/* ---- reference against finite differences ------------------------------------------------------- */
/* Central differences of the float32 value: step 1e-2, error ~ 1e-7 * loss / step + curvature. */
static void check_gradient(Case c) {
    Run r = make(c);
    if (r.net->err) { FAIL("%s: %s", c.method, r.net->err_msg); drop(&r); return; }
    run(&r, false);
    float *grad[2] = {xcalloc((size_t)r.count[0], 4), xcalloc((size_t)r.count[1] + 1, 4)};
    for (int j = 0; j < 2; j++) memcpy(grad[j], r.grad[j], sizeof(float) * (size_t)r.count[j]);
    for (int j = 0; j < 2; j++) {
        double scale = fmax(max_abs(grad[j], r.count[j]), 1e-3);
        for (int64_t i = 0; i < r.count[j]; i += 1 + r.count[j] / 40) {
            float old = r.field[j][i], step = 1e-2f;
            r.field[j][i] = old + step, run(&r, false);
            double up = r.value;
            r.field[j][i] = old - step, run(&r, false);
            double numeric = (up - r.value) / (2 * (double)step), analytic = (double)grad[j][i];
            r.field[j][i] = old;
            if (!(fabs(numeric - analytic) <= 2e-3 * scale + 1e-4))
                FAIL("%s %s head %d element %lld: %.7g, expected %.7g", c.method,
                     c.options ? c.options : "", j, (long long)i, analytic, numeric);
        }
    }
    free(grad[0]), free(grad[1]);
    drop(&r);
}
static const Case small = {.n = 2, .k = 5, .h = 3, .w = 4, .H = 11, .W = 17, .void_share = 0.2};
static Case with(Case c, const char *method, const char *options) {
    c.method = method, c.options = options;
    return c;
}
TEST(ce_gradient) {
    check_gradient(with(small, "ce", ""));
    check_gradient(with(small, "ce", "class_weights=1,2,0.5,3,0.25"));
}
TEST(kd_gradient) {
    check_gradient(with(small, "kd", ""));
    check_gradient(with(small, "kd", "tau=4 mask=valid"));
}
TEST(kd_gradient_through_a_resize_is_the_resizes) {      /* kd sees equal grids: the node's source is a resize */
    Case c = with(small, "kd", "");
    c.th = 5, c.tw = 3;
    Run r = make(c);
    EXPECT(r.net->nodes[r.node->src[0]].op == &op_resize);
    drop(&r);
}
/* The mask must not move under the differences: a student unsure everywhere (q near 1/5, hard at 0.5) beside a
 * teacher with an opinion, or everything kept. */
static const char *const steady[] = {"theta=0.5", "theta=0.5 class_weights=1,2,3,4,5",
                                     "theta=0 min_kept_count=1000000",
                                     "theta=0 min_kept_fraction=1"};
TEST(ohem_gradient) {
    Case c = small;
    c.spread = 0.2;
    for (int i = 0; i < 4; i++) check_gradient(with(c, "ohem", steady[i]));
}
TEST(tfe_gradient) {
    Case c = small;
    c.stage[0] = 1, c.flip = true, c.t_spread = 0.5;
    check_gradient(with(c, "rdd", ""));
    check_gradient(with(c, "rdd", "tfe=entropy"));
    check_gradient(with(c, "rdd", "tfe=flip"));
    check_gradient(with(c, "rdd", "compat=rdd2023 min_kept_count=10"));
}
/* Whoever reads it pays for a second run of the teacher. */
TEST(only_tfe_flip_reads_the_mirrored_teacher) {
    static const struct { const char *options; bool read; } cases[] = {
        {"", false}, {"tfe=entropy", false}, {"tfe=flip", true}, {"compat=rdd2023", false}};
    for (int i = 0; i < 4; i++) {
        Case c = small;
        c.flip = true;
        Run r = make(with(c, "rdd", cases[i].options));
        bool read = false;
        for (int k = 0; k < r.node->n_src; k++)
            read |= r.input[r.node->src[k]] == r.field[T_FLIP];
        EXPECT(read == cases[i].read);
        drop(&r);
    }
}
TEST(what_rdd_reads_of_the_teachers_auxiliary_head) {
    static const struct { const char *options; bool aux, read; } cases[] = {
        {"", true, true}, {"", false, true}, {"tfe=entropy", true, true},
        {"tfe=entropy", false, false}, {"tfe=entropy aux_mask=main", true, false}};
    for (int i = 0; i < 5; i++) {
        Case c = small;
        c.no_aux = !cases[i].aux;
        Run r = make(with(c, "rdd", cases[i].options));
        bool read = false;
        for (int k = 0; k < r.node->n_src; k++)
            read |= r.input[r.node->src[k]] == r.field[T_AUX];
        if (read != cases[i].read) FAIL("case %d: read %d", i, read);
        drop(&r);
    }
}
TEST(tse_gradient) {
    static const char *const rules[] = {"xor", "or", "and", "student", "student-not-teacher"};
    Case c = small;
    c.spread = 0.2, c.t_spread = 3, c.stage[0] = 0.25f, c.stage[1] = 0.75f;
    for (int rule = 0; rule < 5; rule++)
        for (int i = 0; i < 2; i++) {
            char options[128];
            snprintf(options, sizeof options, "rule=%s %s", rules[rule], steady[i]);
            check_gradient(with(c, "rdd", options));
        }
    for (int i = 2; i < 4; i++) {
        char options[128];
        snprintf(options, sizeof options, "rule=or %s", steady[i]);
        check_gradient(with(c, "rdd", options));
    }
    check_gradient(with(c, "rdd", "compat=rdd2023 min_kept_count=50 theta=0.5"));
}

/* ---- fused against reference -------------------------------------------------------------------- */
static void compare(Case c, double tol) {
    Run r = make(c);
    if (r.net->err) { FAIL("%s: %s", c.method, r.net->err_msg); drop(&r); return; }
    run(&r, false);
    double value = r.value;
    float *want[2] = {xcalloc((size_t)r.count[0], 4), xcalloc((size_t)r.count[1] + 1, 4)};
    for (int j = 0; j < 2; j++) memcpy(want[j], r.grad[j], sizeof(float) * (size_t)r.count[j]);
    for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++) {
        cpu_force((CpuLevel)level);
        run(&r, true);
        double d[3] = {fabs(r.value - value) / fmax(fabs(value), 1e-30),
                       differ(r.grad[0], want[0], r.count[0]),
                       differ(r.grad[1], want[1], r.count[1])};
        if (r.value == value) d[0] = 0;
        if (!(d[0] <= tol && d[1] <= tol && d[2] <= tol))
            FAIL("%s %s %s n%d k%d %dx%d -> %dx%d: loss %.8g (%.8g), differences %.2g %.2g %.2g",
                 c.method, c.options ? c.options : "", cpu_level_name((CpuLevel)level), c.n, c.k,
                 c.h, c.w, c.H, c.W, r.value, value, d[0], d[1], d[2]);
    }
    free(want[0]), free(want[1]);
    drop(&r);
}
static const Case sizes[] = {
    {.n = 2, .k = 2, .h = 5, .w = 6, .H = 37, .W = 41},
    {.n = 1, .k = 11, .h = 7, .w = 9, .H = 50, .W = 67},
    {.n = 2, .k = 19, .h = 4, .w = 33, .H = 25, .W = 260},
    {.n = 1, .k = 150, .h = 3, .w = 5, .H = 19, .W = 31},
    {.n = 2, .k = 5, .h = 1, .w = 7, .H = 9, .W = 50},
    {.n = 2, .k = 5, .h = 6, .w = 1, .H = 40, .W = 23},
    {.n = 1, .k = 3, .h = 1, .w = 1, .H = 5, .W = 5},
    {.n = 1, .k = 3, .h = 4, .w = 4, .H = 1, .W = 1},
    {.n = 1, .k = 4, .h = 9, .w = 21, .H = 5, .W = 8},
    {.n = 1, .k = 4, .h = 8, .w = 20, .H = 8, .W = 20},
    {.n = 1, .k = 1, .h = 3, .w = 3, .H = 20, .W = 20},
    {.n = 1, .k = 700, .h = 2, .w = 3, .H = 6, .W = 20},
    {.n = 1, .k = 6, .h = 5, .w = 6, .H = 33, .W = 40, .th = 3, .tw = 9},
};
enum { SIZES = sizeof sizes / sizeof *sizes };
static void compare_all(const char *method, const char *options, float tfe, float tse) {
    for (int i = 0; i < SIZES; i++) {
        Case c = with(sizes[i], method, options);
        c.void_share = 0.15, c.stage[0] = tfe, c.stage[1] = tse, c.flip = true;
        compare(c, 3e-6);    /* float32 against double: sums of up to a few hundred pixels */
    }
}
TEST(ce_fused_equals_reference) { compare_all("ce", "", 0, 0); }
TEST(kd_fused_equals_reference) {
    for (int i = 0; i < SIZES; i++) {
        if (sizes[i].th) continue;
        compare(with(sizes[i], "kd", "tau=2"), 3e-6);
        compare(with(sizes[i], "kd", "mask=valid"), 3e-6);
    }
}
TEST(ohem_fused_equals_reference) {
    compare_all("ohem", "", 0, 0);
    compare_all("ohem", "theta=0.01 min_kept_fraction=0.3", 0, 0);
}
TEST(tfe_fused_equals_reference) {
    compare_all("rdd", "tfe=entropy", 1, 0);
    for (int i = 0; i + 1 < SIZES; i++) {
        Case c = with(sizes[i], "rdd", "tfe=flip");
        c.flip = true, c.stage[0] = 1;
        compare(c, 3e-6);
        compare(with(c, "rdd", "tfe=aux"), 3e-6);
    }
}
TEST(tse_fused_equals_reference) {
    compare_all("rdd", "tfe=entropy", 0, 1);
    compare_all("rdd", "tfe=entropy rule=student-not-teacher theta=0.05 min_kept_fraction=0.5",
                0.3f, 0.7f);
    compare_all("rdd", "tfe=entropy rule=or min_kept_count=40 theta=0", 0, 1);
    compare_all("rdd", "tfe=entropy rule=student", 0, 1);
}
TEST(heads_may_be_missing) {
    Case c = with(sizes[1], "rdd", "tfe=entropy");
    c.stage[0] = 0.5f, c.stage[1] = 0.5f;
    c.no_t_aux = true, compare(c, 3e-6);
    c.no_aux = true, compare(c, 3e-6);
    c.no_t_aux = false, compare(c, 3e-6);
    Case ce = with(sizes[1], "ce", "");
    ce.no_aux = ce.no_teacher = true, compare(ce, 3e-6);
}

/* ---- facts -------------------------------------------------------------------------------------- */
/* Confident logits overflow exp unless the maximum is subtracted. */
TEST(large_logits_stay_finite) {
    Case c = with(sizes[1], "ce", "");
    c.spread = 300;
    compare(c, 3e-6);
}
/* One sure pixel: its loss is the sum of the other classes, 1e-2 down to 1e-6, and so is its gradient. */
TEST(sure_pixels_keep_their_digits) {
    for (int boost = 8; boost <= 16; boost += 4) {
        Case c = {.n = 1, .k = 5, .h = 1, .w = 1, .H = 1, .W = 1, .no_aux = true, .boost = boost};
        compare(with(c, "ce", ""), 3e-6);
        compare(with(c, "kd", ""), 3e-6);
    }
}
/* A student next to its teacher: terms of 1e-2 with errors of 1e-7 make a gradient. */
TEST(close_students_keep_their_digits) {
    Case c = with(sizes[1], "kd", "tau=4");
    c.near_teacher = true;
    compare(c, 1e-5);
}
static void expect_nothing(Case c) {
    for (int fast = 0; fast < 2; fast++) {
        Run r = make(c);
        run(&r, fast);
        EXPECT(r.value == 0);
        EXPECT(max_abs(r.grad[0], r.count[0]) == 0);
        EXPECT(max_abs(r.grad[1], r.count[1]) == 0);
        drop(&r);
    }
}
TEST(all_void_gives_zero) {
    Case c = small;
    c.void_share = 2, c.stage[0] = 0.5f, c.stage[1] = 0.5f;
    expect_nothing(with(c, "ce", ""));
    expect_nothing(with(c, "ce", "class_weights=1,1,1,1,2"));
    expect_nothing(with(c, "ohem", ""));
    expect_nothing(with(c, "rdd", ""));
    expect_nothing(with(c, "kd", "mask=valid"));
}
/* Teacher equal to student: their hard pixels agree, the exclusive or is empty. */
TEST(empty_mask_gives_zero_and_says_so) {
    Case c = with(small, "rdd", "");
    c.stage[1] = 1;
    for (int fast = 0; fast < 2; fast++) {
        Run r = make(c);
        memcpy(r.field[TEACHER], r.field[STUDENT], sizeof(float) * (size_t)r.count[0]);
        memcpy(r.field[T_AUX], r.field[S_AUX], sizeof(float) * (size_t)r.count[0]);
        run(&r, fast);
        const FrStats *s = r.saved;
        EXPECT(r.value == 0 && max_abs(r.grad[0], r.count[0]) == 0 &&
               max_abs(r.grad[1], r.count[1]) == 0);
        EXPECT_INT(s->empty, 1);
        EXPECT_INT(s->kept[0], 0);
        drop(&r);
    }
}
TEST(mostly_void_works) {
    Case c = small;
    c.void_share = 0.95, c.stage[1] = 1;
    compare(with(c, "rdd", ""), 3e-6);
    compare(with(c, "rdd", "min_kept_count=100000 theta=0"), 3e-6);
    compare(with(c, "ohem", "theta=0 min_kept_fraction=0.5"), 3e-6);
}
/* The control: as many pixels as xor keeps, other ones; drawn anew for another sample, seed or head. */
TEST(a_random_mask_is_as_large_as_the_rules) {
    Case c = with(small, "rdd", "theta=0.3 rule=xor");
    c.stage[1] = 1, c.H = 60, c.W = 70;
    Run ruled = make(c);
    c.options = "theta=0.3 rule=random";
    Run drawn = make(c);
    double value[4];
    for (int i = 0; i < 4; i++) {                /* the reference; another sample; another seed; the first, fused */
        drawn.run =
            (OpRun){.training = true, .seed = i == 2 ? 9 : 0, .first_sample = i == 1 ? 2 : 0};
        run(&ruled, i == 3), run(&drawn, i == 3);
        const FrStats *a = ruled.saved, *b = drawn.saved;
        EXPECT(a->kept[0] > 100 && a->kept[0] < a->valid / 2);
        EXPECT(a->kept[0] == b->kept[0] && a->kept[1] == b->kept[1] && a->theta[0] == b->theta[0]);
        const int64_t *of = (const int64_t *)(b + 1), *of_rule = (const int64_t *)(a + 1);
        int64_t sum = 0, rule_off = 0;
        for (int k = 0; k < c.k; k++) {          /* every class by its share, whatever its difficulty */
            sum += of[k], rule_off += of[k] != of_rule[k];
            EXPECT_NEAR((double)of[k] / (double)of[c.k + k], (double)b->kept[0] / (double)b->valid,
                        0.1);
        }
        EXPECT(sum == b->kept[0] && rule_off > 0);
        value[i] = drawn.value;
    }
    EXPECT(value[1] != value[0] && value[2] != value[0]);
    EXPECT_NEAR(value[3], value[0], 1e-6 * value[0]);
    EXPECT(fabs(value[0] - ruled.value) > 1e-3 * value[0]);
    drop(&ruled), drop(&drawn);
}
/* Images without labels change neither value, nor counts, nor the others' gradient, and get none of it. */
TEST(images_without_labels_leave_task_losses_alone) {
    static const char *const methods[][2] = {{"ce", ""},
                                             {"ohem", ""},
                                             {"rdd", ""},
                                             {"rdd", "min_kept_scope=image theta=0.1"},
                                             {"rdd", "theta=0 min_kept_fraction=0.3"}};
    for (int m = 0; m < 10; m++) {
        Case c = with(small, methods[m / 2][0], methods[m / 2][1]);
        c.stage[m % 2] = 1;
        Run own = make(c);
        c.n = 3;
        Run more = make(c);
        for (int f = 0; f < T_FLIP; f++)
            memcpy(more.field[f], own.field[f], sizeof(float) * (size_t)own.count[f]);
        const size_t pixels = (size_t)(c.H * c.W);
        memcpy(more.labels, own.labels, 2 * pixels * sizeof(int32_t));
        for (size_t i = 2 * pixels; i < 3 * pixels; i++) more.labels[i] = -1;
        run(&own, true), run(&more, true);
        const FrStats *a = own.saved, *b = more.saved;
        EXPECT_NEAR(more.value, own.value, 1e-6 * fabs(own.value));
        EXPECT(a->valid == b->valid && a->kept[0] == b->kept[0] && a->kept[1] == b->kept[1]);
        for (int j = 0; j < 2; j++) {
            EXPECT_NEAR(differ(more.grad[j], own.grad[j], own.count[j]), 0, 1e-6);
            EXPECT(max_abs(more.grad[j] + own.count[j], own.count[j] / 2) == 0);
        }
        drop(&own), drop(&more);
    }
}
/* With a zero threshold exactly k pixels are hard (random logits have no ties). */
TEST(k_smallest_are_kept) {
    for (int fast = 0; fast < 2; fast++) {
        Run r = make(with(small, "ohem", "theta=0 min_kept_count=17"));
        run(&r, fast);
        EXPECT_INT(((FrStats *)r.saved)->kept[0], 17);
        EXPECT_INT(((FrStats *)r.saved)->kept[1], 17);
        drop(&r);
    }
}
TEST(fraction_is_of_valid_pixels) {
    Run r = make(with(small, "ohem", "theta=0 min_kept_fraction=0.1"));
    run(&r, true);
    const FrStats *s = r.saved;
    EXPECT_INT(s->kept[0], (int64_t)floor(0.1 * (double)s->valid));
    drop(&r);
}
TEST(compat_reports_too_few_pixels) {
    Case c = small;
    c.k = 19, c.stage[1] = 1;
    Run r = make(with(c, "rdd", "compat=rdd2023"));
    run(&r, true);
    EXPECT_ERR(kd_rdd.check(r.saved), E(3, 0));
    EXPECT_HAS(err_text(), "100000");
    drop(&r);
    r = make(with(c, "rdd", "compat=rdd2023 theta=0 min_kept_count=50"));
    run(&r, true);
    EXPECT_ERR(kd_rdd.check(r.saved), OK);
    EXPECT(r.value > 0);
    drop(&r);
    compare(with(c, "rdd", "compat=rdd2023 theta=0 min_kept_count=50"), 3e-6);
}
TEST(compat_divides_by_all_pixels) {
    Case c = small;
    c.k = 19, c.stage[0] = 1;
    Run a = make(with(c, "rdd", "")), b = make(with(c, "rdd", "compat=rdd2023"));
    run(&a, true), run(&b, true);
    double valid = (double)((FrStats *)a.saved)->valid, all = (double)c.n * c.H * c.W;
    EXPECT(valid < all);
    EXPECT_NEAR(b.value, a.value * valid / all, 1e-6);
    drop(&a), drop(&b);
}
TEST(cross_fade_is_the_weighted_sum) {
    Case c = with(small, "rdd", "");
    double v[3];
    const float stage[3][2] = {{1, 0}, {0, 1}, {0.25f, 0.75f}};
    float *grad[3];
    for (int i = 0; i < 3; i++) {
        memcpy(c.stage, stage[i], sizeof c.stage);
        Run r = make(c);
        run(&r, true);
        v[i] = r.value;
        grad[i] = r.grad[1], r.grad[1] = NULL;
        drop(&r);
    }
    EXPECT_NEAR(v[2], 0.25 * v[0] + 0.75 * v[1], 1e-6);
    for (int i = 0; i < 2 * 5 * 3 * 4; i++)
        EXPECT_NEAR(grad[2][i], 0.25 * (double)grad[0][i] + 0.75 * (double)grad[1][i], 1e-7);
    for (int i = 0; i < 3; i++) free(grad[i]);
}
static void expect_same_bits(Case c) {
    for (int fast = 0; fast < 2; fast++) {
        float *first = NULL;
        double value = 0;
        for (int threads = 1; threads <= 3; threads++) {
            parallel_set_threads(threads);
            Run r = make(c);
            run(&r, fast);
            if (!first) first = r.grad[0], r.grad[0] = NULL, value = r.value;
            else if (value != r.value ||
                     memcmp(first, r.grad[0], sizeof(float) * (size_t)r.count[0]))
                FAIL("%s %s: %d threads give %.9g, one %.9g", c.method, c.options, threads, r.value,
                     value);
            drop(&r);
        }
        free(first);
    }
}
TEST(threads_do_not_change_bits) {
    Case c = sizes[2];
    c.void_share = 0.1, c.stage[0] = 0.5f, c.stage[1] = 0.5f;
    expect_same_bits(with(c, "rdd", "tfe=entropy"));
    expect_same_bits(with(c, "rdd", "rule=or theta=0.1 min_kept_fraction=0.4"));
    expect_same_bits(with(c, "rdd", "tfe=entropy rule=random theta=0.1"));
    expect_same_bits(with(c, "ce", ""));
    expect_same_bits(with(c, "ohem", "theta=0.1 min_kept_fraction=0.4"));
    expect_same_bits(with(c, "kd", "mask=valid"));
}
/* Means over equally many pixels: two halves of a batch average to the whole. */
TEST(halves_average_to_the_whole) {
    static const char *const methods[] = {"ce", "kd"};
    for (int m = 0; m < 2; m++) {
        Case c = with(sizes[2], methods[m], "");
        Run whole = make(c);
        run(&whole, true);
        c.n = 1;
        double sum = 0;
        for (int i = 0; i < 2; i++) {
            Run half = make(c);
            for (int f = 0; f < T_FLIP; f++)
                memcpy(half.field[f], whole.field[f] + i * half.count[f],
                       sizeof(float) * (size_t)half.count[f]);
            memcpy(half.labels, whole.labels + i * c.H * c.W,
                   sizeof(int32_t) * (size_t)(c.H * c.W));
            run(&half, true);
            sum += half.value / 2;
            for (int64_t e = 0; e < half.count[0]; e++) half.grad[0][e] /= 2;
            EXPECT_NEAR(differ(half.grad[0], whole.grad[0] + i * half.count[0], half.count[0]), 0,
                        3e-6);
            drop(&half);
        }
        EXPECT_NEAR(sum / whole.value, 1, 1e-6);
        drop(&whole);
    }
}
TEST(nan_reaches_the_loss) {
    const char *methods[] = {"ce", "ohem", "rdd", "kd"};
    for (int m = 0; m < 4; m++)
        for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++) {
            Case c = with(small, methods[m], "");
            c.stage[1] = 1, c.void_share = 0;
            cpu_force((CpuLevel)level);
            Run r = make(c);
            r.field[STUDENT][0] = NAN;
            run(&r, true);
            if (!isnan(r.value))
                FAIL("%s at %s: loss %g", methods[m], cpu_level_name((CpuLevel)level), r.value);
            drop(&r);
        }
}
static void expect_refused(Case c, const char *part) {
    Run r = make(c);
    EXPECT(r.net->err != OK);
    EXPECT_HAS(r.net->err_msg, part);
    drop(&r);
}
TEST(wrong_sites_are_refused) {
    Case c = small;
    c.no_teacher = true;
    expect_refused(with(c, "rdd", ""), "no teacher");
    expect_refused(with(c, "kd", ""), "no teacher");
    c = small, c.no_t_aux = true;
    expect_refused(with(c, "rdd", ""), "tfe=entropy");
    expect_refused(with(small, "rdd", "tfe=flip"), "mirrored");
    expect_refused(with(small, "ce", "class_weights=1,2"), "2 numbers for 5 classes");
    expect_refused(with(small, "ce", "class_weights=1,2,3,x,5"), "\"x\"");
}
/* A stage that never runs asks for nothing: `retort loss rdd-tse` needs no second head, compat's 100 000 none of TFE. */
TEST(a_single_stage_needs_its_own_only) {
    Case c = small;
    c.no_t_aux = true, c.only = KD_TSE, c.stage[1] = 1;
    Run r = make(with(c, "rdd", ""));
    EXPECT_INT(r.net->err, OK);
    run(&r, true);
    EXPECT(r.value > 0 && ((FrStats *)r.saved)->masked);
    drop(&r);
    c = small, c.only = KD_TFE, c.stage[0] = 1;
    r = make(with(c, "rdd", "compat=rdd2023"));
    run(&r, true);
    EXPECT_ERR(kd_rdd.check(r.saved), OK);
    EXPECT(r.value > 0 && !((FrStats *)r.saved)->masked);
    drop(&r);
}
/* The 19 weights of compat belong to 19 classes. */
TEST(compat_weighs_nineteen_classes_only) {
    for (int k = 18; k <= 19; k++) {
        double value[2];
        for (int compat = 0; compat < 2; compat++) {
            Case c = small;
            c.k = k, c.stage[1] = 1;
            Run r = make(with(c, "rdd",
                              compat ? "compat=rdd2023 rule=or min_kept_count=20"
                                     : "rule=or min_kept_count=20"));
            run(&r, true);
            value[compat] = r.value;
            drop(&r);
        }
        EXPECT((value[0] == value[1]) == (k == 18));
    }
}
TEST(methods_are_listed) {
    const char *names[8];
    EXPECT(method_names(names, 8) >= 4);
    EXPECT_STR(method_find("rdd")->name, "rdd");
    EXPECT(method_find("nope") == NULL);
}

TEST_MAIN(T(a_random_mask_is_as_large_as_the_rules), T(ce_gradient), T(kd_gradient),
          T(ohem_gradient), T(kd_gradient_through_a_resize_is_the_resizes), T(tfe_gradient), T(only_tfe_flip_reads_the_mirrored_teacher),
          T(what_rdd_reads_of_the_teachers_auxiliary_head), T(tse_gradient),
          T(ce_fused_equals_reference), T(kd_fused_equals_reference),
          T(ohem_fused_equals_reference), T(tfe_fused_equals_reference),
          T(tse_fused_equals_reference), T(heads_may_be_missing), T(large_logits_stay_finite),
          T(sure_pixels_keep_their_digits), T(close_students_keep_their_digits),
          T(all_void_gives_zero), T(empty_mask_gives_zero_and_says_so), T(mostly_void_works),
          T(images_without_labels_leave_task_losses_alone), T(k_smallest_are_kept),
          T(fraction_is_of_valid_pixels), T(compat_reports_too_few_pixels),
          T(compat_divides_by_all_pixels), T(cross_fade_is_the_weighted_sum),
          T(threads_do_not_change_bits), T(halves_average_to_the_whole), T(nan_reaches_the_loss),
          T(wrong_sites_are_refused), T(a_single_stage_needs_its_own_only),
          T(compat_weighs_nineteen_classes_only), T(methods_are_listed))
