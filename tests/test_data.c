/* test_data.c - data sets, their checks, augmentation and the loader. */
#include "test.h"

#include "base/cpu.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/sys.h"
#include "data/data_priv.h"
#include "small_camvid.h"

enum { H = 40, W = 56, CROP_H = 48, CROP_W = 44 };

static DataOptions small_scenes(void) {
    return (DataOptions){.kind = "scenes",
                         .seed = 5,
                         .scenes_h = H,
                         .scenes_w = W,
                         .scenes_train = 7,
                         .scenes_val = 3,
                         .scenes_test = 2,
                         .crop_h = CROP_H,
                         .crop_w = CROP_W,
                         .scale_min = 0.5,
                         .scale_max = 2.0,
                         .scale_step = 0.1,
                         .mirror = 0.5};
}

static uint64_t batch_hash(const Batch *b) {
    size_t pixels = (size_t)b->n * (size_t)b->h * (size_t)b->w;
    Digest d[3] = {hash_digest(b->images, pixels * 3), hash_digest(b->labels, pixels * 4),
                   hash_digest(b->rects, (size_t)b->n * 16)};
    return hash_fnv1a(d[0].hex) ^ 3 * hash_fnv1a(d[1].hex) ^ 7 * hash_fnv1a(d[2].hex);
}

/* Hashes of n batches of 3 from first on. */
static Err run_loader(Dataset *d, const DataOptions *o, uint64_t first, int n, uint64_t *hash) {
    Loader *l;
    TRY(loader_open(d, o, 3, 11, first, &l));
    Err rc = OK;
    for (int i = 0; i < n && !rc; i++) {
        const Batch *b;
        if ((rc = loader_next(l, &b))) break;
        if (b->first_sample != first + 3 * (uint64_t)i)
            FAIL("batch %d starts at sample %llu", i, (unsigned long long)b->first_sample);
        hash[i] = batch_hash(b);
        loader_done(l, b);
    }
    loader_close(l);
    return rc;
}

/* 9 batches of 3 over 7 images cross three epochs. */
TEST(batch_depends_on_first_sample_alone) {
    DataOptions o = small_scenes();
    Dataset *d;
    EXPECT_OK(dataset_open(&o, "train", &d));
    uint64_t all[9], tail[4], far[1], again[1];
    EXPECT_OK(run_loader(d, &o, 0, 9, all));
    EXPECT_OK(run_loader(d, &o, 15, 4, tail));
    for (int i = 0; i < 4; i++) EXPECT(tail[i] == all[5 + i]);
    for (int i = 1; i < 9; i++) EXPECT(all[i] != all[i - 1]);
    EXPECT_OK(run_loader(d, &o, (uint64_t)1 << 33, 1, far)); /* counters beyond 32 bits */
    EXPECT_OK(run_loader(d, &o, (uint64_t)1 << 33, 1, again));
    EXPECT(far[0] == again[0] && far[0] != all[0]);
    dataset_close(d);
}

TEST(workers_do_not_change_batches) {
    DataOptions o = small_scenes();
    Dataset *d;
    EXPECT_OK(dataset_open(&o, "train", &d));
    uint64_t one[12], three[12];
    o.workers = 1;
    EXPECT_OK(run_loader(d, &o, 4, 12, one));
    dataset_close(d);
    EXPECT_OK(dataset_open(&o, "train", &d)); /* an empty cache, filled by three at once */
    o.workers = 3;
    EXPECT_OK(run_loader(d, &o, 4, 12, three));
    for (int i = 0; i < 12; i++) EXPECT(one[i] == three[i]);
    dataset_close(d);
}

/* Every epoch shows each image once: with no augmentation the sums over an epoch's images agree. */
TEST(epoch_shows_each_image_once) {
    DataOptions o = small_scenes();
    o.crop_h = o.crop_w = 0, o.scale_min = o.scale_max = o.mirror = 0;
    Dataset *d;
    EXPECT_OK(dataset_open(&o, "train", &d));
    Loader *l;
    EXPECT_OK(loader_open(d, &o, 7, 1, 0, &l));
    int order_differs = 0;
    uint32_t last[7] = {0};
    for (int epoch = 0; epoch < 3; epoch++) {
        const Batch *b;
        EXPECT_OK(loader_next(l, &b));
        EXPECT_INT(b->h, H);
        EXPECT_INT(b->w, W);
        int seen[7] = {0};
        for (int i = 0; i < 7; i++)
            for (int k = 0; k < 7; k++) {
                Sample s;
                EXPECT_OK(dataset_read(d, k, &s));
                if (memcmp(s.rgb, b->images + (size_t)i * H * W * 3, H * W * 3) == 0)
                    seen[k]++, order_differs += last[i] != (uint32_t)k, last[i] = (uint32_t)k;
                sample_free(&s);
            }
        for (int k = 0; k < 7; k++) EXPECT_INT(seen[k], 1);
        loader_done(l, b);
    }
    EXPECT(order_differs > 7);
    loader_close(l);
    dataset_close(d);
}

TEST(lent_batches_stay_until_returned) {
    DataOptions o = small_scenes();
    Dataset *d;
    EXPECT_OK(dataset_open(&o, "train", &d));
    Loader *l;
    EXPECT_OK(loader_open(d, &o, 2, 1, 0, &l));
    const Batch *a, *b;
    EXPECT_OK(loader_next(l, &a));
    uint64_t before = batch_hash(a);
    EXPECT_OK(loader_next(l, &b));
    EXPECT(a != b);
    EXPECT(batch_hash(a) == before);
    loader_done(l, a);
    loader_done(l, b);
    EXPECT_ERR(loader_next(l, &a), OK);
    loader_close(l);
    dataset_close(d);
}

/* ---- images without labels ---------------------------------------------------------------------- */
static DataOptions scenes_and_unlabelled(void) {
    DataOptions o = small_scenes();
    CHECK(!put_image("x2.png", 50, 60) && !put_image("x1.png", 45, 70) &&
          !put_image("x3.png", 60, 50));
    static char pattern[512];
    snprintf(pattern, sizeof pattern, "%s", temp_path("x*.png"));
    o.unlabelled = pattern, o.unlabelled_share = 0.4;
    return o;
}
/* Two of a batch of five: the first three are what a batch of three without them holds. */
TEST(unlabelled_images_come_last_and_disturb_nothing) {
    DataOptions o = scenes_and_unlabelled(), plain = small_scenes();
    const size_t pixels = CROP_H * CROP_W;
    Dataset *d[2];
    Loader *l[2];
    EXPECT_OK(dataset_open(&o, "train", &d[0]));
    EXPECT_OK(dataset_open(&plain, "train", &d[1]));
    EXPECT_INT(d[0]->unlabelled->n, 3);
    EXPECT_STR(d[0]->unlabelled->names[0], temp_path("x1.png"));
    EXPECT_OK(loader_open(d[0], &o, 5, 11, 0, &l[0]));
    EXPECT_OK(loader_open(d[1], &plain, 3, 11, 0, &l[1]));
    for (int i = 0; i < 6; i++) {
        const Batch *b[2];
        for (int k = 0; k < 2; k++) EXPECT_OK(loader_next(l[k], &b[k]));
        EXPECT(!memcmp(b[0]->images, b[1]->images, 3 * pixels * 3));
        EXPECT(!memcmp(b[0]->labels, b[1]->labels, 3 * pixels * sizeof(int32_t)));
        EXPECT(!memcmp(b[0]->rects, b[1]->rects, 3 * 4 * sizeof(int32_t)));
        for (size_t p = 3 * pixels; p < 5 * pixels; p++) EXPECT_INT(b[0]->labels[p], -1);
        EXPECT(memcmp(b[0]->images + 9 * pixels, b[0]->images + 12 * pixels, 3 * pixels) != 0);
        for (int k = 0; k < 2; k++) loader_done(l[k], b[k]);
    }
    for (int k = 0; k < 2; k++) loader_close(l[k]), dataset_close(d[k]);
}
/* 10 unlabelled images in 5 batches cross three epochs of three. */
TEST(batches_with_unlabelled_images_restart_anywhere) {
    DataOptions o = scenes_and_unlabelled();
    Dataset *d;
    Loader *l;
    uint64_t hash[8];
    EXPECT_OK(dataset_open(&o, "train", &d));
    for (int first = 0; first < 5; first += 3) {
        EXPECT_OK(loader_open(d, &o, 5, 11, 5 * (uint64_t)first, &l));
        for (int i = first; i < 5; i++) {
            const Batch *b;
            EXPECT_OK(loader_next(l, &b));
            if (!first) hash[i] = batch_hash(b);
            else EXPECT(hash[i] == batch_hash(b));
            loader_done(l, b);
        }
        loader_close(l);
    }
    for (int i = 1; i < 5; i++) EXPECT(hash[i] != hash[i - 1]);
    dataset_close(d);
}
TEST(unlabelled_images_are_counted_checked_and_watched) {
    DataOptions o = scenes_and_unlabelled(), plain = small_scenes(), none = o;
    Dataset *d[2];
    for (int batch = 2; batch < 9; batch++) {
        const int n = unlabelled_count(&o, batch);
        EXPECT_INT(n, (int)(0.4 * batch + 0.5));
    }
    o.unlabelled_share = 0;
    EXPECT_INT(unlabelled_count(&o, 4), 1);
    o.unlabelled_share = 1;
    EXPECT_INT(unlabelled_count(&o, 4), 3);
    EXPECT_INT(unlabelled_count(&plain, 4), 0);
    EXPECT_OK(dataset_open(&o, "train", &d[0]));
    EXPECT_OK(dataset_open(&plain, "train", &d[1]));
    EXPECT(strcmp(dataset_fingerprint(d[0]).hex, dataset_fingerprint(d[1]).hex) != 0);
    const Digest before = dataset_fingerprint(d[0]);
    EXPECT_OK(put_image("x2.png", 70, 70));      /* another size of file */
    EXPECT(strcmp(before.hex, dataset_fingerprint(d[0]).hex) != 0);
    for (int k = 0; k < 2; k++) dataset_close(d[k]);
    EXPECT_OK(dataset_open(&o, "val", &d[0]));
    EXPECT(!d[0]->unlabelled);
    dataset_close(d[0]);
    EXPECT_OK(sys_mkdirs(temp_path("set[2]*")));         /* a root is no pattern */
    EXPECT_OK(put_image("set[2]*/x.png", 40, 40));
    DataOptions odd = o;
    odd.root = temp_path("set[2]*"), odd.unlabelled = "x*.png";
    EXPECT_OK(dataset_open(&odd, "train", &d[0]));
    EXPECT_INT(d[0]->unlabelled->n, 1);
    dataset_close(d[0]);
    none.unlabelled = "/nowhere/*.png";
    EXPECT_ERR(dataset_open(&none, "train", &d[0]), E(3, 30));
    EXPECT_HAS(err_text(), "/nowhere/*.png: no image fits; correct data.unlabelled");
}

/* A picture whose label follows from its colour: red = 20 * label, smooth sides. */
static Sample stripes(int h, int w) {
    Sample s = {h, w, malloc((size_t)h * (size_t)w * 3), malloc((size_t)h * (size_t)w), false};
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int p = y * w + x, id = x / 8 % 11;
            s.label[p] = (uint8_t)id;
            s.rgb[3 * p] = (uint8_t)(20 * id), s.rgb[3 * p + 1] = (uint8_t)(2 * y),
                      s.rgb[3 * p + 2] = 255;
        }
    return s;
}

static DataOptions always_mirror(double mirror) {
    return (DataOptions){.mirror = mirror};
}

TEST(mirror_turns_image_and_label_alike) {
    Sample s = stripes(20, 33);
    uint8_t a[20 * 33 * 3], b[20 * 33 * 3];
    int32_t la[20 * 33], lb[20 * 33], rect[4];
    DataOptions never = always_mirror(0), ever = always_mirror(1);
    EXPECT_OK(augment_sample(&s, &never, 1, 0, 3, 20, 33, a, la, rect));
    EXPECT_OK(augment_sample(&s, &ever, 1, 0, 3, 20, 33, b, lb, rect));
    EXPECT(memcmp(a, s.rgb, sizeof a) == 0);
    int wrong = 0;
    for (int y = 0; y < 20; y++)
        for (int x = 0; x < 33; x++) {
            int p = y * 33 + x, q = y * 33 + 32 - x;
            wrong += la[p] != lb[q] || memcmp(a + 3 * p, b + 3 * q, 3) != 0 || la[p] != s.label[p];
        }
    EXPECT_INT(wrong, 0);
    sample_free(&s);
}

TEST(padding_is_zero_and_ignored) {
    Sample s = stripes(16, 24);
    enum { CH = 30, CW = 40 };
    static uint8_t image[CH * CW * 3];
    static int32_t label[CH * CW];
    int32_t rect[4];
    int left = 0, right = 0;
    DataOptions o = {.mirror = 0.5, .scale_min = 0.8, .scale_max = 1.2};
    for (uint64_t k = 0; k < 40; k++) {
        memset(image, 7, sizeof image), memset(label, 7, sizeof label);
        EXPECT_OK(augment_sample(&s, &o, 2, 1, k, CH, CW, image, label, rect));
        int wrong = 0;
        for (int y = 0; y < CH; y++)
            for (int x = 0; x < CW; x++) {
                int p = y * CW + x;
                bool inside =
                    x >= rect[0] && x < rect[0] + rect[2] && y >= rect[1] && y < rect[1] + rect[3];
                wrong +=
                    inside ? label[p] < 0 || label[p] > 10 || image[3 * p + 2] != 255
                           : label[p] != -1 || image[3 * p] || image[3 * p + 1] || image[3 * p + 2];
            }
        EXPECT_INT(wrong, 0);
        EXPECT(rect[2] < CW && rect[3] < CH);
        left += rect[0] == 0, right += rect[0] > 0;
    }
    EXPECT(left > 5 && right > 5);
    sample_free(&s);
}

TEST(void_pixels_become_minus_one) {
    Sample s = stripes(8, 8);
    s.label[3 * 8 + 5] = IGNORE_U8;
    uint8_t image[8 * 8 * 3];
    int32_t label[8 * 8], rect[4];
    DataOptions o = {0};
    EXPECT_OK(augment_sample(&s, &o, 1, 0, 0, 8, 8, image, label, rect));
    for (int p = 0; p < 64; p++) EXPECT_INT(label[p], p == 3 * 8 + 5 ? -1 : s.label[p]);
    sample_free(&s);
}

/* The definition in double against the tables and 11-bit weights: at most one grey level, by the
 * rounding of the weights (255 / 4096 for each direction) near a half. */
TEST(scaling_is_bilinear_with_half_pixel_centres) {
    Sample s = stripes(37, 53);
    for (int i = 0; i < 37 * 53 * 3; i++) s.rgb[i] = (uint8_t)((unsigned)i * 2654435761u >> 24);
    for (int k = 0; k < 4; k++) {
        double scale = (double[]){0.5, 0.7, 1.3, 2.0}[k];
        int h = (int)lrint(37 * scale), w = (int)lrint(53 * scale), worst = 0, wrong = 0;
        DataOptions o = {.scale_min = scale, .scale_max = scale, .scale_step = 0.1};
        uint8_t *image = malloc((size_t)h * (size_t)w * 3);
        int32_t *label = malloc((size_t)h * (size_t)w * 4), rect[4];
        EXPECT_OK(augment_sample(&s, &o, 1, 0, 0, h, w, image, label, rect));
        EXPECT_INT(rect[2], w);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                double fy = fmin(fmax((y + 0.5) * 37 / h - 0.5, 0), 36),
                       fx = fmin(fmax((x + 0.5) * 53 / w - 0.5, 0), 52);
                int y0 = (int)fy, x0 = (int)fx, y1 = y0 < 36 ? y0 + 1 : 36,
                    x1 = x0 < 52 ? x0 + 1 : 52;
                for (int c = 0; c < 3; c++) {
                    double top = s.rgb[(y0 * 53 + x0) * 3 + c] * (1 - fx + x0) +
                                 s.rgb[(y0 * 53 + x1) * 3 + c] * (fx - x0);
                    double low = s.rgb[(y1 * 53 + x0) * 3 + c] * (1 - fx + x0) +
                                 s.rgb[(y1 * 53 + x1) * 3 + c] * (fx - x0);
                    int diff = abs(image[(y * w + x) * 3 + c] -
                                   (int)lrint(top * (1 - fy + y0) + low * (fy - y0)));
                    if (diff > worst) worst = diff;
                }
                wrong += label[y * w + x] !=
                         s.label[(int)((y + 0.5) * 37 / h) * 53 + (int)((x + 0.5) * 53 / w)];
            }
        if (worst > 1) FAIL("scale %g: off by %d levels", scale, worst);
        EXPECT_INT(wrong, 0);
        free(image), free(label);
    }
    sample_free(&s);
}

TEST(scale_takes_only_its_steps) {
    Sample s = stripes(100, 100);
    DataOptions o = {.scale_min = 0.5, .scale_max = 2.0, .scale_step = 0.1};
    static uint8_t image[200 * 200 * 3];
    static int32_t label[200 * 200];
    int32_t rect[4], seen[201] = {0}, kinds = 0;
    for (uint64_t k = 0; k < 200; k++) {
        EXPECT_OK(augment_sample(&s, &o, 3, 0, k, 200, 200, image, label, rect));
        EXPECT_INT(rect[2] % 10, 0);
        kinds += !seen[rect[2]]++;
    }
    EXPECT_INT(kinds, 16);
    EXPECT(seen[50] > 0 && seen[200] > 0);
    sample_free(&s);
}

TEST(all_instruction_sets_give_the_same_bytes) {
    Sample s = stripes(61, 83);
    for (int i = 0; i < 61 * 83 * 3; i++) s.rgb[i] = (uint8_t)((unsigned)i * 2654435761u >> 24);
    DataOptions o = {.scale_min = 0.5, .scale_max = 2.0, .mirror = 0.5};
    static uint8_t image[2][70 * 70 * 3];
    static int32_t label[2][70 * 70];
    int32_t rect[4];
    if (cpu_best() == CPU_PLAIN) SKIP("this processor has only the plain level");
    for (CpuLevel level = CPU_AVX2; level <= cpu_best(); level++)
        for (uint64_t k = 0; k < 10; k++) {
            cpu_force(CPU_PLAIN);
            EXPECT_OK(augment_sample(&s, &o, 4, 0, k, 70, 70, image[0], label[0], rect));
            cpu_force(level);
            EXPECT_OK(augment_sample(&s, &o, 4, 0, k, 70, 70, image[1], label[1], rect));
            EXPECT(!memcmp(image[0], image[1], sizeof image[0]) &&
                   !memcmp(label[0], label[1], sizeof label[0]));
        }
    sample_free(&s);
}

TEST(scenes_are_a_function_of_seed_split_and_number) {
    DataOptions o = small_scenes(), other = o;
    other.seed = 6;
    Dataset *a, *b, *c, *v;
    EXPECT_OK(dataset_open(&o, "train", &a));
    EXPECT_OK(dataset_open(&o, "train", &b));
    EXPECT_OK(dataset_open(&other, "train", &c));
    EXPECT_OK(dataset_open(&o, "val", &v));
    EXPECT_INT(a->n, 7);
    EXPECT_INT(v->n, 3);
    EXPECT_INT(a->n_classes, 11);
    Sample s[4];
    EXPECT_OK(dataset_read(a, 2, &s[0]));
    EXPECT_OK(dataset_read(b, 2, &s[1]));
    EXPECT_OK(dataset_read(c, 2, &s[2]));
    EXPECT_OK(dataset_read(v, 2, &s[3]));
    EXPECT(!memcmp(s[0].rgb, s[1].rgb, H * W * 3) && !memcmp(s[0].label, s[1].label, H * W));
    EXPECT(memcmp(s[0].label, s[2].label, H * W) != 0);
    EXPECT(memcmp(s[0].label, s[3].label, H * W) != 0);
    EXPECT_STR(dataset_fingerprint(b).hex, dataset_fingerprint(a).hex);
    EXPECT(strcmp(dataset_fingerprint(a).hex, dataset_fingerprint(c).hex) != 0);
    for (int i = 0; i < 4; i++) sample_free(&s[i]);
    dataset_close(a), dataset_close(b), dataset_close(c), dataset_close(v);
}

/* Every class is there, none drowns the others, and the defaults are those documented. */
TEST(scenes_show_all_classes) {
    DataOptions o = {.kind = "scenes", .seed = 1};
    Dataset *d;
    EXPECT_OK(dataset_open(&o, "train", &d));
    EXPECT_INT(d->n, 240);
    long count[256] = {0}, pixels = 0;
    for (int i = 0; i < 40; i++) {
        Sample s;
        EXPECT_OK(dataset_read(d, i, &s));
        EXPECT_INT(s.h, 96);
        EXPECT_INT(s.w, 128);
        for (int p = 0; p < s.h * s.w; p++) count[s.label[p]]++, pixels++;
        sample_free(&s);
    }
    long sum = 0;
    for (int k = 0; k < 11; k++) {
        if (count[k] < pixels / 1000 || count[k] > pixels / 2)
            FAIL("%s has %ld of %ld pixels", d->class_names[k], count[k], pixels);
        sum += count[k];
    }
    EXPECT_INT(sum, pixels);
    dataset_close(d);
}

TEST(unknown_kind_and_split_are_refused) {
    Dataset *d;
    EXPECT_ERR(dataset_open(&(DataOptions){.kind = "camvit"}, "train", &d), E(2, 76));
    EXPECT_HAS(err_text(), "camvid");
    EXPECT_ERR(dataset_open(&(DataOptions){.kind = "scenes"}, "trian", &d), E(3, 30));
    EXPECT_ERR(dataset_open(&(DataOptions){.kind = "scenes", .scenes_h = 4}, "train", &d),
               E(2, 76));
}

/* ---- small folders in CamVid's layout -------------------------------------------------------- */

static Err open_folder(const char *split, Dataset **d) {
    return dataset_open(&(DataOptions){.kind = "camvid", .root = temp_path("")}, split, d);
}

TEST(camvid_joins_foreign_paths_and_ignores_void) {
    EXPECT_OK(make_camvid(7));
    Dataset *d;
    EXPECT_OK(open_folder("train", &d));
    EXPECT_INT(d->n, 2);
    EXPECT_STR(d->names[1], "b");
    Sample s;
    EXPECT_OK(dataset_read(d, 0, &s));
    EXPECT_INT(s.label[0], IGNORE_U8);
    EXPECT_INT(s.label[1], 0);
    sample_free(&s);
    EXPECT_OK(dataset_read(d, 1, &s));
    EXPECT_INT(s.label[2 * 12 + 3], 7);
    sample_free(&s);
    Digest before = dataset_fingerprint(d);
    EXPECT_OK(put_image("train/b.png", 11, 12));
    EXPECT(strcmp(before.hex, dataset_fingerprint(d).hex) != 0);
    EXPECT_STR(d->group, "^[^_]+");
    dataset_close(d);
}

TEST(label_ids_out_of_range_are_refused) {
    EXPECT_OK(make_camvid(0));
    for (int id = 0; id < 256; id++) {
        Dataset *d;
        Sample s;
        EXPECT_OK(put_label("trainannot/b.png", 10, 12, 3, 2, (uint8_t)id));
        EXPECT_OK(open_folder("train", &d));
        bool fine = id <= 11 || id == 255;
        Err rc = dataset_read(d, 1, &s);
        EXPECT_INT(rc, fine ? OK : E(3, 34));
        if (!rc) EXPECT_INT(s.label[2 * 12 + 3], id <= 10 ? id : IGNORE_U8);
        if (!rc) sample_free(&s);
        if (id == 34)
            EXPECT_HAS(err_text(), "trainannot/b.png: label id 34 at (3,2) is outside 0..10");
        dataset_close(d);
    }
}

TEST(missing_list_and_empty_split_are_refused) {
    EXPECT_OK(make_camvid(0));
    Dataset *d;
    EXPECT_ERR(open_folder("val", &d), E(3, 30));
    EXPECT_HAS(err_text(), "val.txt");
    EXPECT_OK(put_text("train.txt", "\n \n"));
    EXPECT_ERR(open_folder("train", &d), E(3, 30));
    EXPECT_HAS(err_text(), "0 pairs");
    EXPECT_ERR(dataset_open(&(DataOptions){.kind = "camvid", .root = "/nonexistent"}, "train", &d),
               E(3, 30));
}

TEST(bad_lines_are_refused) {
    EXPECT_OK(make_camvid(0));
    Dataset *d;
    EXPECT_OK(put_text("train.txt", "train/a.png\n"));
    EXPECT_ERR(open_folder("train", &d), E(3, 31));
    EXPECT_OK(put_text("train.txt", "../secret.png trainannot/a.png\n"));
    EXPECT_ERR(open_folder("train", &d), E(3, 46));
    EXPECT_OK(
        put_text("train.txt", "train/a.png trainannot/a.png\ntrain/A.jpg trainannot/b.png\n"));
    EXPECT_ERR(open_folder("train", &d), E(3, 32));
    EXPECT_HAS(err_text(), "train/A.jpg");
}

TEST(missing_files_are_listed) {
    EXPECT_OK(make_camvid(0));
    EXPECT_OK(sys_remove(temp_path("trainannot/b.png")));
    Dataset *d;
    EXPECT_ERR(open_folder("train", &d), E(3, 31));
    EXPECT_HAS(err_text(), "trainannot/b.png");
    EXPECT_HAS(err_text(), "1 of 2");
}

TEST(unpaired_lines_can_be_left_out) {
    EXPECT_OK(make_camvid(0));
    EXPECT_OK(put_text("train.txt",
                       "train/none.png trainannot/a.png\ntrain/a.png\n"
                       "train/b.png trainannot/b.png\ntrain/a.png trainannot/none.png\n"));
    Dataset *d;
    DataOptions o = {.kind = "camvid", .root = temp_path(""), .skip_unpaired = true};
    EXPECT_OK(dataset_open(&o, "train", &d));
    EXPECT_INT(d->n, 1);
    EXPECT_STR(d->names[0], "b");
    EXPECT_HAS(d->image_paths[0], "train/b.png");
    EXPECT_HAS(d->label_paths[0], "trainannot/b.png");
    dataset_close(d);
    EXPECT_OK(sys_remove(temp_path("train/b.png")));
    EXPECT_ERR(dataset_open(&o, "train", &d), E(3, 30));
}

TEST(so_many_bad_samples_can_be_left_out) {
    EXPECT_OK(make_camvid(77));
    EXPECT_OK(put_image("train/c.png", 10, 12));
    EXPECT_OK(put_label("trainannot/c.png", 10, 12, 0, 0, 4));
    EXPECT_OK(put_text("train.txt", "train/a.png trainannot/a.png\ntrain/b.png trainannot/b.png\n"
                                    "train/c.png trainannot/c.png\n"));
    Dataset *d;
    DataOptions o = {.kind = "camvid", .root = temp_path(""), .max_bad = 1};
    EXPECT_OK(dataset_open(&o, "train", &d));
    EXPECT_INT(d->n, 2);
    EXPECT_STR(d->names[1], "c");
    Sample s;
    EXPECT_OK(dataset_read(d, 1, &s));
    EXPECT_INT(s.label[0], 4);
    sample_free(&s);
    dataset_close(d);
    EXPECT_OK(put_text("train/a.png", "<html>not found</html>"));
    EXPECT_ERR(dataset_open(&o, "train", &d), E(3, 34));
    EXPECT_HAS(err_text(), "more than data.max_bad=1 bad samples: ");
}

TEST(links_stay_beneath_the_root) {
    EXPECT_OK(make_camvid(0));
    EXPECT_OK(sys_mkdirs(temp_path("root")));
    EXPECT(!rename(temp_path("train"), temp_path("root/train")));
    EXPECT(!rename(temp_path("trainannot"), temp_path("root/trainannot")));
    EXPECT(!rename(temp_path("train.txt"), temp_path("root/train.txt")));
    EXPECT(!rename(temp_path("root/train/b.png"), temp_path("secret.png")));
    EXPECT(!symlink("../../secret.png", temp_path("root/train/b.png")));
    Dataset *d;
    DataOptions o = {.kind = "camvid", .root = temp_path("root")};
    EXPECT_ERR(dataset_open(&o, "train", &d), E(3, 45));
    EXPECT_HAS(err_text(), "root/train/b.png: is a link to ");
    EXPECT_HAS(err_text(), "data.follow_links=true");
    o.follow_links = true;
    EXPECT_OK(dataset_open(&o, "train", &d));
    dataset_close(d);
    o.follow_links = false;
    EXPECT(!rename(temp_path("secret.png"), temp_path("root/c.png")));
    EXPECT(!unlink(temp_path("root/train/b.png")) &&
           !symlink("../c.png", temp_path("root/train/b.png")));
    EXPECT_OK(dataset_open(&o, "train", &d)); /* a link that stays inside is fine */
    dataset_close(d);
    EXPECT(!unlink(temp_path("root/train/b.png")) &&
           !symlink("b.png", temp_path("root/train/b.png")));
    EXPECT_ERR(dataset_open(&o, "train", &d), E(3, 45));
    EXPECT_HAS(err_text(), "circle");
}

/* What the log says about a data set all of whose samples were read, twice. */
static const char *warnings_of(const char *file) {
    static char text[4096];
    Appender *log;
    Dataset *d;
    Bytes b;
    if (append_open(temp_path(file), &log)) return err_text();
    log_attach(log);
    Err rc = open_folder("train", &d);
    for (int i = 0; !rc && i < 2 * d->n; i++) {
        Sample s = {0};
        rc = dataset_read(d, i % d->n, &s);
        sample_free(&s);
    }
    if (!rc) dataset_close(d);
    log_attach(NULL);
    append_close(log);
    if (rc || sys_read_file(temp_path(file), sizeof text - 1, EXIT_DATA, &b)) return err_text();
    memcpy(text, b.data, b.bytes + 1);
    free(b.data);
    return text;
}
TEST(absent_classes_and_void_labels_are_told_once) {
    EXPECT_OK(make_camvid(8));
    uint8_t px[10 * 12], grey[256][3] = {{0}};
    memset(px, 11, sizeof px);
    EXPECT_OK(image_write_png_palette(temp_path("trainannot/a.png"), px, 10, 12, grey, 256));
    EXPECT_STR(warnings_of("log"),
               "warning: camvid/train: 9 classes that no label shows: building, "
               "pole, road, pavement, tree, sign, "
               "fence, pedestrian, cyclist\n"
               "warning: camvid/train: 1 of 2 labels are void all over\n");
    memset(px, 0, sizeof px);
    for (int i = 0; i < 11; i++) px[i] = (uint8_t)i;
    EXPECT_OK(image_write_png_palette(temp_path("trainannot/a.png"), px, 10, 12, grey, 256));
    EXPECT_STR(warnings_of("log2"), "");
}

TEST(size_mismatch_names_both_sizes) {
    EXPECT_OK(make_camvid(0));
    EXPECT_OK(put_label("trainannot/b.png", 9, 13, 0, 0, 0));
    Dataset *d;
    Sample s;
    EXPECT_OK(open_folder("train", &d));
    EXPECT_ERR(dataset_read(d, 1, &s), E(3, 33));
    EXPECT_HAS(err_text(), "13x9");
    EXPECT_HAS(err_text(), "12x10");
    dataset_close(d);
}

TEST(truncated_image_is_refused_at_every_byte) {
    EXPECT_OK(make_camvid(0));
    Bytes file;
    EXPECT_OK(sys_read_file(temp_path("train/b.png"), 1 << 20, EXIT_DATA, &file));
    Dataset *d;
    Sample s;
    EXPECT_OK(open_folder("train", &d));
    int refused = 0, cuts = 0;
    for (size_t n = 8; n + 12 < file.bytes;
         n += 7, cuts++) { /* from behind the signature to before IEND */
        EXPECT_OK(durable_write_all(temp_path("train/b.png"), file.data, n));
        refused += dataset_read(d, 1, &s) == E(3, 38);
    }
    EXPECT_INT(refused, cuts);
    free(file.data);
    dataset_close(d);
}

/* The error of a worker comes out of loader_next, with its text, in its turn and ever after. */
TEST(worker_errors_surface_in_loader_next) {
    EXPECT_OK(make_camvid(77));
    for (int workers = 1; workers <= 3; workers += 2) {
        DataOptions o = {
            .kind = "camvid", .root = temp_path(""), .workers = workers, .crop_h = 8, .crop_w = 8};
        Dataset *d;
        Loader *l;
        const Batch *b;
        EXPECT_OK(dataset_open(&o, "train", &d));
        EXPECT_OK(loader_open(d, &o, 1, 3, 0, &l));
        Err rc = loader_next(l, &b);
        if (!rc) loader_done(l, b), rc = loader_next(l, &b);
        EXPECT_INT(rc, E(3, 34));
        EXPECT_HAS(err_text(), "label id 77");
        EXPECT_ERR(loader_next(l, &b), E(3, 34));
        loader_close(l);
        dataset_close(d);
    }
}

/* ---- the real data set
 * --------------------------------------------------------------------------- */

TEST(camvid_has_367_101_and_233_images) {
    char root[512];
    snprintf(root, sizeof root, "%s/data/camvid", sys_test_data());
    if (!sys_is_dir(root)) SKIP("no data set in %s", root);
    DataOptions o = {.kind = "camvid", .root = root};
    static const struct {
        const char *name;
        int n;
    } splits[] = {{"train", 367}, {"val", 101}, {"test", 233}};
    for (int k = 0; k < 3; k++) {
        Dataset *d;
        EXPECT_OK(dataset_open(&o, splits[k].name, &d));
        EXPECT_INT(d->n, splits[k].n);
        Sample s;
        EXPECT_OK(dataset_read(d, d->n - 1, &s));
        EXPECT_INT(s.h, 360);
        EXPECT_INT(s.w, 480);
        long valid = 0, road = 0;
        for (int p = 0; p < s.h * s.w; p++)
            valid += s.label[p] < 11, road += s.label[p] == CLASS_ROAD;
        EXPECT(valid > 150000 && road > 10000);
        sample_free(&s);
        dataset_close(d);
    }
}

TEST_MAIN(T(batch_depends_on_first_sample_alone), T(workers_do_not_change_batches),
          T(epoch_shows_each_image_once), T(lent_batches_stay_until_returned),
          T(unlabelled_images_come_last_and_disturb_nothing),
          T(batches_with_unlabelled_images_restart_anywhere),
          T(unlabelled_images_are_counted_checked_and_watched),
          T(mirror_turns_image_and_label_alike), T(padding_is_zero_and_ignored),
          T(void_pixels_become_minus_one), T(scaling_is_bilinear_with_half_pixel_centres),
          T(scale_takes_only_its_steps), T(all_instruction_sets_give_the_same_bytes),
          T(scenes_are_a_function_of_seed_split_and_number), T(scenes_show_all_classes),
          T(unknown_kind_and_split_are_refused), T(camvid_joins_foreign_paths_and_ignores_void),
          T(label_ids_out_of_range_are_refused), T(missing_list_and_empty_split_are_refused),
          T(bad_lines_are_refused), T(missing_files_are_listed), T(unpaired_lines_can_be_left_out),
          T(so_many_bad_samples_can_be_left_out), T(links_stay_beneath_the_root),
          T(absent_classes_and_void_labels_are_told_once), T(size_mismatch_names_both_sizes),
          T(truncated_image_is_refused_at_every_byte), T(worker_errors_surface_in_loader_next),
          T(camvid_has_367_101_and_233_images))
