/* calibration.c - does a network know how sure it may be? The expected calibration error (Guo et al.,
 * ICML 2017, eq. 3) over all labelled pixels:
 *     ECE = sum over bins b of n_b / n * |accuracy_b - confidence_b|
 * with 15 bins of equal width; bin b holds confidences in (b / 15, (b + 1) / 15]. A confidence is the
 * probability of the predicted class. Confidences are summed in units of 2^-24, so the sum is exact. */
#include <math.h>

#include "eval/eval.h"

enum { PIXELS, RIGHT, CONFIDENCE, PER_BIN };
static const double UNIT = 1 << 24;

static int calibration_sums(int classes) { return PER_BIN * CALIBRATION_BINS; }

static void calibration_add(int64_t *sum, int classes, const EvalImage *im) {
    for (int64_t i = 0, n = (int64_t)im->h * im->w; i < n; i++) {
        if (im->label[i] >= classes) continue;
        const double c = im->confidence[i];
        int bin = (int)ceil(c * CALIBRATION_BINS) - 1;
        if (bin < 0) bin = 0;
        if (bin >= CALIBRATION_BINS) bin = CALIBRATION_BINS - 1;
        int64_t *s = sum + PER_BIN * bin;
        s[PIXELS]++, s[RIGHT] += im->label[i] == im->pred[i], s[CONFIDENCE] += llround(c * UNIT);
    }
}

void calibration_bins(const int64_t *sum, double *confidence, double *accuracy, int64_t *pixels) {
    for (int b = 0; b < CALIBRATION_BINS; b++) {
        const int64_t *s = sum + PER_BIN * b;
        pixels[b] = s[PIXELS];
        accuracy[b] = s[PIXELS] ? (double)s[RIGHT] / (double)s[PIXELS] : NAN;
        confidence[b] = s[PIXELS] ? (double)s[CONFIDENCE] / UNIT / (double)s[PIXELS] : NAN;
    }
}

static int calibration_scores(const int64_t *sum, int classes, ClassScore *out) {
    double confidence[CALIBRATION_BINS], accuracy[CALIBRATION_BINS], error = 0;
    int64_t pixels[CALIBRATION_BINS], all = 0;
    calibration_bins(sum, confidence, accuracy, pixels);
    for (int b = 0; b < CALIBRATION_BINS; b++) {
        if (pixels[b]) error += (double)pixels[b] * fabs(accuracy[b] - confidence[b]);
        all += pixels[b];
    }
    out[0] =
        (ClassScore){"ece", "expected calibration error", all ? error / (double)all : NAN, NULL};
    return 1;
}

static void calibration_json(Str *s, const int64_t *sum) {
    double confidence[CALIBRATION_BINS], accuracy[CALIBRATION_BINS];
    int64_t pixels[CALIBRATION_BINS];
    calibration_bins(sum, confidence, accuracy, pixels);
    str_add(s, ", \"calibration\": [");
    for (int b = 0; b < CALIBRATION_BINS; b++) {
        str_addf(s, "%s{\"pixels\": %lld, \"confidence\": ", b ? ", " : "", (long long)pixels[b]);
        str_json_number(s, confidence[b]);
        str_add(s, ", \"accuracy\": ");
        str_json_number(s, accuracy[b]);
        str_add(s, "}");
    }
    str_add(s, "]");
}

const MetricDef metric_calibration = {
    .name = "calibration",
    .help = "expected calibration error of the predicted class's probability, 15 bins",
    .confidence = true,
    .sums = calibration_sums,
    .add = calibration_add,
    .scores = calibration_scores,
    .json = calibration_json,
};
