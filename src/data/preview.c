/* preview.c - see preview.h. Left the picture, right half picture and half the colours of its labels; what is
 * ignored is hatched. Large crops are shown by every second, third, ... pixel. */
#include "data/preview.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "io/image.h"

enum { COLUMNS = 4, ROWS = 4, CELL_MAX = 320, HATCH = 6 };
typedef struct Sheet {
    uint8_t *px;
    int h, w, cell_h, cell_w, every; /* every: pixels of a crop to one of the sheet */
} Sheet;

static Sheet sheet_open(int h, int w) {
    const int side = h > w ? h : w, every = (side + CELL_MAX - 1) / CELL_MAX;
    Sheet s = {
        .cell_h = (h + every - 1) / every, .cell_w = (w + every - 1) / every, .every = every};
    s.h = ROWS * (s.cell_h + PREVIEW_GAP) + PREVIEW_GAP;
    s.w = COLUMNS * (2 * s.cell_w + PREVIEW_GAP) + PREVIEW_GAP;
    s.px = xcalloc((size_t)s.h * (size_t)s.w, 3);
    memset(s.px, 255, (size_t)s.h * (size_t)s.w * 3);
    return s;
}

static void put_label(uint8_t *dst, const uint8_t *src, const Dataset *d, int32_t id, int x,
                      int y) {
    static const uint8_t dark[3] = {0, 0, 0}, light[3] = {255, 255, 255};
    const bool known = id >= 0 && id < d->n_classes;
    const uint8_t *colour = known ? d->palette[id] : (x + y) / HATCH % 2 ? dark : light;
    for (int c = 0; c < 3; c++) dst[c] = (uint8_t)((src[c] + colour[c]) / 2);
}

static void put_cell(const Sheet *s, const Dataset *d, const Batch *b, int i, int cell) {
    const int top = PREVIEW_GAP + cell / COLUMNS * (s->cell_h + PREVIEW_GAP),
              left = PREVIEW_GAP + cell % COLUMNS * (2 * s->cell_w + PREVIEW_GAP);
    const size_t first = (size_t)i * (size_t)b->h * (size_t)b->w;
    for (int y = 0; y < s->cell_h; y++)
        for (int x = 0; x < s->cell_w; x++) {
            const size_t at =
                first + (size_t)(y * s->every) * (size_t)b->w + (size_t)(x * s->every);
            uint8_t *dst = s->px + ((size_t)(top + y) * (size_t)s->w + (size_t)(left + x)) * 3;
            memcpy(dst, b->images + 3 * at, 3);
            put_label(dst + 3 * s->cell_w, b->images + 3 * at, d, b->labels[at], x, y);
        }
}

Err preview_write(Dataset *d, const DataOptions *o, int h, int w, uint64_t seed, const char *path) {
    DataOptions sized = *o;
    Loader *l;
    const Batch *b;
    sized.crop_h = h, sized.crop_w = w;
    TRY(loader_open(d, &sized, COLUMNS, seed, 0, &l));
    Sheet s = sheet_open(h, w);
    Err rc = OK;
    for (int row = 0; row < ROWS && !rc; row++) {
        if ((rc = loader_next(l, &b))) break;
        for (int i = 0; i < COLUMNS; i++) put_cell(&s, d, b, i, row * COLUMNS + i);
        loader_done(l, b);
    }
    loader_close(l);
    if (!rc) rc = image_write_png_rgb(path, s.px, s.h, s.w);
    free(s.px);
    return rc;
}
