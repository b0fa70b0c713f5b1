/* legend.c - a picture with a legend at its right: one box and name per class that occurs, in as many
 * columns as its height asks for. Letters are 5 x 7 pixels (glyphs.def), enlarged with the picture. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

enum {
    WIDE = 5,
    HIGH = 7,
    ADVANCE = 6,
    ROW = 11,
    MARGIN = 4,
    BOX = 7,
    GAP = 4,
    NAME_MAX_LETTERS = 24
};

#define GLYPH(c, ...) {c, {__VA_ARGS__}},
static const struct { char c; uint8_t row[HIGH]; } glyphs[] = {
#include "report/glyphs.def"
};
#undef GLYPH

static const uint8_t *glyph_of(char c) {
    const int n = sizeof glyphs / sizeof *glyphs;
    for (int i = 0; i < n; i++)
        if (glyphs[i].c == toupper((unsigned char)c)) return glyphs[i].row;
    return glyphs[n - 1].row;
}

typedef struct Canvas { uint8_t *px; int h, w, scale; } Canvas;

/* A rectangle in units of `scale` pixels from (y0, x0), cut at the canvas. */
static void fill(Canvas *c, int y0, int x0, int y, int x, int h, int w, const uint8_t rgb[3]) {
    for (int v = y0 + y * c->scale; v < y0 + (y + h) * c->scale && v < c->h; v++)
        for (int u = x0 + x * c->scale; u < x0 + (x + w) * c->scale && u < c->w; u++)
            memcpy(c->px + 3 * ((int64_t)v * c->w + u), rgb, 3);
}

static void write_name(Canvas *c, int y0, int x0, const char *text) {
    static const uint8_t ink[3] = {30, 30, 30};
    for (int i = 0, at = 0; text[i] && at < NAME_MAX_LETTERS; i++) {
        if (((unsigned char)text[i] & 0xc0) == 0x80) continue;       /* the rest of a UTF-8 character */
        const uint8_t *g = glyph_of(text[i]);
        for (int y = 0; y < HIGH; y++)
            for (int x = 0; x < WIDE; x++)
                if (g[y] >> (WIDE - 1 - x) & 1) fill(c, y0, x0, y, at * ADVANCE + x, 1, 1, ink);
        at++;
    }
}

static const char *name_of(const char *const *names, int k, char own[16]) {
    own[0] = (char)('0' + k / 100), own[1] = (char)('0' + k / 10 % 10),
    own[2] = (char)('0' + k % 10), own[3] = 0;
    return names ? names[k] : own;
}

static int letters(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n < NAME_MAX_LETTERS ? n : NAME_MAX_LETTERS;
}

void overlay_legend(const uint8_t *rgb, int h, int w, const char *const *names,
                    const uint8_t (*palette)[3], const bool *seen, int n, uint8_t **out, int *out_h,
                    int *out_w) {
    int shown = 0, longest = 1;
    char own[16];
    for (int k = 0; k < n; k++)
        if (seen[k] && ++shown && letters(name_of(names, k, own)) > longest)
            longest = letters(name_of(names, k, own));
    const int scale = h / 400 > 1 ? h / 400 : 1,
              column = (2 * MARGIN + BOX + GAP + longest * ADVANCE) * scale;
    const int fit = (h / scale - MARGIN) / ROW, rows = fit > 1 ? fit : 1;
    const int columns = shown ? (shown + rows - 1) / rows : 0;
    Canvas c = {.h = h > (ROW + MARGIN) * scale ? h : (ROW + MARGIN) * scale,
                .w = w + columns * column,
                .scale = scale};
    c.px = xcalloc((size_t)c.h * (size_t)c.w, 3);
    memset(c.px, 245, (size_t)c.h * (size_t)c.w * 3);
    for (int y = 0; y < h; y++)
        memcpy(c.px + 3 * (int64_t)y * c.w, rgb + 3 * (int64_t)y * w, (size_t)w * 3);
    for (int k = 0, i = 0; k < n; k++) {
        if (!seen[k]) continue;
        const int y0 = (MARGIN + i % rows * ROW) * scale,
                  x0 = w + i / rows * column + MARGIN * scale;
        fill(&c, y0, x0, 0, 0, BOX, BOX, palette[k]);
        write_name(&c, y0, x0 + (BOX + GAP) * scale, name_of(names, k, own));
        i++;
    }
    *out = c.px, *out_h = c.h, *out_w = c.w;
}
