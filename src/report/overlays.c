/* overlays.c - label maps, weights and masks as pictures. */
#include "report/report.h"

#include <math.h>
#include <string.h>

static const uint8_t void_rgb[3] = {0, 0, 0};

void overlay_labels(uint8_t *dst, const uint8_t *label, int64_t pixels, const uint8_t (*palette)[3],
                    int n) {
    for (int64_t i = 0; i < pixels; i++)
        memcpy(dst + 3 * i, label[i] < n ? palette[label[i]] : void_rgb, 3);
}

void overlay_blend(uint8_t *dst, const uint8_t *rgb, const uint8_t *over, double alpha,
                   int64_t pixels) {
    for (int64_t i = 0; i < 3 * pixels; i++)
        dst[i] = (uint8_t)lround((1 - alpha) * rgb[i] + alpha * over[i]);
}

/* Six stops of a scale whose lightness rises evenly, so it also reads in grey. */
static const double heat_stops[6][3] = {{13, 8, 60},   {84, 18, 110},  {156, 38, 104},
                                        {221, 81, 70}, {249, 149, 40}, {250, 240, 140}};

void overlay_heat(uint8_t *dst, const float *v, double lo, double hi, int64_t pixels) {
    for (int64_t i = 0; i < pixels; i++) {
        double t = isfinite(v[i]) ? fmax(0, fmin(1, (v[i] - lo) / (hi - lo))) * 5 : 0;
        int a = t >= 5 ? 4 : (int)t;
        for (int c = 0; c < 3; c++)
            dst[3 * i + c] = (uint8_t)lround(heat_stops[a][c] +
                                             (t - a) * (heat_stops[a + 1][c] - heat_stops[a][c]));
    }
}

/* Void black; easy for both dark grey; the student's alone blue, the teacher's alone orange (these
 * two are what the XOR keeps); hard for both light grey. */
const uint8_t overlay_part_rgb[PART_COUNT][3] = {
    {0, 0, 0}, {62, 62, 66}, {57, 135, 229}, {235, 140, 30}, {190, 190, 195}};

void overlay_parts(uint8_t *dst, const uint8_t *part, int64_t pixels) {
    overlay_labels(dst, part, pixels, overlay_part_rgb, PART_COUNT);
}

void base64_add(Str *out, const uint8_t *data, size_t bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[1024];
    size_t n = 0;
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < bytes ? (uint32_t)data[i + 1] << 8 : 0) |
                     (i + 2 < bytes ? data[i + 2] : 0);
        line[n++] = digits[v >> 18];
        line[n++] = digits[v >> 12 & 63];
        line[n++] = i + 1 < bytes ? digits[v >> 6 & 63] : '=';
        line[n++] = i + 2 < bytes ? digits[v & 63] : '=';
        if (n == sizeof line) str_addn(out, line, n), n = 0;
    }
    str_addn(out, line, n);
}
