/* test_folder.c - data sets of files: patterns, tables of classes, splits, the published layouts. */
#include "test.h"

#include "base/str.h"
#include "base/sys.h"
#include "data/classes.h"
#include "data/data_priv.h"
#include "data/pairs.h"
#include "small_camvid.h"

enum { H = 10, W = 12 };

/* The test's folder, in a place of its own: temp_path's buffers go round. */
static const char *root_path(void) {
    static char root[512];
    snprintf(root, sizeof root, "%s", temp_path(""));
    return root;
}
static void folder_of(const char *name, char out[512]) {
    snprintf(out, 512, "%s", temp_path(name));
    *strrchr(out, '/') = 0;
}
/* An image and a label of the sizes of small_camvid.h; the label is id at (3,2), 0 elsewhere. */
static Err put_pair(const char *image, const char *label, uint8_t id) {
    char dir[512];
    folder_of(image, dir);
    TRY(sys_mkdirs(dir));
    folder_of(label, dir);
    TRY(sys_mkdirs(dir));
    TRY(put_image(image, H, W));
    return put_label(label, H, W, 3, 2, id);
}
/* A colour label: rgb everywhere, other at (3,2). */
static Err put_colours(const char *name, uint32_t rgb, uint32_t other) {
    uint8_t px[H * W * 3];
    for (int i = 0; i < H * W; i++) {
        uint32_t c = i == 2 * W + 3 ? other : rgb;
        px[3 * i] = (uint8_t)(c >> 16), px[3 * i + 1] = (uint8_t)(c >> 8),
               px[3 * i + 2] = (uint8_t)c;
    }
    return image_write_png_rgb(temp_path(name), px, H, W);
}

static DataOptions folder_options(void) {
    return (DataOptions){.kind = "folder",
                         .root = root_path(),
                         .images = "img/{id}.*",
                         .labels = "gt/{id}_L.png",
                         .classes = "classes.yaml",
                         .split = "{val: 0.2, test: 0.2}"};
}
/* Ten pairs of five drives, two frames each. */
static Err make_folder(void) {
    TRY(put_text("classes.yaml", "classes: [{name: road, id: 0}, {name: car, ids: [3, 4]}]\n"));
    for (int i = 0; i < 10; i++) {
        char image[64], label[64];
        snprintf(image, sizeof image, "img/drive%d/f%d.png", i / 2, i);
        snprintf(label, sizeof label, "gt/drive%d/f%d_L.png", i / 2, i);
        TRY(put_pair(image, label, i % 2 ? 3 : 4));
    }
    return OK;
}

/* ---- tables of classes ------------------------------------------------------------------------ */
static Err parse(Arena *a, const char *text, Classes *c) {
    return classes_parse(a, text, strlen(text), "classes.txt", c);
}

TEST(tables_of_classes_in_every_notation) {
    static const struct {
        const char *text;
        bool by_colour;
        int car_id;
    } cases[] = {
        {"classes: [{name: road, id: 7, color: [128, 64, 128]}, {name: car, id: 26}]", false, 26},
        {"{road: 0, car: [5, 6]}", false, 6},
        {"[road, car]", false, 1},
        {"classes:\n - {name: road, color: '#804080'}\n - {name: car, color: [0, 0, 142]}\n", true,
         1},
        {"# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:0,0,142::\n", true, 1},
        {"128 64 128\troad\r\n0 0 142\tcar\r\n", true, 1},
        {"road\n\ncar\n", false, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Arena *a = arena_open();
        Classes c;
        EXPECT_OK(parse(a, cases[i].text, &c));
        EXPECT_INT(c.n, 2);
        EXPECT_STR(c.names[0], "road");
        EXPECT_STR(c.names[1], "car");
        EXPECT_INT(c.by_colour, cases[i].by_colour);
        EXPECT_INT(c.map[cases[i].car_id], 1);
        EXPECT_INT(c.map[200], LABEL_REFUSED);
        if (c.n_colours) EXPECT_INT(c.palette[0][0], 128);
        arena_close(a);
    }
}

/* Colours tell the notation, not the file's name. */
TEST(a_label_map_may_be_called_yaml) {
    static const char *const cases[] = {
        "# label:color_rgb:parts:actions\r\nroad:128,64,128::\r\ncar:0,0,142::\r\n",
        "\n128 64 128 road\n0 0 142 car\n",
        "# mine\nclasses:\n - {name: road, color: '#804080'}\n - {name: car, color: [0, 0, 142]}\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Arena *a = arena_open();
        Classes c;
        EXPECT_OK(classes_parse(a, cases[i], strlen(cases[i]), "classes.yaml", &c));
        EXPECT_INT(c.n, 2);
        EXPECT_STR(c.names[1], "car");
        EXPECT_INT(c.palette[0][0], 128);
        EXPECT(c.by_colour);
        arena_close(a);
    }
}

TEST(bad_tables_name_line_and_remedy) {
    static const char *const cases[][2] = {
        {"", "no class is named"},
        {"[road, road]", "road is given twice"},
        {"[{name: road, id: 1}, {name: car}]", "only 1 of 2 classes have an id"},
        {"[{name: road, id: 300}]", "0 to 255"},
        {"[{name: road, id: 1}, {name: car, id: 1}]", "id 1 belongs to road already"},
        {"[{name: road, hue: 1}]", "hue is not known"},
        {"[{name: road, color: [1, 2]}]", "[red, green, blue]"},
        {"road:1,2,3::\ncar:1,2,3::\n", "one colour, #010203"},
        {"road:1,2,x::\n", "classes.txt:1"},
        {"{classes: [road], void: 3}", "void is not known here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Arena *a = arena_open();
        Classes c;
        EXPECT_ERR(parse(a, cases[i][0], &c), E(2, 76));
        EXPECT_HAS(err_text(), cases[i][1]);
        arena_close(a);
    }
}

TEST(void_by_id_name_and_colour) {
    Arena *a = arena_open();
    Classes c;
    EXPECT_OK(parse(a, "road:128,64,128::\nVoid:0,0,0::\ncar:0,0,142::\n", &c));
    EXPECT_OK(classes_ignore(a, &c, "[255, Void, '#ffffff']", "data.ignore"));
    EXPECT_INT(c.n, 2);
    EXPECT_STR(c.names[1], "car");
    EXPECT_INT(c.map[255], IGNORE_U8);
    EXPECT_INT(c.map[1], IGNORE_U8);
    EXPECT_INT(c.map[2], 1);
    EXPECT_INT(c.n_colours, 4);
    EXPECT_ERR(classes_ignore(a, &c, "[cat]", "data.ignore"), E(2, 76));
    EXPECT_HAS(err_text(), "did you mean car");
    arena_close(a);
}

/* ---- the folder ------------------------------------------------------------------------------- */
TEST(patterns_pair_images_with_labels) {
    DataOptions o = folder_options();
    EXPECT_OK(make_folder());
    Dataset *d;
    Sample s;
    int n = 0;
    static const char *const splits[] = {"train", "val", "test"};
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(dataset_open(&o, splits[i], &d));
        EXPECT_INT(d->n, i ? 2 : 6);
        n += d->n;
        for (int k = 0; k < d->n; k++) {
            EXPECT_OK(dataset_read(d, k, &s));
            EXPECT_INT(s.label[2 * W + 3], 1);
            EXPECT_INT(s.label[0], 0);
            EXPECT(str_starts(d->names[k], "drive") && strstr(d->names[k], "__f"));
            sample_free(&s);
        }
        dataset_close(d);
    }
    EXPECT_INT(n, 10);
}

/* Frames of one drive never lie on both sides, and a further image moves no other. */
TEST(a_table_of_classes_may_stand_in_the_options) {
    EXPECT_OK(make_folder());
    DataOptions o = folder_options();
    Dataset *d;
    o.classes = "{classes: [{name: Haus, id: 0}, {name: Weg, ids: [3, 4]}]}";
    EXPECT_OK(dataset_open(&o, "train", &d));
    EXPECT_INT(d->n_classes, 2);
    EXPECT_STR(d->class_names[1], "Weg");
    dataset_close(d);
    o.classes = "{Haus: 0, Weg: 300}";
    EXPECT_INT(err_exit_code(dataset_open(&o, "train", &d)), EXIT_USAGE);
    EXPECT_HAS(err_text(), "data.classes");
}
TEST(groups_are_never_divided) {
    DataOptions o = folder_options();
    o.split = "{val: 0.2, test: 0.2, group: '^(drive\\d+)'}";
    EXPECT_OK(make_folder());
    static const char *const splits[] = {"train", "val", "test"};
    int where[5] = {-1, -1, -1, -1, -1};
    for (int i = 0; i < 3; i++) {
        Dataset *d;
        EXPECT_OK(dataset_open(&o, splits[i], &d));
        EXPECT_INT(d->n, i ? 2 : 6);
        for (int k = 0; k < d->n; k++) {
            int drive = d->names[k][5] - '0';
            EXPECT(where[drive] == -1 || where[drive] == i);
            where[drive] = i;
        }
        EXPECT_STR(d->group, "^(drive\\d+)");       /* what a study draws together */
        dataset_close(d);
    }
}

TEST(colours_are_read_exactly_and_strangers_listed) {
    DataOptions o = folder_options();
    o.images = "img/{id}.png", o.labels = "gt/{id}.png", o.classes = "map.txt";
    o.split = "{val: list.txt, train: list.txt}";
    EXPECT_OK(sys_mkdirs(temp_path("img")));
    EXPECT_OK(sys_mkdirs(temp_path("gt")));
    EXPECT_OK(put_text("map.txt", "road:128,64,128::\ncar:0,0,142::\n"));
    EXPECT_OK(put_text("list.txt", "a\nb\n"));
    EXPECT_OK(put_image("img/a.png", H, W));
    EXPECT_OK(put_image("img/b.png", H, W));
    EXPECT_OK(put_colours("gt/a.png", 0x804080, 0x00008e));
    EXPECT_OK(put_colours("gt/b.png", 0x804080, 0x00008f));
    Dataset *d;
    Sample s;
    EXPECT_OK(dataset_open(&o, "train", &d));
    EXPECT_OK(dataset_read(d, 0, &s));
    EXPECT_INT(s.label[2 * W + 3], 1);
    EXPECT_INT(s.label[7], 0);
    sample_free(&s);
    EXPECT_ERR(dataset_read(d, 1, &s), E(3, 34));
    EXPECT_HAS(err_text(),
               "gt/b.png: 1 colour is no class's: #00008f (1 pixels, the first at (3,2))");
    dataset_close(d);
}

TEST(faults_of_a_folder_name_files_and_remedy) {
    static const struct {
        const char *images, *labels, *classes, *split, *says;
        int code;
    } cases[] = {
        {"pic/{id}.png", "gt/{id}_L.png", "classes.yaml", "{val: 0.2}", "no such folder", E(3, 30)},
        {"img/{id}.jpg", "gt/{id}_L.png", "classes.yaml", "{val: 0.2}", "which 0 files fit",
         E(3, 30)},
        {"img/{id}.png", "gt/{id}.png", "classes.yaml", "{val: 0.2}", "no {id} is shared",
         E(3, 30)},
        {"img/{id}.png", "gt/{id}_L.png", "no.yaml", "{val: 0.2}", "no.yaml", E(3, 30)},
        {"img/{id}.png", NULL, "classes.yaml", "{val: 0.2}", "data.labels is not set", E(2, 76)},
        {NULL, "gt/{id}.png", "classes.yaml", "{val: 0.2}", "data.images is not set", E(2, 76)},
        {"img/{id}.png", "gt/x.png", "classes.yaml", "{val: 0.2}", "needs {id}", E(2, 76)},
        {"img/{id}.png", "gt/{id}_L.png", NULL, "{val: 0.2}", "data.classes is not set", E(2, 76)},
        {"img/{id}.png", "gt/{id}_L.png", "classes.yaml", NULL, "data.split is not set", E(2, 76)},
        {"img/{id}.png", "gt/{id}_L.png", "classes.yaml", "{val: 2}", "from 0 to 1", E(2, 76)},
        {"img/{id}.png", "gt/{id}_L.png", "classes.yaml", "{val: 0.6, test: 0.5}",
         "nothing to train", E(2, 76)},
        {"img/{id}.png", "gt/{id}_L.png", "classes.yaml", "{val: 0.1, group: '('}", "no regular",
         E(2, 76)},
        {"img/{id}.png", "gt/{id}_L.png", "classes.yaml", "{train: no.txt}",
         "there is no such list", E(3, 30)},
        {"img/{id}.png", "gt/{id}_L.png", "classes.yaml", "{train: up.txt}", "leaves the data root",
         E(3, 46)},
        {"list.txt", NULL, "classes.yaml", "{val: 0.1}", "without a label file", E(3, 31)},
    };
    EXPECT_OK(make_folder());
    EXPECT_OK(put_text("up.txt", "../../secret\n"));
    EXPECT_OK(put_text("list.txt", "img/drive0/f0.png\n"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DataOptions o = folder_options();
        o.images = cases[i].images, o.labels = cases[i].labels, o.classes = cases[i].classes;
        o.split = cases[i].split;
        Dataset *d;
        Err rc = dataset_open(&o, "train", &d);
        if (!rc) dataset_close(d);
        EXPECT_INT(rc, cases[i].code);
        EXPECT_HAS(err_text(), cases[i].says);
    }
}

TEST(unpaired_files_are_told_both_ways) {
    DataOptions o = folder_options();
    EXPECT_OK(make_folder());
    EXPECT_OK(put_image("img/alone.png", H, W));
    EXPECT_OK(put_label("gt/lost_L.png", H, W, 0, 0, 0));
    Dataset *d;
    EXPECT_ERR(dataset_open(&o, "train", &d), E(3, 31));
    EXPECT_HAS(err_text(), "1 images without label: ");
    EXPECT_HAS(err_text(), "1 labels without image: ");
    o.skip_unpaired = true;
    EXPECT_OK(dataset_open(&o, "train", &d));
    dataset_close(d);
}

TEST(two_suffixes_of_one_name_are_refused) {
    DataOptions o = folder_options();
    EXPECT_OK(make_folder());
    EXPECT_OK(put_image("img/drive0/f0.jpg", H, W)); /* told by name alone: nothing is read yet */
    Dataset *d;
    EXPECT_ERR(dataset_open(&o, "train", &d), E(3, 32));
    EXPECT_HAS(err_text(), "f0.jpg");
}

/* ---- published layouts ------------------------------------------------------------------------- */
static int label_at(const DataOptions *o, const char *split, int n, int classes) {
    Dataset *d;
    Sample s;
    int v = -1;
    Err rc = dataset_open(o, split, &d);
    if (rc) return FAIL("%s: %s", split, err_text()), -1;
    EXPECT_INT(d->n, n);
    EXPECT_INT(d->n_classes, classes);
    if (dataset_read(d, 0, &s)) FAIL("%s", err_text());
    else v = s.label[2 * W + 3], sample_free(&s);
    dataset_close(d);
    return v;
}

TEST(cityscapes_label_ids_become_train_ids) {
    DataOptions o = {.kind = "cityscapes", .root = root_path()};
    EXPECT_OK(put_pair("leftImg8bit/val/ulm/ulm_1_leftImg8bit.png",
                       "gtFine/val/ulm/ulm_1_gtFine_labelIds.png", 33));
    EXPECT_INT(label_at(&o, "val", 1, 19), 18);
    Dataset *d;
    EXPECT_OK(dataset_open(&o, "val", &d));
    EXPECT_STR(d->group, "^[a-z-]+_[0-9]+");
    dataset_close(d);
    EXPECT_OK(put_label("gtFine/val/ulm/ulm_1_gtFine_labelIds.png", H, W, 3, 2, 9)); /* parking */
    EXPECT_INT(label_at(&o, "val", 1, 19), IGNORE_U8);
    EXPECT_OK(put_label("gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png", H, W, 3, 2, 13));
    o.labels = "gtFine/{split}/{id}_gtFine_labelTrainIds.png";
    EXPECT_INT(label_at(&o, "val", 1, 19), 13);
}

TEST(voc_reads_lists_and_sbd_labels) {
    DataOptions o = {.kind = "voc", .root = root_path()};
    EXPECT_OK(sys_mkdirs(temp_path("VOCdevkit/VOC2012/ImageSets/Segmentation")));
    EXPECT_OK(put_text("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "2007_1\n"));
    EXPECT_OK(put_text("VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt",
                       "/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png\n"));
    EXPECT_OK(put_pair("VOCdevkit/VOC2012/JPEGImages/2007_1.jpg",
                       "VOCdevkit/VOC2012/SegmentationClass/2007_1.png", 20));
    EXPECT_OK(put_pair("VOCdevkit/VOC2012/JPEGImages/2007_1.jpg",
                       "VOCdevkit/VOC2012/SegmentationClassAug/2007_1.png", 255));
    EXPECT_INT(label_at(&o, "val", 1, 21), 20);
    o.split = "{train: ImageSets/Segmentation/trainaug.txt}";
    EXPECT_INT(label_at(&o, "train", 1, 21), IGNORE_U8);
    EXPECT_INT(label_at(&o, "val", 1, 21), 20);
}

TEST(ade20k_counts_from_one) {
    DataOptions o = {.kind = "ade20k", .root = root_path()};
    EXPECT_OK(put_pair("images/validation/ADE_1.jpg", "annotations/validation/ADE_1.png", 150));
    EXPECT_OK(put_pair("images/training/ADE_2.jpg", "annotations/training/ADE_2.png", 1));
    EXPECT_INT(label_at(&o, "val", 1, 150), 149);
    EXPECT_INT(label_at(&o, "train", 1, 150), 0);
    EXPECT_OK(put_label("annotations/training/ADE_2.png", H, W, 3, 2, 151));
    Dataset *d;
    Sample s;
    EXPECT_OK(dataset_open(&o, "train", &d));
    EXPECT_ERR(dataset_read(d, 0, &s), E(3, 34));
    EXPECT_HAS(err_text(), "label id 151 at (3,2)");
    dataset_close(d);
}

/* The real frames of Cityscapes: the colour-coded label has the official colours. */
TEST(real_cityscapes_colours_are_known) {
    char root[512];
    snprintf(root, sizeof root, "%s/data/cityscapes-samples", sys_test_data());
    if (!sys_is_dir(root)) SKIP("%s is not there", root);
    EXPECT_OK(put_text("list.txt", "frankfurt_000001_058914\n"));
    DataOptions city = {.kind = "cityscapes", .root = root_path()};
    EXPECT_OK(
        put_pair("leftImg8bit/val/a/a_leftImg8bit.png", "gtFine/val/a/a_gtFine_labelIds.png", 0));
    Dataset *d;
    EXPECT_OK(dataset_open(&city, "val", &d));
    Str s = {0};
    for (int k = 0; k < d->n_classes; k++)
        str_addf(&s, "%s:%d,%d,%d::\n", d->class_names[k], d->palette[k][0], d->palette[k][1],
                 d->palette[k][2]);
    EXPECT_OK(put_text("map.txt", s.s));
    str_free(&s);
    dataset_close(d);
    char classes[600], list[600];
    snprintf(classes, sizeof classes, "%s", temp_path("map.txt"));
    snprintf(list, sizeof list, "{val: %s}", temp_path("list.txt"));
    DataOptions o = {.kind = "folder",
                     .root = root,
                     .images = "{id}_leftImg8bit.png",
                     .labels = "{id}_gtFine_color.png",
                     .classes = classes,
                     .split = list,
                     .ignore = "['#000000', '#6f4a00', '#510051', '#faaaa0', '#e6968c', '#b4a5b4', "
                               "'#966464', '#96785a', '#00005a', '#00006e']"};
    Sample x;
    int64_t seen[256] = {0};
    EXPECT_OK(dataset_open(&o, "val", &d));
    EXPECT_OK(dataset_read(d, 0, &x));
    for (int64_t i = 0; i < (int64_t)x.h * x.w; i++) seen[x.label[i]]++;
    EXPECT(seen[0] > seen[5] && seen[5] > 0 && seen[13] > 0); /* road, pole, car */
    sample_free(&x);
    dataset_close(d);
}

TEST_MAIN(T(tables_of_classes_in_every_notation), T(a_label_map_may_be_called_yaml),
          T(bad_tables_name_line_and_remedy),
          T(void_by_id_name_and_colour), T(patterns_pair_images_with_labels),
          T(a_table_of_classes_may_stand_in_the_options),
          T(groups_are_never_divided), T(colours_are_read_exactly_and_strangers_listed),
          T(faults_of_a_folder_name_files_and_remedy), T(unpaired_files_are_told_both_ways),
          T(two_suffixes_of_one_name_are_refused), T(cityscapes_label_ids_become_train_ids),
          T(voc_reads_lists_and_sbd_labels), T(ade20k_counts_from_one),
          T(real_cityscapes_colours_are_known))
