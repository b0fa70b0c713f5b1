/* normalize.c - 8-bit RGB images to float32 N x 3 x H x W: channel order, mean, scale, and zero
 * outside each image's valid rectangle, so that padding is the mean colour. No gradient flows. */
#include "graph/ops/op_util.h"

static Err normalize_infer(const OpSite *s, Shape *dst) {
    const Shape image = s->src[0], rects = s->src[1];
    if (image.rank != 4 || image.d[3] != 3 || s->src_dtype[0] != DT_U8)
        return err_set(E(EXIT_MODEL, 0),
                       "normalize: image of shape %s; it must be u8 N x H x W x 3",
                       shape_text(image).s);
    if (rects.rank != 2 || rects.d[0] != image.d[0] || rects.d[1] != 4 || s->src_dtype[1] != DT_I32)
        return err_set(E(EXIT_MODEL, 0),
                       "normalize: rectangles of shape %s; they must be i32 N x 4",
                       shape_text(rects).s);
    *dst = SHAPE(image.d[0], 3, image.d[1], image.d[2]);
    return OK;
}

/* One row of one sample, all three channels. */
static void normalize_row(void *arg, int64_t i) {
    const OpCall *c = arg;
    const NormalizeAttr *a = c->attr;
    const int64_t H = c->shape.d[2], W = c->shape.d[3], n = i / H, y = i % H;
    const uint8_t *px = (const uint8_t *)c->src[0] + i * W * 3;
    const int32_t *r = (const int32_t *)c->src[1] + n * 4;
    const bool row_in = y >= r[1] && y < (int64_t)r[1] + r[3];
    for (int ch = 0; ch < 3; ch++) {
        float *out = c->dst + ((n * 3 + ch) * H + y) * W;
        const int from = a->bgr ? 2 - ch : ch;
        for (int64_t x = 0; x < W; x++) {
            bool in = row_in && x >= r[0] && x < (int64_t)r[0] + r[2];
            out[x] = in ? ((float)px[3 * x + from] - a->mean[ch]) * a->inv_std[ch] : 0;
        }
    }
}
static void normalize_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[2], normalize_row, (void *)c);
}

const OpDef op_normalize = {
    .name = "normalize", .infer = normalize_infer, .forward = normalize_forward};
