/* test_int8.c - convolutions in 8-bit integers: equal to plain integer arithmetic; a network near its float32 self. */
#include "backend/plan.h"
#include "base/rng.h"
#include "models/model.h"
#include "test.h"
#include "train/calibrate.h"

enum { C = 16, H = 9, W = 11, PIXELS = H * W };
typedef struct Chain { Net *net; Node in, first, middle, last, out; float x[C * PIXELS]; } Chain;

/* x = relu(in), a = relu(1x1 x), b = relu(1x1 a + x), out = relu(1x1 b): bytes, bytes with a summand, float32. */
static void open_chain(Chain *c, float bias) {
    Net *n = c->net = net_open("chain");
    const Rng r = rng_stream(3, RNG_METHOD, 0, 0);
    const Conv one = {.out = C, .k = 1, .bias = true};
    for (int i = 0; i < C * PIXELS; i++) c->x[i] = rng_normal(&r, (uint64_t)i);
    c->in = net_input(n, "in", DT_F32, SHAPE(1, C, H, W));
    c->first = nn_relu(n, c->in);
    c->middle = nn_relu(n, nn_conv(n, c->first, "a", one));
    c->last = nn_relu(n, nn_add(n, nn_conv(n, c->middle, "b", one), c->first));
    c->out = nn_relu(n, nn_conv(n, c->last, "c", one));
    if (net_finish(n)) FAIL("%s", err_text()), exit(1);
    net_init_formula(n, 1);
    for (int k = 0; k < C; k++) n->params[0].data[k] = 0;        /* a channel of zeros, with a bias */
    for (int k = 0; k < C; k++) n->params[1].data[k] = bias;
    n->version++;
}
static const float *run_chain(Chain *c, float *ranges, bool bytes, Plan **p) {
    const PlanSpec spec = {.outputs = &c->out, .n_outputs = 1, .ranges = bytes ? ranges : NULL};
    if (plan_make(c->net, &spec, p)) FAIL("%s", err_text()), exit(1);
    if (!bytes) plan_watch(*p, ranges);
    plan_bind(*p, c->in, c->x);
    plan_run(*p, &(OpRun){0}, false);
    return plan_value(*p, c->out);
}

/* One channel of one convolution in integers; sums in 32 bits, one rounding at the end. */
static double channel_sum(const NetParam *w, const NetParam *bias, int o, const int *q, int pixel,
                          double scale) {
    double top = 0;
    int32_t sum = 0;
    for (int i = 0; i < C; i++) top = fmax(top, fabs((double)w->data[o * C + i]));
    const double unit = top > 0 ? top / 127 : 1;
    for (int i = 0; i < C; i++)
        sum += (int32_t)lrint(w->data[o * C + i] / unit) * q[i * PIXELS + pixel];
    return sum * unit * scale + bias->data[o];
}
static int byte(double v, double scale) { return (int)lrint(fmin(fmax(v / scale, 0), 255)); }

TEST(bytes_equal_integer_arithmetic) {
    if (!backend_has(DT_I8)) SKIP("this processor multiplies no bytes");
    static Chain c;
    static int x[C * PIXELS], a[C * PIXELS], b[C * PIXELS];
    float ranges[16] = {0};
    Plan *exact, *bytes;
    open_chain(&c, 0.3f);
    EXPECT(c.net->n_nodes <= 16);
    const float *want = run_chain(&c, ranges, false, &exact),
                *got = run_chain(&c, ranges, true, &bytes);
    const double sx = ranges[c.first.id] / 255, sa = ranges[c.middle.id] / 255,
                 sb = ranges[c.last.id] / 255;
    const NetParam *w = c.net->params;
    for (int i = 0; i < C * PIXELS; i++) x[i] = byte(c.x[i], sx);
    for (int i = 0; i < C * PIXELS; i++)
        a[i] = byte(channel_sum(&w[0], &w[1], i / PIXELS, x, i % PIXELS, sx), sa);
    for (int i = 0; i < C * PIXELS; i++)
        b[i] = byte(channel_sum(&w[2], &w[3], i / PIXELS, a, i % PIXELS, sa) + x[i] * sx, sb);
    double off = 0, lost = 0, size = 0;
    for (int i = 0; i < C * PIXELS; i++) {
        const double v = fmax(0, channel_sum(&w[4], &w[5], i / PIXELS, b, i % PIXELS, sb));
        off += (got[i] - v) * (got[i] - v),
            lost += (got[i] - (double)want[i]) * (got[i] - (double)want[i]), size += v * v;
    }
    /* A half may round either way where float32 and double differ: one unit in a few of 1584 bytes. */
    EXPECT(size > 0);
    if (!(sqrt(off / size) < 3e-4)) FAIL("off by %.3g of its size", sqrt(off / size));
    if (!(sqrt(lost / size) < 2e-2 && sqrt(lost / size) > 1e-4))
        FAIL("8 bits lost %.3g", sqrt(lost / size));
    plan_close(exact), plan_close(bytes), net_close(c.net);
}
/* All of `middle` is zero on the images seen: its range is 0, and nothing divides by it. */
TEST(a_dead_relu_has_a_scale) {
    if (!backend_has(DT_I8)) SKIP("this processor multiplies no bytes");
    static Chain c;
    float ranges[16] = {0};
    Plan *exact, *bytes;
    open_chain(&c, -1000);
    const float *want = run_chain(&c, ranges, false, &exact),
                *got = run_chain(&c, ranges, true, &bytes);
    EXPECT(ranges[c.middle.id] == 0 && ranges[c.last.id] > 0);
    double off = 0, size = 0;
    for (int i = 0; i < C * PIXELS; i++)
        off += (got[i] - want[i]) * (got[i] - want[i]), size += want[i] * want[i];
    if (!(size > 0 && sqrt(off / size) < 2e-2)) FAIL("off by %.3g of %.3g", sqrt(off), sqrt(size));
    plan_close(exact), plan_close(bytes), net_close(c.net);
}

static double network_loss(const char *model, Dtype precision) {
    Net *n;
    ModelNodes m;
    Plan *p[2];
    const Shape s = SHAPE(1, 3, 65, 81);
    static float image[3 * 65 * 81];
    const Rng r = rng_stream(5, RNG_METHOD, 1, 1);
    for (int i = 0; i < 3 * 65 * 81; i++) image[i] = rng_normal(&r, (uint64_t)i);
    if (model_open(&(ModelOptions){.model = model, .classes = 11, .norm = "none", .frozen = true},
                   65, 81, &n, &m))
        FAIL("%s", err_text()), exit(1);
    net_init_formula(n, 1);
    float *ranges = xcalloc((size_t)n->n_nodes, sizeof *ranges);
    for (int k = 0; k < 2; k++) {
        const PlanSpec spec = {.precision = k ? precision : DT_F32,
                               .ranges = k ? ranges : NULL,
                               .outputs = &m.logits,
                               .n_outputs = 1,
                               .inputs = &m.image,
                               .input_shapes = &s,
                               .n_inputs = 1};
        if (plan_make(n, &spec, &p[k])) FAIL("%s", err_text()), exit(1);
        if (!k) plan_watch(p[k], ranges);
        plan_bind(p[k], m.image, image);
        plan_run(p[k], &(OpRun){0}, false);
    }
    double off = 0, size = 0;
    const float *want = plan_value(p[0], m.logits), *got = plan_value(p[1], m.logits);
    for (int64_t i = 0; i < shape_count(plan_shape(p[0], m.logits)); i++)
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]),
            size += (double)want[i] * want[i];
    plan_close(p[0]), plan_close(p[1]), free(ranges), net_close(n);
    return sqrt(off / size);
}
/* Depthwise and grouped layers, dilated ones, ReLU6, summands that may be negative. */
TEST(networks_in_bytes_are_near_float32) {
    if (!backend_has(DT_I8)) SKIP("this processor multiplies no bytes");
    static const char *const models[] = {"deeplabv3_resnet18", "deeplabv3_resnet50",
                                         "deeplabv3_mobilenetv2"};
    for (int i = 0; i < 3; i++) {
        const double lost = network_loss(models[i], backend_has(DT_BF16) ? DT_BF16 : DT_F32),
                     plain = network_loss(models[i], DT_F32);
        printf("  %s: %.3g of the logits lost, %.3g with float32 around\n", models[i], lost, plain);
        if (!(lost < 0.1 && plain < 0.1 && plain > 1e-4))
            FAIL("%s: 8 bits lost %.3g, %.3g", models[i], lost, plain);
    }
}

/* Two images of 1 x 4 pixels, two classes, logits per pixel: nothing is interpolated. */
TEST(agreement_counts_pixels) {
    enum { N = 2, PX = 4 };
    /* the label's probability is 1 / (1 + exp(-d)): 0.73 at d = 1 is easy, 0.62 at 0.5 and 0.27 at -1 are hard */
    static const float exact[N][PX] = {{1, 0.5f, -1, 1}, {1, 1, 0.5f, -1}},
                       bytes[N][PX] = {{1, 1, -1, 0.5f}, {1, 1, 0.5f, 1}};
    float logits[2][N][2][PX] = {0};
    int32_t labels[N * PX] = {0};
    Agreement a = {0};
    for (int i = 0; i < N * PX; i++)
        logits[0][i / PX][0][i % PX] = exact[i / PX][i % PX],
        logits[1][i / PX][0][i % PX] = bytes[i / PX][i % PX];
    labels[7] = -1;                      /* void: its class counts, its hardness does not */
    const Batch b = {.n = N, .h = 1, .w = PX, .labels = labels};
    agreement_pixels(&logits[0][0][0][0], &logits[1][0][0][0], SHAPE(1, 2, 1, PX), &b, &a);
    EXPECT(fabs(a.equal - 7.0 / 8) < 1e-12);
    EXPECT(fabs(a.moved - 2.0 / 7) < 1e-12);             /* pixels 1 and 3 of the first image */
    EXPECT(fabs(a.hard - 2.0 / 4) < 1e-12);              /* pixel 2 of the first, pixel 2 of the second */
    for (int i = 0; i < N * PX; i++) labels[i] = -1;
    agreement_pixels(&logits[0][0][0][0], &logits[1][0][0][0], SHAPE(1, 2, 1, PX), &b, &a);
    EXPECT(isnan(a.moved) && isnan(a.hard));
}

TEST_MAIN(T(agreement_counts_pixels), T(bytes_equal_integer_arithmetic), T(a_dead_relu_has_a_scale),
          T(networks_in_bytes_are_near_float32))
