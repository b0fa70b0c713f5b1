/* test_augment.c - what is done to pictures and labels before a network sees them: fixed sizes, crops that
 * no class fills, rotation, colours, blur, cut-outs. */
#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/augment_priv.h"
#include "data/preview.h"
#include "io/safetensors.h"
#include "small_camvid.h"
#include "test.h"

enum { H = 61, W = 83, CH = 48, CW = 56, PIXELS = CH * CW, CLASSES = 5 };
typedef struct {
    uint8_t image[PIXELS * 3];
    int32_t label[PIXELS], rect[4];
} Slot;
static Slot slots[4];

/* A picture whose colours tell its label: blocks of 7 x 9 pixels, red and green 40 (label + 1), blue the reverse; a
 * twelfth is void, and black. */
static Sample blocks(void) {
    Sample s = {H, W, malloc(H * W * 3), malloc(H * W), false};
    for (int p = 0; p < H * W; p++) {
        const int id = (p / W / 7 * 3 + p % W / 9) % CLASSES;
        s.label[p] = p % 12 ? (uint8_t)id : IGNORE_U8;
        s.rgb[3 * p] = s.rgb[3 * p + 1] = (uint8_t)(40 * (id + 1)),
                  s.rgb[3 * p + 2] = (uint8_t)(255 - 40 * (id + 1));
    }
    return s;
}
static void run(const Sample *s, const DataOptions *o, uint64_t sample, Slot *out) {
    memset(out, 7, sizeof *out);
    if (augment_sample(s, o, 5, 2, sample, CH, CW, out->image, out->label, out->rect))
        FAIL("%s", err_text());
}
static bool same(const Slot *a, const Slot *b) { return !memcmp(a, b, sizeof *a); }
static DataOptions all_of_it(void) {
    return (DataOptions){.scale_min = 0.6,
                         .scale_max = 1.6,
                         .mirror = 0.5,
                         .crop_share = 0.5,
                         .rotate = 20,
                         .brightness = 0.4,
                         .contrast = 0.4,
                         .saturation = 0.4,
                         .hue = 0.1,
                         .blur = 0.5,
                         .blur_sigma = {0.1, 2},
                         .cutout = 0.5,
                         .cutout_size = 0.5};
}

/* ---- fixed size --------------------------------------------------------------------------------- */
TEST(resizing_is_pillows_to_the_byte) {
    static const char *const kernels[KERNELS] = {"area", "linear", "cubic", "lanczos"};
    SafeFile f;
    int compared = 0;
    EXPECT_OK(st_read(SOURCE_DIR "/tests/golden/resize.safetensors", EXIT_MODEL, &f));
    const Tensor *in = tensor_find(f.tensors, "picture");
    for (int i = 0; i < f.tensors->n; i++) {
        const Tensor *t = &f.tensors->v[i];
        const int h = (int)t->shape.d[0], w = (int)t->shape.d[1];
        for (int k = 0; k < KERNELS; k++) {
            if (strncmp(t->name, kernels[k], strlen(kernels[k]))) continue;
            uint8_t *out = malloc((size_t)h * (size_t)w * 3);
            resize_rgb((Resize){h, w, (ResizeKernel)k}, in->data, (int)in->shape.d[0],
                       (int)in->shape.d[1], out);
            int differ = 0;
            for (int p = 0; p < h * w * 3; p++) differ += out[p] != ((const uint8_t *)t->data)[p];
            if (differ) FAIL("%s: %d of %d bytes differ", t->name, differ, h * w * 3);
            free(out), compared++;
        }
    }
    EXPECT_INT(compared, 20);
    st_close(&f);
}

TEST(labels_are_resized_by_their_centres) {
    static const uint8_t src[2 * 4] = {0, 1, 2, 3, 4, 5, 6, 7};
    uint8_t half[1 * 2], twice[4 * 8];
    resize_labels((Resize){1, 2, 0}, src, 2, 4, half);
    EXPECT(half[0] == 5 && half[1] == 7);            /* a centre on an edge belongs to the pixel behind it */
    resize_labels((Resize){4, 8, 0}, src, 2, 4, twice);
    for (int p = 0; p < 32; p++) EXPECT_INT(twice[p], src[p / 16 * 4 + p % 8 / 2]);
}

TEST(a_training_split_comes_in_its_size) {
    DataOptions o = {.kind = "scenes",
                     .seed = 5,
                     .scenes_h = 40,
                     .scenes_w = 56,
                     .scenes_train = 3,
                     .scenes_val = 2,
                     .resize = {20, 28, KERNEL_AREA}};
    Dataset *d;
    Sample s;
    EXPECT_OK(dataset_open_training(&o, &d));
    EXPECT_OK(dataset_read(d, 0, &s));
    EXPECT(s.h == 20 && s.w == 28);
    sample_free(&s);
    dataset_close(d);
    EXPECT_OK(dataset_open(&o, "val", &d));          /* judged by labels of full size */
    EXPECT_OK(dataset_read(d, 0, &s));
    EXPECT(s.h == 40 && s.w == 56 && d->resize.h == 20);
    sample_free(&s);
    dataset_close(d);
}

/* ---- what a sample's number decides -------------------------------------------------------------- */
TEST(a_sample_is_a_function_of_its_number) {
    Sample s = blocks();
    const DataOptions o = all_of_it();
    int differ = 0;
    for (uint64_t k = 0; k < 20; k++) {
        run(&s, &o, k, &slots[0]), run(&s, &o, k + 1, &slots[1]), run(&s, &o, k, &slots[2]);
        EXPECT(same(&slots[0], &slots[2]));
        differ += !same(&slots[0], &slots[1]);
    }
    EXPECT_INT(differ, 20);
    sample_free(&s);
}

/* One worker's memory, sample after sample, leaves no trace; nothing is allocated for a sample. */
TEST(a_worker_allocates_nothing_for_a_sample) {
    Sample s = blocks();
    const DataOptions o = all_of_it();
    Augment *a = augment_open(&o, CH, CW);
    const uint64_t before = mem_alloc_count();
    for (uint64_t k = 0; k < 30; k++)
        if (augment_run(a, &s, 5, 2, k, slots[0].image, slots[0].label, slots[0].rect))
            FAIL("%s", err_text());
    EXPECT_INT(mem_alloc_count() - before, 0);
    run(&s, &o, 29, &slots[1]);
    EXPECT(same(&slots[0], &slots[1]));
    augment_close(a);
    sample_free(&s);
}

TEST(all_instruction_sets_agree) {
    Sample s = blocks();
    const DataOptions o = all_of_it();
    for (uint64_t k = 0; k < 30; k++) {
        cpu_force(CPU_PLAIN);
        run(&s, &o, k, &slots[0]);
        for (int level = CPU_AVX2; level <= (int)cpu_best(); level++) {
            cpu_force((CpuLevel)level);
            run(&s, &o, k, &slots[1]);
            EXPECT(same(&slots[0], &slots[1]));
        }
    }
    sample_free(&s);
}

TEST(settings_that_mean_nothing_change_nothing) {
    Sample s = blocks();
    const DataOptions plain = {.scale_min = 0.6, .scale_max = 1.6, .mirror = 0.5};
    DataOptions o = plain;
    o.crop_share = 1, o.blur_sigma[1] = 2, o.cutout_size = 0.5;
    for (uint64_t k = 0; k < 10; k++) {
        run(&s, &plain, k, &slots[0]), run(&s, &o, k, &slots[1]);
        EXPECT(same(&slots[0], &slots[1]));
    }
    /* A factor of one, a turn of nothing, a blur within its pixel. */
    Augment *a = augment_open(&(DataOptions){.brightness = 1e-9,
                                             .contrast = 1e-9,
                                             .saturation = 1e-9,
                                             .hue = 1e-9,
                                             .blur = 1,
                                             .blur_sigma = {0, 0}},
                              CH, CW);
    run(&s, &plain, 3, &slots[0]);
    slots[1] = slots[0];
    const Rng r = rng_stream(5, RNG_AUGMENT, 2, 3);
    augment_colours(a, &r, slots[1].rect, slots[1].image, slots[1].label);
    EXPECT(same(&slots[0], &slots[1]));
    augment_close(a);
    sample_free(&s);
}

/* ---- crops ---------------------------------------------------------------------------------------- */
static double share_of(const Slot *s) {
    int count[CLASSES] = {0}, all = 0, most = 0;
    for (int p = 0; p < PIXELS; p++)
        if (s->label[p] >= 0) count[s->label[p]]++, all++;
    for (int k = 0; k < CLASSES; k++) most = count[k] > most ? count[k] : most;
    return all ? (double)most / all : 1;
}
/* Nine tenths of the picture are one class: any crop of a tenth of it mostly shows that one. */
TEST(crops_are_drawn_until_no_class_fills_them) {
    Sample s = {400, 600, calloc(400 * 600, 3), calloc(400 * 600, 1), false};
    for (int y = 150; y < 280; y++)
        for (int x = 100; x < 260; x++) s.label[y * 600 + x] = (uint8_t)(1 + x / 8 % 2);
    const DataOptions any = {0}, shared = {.crop_share = 0.75};
    int full = 0, still = 0;
    for (uint64_t k = 0; k < 200; k++) {
        run(&s, &any, k, &slots[0]), run(&s, &shared, k, &slots[1]);
        full += share_of(&slots[0]) > 0.77, still += share_of(&slots[1]) > 0.77;
    }
    if (full < 140 || still > full / 3)
        FAIL("%d of 200 crops full of one class, %d with crop_share", full, still);
    sample_free(&s);
}

/* ---- rotation ------------------------------------------------------------------------------------- */
/* Image and label turn alike: where four neighbours have one label, the colours are that label's. */
TEST(rotation_turns_image_and_label_alike) {
    Sample s = blocks();
    for (int p = 0; p < H * W; p++) s.label[p] = (uint8_t)((p / W / 7 * 3 + p % W / 9) % CLASSES);
    const DataOptions o = {.rotate = 45, .mirror = 0.5, .scale_min = 0.9, .scale_max = 1.4};
    int wrong = 0, checked = 0, outside = 0;
    for (uint64_t k = 0; k < 30; k++) {
        const Slot *x = &slots[0];
        run(&s, &o, k, &slots[0]);
        for (int p = CW; p < PIXELS - CW; p++) {
            const int id = x->label[p];
            outside += id < 0;
            bool inner = id >= 0 && p % CW && p % CW < CW - 1;
            for (int dy = -1; inner && dy <= 1; dy++)
                for (int dx = -1; dx <= 1; dx++) inner &= x->label[p + dy * CW + dx] == id;
            if (!inner) continue;
            checked++;
            wrong += abs(x->image[3 * p] - 40 * (id + 1)) > 1 ||
                     abs(x->image[3 * p + 2] - (255 - 40 * (id + 1))) > 1;
        }
    }
    EXPECT(checked > 10000 && outside > 1000);
    EXPECT_INT(wrong, 0);
    sample_free(&s);
}

/* Against the definition in doubles: bilinear with half-pixel centres, labels by the nearest. */
TEST(rotation_is_its_definition) {
    Sample s = blocks();
    const DataOptions o = {.rotate = 30};
    for (uint64_t k = 0; k < 10; k++) {
        const Rng r = rng_stream(5, RNG_AUGMENT, 2, k);
        const double angle = 30 * M_PI / 180 * (2 * (double)rng_uniform(&r, DRAW_ANGLE) - 1),
                     c = cos(angle), q = sin(angle);
        const int x0 = (int)rng_below(&r, DRAW_X, W - CW + 1),
                  y0 = (int)rng_below(&r, DRAW_Y, H - CH + 1);
        int worst = 0, wrong = 0;
        run(&s, &o, k, &slots[0]);
        for (int p = 0; p < PIXELS; p++) {
            const double u = p % CW - (CW - 1) / 2.0, v = p / CW - (CH - 1) / 2.0;
            const double x = x0 + (CW - 1) / 2.0 + c * u - q * v,
                         y = y0 + (CH - 1) / 2.0 + q * u + c * v;
            const int nx = (int)floor(x + 0.5), ny = (int)floor(y + 0.5);
            const bool in = nx >= 0 && nx < W && ny >= 0 && ny < H;
            const int want = in && s.label[ny * W + nx] != IGNORE_U8 ? s.label[ny * W + nx] : -1;
            const double fx = fmin(fmax(x, 0), W - 1), fy = fmin(fmax(y, 0), H - 1);
            const int lx = (int)fx, ly = (int)fy, hx = lx + 1 < W ? lx + 1 : lx,
                      hy = ly + 1 < H ? ly + 1 : ly;
            const double top = s.rgb[3 * (ly * W + lx)] * (1 - fx + lx) +
                               s.rgb[3 * (ly * W + hx)] * (fx - lx),
                         low = s.rgb[3 * (hy * W + lx)] * (1 - fx + lx) +
                               s.rgb[3 * (hy * W + hx)] * (fx - lx);
            const int off =
                abs(slots[0].image[3 * p] - (int)lrint(top * (1 - fy + ly) + low * (fy - ly)));
            worst = off > worst ? off : worst, wrong += slots[0].label[p] != want;
        }
        if (worst > 1) FAIL("sample %d: off by %d levels", (int)k, worst);      /* 11-bit weights */
        if (wrong > 2) FAIL("sample %d: %d labels differ", (int)k, wrong);      /* places within 2^-16 of an edge */
    }
    sample_free(&s);
}

/* ---- colours ---------------------------------------------------------------------------------------- */
/* Step by step in doubles, as the head of augment_colour.c says it. */
TEST(colours_are_their_definition) {
    Sample s = blocks();
    static const double luma[3] = {0.299, 0.587, 0.114};
    const DataOptions plain = {0},
                      o = {.brightness = 0.3, .contrast = 0.4, .saturation = 0.5, .hue = 0.2};
    for (uint64_t k = 0; k < 12; k++) {
        const Rng r = rng_stream(5, RNG_AUGMENT, 2, k);
        const double b = 1 + o.brightness * (2 * (double)rng_uniform(&r, DRAW_BRIGHTNESS) - 1),
                     c = 1 + o.contrast * (2 * (double)rng_uniform(&r, DRAW_CONTRAST) - 1),
                     t = 1 + o.saturation * (2 * (double)rng_uniform(&r, DRAW_SATURATION) - 1),
                     h = 2 * M_PI * o.hue * (2 * (double)rng_uniform(&r, DRAW_HUE) - 1);
        static double x[PIXELS][3];
        double mean = 0;
        int worst = 0;
        run(&s, &plain, k, &slots[0]), run(&s, &o, k, &slots[1]);
        for (int p = 0; p < PIXELS; p++) {
            const uint8_t *px = slots[0].image + 3 * p;
            const double grey = (px[0] + px[1] + px[2]) / 3.0;       /* Rodrigues' turn about (1, 1, 1) */
            for (int i = 0; i < 3; i++)
                x[p][i] = px[i] * cos(h) + (px[(i + 2) % 3] - px[(i + 1) % 3]) * sin(h) / sqrt(3) +
                          grey * (1 - cos(h));
            const double y = luma[0] * x[p][0] + luma[1] * x[p][1] + luma[2] * x[p][2];
            for (int i = 0; i < 3; i++)
                x[p][i] = b * (t * x[p][i] + (1 - t) * y), mean += luma[i] * x[p][i] / PIXELS;
        }
        for (int p = 0; p < PIXELS; p++)
            for (int i = 0; i < 3; i++) {
                const int want = (int)lrint(fmin(fmax(c * x[p][i] + (1 - c) * mean, 0), 255));
                const int off = abs(want - slots[1].image[3 * p + i]);
                worst = off > worst ? off : worst;
            }
        if (worst > 1) FAIL("sample %d: off by %d levels", (int)k, worst);      /* 12-bit weights */
        EXPECT(!memcmp(slots[0].label, slots[1].label, sizeof slots[0].label));
    }
    sample_free(&s);
}

TEST(blur_is_a_gaussian_of_its_sigma) {
    Sample s = blocks();
    const DataOptions plain = {0}, o = {.blur = 1, .blur_sigma = {1.5, 1.5}};
    double weight[11], sum = 0;
    int worst = 0;
    for (int k = -5; k <= 5; k++) sum += weight[k + 5] = exp(-k * k / (2 * 1.5 * 1.5));
    run(&s, &plain, 1, &slots[0]), run(&s, &o, 1, &slots[1]);
    for (int p = 0; p < PIXELS; p++) {
        double v = 0;
        for (int dy = -5; dy <= 5; dy++)
            for (int dx = -5; dx <= 5; dx++) {
                const int y = (int)fmin(fmax(p / CW + dy, 0), CH - 1),
                          x = (int)fmin(fmax(p % CW + dx, 0), CW - 1);
                v += weight[dy + 5] * weight[dx + 5] / (sum * sum) *
                     slots[0].image[3 * (y * CW + x)];
            }
        const int off = abs((int)lrint(v) - slots[1].image[3 * p]);
        worst = off > worst ? off : worst;
    }
    if (worst > 1) FAIL("off by %d levels", worst);
    EXPECT(!memcmp(slots[0].label, slots[1].label, sizeof slots[0].label));
    sample_free(&s);
}

/* The part that is no image stays as it was: 0 and ignored; what is cut out is within the image. */
TEST(outside_of_the_image_nothing_changes) {
    Sample s = blocks();
    DataOptions o = all_of_it();
    o.scale_max = 0.7;
    o.cutout = 1;
    int cut = 0;
    for (uint64_t k = 0; k < 30; k++) {
        const int32_t *r = slots[0].rect;
        run(&s, &o, k, &slots[0]);
        for (int p = 0; p < PIXELS; p++) {
            const bool inside =
                p % CW >= r[0] && p % CW < r[0] + r[2] && p / CW >= r[1] && p / CW < r[1] + r[3];
            const uint8_t *px = slots[0].image + 3 * p;
            if (!inside) EXPECT(slots[0].label[p] == -1 && !px[0] && !px[1] && !px[2]);
            cut +=
                inside && slots[0].label[p] == -1 && px[0] == 124 && px[1] == 116 && px[2] == 104;
        }
    }
    EXPECT(cut > 500);
    sample_free(&s);
}

TEST(a_preview_shows_the_first_batches) {
    DataOptions o = {.kind = "scenes",
                     .seed = 5,
                     .scenes_h = 40,
                     .scenes_w = 56,
                     .scenes_train = 3,
                     .scenes_val = 2,
                     .crop_h = 32,
                     .crop_w = 40,
                     .mirror = 0.5};
    Dataset *d;
    Image im;
    EXPECT_OK(dataset_open_training(&o, &d));
    EXPECT_OK(preview_write(d, &o, 32, 40, 1, temp_path("sheet.png")));
    EXPECT_OK(image_read_rgb(temp_path("sheet.png"), &im));
    EXPECT(im.h == 4 * (32 + PREVIEW_GAP) + PREVIEW_GAP &&
           im.w == 4 * (2 * 40 + PREVIEW_GAP) + PREVIEW_GAP);
    free(im.px);
    dataset_close(d);
}

TEST_MAIN(T(resizing_is_pillows_to_the_byte), T(labels_are_resized_by_their_centres),
          T(a_training_split_comes_in_its_size), T(a_sample_is_a_function_of_its_number),
          T(a_worker_allocates_nothing_for_a_sample), T(all_instruction_sets_agree),
          T(settings_that_mean_nothing_change_nothing),
          T(crops_are_drawn_until_no_class_fills_them), T(rotation_turns_image_and_label_alike),
          T(rotation_is_its_definition), T(colours_are_their_definition),
          T(blur_is_a_gaussian_of_its_sigma), T(outside_of_the_image_nothing_changes),
          T(a_preview_shows_the_first_batches))
