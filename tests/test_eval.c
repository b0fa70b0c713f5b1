/* test_eval.c - how images are looked at in windows, scales and mirrored, and how results are scored:
 * each against a plain computation of its definition. */
#include "base/rng.h"
#include "eval/windows.h"
#include "prob_planes.h"
#include "test.h"

/* ---- metrics --------------------------------------------------------------------------------- */
enum { K = 4 };

/* Blocks of classes with some void, and a prediction that is shifted and speckled. */
static void draw_maps(uint8_t *label, uint8_t *pred, int h, int w, uint64_t seed) {
    const Rng r = rng_stream(seed, RNG_SCENES, 0, 0);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int i = y * w + x;
            label[i] = (uint8_t)((x / 9 + y / 7 * 2) % (K - 1));
            if (rng_below(&r, (uint64_t)i, 40) == 0) label[i] = IGNORE_U8;
            if (x > w - 4 && y > h / 2) label[i] = IGNORE_U8;
            pred[i] = (uint8_t)(((x + 2) / 9 + (y + 1) / 7 * 2) % (K - 1));
            if (rng_below(&r, (uint64_t)(h * w + i), 30) == 0)
                pred[i] = (uint8_t)rng_below(&r, (uint64_t)(2 * h * w + i), K);
        }
}

/* d erosions by 3 x 3, outside is nothing; what they take away stays. */
static void band_by_erosion(uint8_t *mask, int h, int w, int d) {
    uint8_t *m = xcalloc((size_t)(h * w), 1), *next = xcalloc((size_t)(h * w), 1);
    memcpy(m, mask, (size_t)(h * w));
    for (int t = 0; t < d; t++) {
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                bool all = true;
                for (int v = y - 1; v <= y + 1; v++)
                    for (int u = x - 1; u <= x + 1; u++)
                        all &= v >= 0 && u >= 0 && v < h && u < w && m[v * w + u];
                next[y * w + x] = all;
            }
        memcpy(m, next, (size_t)(h * w));
    }
    for (int i = 0; i < h * w; i++) mask[i] = mask[i] && !m[i];
    free(m), free(next);
}
static bool on_outline(const uint8_t *map, int h, int w, int k, int y, int x) {
    if (map[y * w + x] != k) return false;
    const int at[4][2] = {{y - 1, x}, {y + 1, x}, {y, x - 1}, {y, x + 1}};
    for (int i = 0; i < 4; i++)
        if (at[i][0] >= 0 && at[i][1] >= 0 && at[i][0] < h && at[i][1] < w) {
            const uint8_t other = map[at[i][0] * w + at[i][1]];
            if (other != k && other < K) return true;
        }
    return false;
}
/* Share of a's outline within theta of b's; -1: a has none. */
static double share_near(const uint8_t *a, const uint8_t *b, int h, int w, int k, double theta) {
    int all = 0, near = 0;
    for (int i = 0; i < h * w; i++) {
        if (!on_outline(a, h, w, k, i / w, i % w)) continue;
        bool found = false;
        all++;
        for (int j = 0; j < h * w && !found; j++)
            found = hypot(i / w - j / w, i % w - j % w) <= theta &&
                    on_outline(b, h, w, k, j / w, j % w);
        near += found;
    }
    return all ? (double)near / all : -1;
}
typedef struct { double both[K], either[K], f[K]; int images[K]; } Naive;
static void add_naive(Naive *n, const uint8_t *label, const uint8_t *pred, int h, int w) {
    const double diagonal = sqrt((double)(h * h + w * w)), theta = fmax(1, 0.0075 * diagonal);
    const int d = (int)fmax(1, floor(0.02 * diagonal + 0.5));
    uint8_t *p = xcalloc((size_t)(h * w), 1),
            *mask[2] = {xcalloc((size_t)(h * w), 1), xcalloc((size_t)(h * w), 1)};
    for (int i = 0; i < h * w; i++) p[i] = label[i] == IGNORE_U8 ? IGNORE_U8 : pred[i];
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < h * w; i++) mask[0][i] = label[i] == k, mask[1][i] = p[i] == k;
        for (int j = 0; j < 2; j++) band_by_erosion(mask[j], h, w, d);
        for (int i = 0; i < h * w; i++)
            n->both[k] += mask[0][i] && mask[1][i], n->either[k] += mask[0][i] || mask[1][i];
        const double recall = share_near(label, p, h, w, k, theta),
                     precision = share_near(p, label, h, w, k, theta);
        if (recall < 0 && precision < 0) continue;
        n->images[k]++;
        if (recall > 0 && precision > 0) n->f[k] += 2 * precision * recall / (precision + recall);
    }
    free(p), free(mask[0]), free(mask[1]);
}
TEST(boundaries_are_those_of_erosions_and_distances) {
    static const int sizes[][2] = {{40, 60}, {75, 100}, {33, 31}, {1, 50}, {3, 3}};
    const MetricDef *m = metric_find("boundary");
    int64_t *sum = xcalloc((size_t)m->sums(K), sizeof *sum);
    Naive naive = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int h = sizes[i][0], w = sizes[i][1];
        uint8_t *label = xcalloc((size_t)(h * w), 1), *pred = xcalloc((size_t)(h * w), 1);
        draw_maps(label, pred, h, w, i + 1);
        m->add(sum, K, &(EvalImage){.h = h, .w = w, .label = label, .pred = pred});
        add_naive(&naive, label, pred, h, w);
        free(label), free(pred);
    }
    ClassScore s[METRIC_SCORES_MAX];
    EXPECT_INT(m->scores(sum, K, s), 2);
    double iou = 0, f1 = 0;
    for (int k = 0; k < K; k++) {
        EXPECT_NEAR(s[0].of[k], naive.both[k] / naive.either[k], 1e-12);
        EXPECT_NEAR(s[1].of[k], naive.f[k] / naive.images[k], 1e-8);     /* kept in steps of 2^-30 */
        iou += s[0].of[k] / K, f1 += s[1].of[k] / K;
    }
    EXPECT_NEAR(s[0].mean, iou, 1e-12);
    EXPECT_NEAR(s[1].mean, f1, 1e-12);
    EXPECT(iou > 0.05 && iou < 0.95 && f1 > 0.05 && f1 < 0.95);          /* the case says something */
    free(s[0].of), free(s[1].of), free(sum);
}
TEST(boundaries_of_equal_maps_are_met_and_absent_classes_have_none) {
    const MetricDef *m = metric_find("boundary");
    int64_t *sum = xcalloc((size_t)m->sums(K), sizeof *sum);
    uint8_t map[20 * 20];
    ClassScore s[METRIC_SCORES_MAX];
    for (int i = 0; i < 400; i++) map[i] = i % 20 < 10 ? 0 : i < 200 ? 2 : IGNORE_U8;
    m->add(sum, K, &(EvalImage){.h = 20, .w = 20, .label = map, .pred = map});
    m->scores(sum, K, s);
    EXPECT_NEAR(s[0].of[0], 1, 0);
    EXPECT_NEAR(s[1].of[2], 1, 1e-9);
    EXPECT(isnan(s[0].of[1]) && isnan(s[1].of[1]) && isnan(s[0].of[3]));
    EXPECT_NEAR(s[1].mean, 1, 1e-9);
    free(s[0].of), free(s[1].of), free(sum);
}
TEST(calibration_is_the_gap_of_each_bin) {
    const MetricDef *m = metric_find("calibration");
    enum { N = 5000 };
    uint8_t label[N], pred[N];
    float sure[N];
    double right[15] = {0}, sum_sure[15] = {0}, error = 0;
    int n = 0, count[15] = {0};
    const Rng r = rng_stream(3, RNG_SCENES, 0, 0);
    for (int i = 0; i < N; i++) {
        sure[i] = i < 16 ? (float)i / 15 : (float)rng_uniform(&r, (uint64_t)i);      /* edges too */
        pred[i] = (uint8_t)(i % 3),
        label[i] = rng_uniform(&r, (uint64_t)(N + i)) < 0.7f ? pred[i] : 3;
        if (i % 11 == 0) label[i] = IGNORE_U8;
        if (i % 11 == 0) continue;
        int b = 14;
        while (b > 0 && !((double)sure[i] * 15 > b)) b--;                         /* (b/15, (b+1)/15] */
        count[b]++, right[b] += label[i] == pred[i], sum_sure[b] += sure[i], n++;
    }
    for (int b = 0; b < 15; b++) error += fabs(right[b] - sum_sure[b]) / n;
    int64_t *sum = xcalloc((size_t)m->sums(K), sizeof *sum);
    ClassScore s[METRIC_SCORES_MAX];
    m->add(sum, K,
           &(EvalImage){.h = 50, .w = N / 50, .label = label, .pred = pred, .confidence = sure});
    EXPECT_INT(m->scores(sum, K, s), 1);
    EXPECT_NEAR(s[0].mean, error, 1e-6);
    EXPECT(error > 0.01);
    free(sum);
}

TEST(instances_weigh_by_their_size) {
    const MetricDef *m = metric_find("instances");
    enum { ROAD = 0, PERSON = 11, RIDER = 12, CAR = 13 };
    /* A person of four pixels, three found, one taken for a rider; a car of two, one found; road taken for person. */
    const uint8_t label[10] = {11, 11, 11, 11, 13, 13, 0, 0, 255, 0};
    const uint8_t pred[10] = {11, 11, 11, 12, 13, 0, 11, 0, 11, 0};
    const uint16_t instance[10] = {24001, 24001, 24001, 24001, 26001, 26001, 7, 29001, 24, 7};
    int64_t *sum = xcalloc((size_t)m->sums(19), sizeof *sum);
    ClassScore s[METRIC_SCORES_MAX];
    m->add(sum, 19,
           &(EvalImage){.h = 2, .w = 5, .label = label, .pred = pred, .instance = instance});
    EXPECT_INT(m->scores(sum, 19, s), 2);
    const double person = 3462.4756337644, car = 12794.0202738185;
    EXPECT_NEAR(s[0].of[PERSON], 0.75 * person / (person + 1), 1e-8);      /* one false positive, on the road */
    EXPECT_NEAR(s[0].of[RIDER], 0, 0);                                     /* none, but one is seen */
    EXPECT_NEAR(s[0].of[CAR], 0.5 * car / car, 1e-8);
    EXPECT(isnan(s[0].of[ROAD]) && isnan(s[0].of[14]));
    const double human = person / (person + 1), vehicle = 0.5;             /* a rider is human too */
    EXPECT_NEAR(s[1].mean, (human + vehicle) / 2, 1e-8);
    free(s[0].of), free(sum);
}

/* ---- protocols ------------------------------------------------------------------------------- */
static double number(const Number *v, int n, const char *key) {
    for (int i = 0; i < n; i++)
        if (!strcmp(v[i].key, key)) return v[i].value;
    FAIL("no number %s", key);
    return NAN;
}
TEST(protocols_count_as_the_official_tools) {
    Number v[NUMBERS_MAX];
    Scores s;
    Confusion *m = confusion_open(19);
    m->count[0] = 6, m->count[1] = 2;                /* road, two taken for sidewalk: flat all the same */
    m->count[10 * 19 + 10] = 4, m->count[10 * 19 + 2] = 4;                /* sky, half taken for building */
    confusion_scores(m, &s);
    int n = protocol_find("cityscapes")->numbers(m, &s, v);
    EXPECT_NEAR(number(v, n, "averageScoreClasses"), (6.0 / 8 + 0 + 0 + 0.5) / 4, 1e-15);
    EXPECT_NEAR(number(v, n, "averageScoreCategories"), (1 + 0.5 + 0) / 3, 1e-15);
    EXPECT_NEAR(number(v, n, "flat"), 1, 0);
    EXPECT(isnan(number(v, n, "vehicle")));
    n = protocol_find("voc")->numbers(m, &s, v);
    EXPECT_NEAR(number(v, n, "average_accuracy"), 1.25 / 19, 1e-15);      /* absent classes count as 0 */
    n = protocol_find("ade20k")->numbers(m, &s, v);
    EXPECT_NEAR(number(v, n, "final_score"), (1.25 / 19 + 10.0 / 16) / 2, 1e-15);
    EXPECT_INT(protocol_find("none")->numbers(m, &s, v), 0);
    EXPECT_NEAR(s.mean_dice, (12.0 / 14 + 0 + 0 + 8.0 / 12) / 4, 1e-15);
    EXPECT_NEAR(s.weighted_iou, (8 * 0.75 + 8 * 0.5) / 16, 1e-15);
    scores_free(&s);
    confusion_close(m);
}

/* ---- windows --------------------------------------------------------------------------------- */
TEST(windows_cover_every_pixel_in_order) {
    static const struct { int h, w; InferOptions o; int n;
    } cases[] = {
        {33, 50, {0}, 1},
        {33, 50, {.mirror = true}, 2},
        {33, 50, {.mode = INFER_SLIDE, .window_h = 20, .window_w = 20}, 8},
        {33,
         50,
         {.mode = INFER_SLIDE, .window_h = 20, .window_w = 20, .stride_h = 20, .stride_w = 20},
         6},
        {33, 50, {.mode = INFER_SLIDE, .window_h = 99, .window_w = 20, .stride_w = 3}, 11},
        {33,
         50,
         {.mode = INFER_SLIDE,
          .window_h = 20,
          .window_w = 30,
          .scale = {0.5, 1.3},
          .n_scales = 2,
          .mirror = true},
         20},
        {7, 1, {.scale = {0.1, 8}, .n_scales = 2}, 2},
        {2100, 2100, {0}, 16}, /* more than WHOLE_MAX_PX */
        {2100, 2100, {.mode = INFER_WHOLE}, 1},
        {1050, 1050, {.scale = {1, 2}, .n_scales = 2}, 17}, /* the scaled one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int h = cases[i].h, w = cases[i].w;
        int n;
        Window *v = windows_of(&cases[i].o, h, w, &n);
        uint8_t *seen = xcalloc((size_t)(h * w), 1);
        if (n != cases[i].n) FAIL("case %zu: %d windows, expected %d", i, n, cases[i].n);
        for (int j = 0; j < n; j++) {
            EXPECT(j == 0 || v[j].top >= v[j - 1].top);
            EXPECT(v[j].y >= 0 && v[j].x >= 0 && v[j].y + v[j].h <= v[j].H &&
                   v[j].x + v[j].w <= v[j].W);
            for (int y = v[j].top; y < v[j].bottom; y++)
                memset(seen + y * w + v[j].left, 1, (size_t)(v[j].right - v[j].left));
        }
        EXPECT(!memchr(seen, 0, (size_t)(h * w)));
        free(seen), free(v);
    }
}

/* What predictor.c should give, in double, view by view and pixel by pixel. */
typedef struct { const uint8_t *rgb; int h, w; } Picture;
static double scaled_pixel(const Picture *im, int y, int x, int H, int W, int c) {
    double fy = fmin(fmax((y + 0.5) * im->h / H - 0.5, 0), im->h - 1),
           fx = fmin(fmax((x + 0.5) * im->w / W - 0.5, 0), im->w - 1);
    const int y0 = (int)fy, x0 = (int)fx, y1 = y0 + 1 < im->h ? y0 + 1 : y0,
              x1 = x0 + 1 < im->w ? x0 + 1 : x0;
    const uint8_t *p = im->rgb + c;
    const double a =
        p[3 * (y0 * im->w + x0)] * (1 - (fx - x0)) + p[3 * (y0 * im->w + x1)] * (fx - x0);
    const double b =
        p[3 * (y1 * im->w + x0)] * (1 - (fx - x0)) + p[3 * (y1 * im->w + x1)] * (fx - x0);
    return a * (1 - (fy - y0)) + b * (fy - y0);
}
static Plan *network_on(Net *n, const ModelNodes *at, const Picture *im, const Window *v,
                        uint8_t *px) {
    Plan *plan;
    Node in[] = {at->image, at->rects};
    Shape shapes[] = {SHAPE(1, v->h, v->w, 3), SHAPE(1, 4)};
    const int32_t rect[4] = {0, 0, v->w, v->h};
    for (int i = 0; i < v->h * v->w; i++)
        for (int c = 0; c < 3; c++) {
            const int x = v->mirrored ? v->w - 1 - i % v->w : i % v->w;
            px[3 * i + c] =
                (uint8_t)floor(scaled_pixel(im, v->y + i / v->w, v->x + x, v->H, v->W, c) + 0.5);
        }
    if (plan_make(n,
                  &(PlanSpec){.outputs = &at->logits,
                              .n_outputs = 1,
                              .inputs = in,
                              .input_shapes = shapes,
                              .n_inputs = 2},
                  &plan))
        return NULL;
    plan_bind(plan, at->image, px), plan_bind(plan, at->rects, rect);
    plan_run(plan, &(OpRun){0}, false);
    return plan;
}
static double grid_value(const float *g, int gh, int gw, double fy, double fx) {
    const int y0 = (int)fy, x0 = (int)fx, y1 = y0 + 1 < gh ? y0 + 1 : y0,
              x1 = x0 + 1 < gw ? x0 + 1 : x0;
    const double a = g[y0 * gw + x0] * (1 - (fx - x0)) + g[y0 * gw + x1] * (fx - x0);
    const double b = g[y1 * gw + x0] * (1 - (fx - x0)) + g[y1 * gw + x1] * (fx - x0);
    return a * (1 - (fy - y0)) + b * (fy - y0);
}
static double ramp_weight(int at, int from, int to, int ramp, int n) {
    double v = 1;
    if (ramp && from > 0) v = fmin(v, (at - from + 0.5) / ramp);
    if (ramp && to < n) v = fmin(v, (to - at - 0.5) / ramp);
    return v;
}
static void add_window(double *sum, double *total, const Picture *im, const Window *v,
                       const float *logits, Shape s, bool probabilities) {
    const int k_all = (int)s.d[1], gh = (int)s.d[2], gw = (int)s.d[3];
    for (int y = v->top; y < v->bottom; y++)
        for (int x = v->left; x < v->right; x++) {
            double uy = (y + 0.5) * v->H / im->h - 0.5 - v->y,
                   ux = (x + 0.5) * v->W / im->w - 0.5 - v->x;
            uy = fmin(fmax(uy, 0), v->h - 1), ux = fmin(fmax(ux, 0), v->w - 1);
            const double fy = v->h > 1 ? uy * (gh - 1) / (v->h - 1) : 0;
            double fx = v->w > 1 ? ux * (gw - 1) / (v->w - 1) : 0, value[16], top = -1e30, all = 0;
            if (v->mirrored) fx = gw - 1 - fx;
            for (int k = 0; k < k_all; k++)
                value[k] = grid_value(logits + k * gh * gw, gh, gw, fy, fx),
                top = fmax(top, value[k]);
            for (int k = 0; k < k_all; k++) all += exp(value[k] - top);
            const double weight = ramp_weight(y, v->top, v->bottom, v->ramp_y, im->h) *
                                  ramp_weight(x, v->left, v->right, v->ramp_x, im->w);
            total[y * im->w + x] += weight;
            for (int k = 0; k < k_all; k++)
                sum[(k * im->h + y) * im->w + x] +=
                    weight * (probabilities ? exp(value[k] - top) / all : value[k]);
        }
}
static void expect_views(Net *net, const ModelNodes *at, const InferOptions *o, const Picture *im,
                         int classes) {
    const int pixels = im->h * im->w;
    double *sum = xcalloc((size_t)(pixels * classes), sizeof *sum),
           *total = xcalloc((size_t)pixels, sizeof *total);
    uint8_t *px = xcalloc(8 * 8 * (size_t)pixels, 3), *pred = xcalloc((size_t)pixels, 1);
    float *probs = xcalloc((size_t)(pixels * classes), sizeof *probs),
          *sure = xcalloc((size_t)pixels, sizeof *sure);
    int n;
    Window *v = windows_of(o, im->h, im->w, &n);
    Predictor *p;
    EXPECT_OK(predictor_open(net, at, o, &p));
    EXPECT_OK(predictor_fill(p, im->rgb, im->h, im->w,
                             &(Prediction){pred, sure, prob_planes(&(Planes){probs, im->h, im->w, classes})}));
    for (int i = 0; i < n; i++) {
        Plan *plan = network_on(net, at, im, &v[i], px);
        EXPECT(plan != NULL);
        if (plan)
            add_window(sum, total, im, &v[i], plan_value(plan, at->logits),
                       plan_shape(plan, at->logits), o->average == AVERAGE_PROBABILITIES);
        plan_close(plan);
    }
    for (int i = 0; i < pixels; i++) {
        double value[16], all = 0;
        int best = 0;
        for (int k = 0; k < classes; k++) value[k] = sum[k * pixels + i] / total[i];
        for (int k = 0; k < classes; k++)
            all += value[k] = o->average == AVERAGE_LOGITS ? exp(value[k]) : value[k];
        for (int k = 0; k < classes; k++) best = value[k] > value[best] ? k : best;
        for (int k = 0; k < classes; k++) EXPECT_NEAR(probs[k * pixels + i], value[k] / all, 1e-4);
        EXPECT(value[pred[i]] / all > value[best] / all - 1e-4);
        EXPECT_NEAR(sure[i], probs[pred[i] * pixels + i], 0);
    }
    predictor_close(p);
    free(sum), free(total), free(px), free(pred), free(probs), free(sure), free(v);
}
TEST(windows_scales_and_mirror_images_are_averaged) {
    static const InferOptions cases[] = {
        {.mode = INFER_SLIDE, .window_h = 24, .window_w = 33},
        {.mode = INFER_SLIDE,
         .window_h = 24,
         .window_w = 33,
         .blend = BLEND_MEAN,
         .average = AVERAGE_LOGITS},
        {.mode = INFER_SLIDE,
         .window_h = 24,
         .window_w = 24,
         .stride_h = 24,
         .stride_w = 8,
         .mirror = true},
        {.scale = {0.75, 1, 1.5}, .n_scales = 3, .mirror = true},
        {.scale = {1.25}, .n_scales = 1, .average = AVERAGE_LOGITS, .mirror = true},
        {.mode = INFER_SLIDE, .window_h = 30, .window_w = 30, .scale = {0.6, 1.4}, .n_scales = 2},
    };
    enum { H = 41, W = 57, CLASSES = 5 };
    ModelOptions o = {
        .model = "deeplabv3_mobilenetv2", .classes = CLASSES, .width = 0.1, .norm = "rgb-imagenet"};
    uint8_t rgb[H * W * 3];
    const Rng r = rng_stream(5, RNG_METHOD, 0, 0);
    for (int i = 0; i < H * W * 3; i++)
        rgb[i] = (uint8_t)(rng_below(&r, (uint64_t)i, 60) + (unsigned)(i / 3 % W) * 3);
    Net *net;
    ModelNodes at;
    EXPECT_OK(model_open(&o, 33, 33, &net, &at));
    net_init_formula(net, 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_views(net, &at, &cases[i], &(Picture){rgb, H, W}, CLASSES);
    net_close(net);
}
/* Half the size by area is half the scale: the mean of four pixels, but for one more rounding. Classes come in
 * full size. */
TEST(a_fixed_size_is_shown_and_judged_in_full_size) {
    enum { H = 40, W = 56, CLASSES = 5 };
    static const InferOptions ways[] = {{.scale = {0.5}, .n_scales = 1},
                                        {.resize = {H / 2, W / 2, KERNEL_AREA}},
                                        {.resize = {H, W, KERNEL_CUBIC}},
                                        {0}};
    ModelOptions o = {
        .model = "deeplabv3_mobilenetv2", .classes = CLASSES, .width = 0.1, .norm = "rgb-imagenet"};
    static uint8_t rgb[H * W * 3], pred[4][H * W];
    static float confidence[4][H * W];
    const Rng r = rng_stream(5, RNG_METHOD, 0, 0);
    for (int i = 0; i < H * W * 3; i++)
        rgb[i] = (uint8_t)(rng_below(&r, (uint64_t)i, 60) + (unsigned)(i / 3 % W) * 3);
    Net *net;
    ModelNodes at;
    Predictor *p;
    EXPECT_OK(model_open(&o, 33, 33, &net, &at));
    net_init_formula(net, 4);
    for (int i = 0; i < 4; i++) {
        EXPECT_OK(predictor_open(net, &at, &ways[i], &p));
        EXPECT_OK(predictor_fill(p, rgb, H, W,
                                 &(Prediction){.pred = pred[i], .confidence = confidence[i]}));
        predictor_close(p);
    }
    double worst = 0;
    for (int i = 0; i < H * W; i++) worst = fmax(worst, fabs(confidence[0][i] - confidence[1][i]));
    if (!(worst < 0.02)) FAIL("confidence is off by %g", worst);
    EXPECT(!memcmp(pred[2], pred[3], sizeof *pred) &&
           !memcmp(confidence[2], confidence[3], sizeof *confidence));
    EXPECT(memcmp(confidence[1], confidence[3], sizeof *confidence) != 0);
    net_close(net);
}
/* Weights are finite, what they make is not: no class is told. */
TEST(logits_that_are_not_finite_are_refused) {
    const ModelOptions o = {.model = "deeplabv3_mobilenetv2", .classes = 5, .width = 0.1};
    static uint8_t rgb[33 * 33 * 3], pred[33 * 33];
    Net *net;
    ModelNodes at;
    Predictor *p;
    EXPECT_OK(model_open(&o, 33, 33, &net, &at));
    net_init_formula(net, 4);
    const NetParam *w = &net->params[net_find_param(net, "head.block.4.weight")];
    for (int64_t i = 0; i < shape_count(w->shape); i++) w->data[i] = 3e38f;
    EXPECT_OK(predictor_open(net, &at, &(InferOptions){0}, &p));
    EXPECT_ERR(predictor_run(p, rgb, 33, 33, pred), E(8, 62));
    EXPECT_HAS(err_text(), "deeplabv3_mobilenetv2: its output ");
    predictor_close(p);
    net_close(net);
}
TEST(the_text_says_how_images_were_seen) {
    const InferOptions slide = {.mode = INFER_SLIDE,
                                .window_h = 360,
                                .window_w = 480,
                                .blend = BLEND_MEAN,
                                .average = AVERAGE_LOGITS};
    const InferOptions more = {.scale = {0.5, 1}, .n_scales = 2, .mirror = true};
    char *a = infer_text(&(InferOptions){0}, false), *b = infer_text(&slide, true),
         *c = infer_text(&more, false);
    EXPECT_STR(a, "whole");
    EXPECT_STR(b, "windows of 360x480 every 240x320, averaged where they overlap; logits averaged");
    EXPECT_STR(c, "whole; scales 0.5, 1; mirrored too; probabilities averaged");
    free(a), free(b), free(c);
}

TEST_MAIN(T(boundaries_are_those_of_erosions_and_distances),
          T(boundaries_of_equal_maps_are_met_and_absent_classes_have_none),
          T(calibration_is_the_gap_of_each_bin), T(instances_weigh_by_their_size),
          T(protocols_count_as_the_official_tools), T(windows_cover_every_pixel_in_order),
          T(windows_scales_and_mirror_images_are_averaged),
          T(a_fixed_size_is_shown_and_judged_in_full_size), T(logits_that_are_not_finite_are_refused),
          T(the_text_says_how_images_were_seen))
