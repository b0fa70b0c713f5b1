/* export_notes.c - see export.h: what is said about an exported network, in metadata and in a JSON file. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/export.h"
#include "io/weights.h"
#include "report/report.h"
#include "train/trainer.h"

enum { VALUES_MAX = 1 << 20,         /* of the reference output: every second, third, ... beyond */
       REFERENCE_H = 64, REFERENCE_W = 96 };         /* of the reference image where sizes are free */

/* ---- metadata ------------------------------------------------------------------------------------ */

static void add(ExportNotes *n, const char *key, const char *value) {
    CHECK(n->n < NOTES_MAX);
    n->pair[n->n++] = (MetaPair){arena_strdup(n->arena, key), arena_strdup(n->arena, value)};
}
static const char *note(const ExportNotes *n, const char *key) {
    for (int i = 0; i < n->n; i++)
        if (!strcmp(n->pair[i].key, key)) return n->pair[i].value;
    return NULL;
}
static void add_str(ExportNotes *n, const char *key, Str *s) {
    add(n, key, s->s);
    str_free(s);
}

/* Names from the data set, else from the file of weights, else numbers. */
static void add_classes(ExportNotes *n, const OpenModel *m, const Dataset *d, const SafeFile *from) {
    Str s = {0};
    const char *names = st_meta(from, "class_names"), *count = st_meta(from, "n_classes");
    int64_t told = 0;
    if (d && d->n_classes != m->options.classes) d = NULL;
    if (!d && names && count && parse_i64(count, &told) && told == m->options.classes)
        str_add(&s, names);
    else
        for (int k = 0; k < m->options.classes; k++) {
            str_add(&s, k ? ", " : "[");
            if (d) str_json(&s, d->class_names[k]);
            else str_addf(&s, "\"class %d\"", k);
        }
    if (!told || d) str_add(&s, "]");
    add_str(n, "classes", &s);
}
static void add_palette(ExportNotes *n, const OpenModel *m, const Dataset *d) {
    uint8_t rgb[256][3];
    Str s = {0};
    open_palette(d, rgb);
    for (int k = 0; k < m->options.classes; k++)
        str_addf(&s, "%s[%d, %d, %d]", k ? ", " : "[", rgb[k][0], rgb[k][1], rgb[k][2]);
    str_add(&s, "]");
    add_str(n, "palette", &s);
}
static void add_three(Str *s, const char *key, const float v[3]) {
    str_addf(s, ", \"%s\": [", key);
    for (int c = 0; c < 3; c++) {
        if (c) str_add(s, ", ");
        str_json_number(s, (double)v[c]);
    }
    str_add(s, "]");
}
static void add_norm(ExportNotes *n, const OpenModel *m) {
    const NormDef *norm = norm_find(m->options.norm ? m->options.norm : "rgb-imagenet");
    Str s = {0};
    str_add(&s, "{\"name\": ");
    str_json(&s, norm->name);
    str_addf(&s, ", \"channel_order\": \"%s\"", norm->bgr ? "bgr" : "rgb");
    add_three(&s, "mean", norm->mean);
    add_three(&s, "std", norm->std);
    str_add(&s, ", \"scale\": 255}");
    add_str(n, "normalisation", &s);
}
/* The digest of the whole file that the weights came from: of a checkpoint it covers optimiser, step and data. */
static Err add_state(ExportNotes *n, const OpenModel *m) {
    Bytes file;
    if (!sys_exists(m->source) || sys_is_dir(m->source)) return OK;
    TRY(sys_read_file(m->source, (size_t)1 << 34, EXIT_MODEL, &file));
    add(n, "training_state", hash_digest(file.data, file.bytes).hex);
    free(file.data);
    return OK;
}
/* By which open_model knows the network again. */
static void add_config(ExportNotes *n, const OpenModel *m) {
    const ModelOptions *o = &m->options;
    Str s = {0};
    str_addf(&s, "student: {model: %s, classes: %d, aux: %s, norm: %s", o->model, o->classes,
             o->aux ? "true" : "false", o->norm ? o->norm : "rgb-imagenet");
    if (o->plain_stem) str_add(&s, ", stem: plain");
    if (o->output_stride) str_addf(&s, ", output_stride: %d", o->output_stride);
    if (o->width > 0) str_add(&s, ", width: "), str_json_number(&s, o->width);
    str_add(&s, "}\n");
    add_str(n, "config", &s);
    add(n, "class_names", note(n, "classes"));
    add(n, "n_classes", arena_printf(n->arena, "%d", o->classes));
}
static Err add_all(ExportNotes *n, const OpenModel *m, const SafeFile *from) {
    static const char *const COPIED[] = {"config", "class_names", "n_classes",   "step",
                                         "seed",   "teacher",     "fingerprint", "fingerprint_val",
                                         "best"};
    add(n, "model", m->options.model);
    add(n, "weights", path_base(m->source));
    Dataset *d = open_some_split(&m->config->data);
    add_classes(n, m, d, from);
    add_palette(n, m, d);
    dataset_close(d);
    add_norm(n, m);
    TRY(add_state(n, m));
    add(n, "version", RETORT_VERSION);
    n->n_own = n->n;
    for (size_t i = 0; i < sizeof COPIED / sizeof *COPIED; i++)
        if (st_meta(from, "config") && st_meta(from, COPIED[i]))
            add(n, COPIED[i], st_meta(from, COPIED[i]));
    if (!st_meta(from, "config")) add_config(n, m);
    return OK;
}
Err export_notes_open(const OpenModel *m, ExportNotes *out) {
    SafeFile from = {0};
    const bool file = sys_exists(m->source) && !sys_is_dir(m->source) && !model_is_onnx(m->source);
    *out = (ExportNotes){.arena = arena_open()};
    Err rc = file ? weights_read_meta(m->source, &from) : OK;
    if (!rc) rc = add_all(out, m, &from);
    if (file && from.tensors) st_close(&from);
    if (rc) export_notes_close(out);
    return rc;
}
void export_notes_close(ExportNotes *n) {
    arena_close(n->arena);
    *n = (ExportNotes){0};
}

/* ---- the JSON file ----------------------------------------------------------------------------------- */

static void add_sides(Str *s, const int64_t *d, const char *const *names, int rank) {
    str_add(s, "[");
    for (int i = 0; i < rank; i++) {
        if (i) str_add(s, ", ");
        if (d[i]) str_addf(s, "%" PRId64, d[i]);
        else str_json(s, names[i]);
    }
    str_add(s, "]");
}
static void add_interface(Str *s, const OpenModel *m, const ExportOptions *o) {
    static const char *const OUTPUT[] = {"logits", "logits_full", "argmax"};
    const int64_t nchw[] = {o->batch, 3, o->h, o->w}, nhwc[] = {o->batch, o->h, o->w, 3};
    static const char *const NCHW[] = {"batch", "", "height", "width"}, *const NHWC[] = {
                                                                            "batch", "height",
                                                                            "width", ""};
    str_addf(
        s,
        "  \"input\": {\"name\": \"image\", \"dtype\": \"%s\", \"layout\": \"%s\", \"channels\": \"rgb\", \"range\": [0, 255], \"shape\": ",
        o->bytes ? "uint8" : "float32", o->bytes ? "nhwc" : "nchw");
    add_sides(s, o->bytes ? nhwc : nchw, o->bytes ? NHWC : NCHW, 4);
    str_addf(s, "},\n  \"output\": {\"name\": \"%s\", \"kind\": \"%s\", \"dtype\": \"%s\"},\n",
             o->output == EXPORT_ARGMAX ? "labels" : "logits", OUTPUT[o->output],
             o->output == EXPORT_ARGMAX ? "int64" : "float32");
    str_addf(
        s,
        "  \"resize\": {\"image\": %s, \"logits\": \"bilinear, corners aligned\", \"in_graph\": %s},\n",
        o->h ? "\"bilinear, half-pixel centres, to the size of the input\""
             : "\"none: any size goes in\"",
        o->output == EXPORT_LOGITS ? "false" : "true");
    (void)m;
}
static void add_array(Str *s, const char *key, const char *dtype, const Shape *shape, int every,
                      const void *data, size_t bytes) {
    str_addf(s, "    \"%s\": {\"dtype\": \"%s\", \"shape\": ", key, dtype);
    add_sides(s, shape->d, NULL, shape->rank);
    if (every > 1) str_addf(s, ", \"every\": %d", every);
    str_add(s, ", \"base64\": \"");
    base64_add(s, data, bytes);
    str_add(s, "\"}");
}
/* One image as bytes, in the input's order, and what the network makes of it. */
static Err add_reference(Str *s, const OpenModel *m, const ExportOptions *o, const Sample *x) {
    Reference network;
    const float *v;
    Shape shape;
    const int64_t pixels = (int64_t)x->h * x->w;
    reference_open(m, o->output, &network);
    Err rc = reference_run(&network, x->rgb, x->h, x->w, &v, &shape);
    if (rc) return reference_close(&network), rc;
    uint8_t *planes = xcalloc((size_t)pixels, 3);
    for (int64_t i = 0; i < 3 * pixels; i++)
        planes[o->bytes ? i : i % 3 * pixels + i / 3] = x->rgb[i];
    str_add(s, "  \"reference\": {\n");
    add_array(s, "input", "uint8",
              &(Shape){4, {1, o->bytes ? x->h : 3, o->bytes ? x->w : x->h, o->bytes ? 3 : x->w}}, 1,
              planes, (size_t)pixels * 3);
    str_add(s, ",\n");
    if (o->output == EXPORT_ARGMAX) {
        predictor_classes(v, shape, x->h, x->w, planes, NULL);
        add_array(s, "output", "uint8", &(Shape){3, {1, x->h, x->w}}, 1, planes, (size_t)pixels);
    } else {
        const int64_t n = shape_count(shape), every = (n + VALUES_MAX - 1) / VALUES_MAX,
                      kept = (n + every - 1) / every;
        float *some = xcalloc((size_t)kept, sizeof *some);
        for (int64_t i = 0; i < kept; i++) some[i] = v[i * every];
        add_array(s, "output", "float32", &shape, (int)every, some, (size_t)kept * sizeof *some);
        free(some);
    }
    str_add(s, "\n  }\n}\n");
    free(planes);
    reference_close(&network);
    return OK;
}
Err export_json(const OpenModel *m, const ExportOptions *o, const ExportNotes *notes,
                Dataset *samples, const char *onnx, const char *path) {
    ExportOptions size = *o;
    Sample x = {0};
    Str s = {0};
    if (!size.h) size.h = REFERENCE_H, size.w = REFERENCE_W;
    TRY(export_sample(samples, 0, &size, &x));
    str_add(&s, "{\n  \"onnx\": ");
    str_json(&s, path_base(onnx));
    str_addf(&s, ",\n  \"opset\": %d,\n  \"precision\": \"%s\",\n", o->opset,
             o->range ? "int8" : "float32");
    for (int i = 0; i < notes->n_own; i++) {
        str_add(&s, "  ");
        str_json(&s, notes->pair[i].key);
        str_add(&s, ": ");
        if (strchr("[{", *notes->pair[i].value)) str_add(&s, notes->pair[i].value);
        else str_json(&s, notes->pair[i].value);
        str_add(&s, ",\n");
    }
    add_interface(&s, m, o);
    Err rc = add_reference(&s, m, o, &x);
    if (!rc) rc = durable_write_all(path, s.s, s.n);
    sample_free(&x);
    str_free(&s);
    return rc;
}
