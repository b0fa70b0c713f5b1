/* test_terms.c - the terms on layers, through a net and its plan: gradients against central differences (adapters
 * too), what masks leave out, parts of a batch against the whole, threads, NaN, and sites that must be refused. Their
 * values are held to PyTorch's in test_loss_golden.c. */
#include "backend/plan.h"
#include "base/cpu.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "distill/class_weights.h"
#include "distill/fullres.h"
#include "distill/rows.h"
#include "measure.h"
#include "tempdir.h"
#include "test.h"

typedef struct Case {
    const char *method, *options;
    int n, own, there;                   /* batch; channels of the features, student's and teacher's */
    int h, w, th, tw;                    /* grids; th 0: as the student's */
    double void_share;
    BackendKind backend;
    float stage[2];                      /* 0, 0: the second alone */
    bool aux;                            /* layers mid are auxiliary logits, the teacher's features those of the mirror */
} Case;
enum { K = 4, SIDE = 13, LAYERS = 3, FIELDS = 2 * LAYERS, STATES_MAX = 4 };
static const char *const layer_names[LAYERS] = {"mid", "features", "logits"};
typedef struct Run {
    Case c;
    Net *net;
    Plan *plan;
    Node node[FIELDS], label_node, stage_node, loss;     /* the student's layers, then the teacher's */
    float *data[FIELDS], *stage;
    int64_t count[FIELDS];
    int32_t *labels;
    double value;
    void *state[STATES_MAX];             /* what the method remembers, restored before each run */
} Run;
static void swap_states(Run *r, bool keep) {
    CHECK(r->net->n_states <= STATES_MAX);
    for (int i = 0; i < r->net->n_states; i++) {
        size_t bytes;
        const Tensor *s = r->net->states[i];
        CHECK(shape_bytes(s->shape, s->dtype, &bytes));
        if (keep) r->state[i] = xcalloc(1, bytes);
        memcpy(keep ? r->state[i] : s->data, keep ? s->data : r->state[i], bytes);
    }
}

static Node find_layer(const KdSite *s, Net *n, bool teacher, const char *name) {
    const Node x =
        net_find(n, arena_printf(n->arena, "%s.%s", teacher ? "teacher" : "student", name));
    if (!x.id) net_fail(n, E(2, 0), "no layer %s", name);
    return x;
}
static void add_field(Run *r, int i) {
    const Case *c = &r->c;
    const bool teacher = i >= LAYERS, logits = i % LAYERS == 2;
    const int channels = logits    ? K
                         : teacher ? c->there
                                   : c->own,
              h = teacher && c->th ? c->th : c->h, w = teacher && c->tw ? c->tw : c->w;
    const Shape s = SHAPE(c->n, channels, h, w);
    const int64_t per_image = shape_count(s) / c->n;
    r->count[i] = shape_count(s);
    r->data[i] = xcalloc((size_t)r->count[i], sizeof(float));
    for (int n = 0; n < c->n; n++) {
        const Rng g = rng_stream(3, RNG_METHOD, (uint64_t)n, (uint64_t)i);
        for (int64_t e = 0; e < per_image; e++)
            r->data[i][n * per_image + e] = rng_normal(&g, (uint64_t)e) + (logits ? 0 : 0.5f);
    }
    r->node[i] = net_input(r->net,
                           arena_printf(r->net->arena, "%s.%s", teacher ? "teacher" : "student",
                                        layer_names[i % LAYERS]),
                           DT_F32, s);
}
static void set_options(const KdMethod *m, void *opt, Arena *a, const char *text) {
    char *rest = arena_strdup(a, text ? text : "");
    method_bare_options(m, opt, a);
    for (char *item; (item = strtok_r(rest, " ", &rest));) {
        char *value = strchr(item, '=');
        *value++ = 0;
        CHECK(option_set(m->options, opt, a, m->name, item, value, "test") == OK);
    }
}
static Run make(Case c) {
    Run r = {.c = c, .net = net_open("test")};
    for (int i = 0; i < FIELDS; i++) add_field(&r, i);
    r.labels = xcalloc((size_t)(c.n * SIDE * SIDE), sizeof(int32_t));
    for (int64_t i = 0; i < c.n * SIDE * SIDE; i++) {
        const Rng g = rng_stream(4, RNG_METHOD, (uint64_t)(i / (SIDE * SIDE)), 0);
        const uint64_t at = (uint64_t)(i % (SIDE * SIDE));
        r.labels[i] = (double)rng_uniform(&g, 2 * at) < c.void_share
                          ? -1
                          : (int32_t)rng_below(&g, 2 * at + 1, K);
    }
    KdSide side = {.net = NULL};
    KdSite s = {.logits = r.node[2],
                .t_logits = r.node[LAYERS + 2],
                .classes = K,
                .tap = find_layer,
                .side = &side};
    if (c.aux) s.aux = r.node[0], s.t_aux = r.node[LAYERS], s.t_flip = r.node[LAYERS + 1];
    s.labels = r.label_node = net_input(r.net, "labels", DT_I32, SHAPE(c.n, SIDE, SIDE));
    s.stage = r.stage_node = net_input(r.net, "stage", DT_F32, SHAPE(2));
    const KdMethod *m = method_find(c.method);
    CHECK(m != NULL);
    void *opt = arena_alloc(r.net->arena, m->option_bytes + 1);
    set_options(m, opt, r.net->arena, c.options);
    r.loss = m->build(r.net, &s, opt);
    net_close(side.net);
    if (net_finish(r.net)) return r;
    net_init_params(r.net, 0, 5);
    CHECK(plan_make(r.net,
                    &(PlanSpec){.backend = c.backend,
                                .training = true,
                                .loss = r.loss,
                                .outputs = &r.loss,
                                .n_outputs = 1,
                                .wanted = r.node,
                                .n_wanted = LAYERS},
                    &r.plan) == OK);
    for (int i = 0; i < FIELDS; i++) plan_bind(r.plan, r.node[i], r.data[i]);
    plan_bind(r.plan, r.label_node, r.labels);
    r.stage = arena_alloc(r.net->arena, sizeof c.stage);
    memcpy(r.stage, c.stage[0] + c.stage[1] > 0 ? c.stage : (float[]){0, 1}, sizeof c.stage);
    plan_bind(r.plan, r.stage_node, r.stage);
    if (r.net->n_states) plan_run(r.plan, &(OpRun){.training = true}, false);    /* its own batch fills the queues */
    swap_states(&r, true);
    return r;
}
static void run(Run *r) {
    swap_states(r, false);
    plan_run(r->plan, &(OpRun){.training = true}, false);
    r->value = (double)*plan_value(r->plan, r->loss);
}
static void drop(Run *r) {
    if (r->plan) plan_close(r->plan);
    for (int i = 0; i < FIELDS; i++) free(r->data[i]);
    free(r->labels);
    for (int i = 0; i < STATES_MAX; i++) free(r->state[i]);
    net_close(r->net);
}
static float *copy(const float *v, int64_t n) {
    float *out = xcalloc((size_t)n + 1, sizeof *out);
    if (v) memcpy(out, v, (size_t)n * sizeof *out);
    return out;
}

/* ---- gradients ------------------------------------------------------------------------------------- */
/* float32 values: step 1e-2, error of a difference ~ 1e-7 loss / step; tolerance beside the largest element. */
static void check_block(Run *r, const char *what, float *v, const float *grad, int64_t n) {
    const double scale = fmax(max_abs(grad, n), 1e-3 * fabs(r->value));
    for (int64_t i = 0; i < n && test_failures < 10; i += 1 + n / 24) {
        const float old = v[i], step = 1e-2f;
        v[i] = old + step, r->net->version++, run(r);
        const double up = r->value;
        v[i] = old - step, r->net->version++, run(r);
        const double numeric = (up - r->value) / (2 * (double)step);
        v[i] = old, r->net->version++;
        if (!(fabs(numeric - (double)grad[i]) <= 1e-2 * scale))
            FAIL("%s %s, %s element %lld: %.7g, expected %.7g", r->c.method, r->c.options, what,
                 (long long)i, (double)grad[i], numeric);
    }
}
static void check_gradients(const char *method, const char *options, int own, int there) {
    Case c = {.method = method,
              .options = options,
              .n = 2,
              .own = own,
              .there = there,
              .h = 5,
              .w = 6,
              .void_share = 0.2,
              .backend = BACKEND_REF};
    Run r = make(c);
    if (r.net->err) { FAIL("%s: %s", method, r.net->err_msg); drop(&r); return; }
    run(&r);
    for (int i = 0; i < LAYERS; i++) {
        float *g = copy(plan_gradient(r.plan, r.node[i]), r.count[i]);
        check_block(&r, layer_names[i], r.data[i], g, r.count[i]);
        free(g);
        run(&r);
    }
    for (int i = 0; i < r.net->n_params; i++) {
        NetParam *p = &r.net->params[i];
        if (!p->trainable || !strncmp(p->name, "projection.0", 12) || !strncmp(p->name, "projection.1", 12)) continue;   /* a ReLU's kinks lie within the step */
        float *g = copy(p->grad, shape_count(p->shape));
        check_block(&r, p->name, p->data, g, shape_count(p->shape));
        free(g);
        run(&r);
    }
    drop(&r);
}
TEST(at_gradient) {
    check_gradients("at", "", 6, 9);
    check_gradients("at", "norm=image mask=valid", 6, 6);
}
TEST(fitnet_gradient) {
    check_gradients("fitnet", "", 6, 9);
    check_gradients("fitnet", "mask=valid", 6, 6);
}
TEST(ifvd_gradient) {
    check_gradients("ifvd", "", 6, 9);
    check_gradients("ifvd", "compat=rdd2023", 6, 6);
}
TEST(cwd_gradient) {
    check_gradients("cwd", "tau=1", 6, 9);
    check_gradients("cwd", "tap=features tau=1 mask=valid", 6, 9);
}
TEST(dsd_gradient) {
    check_gradients("dsd", "csd=0", 6, 9);
    check_gradients("dsd", "psd=0 tau=1 mask=valid", 6, 9);
}
TEST(dist_gradient) {
    check_gradients("dist", "", 6, 9);
    check_gradients("dist", "tau=2 beta=0.5 mask=valid", 6, 9);
}
TEST(dice_gradient) {
    check_gradients("dice", "", 6, 6);
    check_gradients("dice", "smooth=20 class_weights=1,2,0.5,3", 6, 6);
}
TEST(skd_pa_gradient) {
    check_gradients("skd.pa", "", 6, 9);
    check_gradients("skd.pa", "mask=valid", 6, 6);
}
TEST(cirkd_gradient) {
    check_gradients("cirkd", "memory=off", 6, 9);
    check_gradients("cirkd", "memory=off tau=1", 6, 6);
    check_gradients("cirkd", "minibatch=0 tau=0.5", 6, 9);
    check_gradients("cirkd", "pixel=2 region=0 pixel_queue=5 pixel_samples=8", 6, 6);
}

/* Through the discriminator's frozen copy to the logits alone: along its gradient the value rises by its square. Its
 * many leaky ReLUs have kinks within a step, so a single element would say little. */
TEST(skd_ho_rises_along_its_gradient) {
    Run r = make(
        (Case){.method = "skd.ho", .options = "", .n = 2, .own = 6, .there = 6, .h = 5, .w = 6});
    EXPECT_OK(r.net->err);
    run(&r);
    float *g = copy(plan_gradient(r.plan, r.node[2]), r.count[2]), *x = copy(r.data[2], r.count[2]);
    double square = 0, value[2];
    for (int64_t i = 0; i < r.count[2]; i++) square += (double)g[i] * (double)g[i];
    const float step = 1e-2f / (float)sqrt(square);
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < r.count[2]; i++) r.data[2][i] = x[i] + (k ? -step : step) * g[i];
        run(&r);
        value[k] = r.value;
    }
    EXPECT_NEAR((value[0] - value[1]) / (2 * (double)step * square), 1, 2e-2);
    for (int i = 0; i < r.net->n_params; i++) EXPECT(!r.net->params[i].trainable);
    free(g), free(x);
    drop(&r);
}

/* ---- the queues of cirkd ------------------------------------------------------------------------------ */
static float half_of(uint16_t h) {               /* normal numbers, what unit vectors need of them, and 0 */
    const float m = ldexpf((float)(h & 0x3ff), -24),
                n = ldexpf((float)((h & 0x3ff) | 0x400), (h >> 10 & 31) - 25);
    return (h >> 15 ? -1.0f : 1.0f) * (h >> 10 & 31 ? n : m);
}
/* The entries that a first batch leaves behind are unit vectors of pixels of their class, no more than asked for. */
TEST(cirkd_keeps_pixels_of_their_class) {
    Case c = {.method = "cirkd",
              .options = "minibatch=0 pixels=2 pixel_queue=7",
              .n = 3,
              .own = 6,
              .there = 9,
              .h = SIDE,
              .w = SIDE,
              .void_share = 0.3};
    Run r = make(c);
    const uint16_t *entry = r.net->states[0]->data;
    const int64_t *count = r.net->states[1]->data, P = SIDE * SIDE;
    EXPECT_STR(r.net->states[0]->name, "pixels.entries");
    for (int k = 0; k < K; k++) {
        EXPECT_INT(count[k], 2 * c.n);
        for (int64_t i = 0; i < count[k]; i++) {
            bool found = false;
            for (int64_t at = 0; at < c.n * P && !found; at++) {
                if (r.labels[at] != k) continue;
                const float *f = r.data[LAYERS + 1] + at / P * c.there * P + at % P;
                double size = 0, off = 0;
                for (int ch = 0; ch < c.there; ch++) size += (double)f[ch * P] * (double)f[ch * P];
                for (int ch = 0; ch < c.there; ch++)
                    off = fmax(off, fabs((double)half_of(entry[(k * 7 + i) * c.there + ch]) -
                                         (double)f[ch * P] / sqrt(size)));
                found = off < 1e-3;              /* half precision */
            }
            if (!found) FAIL("class %d: entry %lld is no pixel of it", k, (long long)i);
        }
    }
    drop(&r);
}
/* Slots that were never filled are never drawn: with one entry, all rows are that entry, and teacher and student agree. */
TEST(cirkd_draws_filled_slots_only) {
    Case c = {.method = "cirkd",
              .options = "minibatch=0 region=0",
              .n = 2,
              .own = 6,
              .there = 9,
              .h = 5,
              .w = 6};
    Run r = make(c);
    int64_t *count = r.net->states[1]->data;
    for (int k = 0; k < K; k++) count[k] = k == 1;
    for (int i = 0; i < STATES_MAX; i++) free(r.state[i]), r.state[i] = NULL;
    swap_states(&r, true);
    run(&r);
    EXPECT_NEAR(r.value, 0, 1e-7);
    drop(&r);
}

/* ---- facts ------------------------------------------------------------------------------------------ */
static const Case plain = {.n = 4, .own = 6, .there = 9, .h = 7, .w = 9};
static Case with(Case c, const char *method, const char *options) {
    c.method = method, c.options = options;
    return c;
}
/* Part p of a batch that is processed in parts: its images are those of the whole. */
static void bind_part(Run *part, const Run *whole, int p) {
    for (int i = 0; i < FIELDS; i++)
        plan_bind(part->plan, part->node[i], whole->data[i] + p * part->count[i]);
    plan_bind(part->plan, part->label_node, whole->labels + p * part->c.n * SIDE * SIDE);
}
static void compare_part(const Run *part, const Run *whole, int p, int parts) {
    int compared = 0;
    for (int i = 0; i < LAYERS; i++) {
        const float *a = plan_gradient(part->plan, part->node[i]),
                    *b = plan_gradient(whole->plan, whole->node[i]);
        EXPECT(!a == !b);
        if (!a || !b) continue;
        compared++;
        const double size = max_abs(b, whole->count[i]);
        for (int64_t e = 0; e < part->count[i]; e++)
            if (!(fabs((double)a[e] / parts - (double)b[p * part->count[i] + e]) <= 1e-5 * size)) {
                FAIL("%s %s, part %d of %d: %s differs at %lld", whole->c.method, whole->c.options,
                     p, parts, layer_names[i], (long long)e);
                break;
            }
    }
    EXPECT(compared > 0);
}
/* The loss of a batch is the mean of its parts' values, and so are the gradients: as an update runs them, every part
 * forward once to gather where the method wants that, and then to emit. */
static void expect_split(Case c, int parts) {
    Run whole = make(c);
    run(&whole);
    c.n /= parts;
    Run part = make(c);
    const int32_t *labels[4];
    Parts u = {.parts = parts, .labels = labels};
    double sum = 0;
    for (int p = 0; p < parts; p++) labels[p] = whole.labels + p * c.n * SIDE * SIDE;
    for (u.gather = true, u.part = 0; u.part < parts; u.part++) {
        bind_part(&part, &whole, u.part);
        plan_run_forward(part.plan, &(OpRun){.training = true, .parts = &u}, &part.loss, 1);
    }
    for (u.gather = false, u.part = 0; u.part < parts; u.part++) {
        bind_part(&part, &whole, u.part);
        plan_run(part.plan, &(OpRun){.training = true, .parts = &u}, false);
        sum += (double)*plan_value(part.plan, part.loss) / parts;
        compare_part(&part, &whole, u.part, parts);
        if (!method_find(c.method)->stats) continue;
        const FrStats *a = plan_saved(part.plan, part.loss),
                      *b = plan_saved(whole.plan, whole.loss);
        if (!b->masked) continue;                /* masks over the batch: exactly the same numbers */
        EXPECT(a->valid == b->valid && a->theta[0] == b->theta[0] &&
               a->theta_t[1] == b->theta_t[1]);
        EXPECT(a->kept[0] == b->kept[0] && a->kept[1] == b->kept[1]);
        EXPECT(!memcmp(a + 1, b + 1, 2 * K * sizeof(int64_t)));          /* those of each class */
    }
    if (!(fabs(sum - whole.value) <= 2e-6 * fabs(whole.value)))
        FAIL("%s %s in %d parts: %.9g, whole %.9g", c.method, c.options, parts, sum, whole.value);
    drop(&part), drop(&whole);
}
static const char *const splittable[][2] = {
    {"ce", ""},
    {"ce", "class_weights=1,2,0.5,3"},
    {"ohem", ""},
    {"ohem", "theta=0.1 min_kept_fraction=0.2"},
    {"ohem", "theta=0 min_kept_count=99 class_weights=1,2,0.5,3"},
    {"ohem", "min_kept_scope=image theta=0.2"},
    {"rdd", "tfe=entropy"},
    {"rdd", "tfe=entropy theta=0.1 min_kept_fraction=0.3"},
    {"rdd", "tfe=entropy rule=or theta=0.2 class_weights=1,2,0.5,3"},
    {"rdd", "tfe=entropy rule=and theta=0.3 aux_mask=main"},
    {"rdd", "tfe=entropy rule=student theta=0.3"},
    {"rdd", "tfe=entropy rule=random theta=0.3"},
    {"rdd", "tfe=entropy min_kept_scope=image theta=0.1"},
    {"rdd", "tfe=entropy normaliser=all"},
    {"dice", ""},
    {"dice", "class_weights=1,2,0.5,3 smooth=3"},
    {"dist", ""},
    {"dist", "mask=valid tau=2 beta=0.5"},
    {"dist", "gamma=0"},
    {"kd", ""},
    {"kd", "mask=valid tau=2"},
    {"at", ""},
    {"at", "norm=image mask=valid"},
    {"at", "mask=valid"},
    {"fitnet", ""},
    {"fitnet", "mask=valid"},
    {"ifvd", ""},
    {"ifvd", "compat=rdd2023"},
    {"cwd", ""},
    {"cwd", "tap=features"},
    {"cwd", "tap=features mask=valid tau=1"},
    {"cwd", "tap=features compat=rdd2023"},
    {"dsd", ""},
    {"dsd", "mask=valid"},
    {"dsd", "psd=0.5 csd=2 tau=1"},
    {"skd.pa", ""},
    {"skd.pa", "mask=valid"}};
static void split_all(const char *method, const char *options, Case c) {
    c.void_share = 0.25;
    for (int parts = 2; parts <= 4; parts += 2)
        for (int ref = 0; ref < 2; ref++) {
            c.backend = ref ? BACKEND_REF : BACKEND_CPU;
            expect_split(with(c, method, options), parts);
        }
}
TEST(parts_of_a_batch_average_to_the_whole) {
    for (size_t i = 0; i < sizeof splittable / sizeof *splittable; i++)
        split_all(splittable[i][0], splittable[i][1], plain);
}
/* Options of rdd with all heads there are, in the first stage, in the second, and between. */
static const char *const of_heads[] = {"",
                                       "theta=0.1 min_kept_fraction=0.3",
                                       "tfe=entropy theta=0 rule=or class_weights=1,2,0.5,3",
                                       "tfe_kl=main-other aux_mask=main theta=0.2",
                                       "tfe=flip rule=student-not-teacher theta=0.4 min_kept_count=77",
                                       "tfe=flip tfe_kl=main-other normaliser=all rule=and theta=0.3",
                                       "rule=random theta=0.3",
                                       "rule=student theta=0.2 min_kept_scope=image"};
enum { OF_HEADS = sizeof of_heads / sizeof *of_heads };
static const Case with_heads = {.n = 4, .own = K, .there = K, .h = 7, .w = 9, .aux = true};
TEST(parts_of_a_batch_with_auxiliary_heads_do_too) {
    Case c = with_heads;
    static const float stages[][2] = {{0, 1}, {1, 0}, {0.25f, 0.75f}};
    for (int s = 0; s < 3; s++) {
        memcpy(c.stage, stages[s], sizeof c.stage);
        for (int i = 0; i < OF_HEADS; i++) split_all("rdd", of_heads[i], c);
    }
    memcpy(c.stage, stages[1], sizeof c.stage);
    split_all("rdd", "compat=rdd2023", c);
    split_all("ce", "", c), split_all("ohem", "theta=0.1", c), split_all("dice", "", c);
}
/* Definitions over the micro-batch: within an update in parts each is what it is by itself, to the bit. */
static const char *const apart[][2] = {
    {"ohem", "theta=0.05 min_kept_scope=micro-batch"},
    {"rdd", "tfe=entropy theta=0.05 min_kept_scope=micro-batch"},
    {"rdd", "tfe=entropy compat=rdd2023 min_kept_count=50"},
    {"dice", "scope=micro-batch"},
    {"dist", "scope=micro-batch"},
    {"lovasz", ""},
    {"lovasz", "class_weights=1,2,0.5,3"},
    {"cirkd", "memory=off minibatch=0.5 tau=0.2"},
    {"cirkd", "minibatch=0 pixel=1 region=1 pixel_queue=9 region_queue=5 pixel_samples=8 region_samples=4 pixels=2"},
    {"skd.ho", "discriminator=0.2 lr=1e-3"}};
enum { APART = sizeof apart / sizeof *apart };
TEST(micro_batches_are_what_they_are_alone) {
    for (int i = 0; i < APART; i++) {
        Case c = with(plain, apart[i][0], apart[i][1]);
        c.n = 2;
        Run r = make(c);
        const int32_t *labels[2] = {r.labels, r.labels};
        run(&r);
        const double alone = r.value;
        const int at = plan_gradient(r.plan, r.node[1]) ? 1 : 2;
        float *g = copy(plan_gradient(r.plan, r.node[at]), r.count[at]);
        for (int p = 0; p < 2; p++) {
            const Parts u = {.part = p, .parts = 2, .labels = labels};
            swap_states(&r, false);
            plan_run(r.plan, &(OpRun){.training = true, .parts = &u}, false);
            EXPECT(alone != 0 && (double)*plan_value(r.plan, r.loss) == alone);
            if (memcmp(g, plan_gradient(r.plan, r.node[at]), sizeof(float) * (size_t)r.count[at]))
                FAIL("%s %s: part %d has another gradient", c.method, c.options, p);
        }
        free(g);
        drop(&r);
    }
}
/* "name=" or "name=choice" among the options that the tests above give the method; "": any of its rows. */
static bool is_tried(const char *method, const char *word) {
    const size_t n = strlen(word);
    const char *const(*const tables[])[2] = {splittable, apart};
    const int rows[] = {sizeof splittable / sizeof *splittable, APART};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < (t < 2 ? rows[t] : OF_HEADS); i++) {
            const char *options = t < 2 ? tables[t][i][1] : of_heads[i];
            if (strcmp(t < 2 ? tables[t][i][0] : "rdd", method)) continue;
            if (!n) return true;
            for (const char *at = options; (at = strstr(at, word)); at += n)
                if ((at == options || at[-1] == ' ') &&
                    (word[n - 1] == '=' || !at[n] || at[n] == ' '))
                    return true;
        }
    return false;
}
TEST(every_method_and_every_choice_is_tried_in_parts) {
    const char *names[64];
    const int n = method_names(names, 64);
    char word[128];
    for (int i = 0; i < n; i++) {
        EXPECT(is_tried(names[i], ""));
        for (const Option *o = method_find(names[i])->options; o && o->name; o++) {
            char choices[256], *rest = choices;
            snprintf(choices, sizeof choices, "%s", o->type == OPT_ENUM ? o->choices : "");
            for (char *choice; (choice = strsep(&rest, "|")) && *choice;) {
                snprintf(word, sizeof word, "%s=%s", o->name, choice);
                if (strcmp(choice, o->def) && !is_tried(names[i], word))
                    FAIL("%s: %s is not tried", names[i], word);
            }
            snprintf(word, sizeof word, "%s=", o->name);
            if (o->type != OPT_ENUM && !strstr(o->name, "tap") && !is_tried(names[i], word))
                FAIL("%s: %s is not tried", names[i], word);
        }
    }
}
/* scope=micro-batch is another loss, and wants no second pass. */
TEST(micro_batches_may_stand_alone) {
    static const char *const methods[][2] = {
        {"ohem", "theta=0.05 min_kept_scope=micro-batch"},
        {"rdd", "tfe=entropy theta=0.05 min_kept_scope=micro-batch"},
        {"dice", "scope=micro-batch"},
        {"dist", "scope=micro-batch"}};
    static const float stage[] = {1, 1};
    for (int m = 0; m < 4; m++) {
        Case c = with(plain, methods[m][0], methods[m][1]);
        c.void_share = 0.25;
        Run whole = make(c), half;
        const KdMethod *method = method_find(c.method);
        double sum = 0;
        run(&whole);
        c.n = 2, half = make(c);
        for (int p = 0; p < 2; p++) {
            bind_part(&half, &whole, p);
            run(&half);
            sum += half.value / 2;
        }
        EXPECT(fabs(sum - whole.value) > 1e-4 * fabs(whole.value));
        void *opt = arena_alloc(half.net->arena, method->option_bytes + 1);
        set_options(method, opt, half.net->arena, c.options);
        EXPECT(!method->gathers(opt, stage));
        set_options(method, opt, half.net->arena, "");
        EXPECT(method->gathers(opt, stage));
        drop(&half), drop(&whole);
    }
}
static const char *const every[][2] = {
    {"at", "mask=valid"},    {"fitnet", "mask=valid"}, {"ifvd", ""},
    {"cwd", "mask=valid"},   {"cwd", "tap=features"},  {"dsd", "mask=valid"},
    {"dist", "mask=valid"},  {"skd.pa", "mask=valid"}, {"cirkd", "memory=off"},
    {"cirkd", "minibatch=0"}};
enum { EVERY = sizeof every / sizeof *every };
TEST(threads_do_not_change_bits) {
    for (int i = 0; i < EVERY; i++) {
        float *first = NULL;
        double value = 0;
        for (int threads = 1; threads <= 3; threads++) {
            parallel_set_threads(threads);
            Case c = with(plain, every[i][0], every[i][1]);
            c.void_share = 0.2, c.h = 30, c.w = 31;
            Run r = make(c);
            run(&r);
            const int at = plan_gradient(r.plan, r.node[1]) ? 1 : 2;
            float *g = copy(plan_gradient(r.plan, r.node[at]), r.count[at]);
            if (!first) first = g, value = r.value;
            else {
                if (value != r.value || memcmp(first, g, sizeof(float) * (size_t)r.count[at]))
                    FAIL("%s %s: %d threads change bits", every[i][0], every[i][1], threads);
                free(g);
            }
            drop(&r);
        }
        free(first);
    }
}
TEST(nothing_labelled_gives_zero) {
    for (int i = 0; i < EVERY; i++) {
        if (strstr(every[i][1], "features") || !strcmp(every[i][0], "cirkd")) continue;    /* labels say nothing there */
        Case c = with(plain, every[i][0], every[i][1]);
        c.void_share = 2;
        Run r = make(c);
        run(&r);
        EXPECT(r.value == 0);
        for (int k = 0; k < LAYERS; k++) {
            const float *g = plan_gradient(r.plan, r.node[k]);
            if (g && max_abs(g, r.count[k]) != 0)
                FAIL("%s: gradient of %s is not 0", every[i][0], layer_names[k]);
        }
        drop(&r);
    }
}
/* What lies where nothing is labelled changes neither value nor gradient. */
TEST(masked_positions_say_nothing) {
    for (int i = 0; i < EVERY; i++) {
        if (!strstr(every[i][1], "mask=valid") && strcmp(every[i][0], "ifvd")) continue;
        if (!strcmp(every[i][0], "dsd") || !strcmp(every[i][0], "skd.pa")) continue;      /* pooling mixes neighbours */
        Case c = with(plain, every[i][0], every[i][1]);
        c.h = c.w = SIDE, c.void_share = 0.3;                /* the labels' own grid */
        double value[2];
        for (int moved = 0; moved < 2; moved++) {
            Run r = make(c);
            for (int k = 0; moved && k < FIELDS; k++)
                for (int64_t e = 0; e < r.count[k]; e++) {
                    const int64_t channels = r.count[k] / (c.n * SIDE * SIDE),
                                  at = e / (channels * SIDE * SIDE) * SIDE * SIDE +
                                       e % (SIDE * SIDE);
                    if (r.labels[at] < 0) r.data[k][e] += 3;
                }
            run(&r);
            value[moved] = r.value;
            for (int k = 0; k < LAYERS; k++) {
                const float *g = plan_gradient(r.plan, r.node[k]);
                for (int64_t e = 0; g && e < r.count[k]; e++) {
                    const int64_t channels = r.count[k] / (c.n * SIDE * SIDE),
                                  at = e / (channels * SIDE * SIDE) * SIDE * SIDE +
                                       e % (SIDE * SIDE);
                    if (r.labels[at] < 0 && g[e] != 0) {
                        FAIL("%s: gradient at a void position", every[i][0]);
                        break;
                    }
                }
            }
            drop(&r);
        }
        EXPECT(value[0] == value[1] && value[0] > 0);
    }
}
TEST(nan_reaches_the_loss) {
    for (int i = 0; i < EVERY; i++)
        for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++) {
            cpu_force((CpuLevel)level);
            Run r = make(with(plain, every[i][0], every[i][1]));
            for (int k = 0; k < FIELDS; k++) r.data[k][0] = NAN;
            run(&r);
            if (!isnan(r.value))
                FAIL("%s at %s: loss %g", every[i][0], cpu_level_name((CpuLevel)level), r.value);
            drop(&r);
        }
}
/* dist with two classes divides by the size of a row's deviations: nearly flat rows count most. */
TEST(flat_rows_keep_their_digits) {
    enum { CLASSES = 3, ROWS = 37 };
    float x[CLASSES * ROWS], p[CLASSES * ROWS], d[CLASSES * ROWS];
    const Rng g = rng_stream(6, RNG_METHOD, 0, 0);
    for (int i = 0; i < CLASSES * ROWS; i++)         /* spread over 1e-6 to 10 */
        x[i] = powf(10, (float)(i % ROWS) / 5 - 6.2f) * rng_normal(&g, (uint64_t)i);
    for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++) {
        cpu_force((CpuLevel)level);
        rows()->channel_softmax(p, d, x, 0.25f, CLASSES, ROWS, ROWS);
        for (int j = 0; j < ROWS; j++) {
            double sum = 0, e[CLASSES], mean = 0, size = 0;
            for (int k = 0; k < CLASSES; k++) {
                e[k] = expm1(0.25 * (double)(x[k * ROWS + j] - x[j]));
                sum += 1 + e[k], mean += e[k] / CLASSES;
            }
            for (int k = 0; k < CLASSES; k++) size = fmax(size, fabs(e[k] - mean) / sum);
            for (int k = 0; k < CLASSES; k++) {
                EXPECT_NEAR(d[k * ROWS + j], (e[k] - mean) / sum, 1e-6 * size);
                EXPECT_NEAR(p[k * ROWS + j], (1 + e[k]) / sum, 1e-6);
            }
        }
    }
}
/* What is added to all channels of a softmax, exactly, changes nothing: value and gradient keep their digits. */
TEST(large_offsets_keep_the_digits) {
    static const char *const rows[][2] = {{"ce", ""}, {"kd", "tau=2"}, {"dice", ""}, {"dist", ""},
                                          {"cwd", "tau=1"}, {"cwd", "tap=features"}, {"dsd", "psd=0"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Case c = with(plain, rows[i][0], rows[i][1]);
        c.h = c.w = SIDE, c.own = c.there = K;               /* the labels' own grid: nothing is interpolated */
        double value = 0;
        float *first = NULL;
        for (int moved = 0; moved < 2; moved++) {
            Run r = make(c);
            for (int k = 0; k < FIELDS; k++)
                for (int64_t e = 0; e < r.count[k]; e++)
                    r.data[k][e] = rintf(1024 * r.data[k][e]) / 1024 +
                                   (moved ? k < LAYERS ? 1024.0f : -1024.0f : 0);
            run(&r);
            const int at = plan_gradient(r.plan, r.node[1]) ? 1 : 2;
            float *g = copy(plan_gradient(r.plan, r.node[at]), r.count[at]);
            if (!moved) value = r.value, first = g;
            else {
                EXPECT_NEAR(r.value / value, 1, 2e-6);
                for (int64_t e = 0; e < r.count[at]; e++)
                    EXPECT_NEAR(g[e], first[e], 4e-6 * max_abs(first, r.count[at]));
                free(g);
            }
            drop(&r);
        }
        free(first);
    }
}
static void expect_refused(const char *method, const char *options, const char *part) {
    Run r = make(with(plain, method, options));
    EXPECT(r.net->err != OK);
    EXPECT_HAS(r.net->err_msg ? r.net->err_msg : "", part);
    drop(&r);
}
TEST(wrong_layers_are_refused) {
    expect_refused("dsd", "taps=[features,features]", "twice");
    expect_refused("dsd", "taps=[features]", "two or more");
    expect_refused("dsd", "psd=0 csd=0", "both 0");
    expect_refused("at", "tap=nowhere", "nowhere");
    expect_refused("at", "teacher_tap=nowhere", "nowhere");
}
/* An adapter exists where a formula compares channels one by one and they differ, and nowhere else. */
TEST(adapters_are_made_where_channels_differ) {
    static const struct { const char *method, *options; int own, n;
    } rows[] = {{"fitnet", "", 6, 1}, {"fitnet", "", 9, 0}, {"cwd", "tap=features", 6, 1},
                {"cwd", "", 6, 0},    {"at", "", 6, 0},     {"ifvd", "", 6, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Case c = with(plain, rows[i].method, rows[i].options);
        c.own = rows[i].own;
        Run r = make(c);
        EXPECT_INT(r.net->n_params, rows[i].n);
        if (rows[i].n == 1) {
            EXPECT_STR(r.net->params[0].name, "adapter.weight");
            EXPECT(shape_equal(r.net->params[0].shape, SHAPE(9, 6, 1, 1)));
        }
        drop(&r);
    }
}

/* ---- class weights ------------------------------------------------------------------------------------- */
/* Three classes: 60 of the 100 pixels of the images that show it, 30 of 100, none; the fourth 10 of 50. */
static Err count_by_hand(const KdSite *s, ClassPixels *out) {
    static const int64_t own[K] = {60, 30, 0, 10}, shown[K] = {100, 100, 0, 50};
    memcpy(out->own, own, sizeof own), memcpy(out->shown, shown, sizeof shown);
    return OK;
}
static void expect_weights(const char *text, const double want[K]) {
    Net *n = net_open("test");
    const float *w = class_weights(n, &(KdSite){.count_pixels = count_by_hand}, "ce", text, K);
    EXPECT_OK(n->err);
    for (int k = 0; k < K; k++) EXPECT_NEAR((double)w[k], want[k], 1e-6);
    net_close(n);
}
TEST(class_weights_follow_from_the_labels) {
    expect_weights("median", (double[K]){0.3 / 0.6, 1, 1, 0.3 / 0.2});
    expect_weights("inverse-log",
                   (double[K]){1 / log(1.62), 1 / log(1.32), 1 / log(1.02), 1 / log(1.12)});
    expect_weights("[1, 2, 3, 0.5]", (double[K]){1, 2, 3, 0.5});
}
TEST(class_weights_come_from_a_file) {
    const char *path = temp_path("weights");
    FILE *f = fopen(path, "w");
    EXPECT(f && fputs("1 2\n0.25, 4\n", f) >= 0 && !fclose(f));
    expect_weights(path, (double[K]){1, 2, 0.25, 4});
    EXPECT(!rename(path, temp_path("2.txt")) && !chdir(temp_path("")));
    expect_weights("2.txt", (double[K]){1, 2, 0.25, 4});         /* names that begin like numbers */
    expect_weights("./2.txt", (double[K]){1, 2, 0.25, 4});
    expect_weights("1 2 3 0.5", (double[K]){1, 2, 3, 0.5});
    Net *n = net_open("test");
    EXPECT(class_weights(n, &(KdSite){.tap = NULL}, "ce", path, K) == NULL);
    EXPECT_HAS(n->err_msg, "inverse-log");
    net_close(n);
    n = net_open("test");
    EXPECT(class_weights(n, &(KdSite){.tap = NULL}, "ce", "median", K) == NULL);
    EXPECT_HAS(n->err_msg, "needs a data set");
    net_close(n);
}

TEST_MAIN(T(class_weights_follow_from_the_labels), T(class_weights_come_from_a_file),
          T(at_gradient), T(fitnet_gradient), T(ifvd_gradient), T(cwd_gradient), T(dsd_gradient),
          T(dist_gradient), T(dice_gradient), T(skd_pa_gradient), T(cirkd_gradient),
          T(skd_ho_rises_along_its_gradient), T(cirkd_keeps_pixels_of_their_class),
          T(cirkd_draws_filled_slots_only), T(parts_of_a_batch_average_to_the_whole),
          T(parts_of_a_batch_with_auxiliary_heads_do_too),
          T(micro_batches_are_what_they_are_alone),
          T(every_method_and_every_choice_is_tried_in_parts), T(micro_batches_may_stand_alone),
          T(threads_do_not_change_bits), T(nothing_labelled_gives_zero),
          T(masked_positions_say_nothing), T(nan_reaches_the_loss), T(flat_rows_keep_their_digits),
          T(large_offsets_keep_the_digits),
          T(wrong_layers_are_refused),
          T(adapters_are_made_where_channels_differ))
