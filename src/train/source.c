/* source.c - what MODEL may be: the name of a network, a run directory, a checkpoint or weight file.
 *
 * Files written by a run carry its resolved configuration in their metadata, so they need no options.
 * Of a run directory: best.safetensors, else last.safetensors, else the newest checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "train/trainer_priv.h"

static char *weights_of_run(const char *dir) {
    static const char *const names[] = {"best.safetensors", "last.safetensors"};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(dir, names[i]);
        if (sys_exists(path)) return path;
        free(path);
    }
    return checkpoint_newest(dir);
}

/* The network that a file's metadata describes; *found = false when it has none. */
static Err describe(const char *path, Arena *a, ModelOptions *o, bool *found) {
    SafeFile f;
    Config *c = NULL;
    *found = false;
    TRY(st_read(path, EXIT_MODEL, &f));
    const char *text = st_meta(&f, "config"), *classes = st_meta(&f, "n_classes");
    Err rc = OK;
    int64_t n = 0;
    if (text && classes && parse_i64(classes, &n) && !(rc = config_read_text(text, path, &c))) {
        bool frozen = o->frozen, off = o->dropout_off;
        *o = c->student;
        o->model = arena_strdup(a, c->student.model ? c->student.model : "");
        o->norm = arena_strdup(a, c->student.norm ? c->student.norm : "");
        o->classes = (int)n;
        o->frozen = frozen, o->dropout_off = off || o->dropout_off;
        config_close(c);
        *found = true;
    }
    st_close(&f);
    return rc;
}

Err model_source(const char *model, const char *weights, Arena *a, ModelOptions *o, const char **out_weights) {
    *out_weights = weights;
    if (weights && sys_is_dir(weights)) {
        char *path = weights_of_run(weights);
        if (!path) return err_set(E(4, 0), "%s: this folder holds no weights (best.safetensors, last.safetensors or checkpoints)", weights);
        *out_weights = arena_strdup(a, path);
        free(path);
    }
    if (!model || model_find(model)) return OK;
    const bool dir = sys_is_dir(model);
    if (!dir && !sys_exists(model)) return OK;           /* an unknown name: model_open knows the near ones */
    char *path = dir ? weights_of_run(model) : xstrdup(model);
    if (!path) return err_set(E(4, 0), "%s: this folder holds no weights (best.safetensors, last.safetensors or checkpoints)", model);
    bool found;
    *out_weights = arena_strdup(a, path);
    Err rc = describe(path, a, o, &found);
    free(path);
    if (!rc && !found)
        rc = err_set(E(4, 0), "%s: the file does not say which network it belongs to; give model=NAME classes=N weights=%s", model, model);
    return rc;
}
