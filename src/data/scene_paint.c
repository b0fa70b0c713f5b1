/* scene_paint.c - projection, depth test, primitives, and the camera. See scene_paint.h. */
#include "data/scene_paint.h"

#include <math.h>
#include <stdlib.h>

float dice(Dice *d) {
    return rng_uniform(&d->rng, d->i++);
}
float dice_in(Dice *d, float lo, float hi) {
    return lo + (hi - lo) * dice(d);
}
int dice_n(Dice *d, int n) {
    return (int)rng_below(&d->rng, d->i++, (uint32_t)n);
}
bool dice_chance(Dice *d, double p) {
    return (double)dice(d) < p;
}

Rgb rgb_mix(Rgb a, Rgb b, float t) {
    return (Rgb){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}
Rgb rgb_scale(Rgb a, float t) {
    return (Rgb){a.r * t, a.g * t, a.b * t};
}

float grain(uint32_t seed, int x, int y) {
    uint32_t h = seed ^ (uint32_t)x * 0x9e3779b1u ^
                 (uint32_t)y * 0x85ebca77u; /* a mix of lowbias32's kind */
    h ^= h >> 16, h *= 0x7feb352du, h ^= h >> 15, h *= 0x846ca68bu, h ^= h >> 16;
    return (float)(h >> 8) * (1.0f / 16777216.0f);
}

int floor_int(float x) {
    int i = (int)x;
    return (float)i > x ? i - 1 : i;
}
float wrap(float x, float period) {
    return x - period * (float)floor_int(x / period);
}

float noise(uint32_t seed, float x, float y) {
    int ix = floor_int(x), iy = floor_int(y);
    float tx = x - (float)ix, ty = y - (float)iy;
    tx = tx * tx * (3 - 2 * tx), ty = ty * ty * (3 - 2 * ty);
    float a = grain(seed, ix, iy), b = grain(seed, ix + 1, iy);
    float c = grain(seed, ix, iy + 1), d = grain(seed, ix + 1, iy + 1);
    return (a + (b - a) * tx) * (1 - ty) + (c + (d - c) * tx) * ty;
}

float scene_x(const Scene *s, float X, float Z) {
    return s->cx + s->focal * X / Z;
}
float scene_y(const Scene *s, float Y, float Z) {
    return s->horizon - s->focal * (Y - s->cam) / Z;
}

bool visible(const Scene *s, int x, int y, float z) {
    return z <= s->depth[y * s->w + x];
}

void paint(Scene *s, int x, int y, float z, uint8_t label, Rgb c) {
    int p = y * s->w + x;
    if (z > s->depth[p]) return;
    s->depth[p] = z;
    s->label[p] = label;
    if (c.r >= 0) s->rgb[p] = rgb_mix(c, s->haze, z / (z + s->haze_m));
}

/* Canvas range [lo, hi) of two screen positions: at least one pixel, cut to 0..n. */
typedef struct {
    int lo, hi;
} Range;
static Range range_of(float a, float b, int n) {
    float lo = a < b ? a : b, hi = a < b ? b : a;
    if (lo > (float)n || hi < 0) return (Range){0, 0};
    Range r = {lo < 0 ? 0 : (int)(lo + 0.5f), hi > (float)n ? n : (int)(hi + 0.5f)};
    if (r.hi <= r.lo) r.hi = r.lo + 1;
    if (r.hi > n) r.hi = n;
    return r;
}

static Rgb rough(const Scene *s, const Brush *b, int x, int y) {
    return b->rough > 0 ? rgb_scale(b->rgb, 1 + b->rough * (grain(s->seed, x, y) - 0.5f)) : b->rgb;
}

void paint_box(Scene *s, Brush b, float X0, float X1, float Y0, float Y1) {
    Range rx = range_of(scene_x(s, X0, b.z), scene_x(s, X1, b.z), s->w);
    Range ry = range_of(scene_y(s, Y1, b.z), scene_y(s, Y0, b.z), s->h);
    for (int y = ry.lo; y < ry.hi; y++)
        for (int x = rx.lo; x < rx.hi; x++) paint(s, x, y, b.z, b.label, rough(s, &b, x, y));
}

void paint_disc(Scene *s, Brush b, float X, float Y, float rx, float ry) {
    Range cx = range_of(scene_x(s, X - rx, b.z), scene_x(s, X + rx, b.z), s->w);
    Range cy = range_of(scene_y(s, Y + ry, b.z), scene_y(s, Y - ry, b.z), s->h);
    float mx = scene_x(s, X, b.z), my = scene_y(s, Y, b.z), px = s->focal / b.z;
    float ax = fmaxf(rx * px, 0.5f), ay = fmaxf(ry * px, 0.5f);
    for (int y = cy.lo; y < cy.hi; y++)
        for (int x = cx.lo; x < cx.hi; x++) {
            float u = ((float)x + 0.5f - mx) / ax, v = ((float)y + 0.5f - my) / ay;
            if (u * u + v * v <= 1.1f) paint(s, x, y, b.z, b.label, rough(s, &b, x, y));
        }
}

/* A crown of leaves: lit from above, with holes at its edge that grow from noise. */
void paint_leaves(Scene *s, Brush b, float X, float Y, float rx, float ry) {
    Range cx = range_of(scene_x(s, X - rx * 1.2f, b.z), scene_x(s, X + rx * 1.2f, b.z), s->w);
    Range cy = range_of(scene_y(s, Y + ry * 1.2f, b.z), scene_y(s, Y - ry * 1.2f, b.z), s->h);
    float mx = scene_x(s, X, b.z), my = scene_y(s, Y, b.z), px = s->focal / b.z, scale = 2.2f / px;
    for (int y = cy.lo; y < cy.hi; y++)
        for (int x = cx.lo; x < cx.hi; x++) {
            float u = ((float)x + 0.5f - mx) / (rx * px), v = ((float)y + 0.5f - my) / (ry * px);
            if (u * u + v * v > 1.35f || !visible(s, x, y, b.z)) continue;
            float clump = noise(s->seed, (float)x * scale + X * 7, (float)y * scale + Y * 5);
            float leaf = grain(s->seed + 1, x, y);
            if (u * u + v * v > 0.45f + 0.75f * clump + 0.15f * leaf) continue;
            float lit = 0.75f - 0.35f * v + s->sun * 0.2f * u;
            paint(s, x, y, b.z, b.label,
                  rgb_scale(b.rgb, lit * (0.55f + 0.6f * clump + 0.4f * (leaf - 0.5f))));
        }
}

void paint_line(Scene *s, Brush b, const float from[2], const float to[2], float width) {
    float ax = scene_x(s, from[0], b.z), ay = scene_y(s, from[1], b.z);
    float bx = scene_x(s, to[0], b.z), by = scene_y(s, to[1], b.z);
    float half = fmaxf(width * s->focal / b.z, 1.0f) * 0.5f, dx = bx - ax, dy = by - ay;
    float len2 = fmaxf(dx * dx + dy * dy, 1e-6f);
    Range rx = range_of(fminf(ax, bx) - half, fmaxf(ax, bx) + half, s->w);
    Range ry = range_of(fminf(ay, by) - half, fmaxf(ay, by) + half, s->h);
    for (int y = ry.lo; y < ry.hi; y++)
        for (int x = rx.lo; x < rx.hi; x++) {
            float ux = (float)x + 0.5f - ax, uy = (float)y + 0.5f - ay;
            float t = fminf(fmaxf((ux * dx + uy * dy) / len2, 0), 1);
            float ex = ux - t * dx, ey = uy - t * dy;
            if (ex * ex + ey * ey <= half * half) paint(s, x, y, b.z, b.label, rough(s, &b, x, y));
        }
}

/* The plane X = const from z[0] to z[1], heights y[0]..y[1]; the surface sees (Z, Y). */
void paint_wall(Scene *s, uint8_t label, float X, const float z[2], const float y[2], Surface f,
                const void *ctx) {
    float near = z[0] > 0.3f ? z[0] : 0.3f;
    if (fabsf(X) < 1e-3f || z[1] <= near) return;
    Range rx = range_of(scene_x(s, X, near), scene_x(s, X, z[1]), s->w);
    for (int x = rx.lo; x < rx.hi; x++) {
        float off = (float)x + 0.5f - s->cx;
        if (off * X <= 0) continue;
        float Z = fminf(fmaxf(s->focal * X / off, near), z[1]);
        Range ry = range_of(scene_y(s, y[1], Z), scene_y(s, y[0], Z), s->h);
        for (int py = ry.lo; py < ry.hi; py++)
            if (visible(s, x, py, Z))
                paint(s, x, py, Z, label,
                      f(ctx, Z, s->cam - ((float)py + 0.5f - s->horizon) * Z / s->focal));
    }
}

/* The plane Z = const; the surface sees (X, Y). */
void paint_front(Scene *s, uint8_t label, float Z, const float x[2], const float y[2], Surface f,
                 const void *ctx) {
    if (Z < 0.3f) return;
    Range rx = range_of(scene_x(s, x[0], Z), scene_x(s, x[1], Z), s->w);
    Range ry = range_of(scene_y(s, y[1], Z), scene_y(s, y[0], Z), s->h);
    for (int py = ry.lo; py < ry.hi; py++)
        for (int px = rx.lo; px < rx.hi; px++)
            if (visible(s, px, py, Z))
                paint(s, px, py, Z, label,
                      f(ctx, ((float)px + 0.5f - s->cx) * Z / s->focal,
                        s->cam - ((float)py + 0.5f - s->horizon) * Z / s->focal));
}

/* The label most of the 2 x 2 have; among equals the nearest to the camera. */
static uint8_t vote(const Scene *s, int x, int y) {
    int p[4] = {y * s->w + x, y * s->w + x + 1, (y + 1) * s->w + x, (y + 1) * s->w + x + 1};
    int best = 0, best_count = 0;
    for (int i = 0; i < 4; i++) {
        int count = 0;
        for (int j = 0; j < 4; j++) count += s->label[p[j]] == s->label[p[i]];
        if (count > best_count || (count == best_count && s->depth[p[i]] < s->depth[p[best]]))
            best = i, best_count = count;
    }
    return s->label[p[best]];
}

static Rgb average(const Scene *s, int x, int y) {
    const Rgb *a = s->rgb + y * s->w + x, *b = a + s->w;
    return rgb_scale((Rgb){a[0].r + a[1].r + b[0].r + b[1].r, a[0].g + a[1].g + b[0].g + b[1].g,
                           a[0].b + a[1].b + b[0].b + b[1].b},
                     0.25f);
}

typedef struct {
    float gain, gamma, tint_r, tint_b, vignette, noise, blur;
} Lens;

/* Half of what would bring the mean to middle grey: dark pictures stay darker, but readable. */
static float exposure(const Scene *s) {
    double sum = 0;
    int n = s->h * s->w;
    for (int p = 0; p < n; p += 7) sum += (double)(s->rgb[p].r + s->rgb[p].g + s->rgb[p].b);
    return sqrtf(0.42f / fmaxf((float)(sum * 7 / (3.0 * n)), 0.05f));
}

static Lens lens_draw(Scene *s) {
    Dice *d = &s->dice;
    Lens l;
    l.gain = exposure(s) * dice_in(d, 0.85f, 1.2f);
    l.gamma = dice_in(d, 0.85f, 1.2f);
    l.tint_r = dice_in(d, 0.93f, 1.07f);
    l.tint_b = dice_in(d, 0.9f, 1.1f);
    l.vignette = dice_in(d, 0, 0.35f);
    l.blur = dice_in(d, 0, 0.35f);
    l.noise = dice_in(d, 0.006f, 0.022f) * (1 + 0.8f * s->dark);
    return l;
}

/* Bell-shaped noise around 0 with deviation 1 from one byte of each of the four words. */
static float bell(const uint32_t words[4], int byte) {
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)(words[i] >> (8 * byte) & 255);
    return (sum - 510.0f) * (1.0f / 147.8f);
}

static uint8_t to_byte(float v, float gamma) {
    v = powf(fminf(fmaxf(v, 0), 1), gamma) * 255.0f + 0.5f;
    return (uint8_t)v;
}

void scene_develop(Scene *s, Sample *out) {
    int h = s->h / 2, w = s->w / 2;
    Lens lens = lens_draw(s);
    uint64_t base = s->dice.i + 64; /* noise blocks lie behind all other draws */
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int p = y * w + x;
            Rgb c = average(s, 2 * x, 2 * y);
            int l = x > 0 ? 2 * x - 2 : 0, r = x + 1 < w ? 2 * x + 2 : 2 * x,
                u = y > 0 ? 2 * y - 2 : 0;
            Rgb around = rgb_mix(rgb_mix(average(s, l, 2 * y), average(s, r, 2 * y), 0.5f),
                                 average(s, 2 * x, u), 0.33f);
            c = rgb_mix(c, around, lens.blur);
            float vx = (float)x / (float)w - 0.5f, vy = (float)y / (float)h - 0.5f;
            float gain = lens.gain * (1 - lens.vignette * 2 * (vx * vx + vy * vy));
            uint32_t words[4];
            rng_block(&s->dice.rng, base + (uint64_t)p, words);
            float amp = lens.noise * (0.6f + 0.8f * sqrtf(fmaxf(c.g, 0))), grey = bell(words, 3);
            out->rgb[3 * p + 0] = to_byte(
                c.r * gain * lens.tint_r + amp * (grey + 0.7f * bell(words, 0)), lens.gamma);
            out->rgb[3 * p + 1] =
                to_byte(c.g * gain + amp * (grey + 0.5f * bell(words, 1)), lens.gamma);
            out->rgb[3 * p + 2] = to_byte(
                c.b * gain * lens.tint_b + amp * (grey + 0.8f * bell(words, 2)), lens.gamma);
            out->label[p] = vote(s, 2 * x, 2 * y);
        }
}
