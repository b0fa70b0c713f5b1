/* config_resolve.c - from the table's raw values to the struct that everybody reads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "train/config_priv.h"

enum { METHODS_MAX = 64 };

static const char *or_null(const char *s) { return s && *s ? s : NULL; }
static const char *or_none(const char *s) { return s && strcmp(s, "none") ? or_null(s) : NULL; }

const TermOption *term_option(const TermSource *t, const char *name) {
    for (int i = t->n - 1; i >= 0; i--)
        if (!strcmp(t->option[i].name, name)) return &t->option[i];
    return NULL;
}

static Err find_method(const char *name, const char *where, bool task, const KdMethod **out) {
    const KdMethod *m = method_find(name);
    if (!m) {
        const char *names[METHODS_MAX];
        int n = 0, all = method_names(names, METHODS_MAX);
        for (int i = 0; i < all; i++)
            if (method_find(names[i])->task == task || (!task && method_find(names[i])->also_term))
                names[n++] = names[i];
        const char *near = str_nearest(name, names, n);
        if (near)
            return err_set(E(2, 76), "%s: unknown loss %s; did you mean %s?", where, name, near);
        return err_set(E(2, 76), "%s: unknown loss %s; see retort train --help", where, name);
    }
    if (task != m->task && !(m->also_term && !task))
        return err_set(E(2, 76), "%s: %s is %s; put it into %s", where, name,
                       m->task ? "a task loss" : "not a task loss",
                       m->task ? "distill.task" : "distill.losses");
    *out = m;
    return OK;
}

/* The nearest is looked for among the method's own options and the rows of the same group. */
static Err unknown_option(const KdMethod *m, const char *prefix, const TermOption *o) {
    const char *names[64];
    int n = 0;
    for (const Option *r = m->options; r && r->name && n < 32; r++) names[n++] = r->name;
    for (int i = 0; i < config_row_count() && n < 63; i++)
        if (str_starts(config_rows[i].name, prefix))
            names[n++] = config_rows[i].name + strlen(prefix);
    names[n++] = "weight";
    const char *near = str_nearest(o->name, names, n);
    if (near)
        return err_set(E(2, 76), "%s: unknown option %s%s; did you mean %s%s?", o->where, prefix,
                       o->name, prefix, near);
    return err_set(E(2, 76), "%s: unknown option %s%s; retort train --help lists those of %s",
                   o->where, prefix, o->name, m->name);
}

/* Defaults, then what was given, in order. */
static Err resolve_term(Config *c, const TermSource *src, const char *prefix, bool task,
                        LossTerm *t) {
    const char *where = src->where ? src->where : "default";
    TRY(find_method(src->name, where, task, &t->method));
    t->weight = t->method->weight;
    t->opt = arena_alloc(c->arena, t->method->option_bytes + 1);
    if (t->method->options) option_defaults(t->method->options, t->opt, c->arena);
    bool weighed = false;
    for (int i = 0; i < src->n; i++) {
        const TermOption *o = &src->option[i];
        if (!strcmp(o->name, "weight")) {
            weighed = true;
            if (!parse_f64(o->value, &t->weight) || !isfinite(t->weight))
                return err_set(E(2, 76), "%s: %sweight=%s is no number", o->where, prefix,
                               o->value);
            continue;
        }
        if (!option_find(t->method->options, o->name)) return unknown_option(t->method, prefix, o);
        TRY(option_set(t->method->options, t->opt, c->arena, prefix, o->name, o->value, o->where));
    }
    if (!weighed && t->method->weight_of) t->weight = t->method->weight_of(t->opt);
    return OK;
}

static Err apply_override(Config *c, const TermOption *o) {
    ConfigOrigin *g = c->origin;
    for (int i = 0; i < c->n_losses; i++) {
        size_t n = strlen(c->losses[i].label);
        if (strncmp(o->name, c->losses[i].label, n) || o->name[n] != '.' ||
            strchr(o->name + n + 1, '.'))
            continue;
        TermSource *t = &g->loss[i];
        if (!t->option)
            t->option = arena_alloc(c->arena, TERM_OVERRIDES_MAX * sizeof *t->option),
            t->cap = TERM_OVERRIDES_MAX;
        if (t->n == t->cap)
            return err_set(E(2, 76), "%s: too many options of %s", o->where, c->losses[i].label);
        t->option[t->n++] = (TermOption){o->name + n + 1, o->value, o->where};
        return OK;
    }
    return err_set(E(2, 76),
                   "%s: distill.losses.%s: distill.losses holds no such term; add it there",
                   o->where, o->name);
}

static Err resolve_terms(Config *c) {
    ConfigOrigin *g = c->origin;
    int row = config_row_find("distill.task.kind");
    g->task.name = g->raw.task_kind, g->task.where = g->where[row];
    TRY(resolve_term(c, &g->task, "distill.task.", true, &c->task));
    snprintf(c->task.label, sizeof c->task.label, "task");
    for (int i = 0; i < c->n_losses; i++) {
        int same = 1;
        for (int j = 0; j < i; j++) same += !strcmp(g->loss[j].name, g->loss[i].name);
        if (same == 1)
            snprintf(c->losses[i].label, sizeof c->losses[i].label, "%.24s", g->loss[i].name);
        else
            snprintf(c->losses[i].label, sizeof c->losses[i].label, "%.24s.%d", g->loss[i].name,
                     same);
    }
    for (int i = 0; i < g->n_override; i++) TRY(apply_override(c, &g->override[i]));
    for (int i = 0; i < c->n_losses; i++) {
        const char *prefix = arena_printf(c->arena, "distill.losses.%s.", c->losses[i].label);
        TRY(resolve_term(c, &g->loss[i], prefix, false, &c->losses[i]));
    }
    c->task_warmup = g->raw.task_warmup;
    c->task_schedule = g->raw.task_schedule;
    c->task_auto = g->raw.task_switch == 1;
    c->switch_window = g->raw.switch_window, c->switch_drop = g->raw.switch_drop;
    const TermOption *compat = term_option(&g->task, "compat");
    c->task_compat = compat && !strcmp(compat->value, "rdd2023");
    return OK;
}

/* auto: a named network has its usual one, a file says what it leaves to be done. */
static const char *resolve_norm(const ModelRaw *r, const char *usual) {
    if (r->norm && *r->norm && strcmp(r->norm, "auto")) return r->norm;
    return model_is_onnx(r->model) ? NULL : usual;
}
static void resolve_model(const ModelRaw *r, const char *usual_norm, ModelOptions *o) {
    *o = (ModelOptions){.model = or_null(r->model),
                        .classes = (int)r->classes,
                        .width = r->width,
                        .output_stride = (int)r->output_stride,
                        .plain_stem = r->stem == 1,
                        .aux = r->aux,
                        .partial = r->partial,
                        .norm = resolve_norm(r, usual_norm),
                        .exact_size = r->input == 0,
                        .output = (ModelOutput)r->output,
                        .tap = {or_null(r->tap[0]), or_null(r->tap[1]), or_null(r->tap[2])},
                        .bn_frozen = r->bn == 1,
                        .dropout_off = !r->dropout};
}

/* teacher.classes: "same", a number, or a list of its classes in the order of the data set's. */
static Err resolve_classes(Config *c) {
    ConfigRaw *r = &c->origin->raw;
    const char *text = r->teacher.class_list,
               *where = c->origin->where[config_row_find("teacher.classes")];
    YNode *list;
    int64_t n;
    if (!or_null(text) || !strcmp(text, "same") || !strcmp(text, "auto")) return OK;
    if (parse_i64(text, &n) && n >= 1 && n <= 256) return c->teacher.classes = (int)n, OK;
    TRY(yaml_parse(text, strlen(text), "teacher.classes", c->arena, &list));
    int *map = arena_alloc(c->arena, (size_t)(list->n + 1) * sizeof *map);
    bool good = list->kind == Y_LIST && list->n >= 1 && list->n <= 256;
    for (int i = 0; good && i < list->n; i++) {
        good = list->item[i]->kind == Y_SCALAR && parse_i64(list->item[i]->text, &n) && n >= 0 &&
               n < 65536;
        map[i] = (int)n;
    }
    if (!good)
        return err_set(
            E(2, 76),
            "%s: teacher.classes=%s is neither same, a number from 1 to 256 nor a list of its classes, as in [0, 2, 1]",
            where ? where : "default", text);
    c->teacher.class_map = map, c->teacher.n_class_map = list->n;
    return OK;
}

static void resolve_data(const ConfigRaw *r, DataOptions *d) {
    *d = (DataOptions){.kind = or_null(r->data.kind),
                       .root = or_null(r->data.root),
                       .images = or_null(r->data.images),
                       .labels = or_null(r->data.labels),
                       .classes = or_null(r->data.classes),
                       .ignore = or_null(r->data.ignore),
                       .split = or_null(r->data.split),
                       .unlabelled = or_none(r->data.unlabelled),
                       .unlabelled_share = r->data.unlabelled_share,
                       .crop_h = (int)r->data.crop[0],
                       .crop_w = (int)r->data.crop[1],
                       .scale_min = r->data.scale[0],
                       .scale_max = r->data.scale[1],
                       .resize = {(int)r->data.resize[0], (int)r->data.resize[1],
                                  (ResizeKernel)r->data.resize_kernel},
                       .crop_share = r->data.crop_share,
                       .rotate = r->data.rotate,
                       .brightness = r->data.jitter[0],
                       .contrast = r->data.jitter[1],
                       .saturation = r->data.jitter[2],
                       .hue = r->data.jitter[3],
                       .blur = r->data.blur,
                       .blur_sigma = {r->data.blur_sigma[0], r->data.blur_sigma[1]},
                       .cutout = r->data.cutout,
                       .cutout_size = r->data.cutout_size,
                       .scale_step = r->data.scale_step,
                       .mirror = r->data.mirror,
                       .workers = (int)r->data.workers,
                       .max_bad = r->data.max_bad,
                       .skip_unpaired = r->data.skip_unpaired,
                       .follow_links = r->data.follow_links,
                       .seed = (uint64_t)r->data.scenes_seed,
                       .scenes_h = (int)r->data.scenes_size[0],
                       .scenes_w = (int)r->data.scenes_size[1],
                       .scenes_train = (int)r->data.scenes_train,
                       .scenes_val = (int)r->data.scenes_val,
                       .scenes_test = (int)r->data.scenes_test};
}

static Err resolve_groups(Config *c) {
    YNode *map;
    ConfigRaw *r = &c->origin->raw;
    const char *where = c->origin->where[config_row_find("train.lr_groups")];
    TRY(yaml_parse(r->lr_groups, strlen(r->lr_groups), "train.lr_groups", c->arena, &map));
    if (map->kind != Y_MAP)
        return err_set(E(2, 76), "%s: train.lr_groups is a map, as in {head: 10}", where);
    if (map->n > LR_GROUPS_MAX)
        return err_set(E(2, 76), "%s: more than %d train.lr_groups", where, LR_GROUPS_MAX);
    for (int i = 0; i < map->n; i++) {
        double f;
        if (map->item[i]->kind != Y_SCALAR || !parse_f64(map->item[i]->text, &f) || !(f >= 0) ||
            !isfinite(f))
            return err_set(E(2, 76),
                           "%s: train.lr_groups: %s must be a factor >= 0, as in {head: 10}", where,
                           map->key[i]);
        c->lr_groups[i].prefix = map->key[i];
        c->lr_groups[i].factor = f;
    }
    c->n_lr_groups = map->n;
    char *flow = yaml_flow(map);                 /* one way to write it, whatever way it was given */
    r->lr_groups = arena_strdup(c->arena, flow);
    free(flow);
    return OK;
}

static Err check_numbers(const Config *c) {
    const ConfigRaw *r = &c->origin->raw;
    const struct { const char *name; double v;
    } finite[] = {{"train.lr", c->lr},
                  {"train.clip", c->clip},
                  {"train.optimizer.weight_decay", c->weight_decay},
                  {"train.schedule.power", c->schedule_power},
                  {"train.optimizer.eps", c->adam_eps},
                  {"distill.task.warmup", c->task_warmup},
                  {"distill.task.switch_window", c->switch_window},
                  {"data.scale", r->data.scale[0] + r->data.scale[1]}};
    for (size_t i = 0; i < sizeof finite / sizeof *finite; i++)
        if (!isfinite(finite[i].v))
            return err_set(E(2, 76), "%s must be a finite number", finite[i].name);
    if (c->momentum >= 1 || c->beta1 >= 1 || c->beta2 >= 1 || c->beta1 < 0 || c->beta2 < 0 ||
        c->ema >= 1)
        return err_set(E(2, 76), "momentum, betas and train.ema must lie in [0, 1)");
    if (r->data.scale[0] < 0 || r->data.scale[1] < r->data.scale[0] || r->data.scale[1] > 16)
        return err_set(E(2, 76), "data.scale must be [from, to] with 0 < from <= to <= 16");
    if (r->data.blur_sigma[0] < 0 || !(r->data.blur_sigma[1] <= 4) ||
        r->data.blur_sigma[1] < r->data.blur_sigma[0])
        return err_set(E(2, 76), "data.blur_sigma must be [from, to] with 0 <= from <= to <= 4");
    static const char *const size_names[] = {"data.crop", "data.scenes.size", "data.resize"};
    const int64_t *sizes[] = {r->data.crop, r->data.scenes_size, r->data.resize};
    for (int i = 0; i < 3; i++)
        if (sizes[i][0] < 0 || sizes[i][1] < 0 || sizes[i][0] > 65535 || sizes[i][1] > 65535 ||
            !sizes[i][0] != !sizes[i][1])
            return err_set(E(2, 76), "%s must be HxW of at most 65535 px a side", size_names[i]);
    int64_t total;
    if (__builtin_mul_overflow(c->steps, c->batch, &total) ||
        __builtin_mul_overflow(total, c->accumulate, &total))
        return err_set(
            E(2, 76), "train.steps x train.batch x train.accumulate is too many images; lower one");
    return OK;
}

static Err check_unlabelled(const Config *c) {
    bool any = false;
    if (!c->data.unlabelled) return OK;
    for (int i = 0; i < c->n_losses; i++) any |= !(c->losses[i].method->taps & KD_LABELS);
    if (!any)
        return err_set(
            E(2, 76),
            "data.unlabelled: no entry of distill.losses works without labels; give distill.losses=[kd], or data.unlabelled=none");
    if (c->batch < 2)
        return err_set(
            E(2, 76),
            "data.unlabelled: a batch holds an image of either kind; give train.batch=2 or more");
    return OK;
}

static void resolve_training(Config *c) {
    const ConfigRaw *r = &c->origin->raw;
    c->steps = r->steps, c->batch = r->batch, c->accumulate = r->accumulate;
    c->tune = r->tune, c->tune_seconds = r->tune_seconds, c->lean = r->memory == 1;
    c->lr_batch = r->lr_batch, c->lr_warmup = r->lr_warmup, c->threads = r->threads;
    c->optimizer = r->optimizer, c->schedule = r->schedule, c->nesterov = r->nesterov;
    c->lr = r->lr, c->momentum = r->momentum, c->weight_decay = r->weight_decay;
    c->beta1 = r->betas[0], c->beta2 = r->betas[1], c->adam_eps = r->adam_eps;
    c->schedule_power = r->schedule_power, c->clip = r->clip, c->ema = r->ema;
    c->checkpoint_every = r->checkpoint_every, c->checkpoint_keep = r->checkpoint_keep;
    c->eval_every = r->eval_every, c->eval_split = r->eval_split, c->eval_images = r->eval_images;
    c->preview = or_null(r->data.preview), c->check.kind = r->check_kind,
    c->check.seconds = r->check_seconds, c->check.floor = r->check_floor;
    c->report_every_s = r->report_every, c->report_images = r->report_images,
    c->report_tensorboard = r->tensorboard, c->metrics_every = r->metrics_every,
    c->gradients_every = r->gradients_every;
}

/* auto is settled here and written so into the run: a resumed run computes as it began. Commands that do
 * not train compute in float32 unless their command line says otherwise. */
static Err resolve_precision(Config *c, unsigned command) {
    enum { AUTO, F32, BF16, INT8 };
    static const Dtype type[] = {[F32] = DT_F32, [BF16] = DT_BF16, [INT8] = DT_I8};
    static const char *const name[] = {"train.precision", "teacher.precision"};
    ConfigRaw *r = &c->origin->raw;
    int *raw[] = {&r->precision, &r->teacher_precision};
    Dtype *out[] = {&c->precision, &c->teacher_precision};
    const bool training = command & (IN_TRAINING | IN_INFO);
    for (int i = 0; i < 2; i++) {
        const char *where = c->origin->where[config_row_find(name[i])];
        if (!training && strcmp(where, "command line")) { *out[i] = DT_F32; continue; }
        if (*raw[i] == AUTO) *raw[i] = i ? r->precision : backend_fast(DT_BF16) ? BF16 : F32;
        *out[i] = type[*raw[i]];
        if (!backend_has(*out[i]))
            return err_set(E(2, 76), "%s: %s=%s: this processor (%s) has no %s; use f32 or auto",
                           where, name[i], *raw[i] == INT8 ? "int8" : "bf16", backend_isa(),
                           *raw[i] == INT8 ? "instructions for products of 8-bit integers (VNNI)"
                                           : "bfloat16");
    }
    return OK;
}

Err config_resolve(Config *c, const char *file, unsigned command) {
    ConfigRaw *r = &c->origin->raw;
    c->seed = r->seed;
    if (!or_null(r->out) && file) {
        char *stem = path_stem(file);
        r->out = arena_printf(c->arena, "runs/%s", stem);
        c->origin->where[config_row_find("out")] = "the name of the file";
        free(stem);
    }
    c->out = or_null(r->out);
    resolve_data(r, &c->data);
    resolve_model(&r->student, "rgb-imagenet", &c->student);
    resolve_model(&r->teacher, "bgr-caffe", &c->teacher);
    c->student.exact_size = false;
    TRY(resolve_classes(c));
    c->teacher.frozen = c->teacher.dropout_off = true;
    c->student_weights = or_null(r->weights) ? r->weights : r->student.weights;
    c->teacher_weights = r->teacher.weights;
    resolve_training(c);
    TRY(resolve_precision(c, command));
    TRY(resolve_terms(c));
    TRY(resolve_groups(c));
    TRY(check_numbers(c));
    if (command & (IN_TRAIN | IN_CHECK | IN_STUDY)) TRY(check_unlabelled(c));
    TRY(config_resolve_eval(c));
    c->weights = or_null(r->weights), c->json = or_null(r->json), c->trace = or_null(r->trace);
    c->split = or_null(r->split), c->mode = or_null(r->mode), c->size = or_null(r->size);
    c->taps = or_null(r->taps), c->loss = or_null(r->loss), c->grads = or_null(r->grads);
    c->plan = r->plan, c->print_config = r->print_config;
    c->deterministic = r->deterministic, c->runs = r->runs, c->images = r->images;
    c->export.output = r->output, c->export.input = r->input, c->export.opset = r->opset;
    c->export.batch = r->export_batch, c->export.calibrate = r->calibrate;
    c->export.check = r->check, c->export.int8 = r->int8, c->export.python = or_null(r->python);
    return OK;
}
