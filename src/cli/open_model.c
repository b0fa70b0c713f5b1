/* open_model.c - see open_model.h. */
#include "cli/open_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/safetensors.h"

/* ---- words and options --------------------------------------------------------------------------- */
Err cli_args(const char *command, const char *usage, int argc, char **argv, int min, int max, CliArgs *out) {
    *out = (CliArgs){0};
    for (int i = 0; i < argc; i++) out->help |= !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h");
    if (out->help) {
        printf("retort %s\n\n", usage);
        config_help(command);
        return OK;
    }
    out->word = xcalloc((size_t)argc + 1, sizeof *out->word);
    out->opt = xcalloc((size_t)argc + 1, sizeof *out->opt);
    config_split_args(argc, argv, out->word, &out->n_word, out->opt, &out->n_opt);
    if (out->n_word >= min && (max < 0 || out->n_word <= max)) return OK;
    int n = out->n_word;
    cli_args_close(out);
    return err_set(E(EXIT_USAGE, 76), "%s: %d word(s) given; usage: retort %s", command, n, usage);
}

void cli_args_close(CliArgs *a) {
    free(a->word);
    free(a->opt);
    *a = (CliArgs){0};
}

Err cli_size(const char *text, int *h, int *w) {
    if (!text || !*text) return OK;
    char end;
    int a, b, n = sscanf(text, "%dx%d%c", &a, &b, &end);
    if (n == 1 && sscanf(text, "%d%c", &a, &end) == 1) b = a, n = 2;
    if (n != 2 || a < 1 || b < 1 || a > 65535 || b > 65535)
        return err_set(E(EXIT_USAGE, 76), "size=%s: is not HxW of 1 to 65535 each; write for example size=360x480", text);
    *h = a, *w = b;
    return OK;
}

/* ---- which file ---------------------------------------------------------------------------------- */
static char *newest_checkpoint(const char *run_dir) {
    char *dir = path_join(run_dir, "checkpoints"), **names = NULL, *best = NULL;
    int n = 0;
    int64_t best_step = -1;
    if (sys_is_dir(dir) && !sys_list(dir, EXIT_CHECKPOINT, &names, &n)) {
        for (int i = 0; i < n; i++) {
            if (!str_starts(names[i], "step-") || !str_ends(names[i], ".safetensors")) continue;
            int64_t step = strtoll(names[i] + 5, NULL, 10);
            if (step <= best_step) continue;
            best_step = step;
            free(best);
            best = path_join(dir, names[i]);
        }
        sys_free_names(names, n);
    }
    free(dir);
    return best;
}

char *run_weights_file(const char *run_dir) {
    static const char *const names[] = {"best.safetensors", "last.safetensors"};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(run_dir, names[i]);
        if (sys_exists(path)) return path;
        free(path);
    }
    return newest_checkpoint(run_dir);
}

/* config.yaml beside the file, or one folder up for RUN/checkpoints/step-N; NULL: none. */
static char *config_near(const char *file) {
    char *dir = xstrdup(file), *slash, *path = NULL;
    for (int up = 0; up < 2 && !path; up++) {
        slash = strrchr(dir, '/');
        if (slash) *slash = 0;
        path = path_join(slash ? dir : ".", "config.yaml");
        if (!sys_exists(path)) free(path), path = NULL;
        if (!slash) break;
    }
    free(dir);
    return path;
}

/* ---- what the file says about the network -------------------------------------------------------- */
/* The tensor that holds the weights of the convolution at node x, or NULL. */
static const Tensor *tensor_of(const Net *n, Node x, const TensorList *file) {
    const NetNode *node = net_node(n, x);
    return node->n_param ? tensor_find(file, n->params[node->param[0]].name) : NULL;
}

/* Classes and auxiliary head by the classifiers' tensors, found through a small probe of the network. */
static Err options_from_file(const TensorList *file, ModelOptions *o) {
    Net *probe;
    ModelNodes nodes;
    ModelOptions p = *o;
    p.classes = 2, p.aux = true;
    TRY(model_open(&p, 65, 65, &probe, &nodes));
    const Tensor *main_head = tensor_of(probe, nodes.logits, file);
    const Tensor *aux_head = nodes.aux.id ? tensor_of(probe, nodes.aux, file) : NULL;
    if (!o->classes && main_head && main_head->shape.rank == 4 && main_head->shape.d[0] < 65536)
        o->classes = (int)main_head->shape.d[0];
    o->aux = aux_head != NULL;
    net_close(probe);
    return OK;
}

static int classes_of_data(const DataOptions *data) {
    Dataset *d;
    if (!data->kind || !*data->kind || dataset_open(data, "val", &d)) return 0;
    int n = d->n_classes;
    dataset_close(d);
    return n;
}

/* Opens m->net by m->options and fills it; file: read weights from there, else `weights` names them. */
static Err open_net(OpenModel *m, const char *file, const char *weights, int h, int w) {
    SafeFile f = {0};
    Err rc = OK;
    if (file && (rc = st_read(file, EXIT_MODEL, &f))) return rc;
    if (file) rc = options_from_file(f.tensors, &m->options);
    if (!rc && !m->options.classes) m->options.classes = classes_of_data(&m->config->data);
    if (!rc && !m->options.classes) m->options.classes = 19;         /* the published variants */
    if (!rc) rc = model_open(&m->options, h, w, &m->net, &m->nodes);
    if (!rc) {
        rc = file ? model_load_tensors(m->net, f.tensors, file, false)
                  : model_load_weights(m->net, weights, (uint64_t)m->config->seed);
        if (rc) net_close(m->net), m->net = NULL;
    }
    if (!rc) m->source = xstrdup(file ? file : weights);
    if (file) st_close(&f);
    return rc;
}

static bool is_file_name(const char *weights) {
    return weights && *weights && strcmp(weights, "none") && !str_starts(weights, "formula:");
}

/* The weights of a bare NAME: weights=, which may name a file or a run directory. */
static Err named_weights(const char *name, const char *weights, unsigned flags, char **file) {
    if (is_file_name(weights)) {
        *file = sys_is_dir(weights) ? run_weights_file(weights) : xstrdup(weights);
        return *file ? OK : err_set(E(EXIT_MODEL, 61), "%s: no checkpoint in this run directory; train it first", weights);
    }
    if ((!weights || !*weights) && !(flags & OPEN_NO_WEIGHTS))
        return err_set(E(EXIT_USAGE, 76), "%s: a network without weights; add weights=FILE or weights=formula:SEED", name);
    return OK;
}

static Err open_named(OpenModel *m, const char *name, unsigned flags, int h, int w) {
    const char *weights = m->config->weights;
    char *file = NULL;
    m->options.model = name;
    TRY(named_weights(name, weights, flags, &file));
    Err rc = open_net(m, file, weights && *weights ? weights : "none", h, w);
    free(file);
    return rc;
}

static Err open_run(OpenModel *m, const char *dir, int h, int w) {
    char *file = run_weights_file(dir);
    if (!file) return err_set(E(EXIT_MODEL, 61), "%s: no checkpoint in this run directory yet; wait for the first one", dir);
    Err rc = open_net(m, file, NULL, h, w);
    free(file);
    return rc;
}

static Err unknown_model(const char *what) {
    const char *names[64];
    int n = model_names(names, 64);
    const char *near = str_nearest(what, names, n);
    return err_set(E(EXIT_USAGE, 76), "%s: no run directory, file or network of this name%s%s; see retort info", what,
                   near ? "; did you mean " : "", near ? near : "");
}

Err open_model(const char *command, const char *what, const CliArgs *args, unsigned flags, int h, int w, OpenModel *out) {
    *out = (OpenModel){0};
    bool dir = sys_is_dir(what), file = !dir && sys_exists(what);
    if (!dir && !file && !model_find(what)) return unknown_model(what);
    char *config = dir ? path_join(what, "config.yaml") : file ? config_near(what) : NULL;
    Err rc = OK;
    if (dir && !sys_exists(config)) rc = err_set(E(EXIT_USAGE, 76), "%s: holds no config.yaml, so it is no run directory; name a file or a network", what);
    if (!rc) rc = config_read(command, config, args->opt, args->n_opt, &out->config);
    free(config);
    if (rc) return rc;
    out->options = out->config->student;
    if (flags & OPEN_RAW) out->options.norm = "none";
    if (dir) rc = open_run(out, what, h, w);
    else if (!file) rc = open_named(out, what, flags, h, w);
    else if (!out->options.model || !*out->options.model)
        rc = err_set(E(EXIT_USAGE, 76), "%s: the file does not say which network it is; add model=NAME", what);
    else rc = open_net(out, what, NULL, h, w);
    if (rc) open_model_close(out);
    return rc;
}

Err open_teacher(const Config *c, int classes, int h, int w, OpenModel *out) {
    *out = (OpenModel){0};
    const char *name = c->teacher.model;
    if (!name || !*name || !strcmp(name, "none")) return OK;
    CliArgs none = {0};
    if (!model_find(name)) return open_model("eval", name, &none, 0, h, w, out);     /* a run or a checkpoint */
    TRY(config_read("eval", NULL, NULL, 0, &out->config));
    out->options = c->teacher;
    if (!out->options.classes) out->options.classes = classes;
    Err rc = open_net(out, is_file_name(c->teacher_weights) ? c->teacher_weights : NULL, c->teacher_weights, h, w);
    if (rc) open_model_close(out);
    return rc;
}

void open_model_close(OpenModel *m) {
    if (m->net) net_close(m->net);
    if (m->config) config_close(m->config);
    free(m->source);
    *m = (OpenModel){0};
}
