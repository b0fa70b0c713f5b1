/* source.c - what MODEL may be: the name of a network, a run directory, a checkpoint or weight file.
 *
 * Files written by a run carry its resolved configuration in their metadata, so they need no options.
 * Of a run directory: best.safetensors, else last.safetensors, else the newest checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "io/weights.h"
#include "train/trainer_priv.h"

Err run_weights(const char *dir, char **path) {
    static const char *const names[] = {"best.safetensors", "last.safetensors"};
    for (int i = 0; i < 2; i++) {
        *path = path_join(dir, names[i]);
        if (sys_exists(*path)) return OK;
        free(*path);
    }
    *path = checkpoint_newest(dir);
    return *path
               ? OK
               : err_set(
                     E(4, 0),
                     "%s: this folder holds no weights (best.safetensors, last.safetensors or checkpoints); is it a run directory?",
                     dir);
}

Err model_unknown(const char *what) {
    const char *names[64];
    int n = model_names(names, 64);
    const char *near = str_nearest(what, names, n);
    if (near)
        return err_set(E(2, 76),
                       "%s: no network, run directory or file of this name; did you mean %s?", what,
                       near);
    return err_set(E(2, 76), "%s: no network, run directory or file of this name; %s", what,
                   strpbrk(what, "/.") ? "check the path" : "retort info lists the networks");
}

/* The network that a file's metadata describes; *found = false when it has none. */
static Err describe(const char *path, Arena *a, ModelOptions *o, bool *found) {
    SafeFile f;
    Config *c = NULL;
    *found = false;
    TRY(weights_read_meta(path, &f));
    const char *text = st_meta(&f, "config"), *classes = st_meta(&f, "n_classes");
    Err rc = OK;
    int64_t n = 0;
    if (text && classes && parse_i64(classes, &n) && !(rc = config_read_text(text, path, &c))) {
        const ModelOptions own = *o;
        *o = c->student;
        o->model = arena_strdup(a, c->student.model ? c->student.model : "");
        o->norm = c->student.norm ? arena_strdup(a, c->student.norm) : NULL;
        memcpy(o->tap, own.tap, sizeof o->tap);
        o->class_map = own.class_map, o->n_class_map = own.n_class_map,
        o->exact_size = own.exact_size, o->output = own.output;
        o->classes = (int)n;
        o->frozen = own.frozen, o->dropout_off = own.dropout_off || o->dropout_off;
        config_close(c);
        *found = true;
    }
    st_close(&f);
    return rc;
}

Err model_source(const char *model, const char *weights, Arena *a, ModelOptions *o,
                 const char **out_weights) {
    const bool given = model && !model_find(model), dir = given && sys_is_dir(model);
    char *path = NULL;
    bool found = true;
    *out_weights = weights;
    if (given && !dir && sys_exists(model) && model_is_onnx(model)) return OK;       /* its weights are in it */
    if (given && !dir && !sys_exists(model)) return model_unknown(model);
    if (dir || (!given && weights && strcmp(weights, "none") && sys_is_dir(weights)))
        TRY(run_weights(dir ? model : weights, &path));
    if (path || given) *out_weights = arena_strdup(a, path ? path : model);
    Err rc = given ? describe(*out_weights, a, o, &found) : OK;
    free(path);
    if (!rc && !found)
        rc = err_set(
            E(4, 0),
            "%s: the file does not say which network it belongs to; give model=NAME classes=N weights=%s",
            model, model);
    return rc;
}
