/* open_model.c - see open_model.h. */
#include "cli/open_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/weights.h"
#include "io/yaml.h"
#include "train/trainer.h"

enum { PUBLISHED_CLASSES = 19 };     /* of the published variants, where nothing else tells */

/* ---- what the file says about the network -------------------------------------------------------- */
/* Classes and auxiliary head by the classifiers' tensors. */
static Err options_from_file(const TensorList *file, ModelOptions *o) {
    int classes;
    TRY(model_look_into(o, file, &classes, &o->aux));
    if (!o->classes) o->classes = classes;
    return OK;
}

Dataset *open_some_split(const DataOptions *data) {
    static const char *const splits[] = {"val", "train", "test"};
    DataOptions o = *data;
    Dataset *d;
    o.max_bad = 0;                   /* no samples are wanted */
    for (int i = 0; data->kind && i < 3; i++)
        if (!dataset_open(&o, splits[i], &d)) return d;
    return NULL;
}

void open_palette(const Dataset *d, uint8_t rgb[256][3]) {
    for (int i = 0; i < 256; i++) {
        int c = i, v[3] = {0, 0, 0};
        for (int bit = 7; bit >= 0; bit--, c >>= 3)
            for (int k = 0; k < 3; k++) v[k] |= (c >> k & 1) << bit;
        for (int k = 0; k < 3; k++) rgb[i][k] = (uint8_t)v[k];
    }
    for (int i = 0; d && i < d->n_classes && i < 256; i++) memcpy(rgb[i], d->palette[i], 3);
}

static int classes_of_data(const DataOptions *data) {
    Dataset *d = open_some_split(data);
    int n = d ? d->n_classes : 0;
    dataset_close(d);
    return n;
}

/* Opens m->net by m->options and fills it from weights: a file, "formula:SEED" or "none". */
static Err open_net(OpenModel *m, const Config *c, const char *weights, int h, int w) {
    SafeFile f = {0};
    const bool file = model_is_weights_file(weights), onnx = model_is_onnx(m->options.model);
    if (onnx) m->options.classes = 0;        /* the file's own; its weights too, where no others are given */
    if (file) TRY(weights_read(weights, &f));
    if (file) weights_unwrap(&f);
    Err rc = file && !onnx ? options_from_file(f.tensors, &m->options) : OK;
    if (!rc && !onnx && !m->options.classes) m->options.classes = classes_of_data(&c->data);
    if (!rc && !onnx && !m->options.classes) m->options.classes = PUBLISHED_CLASSES;
    if (!rc) rc = model_open(&m->options, h, w, &m->net, &m->nodes);
    if (!rc)
        rc = file ? model_load_file(m->net, &f, weights, (uint64_t)c->seed,
                                    m->options.partial ? LOAD_PARTIAL : 0)
                  : model_load_weights(m->net, weights, (uint64_t)c->seed, 0);
    if (!rc) m->options.classes = (int)net_shape(m->net, m->nodes.logits).d[1];
    if (!rc) m->source = xstrdup(weights ? weights : onnx ? m->options.model : "none");
    if (file) st_close(&f);
    return rc;
}

/* ---- the three kinds of MODEL ---------------------------------------------------------------------- */
static Err open_named(OpenModel *m, const char *name, unsigned flags, int h, int w) {
    const char *weights = m->config->weights;
    if (!weights && !(flags & OPEN_NO_WEIGHTS))
        return err_set(
            E(EXIT_USAGE, 76),
            "%s: a network without weights; add weights=FILE, weights=RUN or weights=formula:SEED",
            name);
    m->options.model = name;
    TRY(model_source(name, weights, m->config->arena, &m->options, &weights));
    return open_net(m, m->config, weights, h, w);
}

/* A list of names as checkpoints hold it, JSON; anything else is no list. */
static void read_names(OpenModel *m, const char *text) {
    YNode *list;
    Arena *a = m->config->arena;
    char *own = arena_strdup(a, text);
    if (yaml_parse(own, strlen(own), "class_names", a, &list) || list->kind != Y_LIST) return;
    const char **names = arena_alloc(a, (size_t)(list->n + 1) * sizeof *names);
    for (int i = 0; i < list->n; i++)
        names[i] = list->item[i]->kind == Y_SCALAR ? list->item[i]->text : "?";
    m->class_names = names, m->n_class_names = list->n;
}

/* The configuration that a run wrote into its file, with the command's options on top. */
static Err read_config(OpenModel *m, const char *command, const char *file, const CliArgs *args,
                       Config **out) {
    SafeFile meta;
    TRY(weights_read_meta(file, &meta));
    const char *text = st_meta(&meta, "config");
    Err rc = text ? config_read_over(command, text, file, args->opt, args->n_opt, out)
                  : config_read(command, NULL, args->opt, args->n_opt, out);
    const char *names = st_meta(&meta, "class_names");
    if (!rc && names) read_names(m, names);
    st_close(&meta);
    return rc;
}

static Err open_any(OpenModel *m, const char *command, const char *what, const CliArgs *args,
                    unsigned flags, int h, int w) {
    const bool onnx = model_is_onnx(what), name = onnx || model_find(what),
               dir = !name && sys_is_dir(what);
    char *file = NULL;
    if ((!name || onnx) && !sys_exists(what)) return model_unknown(what);
    if (dir) TRY(run_weights(what, &file));
    Err rc = name ? config_read(command, NULL, args->opt, args->n_opt, &m->config)
                  : read_config(m, command, dir ? file : what, args, &m->config);
    if (rc) goto done;
    if (m->config->threads) parallel_set_threads((int)m->config->threads);
    m->options = m->config->student;
    if (flags & OPEN_RAW) m->options.norm = "none";
    if (name) rc = open_named(m, what, onnx ? flags | OPEN_NO_WEIGHTS : flags, h, w);
    else if (!m->options.model)
        rc = err_set(E(EXIT_USAGE, 76),
                     "%s: the file does not say which network it is; add model=NAME", what);
    else rc = open_net(m, m->config, dir ? file : what, h, w);
done:
    free(file);
    return rc;
}

Err open_model(const char *command, const char *what, const CliArgs *args, unsigned flags, int h,
               int w, OpenModel *out) {
    *out = (OpenModel){0};
    Err rc = open_any(out, command, what, args, flags, h, w);
    if (rc) open_model_close(out);
    return rc;
}

Err open_teacher(const Config *c, int classes, int h, int w, OpenModel *out) {
    *out = (OpenModel){.options = c->teacher};
    const char *weights;
    if (!c->teacher.model) return OK;
    TRY(model_source(c->teacher.model, c->teacher_weights, c->arena, &out->options, &weights));
    if (!out->options.classes && !out->options.class_map) out->options.classes = classes;
    out->options.exact_size = false;         /* whole images are looked at */
    Err rc = open_net(out, c, weights, h, w);
    if (rc) open_model_close(out);
    return rc;
}

void open_model_close(OpenModel *m) {
    if (m->net) net_close(m->net);
    if (m->config) config_close(m->config);
    free(m->source);
    *m = (OpenModel){0};
}
