/* test_io.c - PNG and JPEG: exact round trips, every colour type, truncation, damage, bombs. */
#include <stddef.h>
#include <stdio.h>

#include <zlib.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/image_priv.h"
#include "make_images.h"
#include "tempdir.h"
#include "test.h"

#include <sys/stat.h>

/* ---- files to read --------------------------------------------------------------------------- */
static Err decode(const Str *s, bool labels, Image *out) {
    uint8_t *exact = xcalloc(s->n, 1); /* no byte more: ASan sees every read past the end */
    memcpy(exact, s->s, s->n);
    Err rc = (labels ? image_decode_labels : image_decode_rgb)(exact, s->n, "x.png", out);
    free(exact);
    return rc;
}
static void put_u32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8),
    p[3] = (uint8_t)v;
}
/* Set the sides in IHDR and mend its checksum. */
static void set_png_size(Str *s, uint32_t w, uint32_t h) {
    uint8_t *p = (uint8_t *)s->s;
    put_u32(p + 16, w), put_u32(p + 20, h);
    put_u32(p + 29, (uint32_t)crc32(0, p + 12, 17));
}

/* ---- PNG ------------------------------------------------------------------------------------- */
TEST(png_rgb_round_trip) {
    enum { H = 37, W = 53 };
    static uint8_t px[H * W * 3];
    for (int i = 0; i < H * W * 3; i++) px[i] = (uint8_t)(i * 2654435761u >> 13);
    Image im;
    EXPECT_OK(image_write_png_rgb(temp_path("a.png"), px, H, W));
    EXPECT_OK(image_read_rgb(temp_path("a.png"), &im));
    EXPECT(im.h == H && im.w == W && im.channels == 3 && !memcmp(im.px, px, sizeof px));
    free(im.px);
    uint8_t *a, *b;
    size_t na, nb;
    EXPECT_OK(image_encode_png_rgb(px, H, W, &a, &na));
    EXPECT_OK(image_encode_png_rgb(px, H, W, &b, &nb));
    EXPECT(na == nb && !memcmp(a, b, na));
    free(a), free(b);
}
TEST(png_palette_keeps_indices_and_colours) {
    uint8_t index[4 * 5], palette[3][3] = {{255, 0, 0}, {0, 255, 0}, {1, 2, 3}};
    for (int i = 0; i < 20; i++) index[i] = (uint8_t)(i % 3);
    index[7] = 255; /* ignored pixels lie beyond the palette */
    Image im;
    EXPECT_OK(
        image_write_png_palette(temp_path("p.png"), index, 4, 5, (const uint8_t(*)[3])palette, 3));
    EXPECT_OK(image_read_labels(temp_path("p.png"), &im));
    EXPECT(im.channels == 1 && im.h == 4 && im.w == 5 && !memcmp(im.px, index, 20));
    free(im.px);
    EXPECT_OK(image_read_rgb(temp_path("p.png"), &im));
    EXPECT(!memcmp(im.px + 2 * 3, palette[2], 3) && im.px[7 * 3] == 0);
    free(im.px);
}
static const struct {
    int colour, depth;
} kinds[] = {
    {PNG_COLOR_TYPE_GRAY, 1},    {PNG_COLOR_TYPE_GRAY, 2},       {PNG_COLOR_TYPE_GRAY, 4},
    {PNG_COLOR_TYPE_GRAY, 8},    {PNG_COLOR_TYPE_GRAY, 16},      {PNG_COLOR_TYPE_PALETTE, 1},
    {PNG_COLOR_TYPE_PALETTE, 2}, {PNG_COLOR_TYPE_PALETTE, 4},    {PNG_COLOR_TYPE_PALETTE, 8},
    {PNG_COLOR_TYPE_RGB, 8},     {PNG_COLOR_TYPE_RGB, 16},       {PNG_COLOR_TYPE_RGBA, 8},
    {PNG_COLOR_TYPE_RGBA, 16},   {PNG_COLOR_TYPE_GRAY_ALPHA, 8}, {PNG_COLOR_TYPE_GRAY_ALPHA, 16}};
enum { KINDS = sizeof kinds / sizeof *kinds, KH = 13, KW = 17 };
static Str kind_png(int i, int interlace, uint16_t *v) {
    int top = 1 << (kinds[i].depth < 8 ? kinds[i].depth : 8);
    for (int k = 0; k < KH * KW * samples_of(kinds[i].colour); k++) v[k] = (uint16_t)(k * 7 % top);
    return make_png((PngKind){kinds[i].colour, kinds[i].depth, interlace, KH, KW}, v);
}
TEST(label_png_of_every_kind_keeps_indices_or_is_refused) {
    uint16_t v[KH * KW * 4];
    for (int i = 0; i < KINDS; i++)
        for (int interlace = 0; interlace < 2; interlace++) {
            Str s = kind_png(i, interlace, v);
            Image im = {0};
            bool indexed =
                kinds[i].colour == PNG_COLOR_TYPE_GRAY || kinds[i].colour == PNG_COLOR_TYPE_PALETTE;
            if (!indexed) {
                EXPECT_ERR(decode(&s, true, &im), E(3, 36));
                EXPECT(im.px == NULL);
                EXPECT_HAS(err_text(), "says no class index; give a palette or grey PNG");
            } else {
                EXPECT_OK(decode(&s, true, &im));
                for (int k = 0; k < KH * KW; k++)
                    if (im.px[k] != v[k])
                        FAIL("colour %d depth %d pixel %d: %d, expected %d", kinds[i].colour,
                             kinds[i].depth, k, im.px[k], v[k]);
            }
            free(im.px);
            str_free(&s);
        }
}
TEST(numbers_of_16_bits_are_kept) {
    uint16_t v[KH * KW];
    for (int k = 0; k < KH * KW; k++) v[k] = (uint16_t)(k * 977 + 24001);
    Str s = make_png((PngKind){PNG_COLOR_TYPE_GRAY, 16, 0, KH, KW}, v);
    Image im;
    EXPECT_OK(durable_write_all(temp_path("n.png"), s.s, s.n));
    EXPECT_OK(image_read_numbers(temp_path("n.png"), &im));
    EXPECT(im.channels == 2 && im.h == KH && im.w == KW);
    for (int k = 0; k < KH * KW; k++) EXPECT_INT(im.px[2 * k] << 8 | im.px[2 * k + 1], v[k]);
    free(im.px);
    str_free(&s);
}
TEST(label_png_of_16_bits_above_255_is_refused_with_its_place) {
    uint16_t v[KH * KW] = {0};
    v[2 * KW + 5] = 26001;
    Str s = make_png((PngKind){PNG_COLOR_TYPE_GRAY, 16, 0, KH, KW}, v);
    Image im;
    EXPECT_ERR(decode(&s, true, &im), E(3, 36));
    EXPECT_HAS(err_text(), "26001 at (5,2)");
    str_free(&s);
}
TEST(image_png_of_every_kind_becomes_rgb) {
    uint16_t v[KH * KW * 4];
    for (int i = 0; i < KINDS; i++)
        for (int interlace = 0; interlace < 2; interlace++) {
            Str s = kind_png(i, interlace, v);
            Image im = {0};
            EXPECT_OK(decode(&s, false, &im));
            EXPECT(im.h == KH && im.w == KW && im.channels == 3);
            int c = kinds[i].colour, n = samples_of(c), depth = kinds[i].depth;
            for (int k = 0; k < KH * KW; k++) {
                int want = v[k * n];
                if (depth < 8 && c == PNG_COLOR_TYPE_GRAY) want = want * 255 / ((1 << depth) - 1);
                if (depth == 16) want = (want * 255 + 32767) / 65535;
                if (im.px[3 * k] != want)
                    FAIL("colour %d depth %d pixel %d: red %d, expected %d", c, depth, k,
                         im.px[3 * k], want);
                if (c == PNG_COLOR_TYPE_PALETTE && im.px[3 * k + 1] != 255 - want)
                    FAIL("palette green at %d", k);
            }
            free(im.px);
            str_free(&s);
        }
}
/* Every proper prefix of a file must be refused, with nothing allocated left to the caller. */
static void expect_all_cuts_refused(const Str *s, bool labels) {
    for (size_t n = 0; n < s->n; n++) {
        Image im;
        Err rc = decode(&(Str){s->s, n, n}, labels, &im);
        if (err_exit_code(rc) != EXIT_DATA) FAIL("cut at %zu of %zu: %d", n, s->n, rc);
        if (im.px) FAIL("cut at %zu left pixels", n);
    }
}
TEST(png_cut_at_every_byte_is_refused) {
    uint16_t v[KH * KW * 4];
    for (int i = 0; i < KINDS; i += 3) {
        Str s = kind_png(i, i & 1, v);
        expect_all_cuts_refused(&s, kinds[i].colour == PNG_COLOR_TYPE_PALETTE);
        str_free(&s);
    }
    Str s = kind_png(9, 0, v);
    Image im;
    EXPECT_ERR(decode(&(Str){s.s, s.n / 2, 0}, false, &im), E(3, 38));
    EXPECT_HAS(err_text(), "cut short");
    str_free(&s);
}
/* Each bit of the file after its signature: all are under a checksum, or are chunk lengths and
 * names. */
TEST(png_flipped_bits_are_detected) {
    uint16_t v[KH * KW * 4];
    Str s = kind_png(8, 0, v);
    int missed = 0;
    for (size_t bit = 0; bit < 8 * s.n; bit++) {
        Image im;
        s.s[bit / 8] = (char)(s.s[bit / 8] ^ 1 << bit % 8);
        Err rc = decode(&s, true, &im);
        if (!rc) {
            bool same = im.h == KH && im.w == KW;
            for (int k = 0; same && k < KH * KW; k++) same = im.px[k] == v[k];
            missed += !same;
            free(im.px);
        } else if (err_exit_code(rc) != EXIT_DATA) {
            FAIL("bit %zu: %d %s", bit, rc, err_text());
        }
        s.s[bit / 8] = (char)(s.s[bit / 8] ^ 1 << bit % 8);
    }
    EXPECT_INT(missed, 0); /* a flip may be harmless, but never gives other pixels */
    str_free(&s);
}
/* ---- loosened (png_loosen.c) ----------------------------------------------------------------- */
static void add_chunk(Str *s, const char *type, const uint8_t *data, size_t n) {
    const uint32_t crc = (uint32_t)crc32_z(crc32_z(0, (const uint8_t *)type, 4), data, n);
    const uint8_t length[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n},
                  check[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8),
                              (uint8_t)crc};
    str_addn(s, (const char *)length, 4), str_addn(s, type, 4);
    str_addn(s, (const char *)data, n), str_addn(s, (const char *)check, 4);
}
static int predictor_of(int filter, int left, int up, int corner) {      /* the specification, word by word */
    const int p = left + up - corner, a = abs(p - left), b = abs(p - up), c = abs(p - corner);
    if (filter == 4) return a <= b && a <= c ? left : b <= c ? up : corner;
    return filter == 1 ? left : filter == 2 ? up : filter == 3 ? (left + up) / 2 : 0;
}
/* px as a PNG, row y with filter (first + y) % 5; the stream is cut into two IDAT. `between` stands before the end. */
static Str filtered_png(const uint8_t *px, int h, int w, int step, int first, const char *between) {
    Str s = {0};
    const size_t row = (size_t)(w * step) + 1;
    uint8_t *raw = xcalloc((size_t)h, row), *packed = xcalloc(compressBound((uLong)h * row), 1);
    const uint8_t ihdr[13] = {0, 0, 0, (uint8_t)w, 0, 0, 0, (uint8_t)h, 8, step == 3 ? 2 : 0};
    uLong n = compressBound((uLong)h * row);
    for (int y = 0; y < h; y++) {
        raw[(size_t)y * row] = (uint8_t)((first + y) % 5);
        for (int i = 0; i < w * step; i++) {
            const uint8_t *at = px + y * w * step + i;
            const int left = i >= step ? at[-step] : 0, up = y ? at[-w * step] : 0,
                      corner = y && i >= step ? at[-w * step - step] : 0;
            raw[(size_t)y * row + 1 + (size_t)i] =
                (uint8_t)(*at - predictor_of((first + y) % 5, left, up, corner));
        }
    }
    EXPECT_INT(compress2(packed, &n, raw, (uLong)h * row, 6), Z_OK);
    str_addn(&s, "\x89PNG\r\n\x1a\n", 8);
    add_chunk(&s, "IHDR", ihdr, sizeof ihdr);
    add_chunk(&s, "IDAT", packed, n / 2);
    add_chunk(&s, "IDAT", packed + n / 2, n - n / 2);
    if (between) add_chunk(&s, between, ihdr, 0);
    add_chunk(&s, "IEND", ihdr, 0);
    free(raw), free(packed);
    return s;
}
static uint8_t *loosened(const Str *s, size_t *n) {
    uint8_t *exact = xcalloc(s->n, 1);       /* without slack, so that ASan sees reads past the end */
    memcpy(exact, s->s, s->n);
    uint8_t *loose = io_png_loosen(exact, s->n, n);
    free(exact);
    return loose;
}
static void expect_same(const uint8_t *px, int h, int w, int step, int first, const char *between) {
    Str s = filtered_png(px, h, w, step, first, between);
    size_t n = 0;
    Image im;
    uint8_t *loose = loosened(&s, &n);
    EXPECT(loose && n > (size_t)(h * (w * step + 1)));
    EXPECT_OK(io_png_decode((uint8_t *)s.s, s.n, "x.png", step == 3 ? PNG_AS_RGB : PNG_AS_LABELS, &im));
    if (im.h != h || im.w != w || memcmp(im.px, px, (size_t)(h * w * step)))
        FAIL("%d x %d pixels of %d bytes, filter %d", h, w, step, first);
    free(im.px), free(loose), str_free(&s);
}
/* Every filter, and rows of more than one stored block. */
TEST(png_a_loosened_picture_is_the_same) {
    enum { H = 200, W = 230 };
    uint8_t *px = xcalloc(H * W, 3);
    const Rng r = rng_stream(3, RNG_METHOD, 0, 0);
    for (int i = 0; i < H * W * 3; i++)
        px[i] = (uint8_t)(rng_below(&r, (uint64_t)i, 4) ? i * 3 : (int)rng_below(&r, 1000000 + (uint64_t)i, 256));
    for (int w = 1; w < 24; w++)
        for (int first = 0; first < 5; first++)
            for (int step = 1; step <= 3; step += 2) expect_same(px, 7, w, step, first, NULL);
    expect_same(px, H, W, 3, 1, NULL), expect_same(px, H, W, 1, 2, "tEXt");
    free(px);
}
TEST(png_that_is_not_sound_is_not_loosened) {
    uint8_t px[4 * 9] = {0}, *loose;
    Str s = filtered_png(px, 4, 9, 1, 0, NULL);
    size_t n;
    EXPECT((loose = loosened(&s, &n)));
    free(loose);
    for (size_t cut = 0; cut < s.n; cut++) {
        Str part = {s.s, cut, cut};
        EXPECT(!loosened(&part, &n));
    }
    for (size_t bit = 8 * 8; bit < 8 * s.n; bit++) {         /* behind the signature, which libpng reads */
        s.s[bit / 8] = (char)(s.s[bit / 8] ^ 1 << bit % 8);
        EXPECT(!loosened(&s, &n));
        s.s[bit / 8] = (char)(s.s[bit / 8] ^ 1 << bit % 8);
    }
    str_free(&s);
}
TEST(png_bombs_are_refused_from_the_header) {
    static const uint32_t sides[][2] = {
        {65536, 1},      {1, 65536},   {60000, 60000}, {0, 5}, {0x7fffffff, 0x7fffffff},
        {0xffffffff, 1}, {65535, 3000}};
    uint16_t v[KH * KW * 4];
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        Str s = kind_png(9, 0, v);
        set_png_size(&s, sides[i][0], sides[i][1]);
        Image im;
        double t = test_cpu_s();
        EXPECT_ERR(decode(&s, false, &im), E(3, 40));
        EXPECT(test_cpu_s() - t < 0.05);
        str_free(&s);
    }
    EXPECT(sys_peak_rss() < 64u << 20);
}
TEST(png_with_a_million_chunks_is_quick) {
    uint16_t v[KH * KW * 4];
    Str s = kind_png(9, 0, v), big = {0};
    str_addn(&big, s.s, 33);
    uint8_t chunk[12] = {0, 0, 0, 0, 'z', 'z', 'Z', 'z'};
    put_u32(chunk + 8, (uint32_t)crc32(0, chunk + 4, 4));
    for (int i = 0; i < 1000000; i++) str_addn(&big, (char *)chunk, sizeof chunk);
    str_addn(&big, s.s + 33, s.n - 33);
    Image im = {0};
    double t = test_cpu_s();
    Err rc = decode(&big, false, &im);
    EXPECT(rc == OK || err_exit_code(rc) == EXIT_DATA);
    EXPECT(test_cpu_s() - t < 2.0);
    free(im.px), str_free(&s), str_free(&big);
}

/* ---- JPEG ------------------------------------------------------------------------------------ */
TEST(jpeg_named_png_is_read_by_its_content) {
    for (int progressive = 0; progressive < 2; progressive++) {
        Str s = make_jpeg(40, 60, 3, JCS_RGB, progressive);
        EXPECT_OK(durable_write_all(temp_path("x.png"), s.s, s.n));
        Image im;
        EXPECT_OK(image_read_rgb(temp_path("x.png"), &im));
        EXPECT(im.h == 40 && im.w == 60 && im.channels == 3);
        double worst = 0;
        for (int y = 0; y < 40; y++)
            for (int i = 0; i < 180; i++)
                worst = fmax(worst, fabs(im.px[y * 180 + i] -
                                         (128 + 50 * sin(0.1 * i / 3 + 0.2 * y) + 10 * (i % 3))));
        EXPECT(worst < 12); /* lossy at quality 95; a channel swap would differ by 20 everywhere */
        free(im.px);
        str_free(&s);
    }
}
TEST(jpeg_grey_becomes_rgb_and_cmyk_is_refused) {
    Image im;
    Str grey = make_jpeg(8, 9, 1, JCS_GRAYSCALE, 0), cmyk = make_jpeg(8, 9, 4, JCS_CMYK, 0);
    EXPECT_OK(decode(&grey, false, &im));
    EXPECT(im.channels == 3 && im.px[0] == im.px[1] && im.px[1] == im.px[2]);
    free(im.px);
    EXPECT_ERR(decode(&cmyk, false, &im), E(3, 41));
    EXPECT_HAS(err_text(), "CMYK");
    EXPECT_ERR(decode(&grey, true, &im), E(3, 36));
    str_free(&grey), str_free(&cmyk);
}
TEST(jpeg_of_every_sampling_is_read) {
    static const int samplings[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {4, 2}, {1, 4}};
    for (size_t i = 0; i < sizeof samplings / sizeof *samplings; i++)
        for (int progressive = 0; progressive < 2; progressive++) {
            const JpegKind k = {19, 37, 3, JCS_RGB, progressive, samplings[i][0], samplings[i][1]};
            Str s = make_jpeg_of(k);
            Image im;
            EXPECT_OK(decode(&s, false, &im));
            EXPECT(im.h == 19 && im.w == 37);
            double worst = 0;
            for (int y = 0; y < 19; y++)
                for (int x = 0; x < 37 * 3; x++)
                    worst = fmax(worst, fabs(im.px[y * 37 * 3 + x] - jpeg_value(y, x, 3)));
            if (worst > 12)
                FAIL("sampling %dx%d: off by %g", samplings[i][0], samplings[i][1], worst);
            free(im.px), str_free(&s);
        }
}
TEST(exif_rotation_is_told_and_not_made) {
    enum { EXIF_BYTES = 32, VALUE_END = 26 };
    Str plain = make_jpeg(8, 16, 3, JCS_RGB, 0);
    for (size_t n = 0; n <= EXIF_BYTES; n++) /* cut anywhere, the block is passed over */
        for (int little = 0; little < 2; little++) {
            Str s = with_exif(&plain, little, n);
            Image im;
            EXPECT_OK(decode(&s, false, &im));
            EXPECT(im.h == 8 && im.w == 16);
            if (im.turned != (n >= VALUE_END + 2))
                FAIL("%zu bytes of EXIF: turned = %d", n, im.turned);
            free(im.px), str_free(&s);
        }
    str_free(&plain);
}
TEST(jpeg_cut_at_every_byte_is_refused) {
    for (int progressive = 0; progressive < 2; progressive++) {
        Str s = make_jpeg(40, 60, 3, JCS_RGB, progressive);
        expect_all_cuts_refused(&s, false);
        Image im;
        EXPECT_ERR(decode(&(Str){s.s, s.n / 2, 0}, false, &im), E(3, 38));
        str_free(&s);
    }
}
TEST(jpeg_flipped_bits_never_crash) {
    Str s = make_jpeg(24, 24, 3, JCS_RGB, 1);
    for (size_t bit = 0; bit < 8 * s.n; bit++) {
        Image im;
        s.s[bit / 8] = (char)(s.s[bit / 8] ^ 1 << bit % 8);
        Err rc = decode(&s, false, &im);
        if (rc && err_exit_code(rc) != EXIT_DATA) FAIL("bit %zu: %d %s", bit, rc, err_text());
        if (!rc) free(im.px);
        s.s[bit / 8] = (char)(s.s[bit / 8] ^ 1 << bit % 8);
    }
    str_free(&s);
}
/* Legal but absurd: each coefficient of each component in a scan of its own, 190 in all. */
TEST(jpeg_with_too_many_scans_is_refused) {
    for (int last = 30; last <= 63; last += 33) {
        Str s = make_jpeg(64, 64, 3, JCS_RGB, last);
        Image im = {0};
        double t = test_cpu_s();
        EXPECT_ERR(decode(&s, false, &im), last == 30 ? OK : E(3, 41)); /* 91 scans are fine */
        if (last == 63) EXPECT_HAS(err_text(), "more than 100 scans");
        EXPECT(test_cpu_s() - t < 1.0);
        free(im.px);
        str_free(&s);
    }
}
/* The first scan 20,000 times: refused at the first that libjpeg warns of, or at the limit. */
TEST(jpeg_scan_bomb_is_refused) {
    Str s = make_jpeg(256, 256, 3, JCS_RGB, 1), bomb = {0};
    size_t sos = 0;
    for (size_t i = 2; i + 1 < s.n; i++)
        if ((uint8_t)s.s[i] == 0xff && (uint8_t)s.s[i + 1] == 0xda && !sos) sos = i;
    size_t next = sos + 2;
    while (next + 1 < s.n && !((uint8_t)s.s[next] == 0xff && s.s[next + 1] != 0)) next++;
    str_addn(&bomb, s.s, next);
    for (int i = 0; i < 20000; i++) str_addn(&bomb, s.s + sos, next - sos);
    str_addn(&bomb, s.s + next, s.n - next);
    Image im;
    double t = test_cpu_s();
    EXPECT_INT(err_exit_code(decode(&bomb, false, &im)), EXIT_DATA);
    EXPECT(test_cpu_s() - t < 1.0);
    str_free(&s), str_free(&bomb);
}

/* ---- what else lies in folders --------------------------------------------------------------- */
TEST(other_files_are_named_for_what_they_are) {
    static const struct {
        const char *bytes;
        size_t n;
        int row;
        const char *says;
    } files[] = {{"<!DOCTYPE html><html>404</html>", 31, 43, "HTML"},
                 {"GIF89a....", 10, 43, "GIF"},
                 {"", 0, 38, "empty"},
                 {"hello there", 11, 43, "text file"},
                 {"\x89PNG", 4, 38, "cut short"},
                 {"\xff\xd8", 2, 38, "cut short"},
                 {"\0\1\2\3", 4, 43, "something else"},
                 {"version https://git-lfs.github.com/spec/v1", 42, 43, "Git LFS"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        Image im;
        EXPECT_OK(durable_write_all(temp_path("f.png"), files[i].bytes, files[i].n));
        EXPECT_ERR(image_read_rgb(temp_path("f.png"), &im), E(3, files[i].row));
        EXPECT_HAS(err_text(), files[i].says);
    }
}
TEST(fifo_and_device_are_refused_without_hanging) {
    Image im;
    EXPECT_INT(mkfifo(temp_path("f.png"), 0600), 0);
    EXPECT_ERR(image_read_rgb(temp_path("f.png"), &im), E(3, 44));
    EXPECT_ERR(image_read_labels("/dev/zero", &im), E(3, 44));
}
TEST(camvid_pair_is_read) {
    const char *data = sys_test_data();
    if (!data) SKIP("no test data (RETORT_TEST_DATA)");
    char *image = xprintf("%s/data/camvid/val/0016E5_07959.png", data),
         *label = xprintf("%s/data/camvid/valannot/0016E5_07959.png", data);
    if (!sys_exists(image)) SKIP("%s is absent", image);
    Image im, la;
    EXPECT_OK(image_read_rgb(image, &im));
    EXPECT_OK(image_read_labels(label, &la));
    EXPECT(im.h == 360 && im.w == 480 && la.h == 360 && la.w == 480 && la.channels == 1);
    int top = 0;
    for (int i = 0; i < la.h * la.w; i++) top = la.px[i] > top ? la.px[i] : top;
    EXPECT(top > 0 && top <= 11);
    free(im.px), free(la.px), free(image), free(label);
}

TEST_MAIN(T(png_rgb_round_trip), T(png_palette_keeps_indices_and_colours),
          T(label_png_of_every_kind_keeps_indices_or_is_refused), T(numbers_of_16_bits_are_kept),
          T(label_png_of_16_bits_above_255_is_refused_with_its_place),
          T(image_png_of_every_kind_becomes_rgb), T(png_cut_at_every_byte_is_refused),
          T(png_flipped_bits_are_detected), T(png_a_loosened_picture_is_the_same),
          T(png_that_is_not_sound_is_not_loosened), T(png_bombs_are_refused_from_the_header),
          T(png_with_a_million_chunks_is_quick), T(jpeg_named_png_is_read_by_its_content),
          T(jpeg_of_every_sampling_is_read), T(jpeg_grey_becomes_rgb_and_cmyk_is_refused),
          T(exif_rotation_is_told_and_not_made), T(jpeg_cut_at_every_byte_is_refused),
          T(jpeg_flipped_bits_never_crash), T(jpeg_with_too_many_scans_is_refused),
          T(jpeg_scan_bomb_is_refused), T(other_files_are_named_for_what_they_are),
          T(fifo_and_device_are_refused_without_hanging), T(camvid_pair_is_read))
