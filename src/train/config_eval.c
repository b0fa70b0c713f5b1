/* config_eval.c - the options that say how images are looked at and scored. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/config_priv.h"

static const char *where_of(const Config *c, const char *name) {
    const char *where = c->origin->where[config_row_find(name)];
    return where ? where : "default";
}

static Err resolve_scales(Config *c) {
    YNode *list;
    const char *text = c->origin->raw.infer.scales;
    TRY(yaml_parse(text, strlen(text), "eval.scales", c->arena, &list));
    YNode *one[] = {list}, **item = list->kind == Y_SCALAR ? one : list->item;
    const int n = list->kind == Y_SCALAR ? 1 : list->n;
    bool good = list->kind != Y_MAP && n >= 1 && n <= SCALES_MAX;
    for (int i = 0; good && i < n; i++) {
        double v;
        good = item[i]->kind == Y_SCALAR && parse_f64(item[i]->text, &v) && v >= 0.05 && v <= 8;
        c->infer.scale[i] = good ? v : 0;
    }
    if (!good)
        return err_set(
            E(2, 76),
            "%s: eval.scales=%s is no list of 1 to %d numbers from 0.05 to 8, as in [0.75, 1, 1.25]",
            where_of(c, "eval.scales"), text, SCALES_MAX);
    c->infer.n_scales = n == 1 && c->infer.scale[0] == 1 ? 0 : n;
    return OK;
}

static Err resolve_infer(Config *c) {
    const ConfigRaw *r = &c->origin->raw;
    const bool crop = !r->infer.window[0] && r->data.crop[0] > 0;
    c->infer = (InferOptions){.mode = (InferMode)r->infer.mode,
                              .window_h = crop ? (int)r->data.crop[0] : r->infer.window[0],
                              .window_w = crop ? (int)r->data.crop[1] : r->infer.window[1],
                              .stride_h = r->infer.stride[0],
                              .stride_w = r->infer.stride[1],
                              .resize = c->data.resize,
                              .mirror = r->infer.mirror,
                              .average = (InferAverage)r->infer.average,
                              .blend = (InferBlend)r->infer.blend};
    const int wh = c->infer.window_h ? c->infer.window_h : WINDOW_PX,
              ww = c->infer.window_w ? c->infer.window_w : WINDOW_PX;
    if (c->infer.stride_h > wh || c->infer.stride_w > ww)
        return err_set(
            E(2, 76),
            "%s: eval.stride=%dx%d is larger than a window of %dx%d, parts would not be seen; give eval.window=%dx%d",
            where_of(c, "eval.stride"), c->infer.stride_h, c->infer.stride_w, wh, ww,
            c->infer.stride_h > wh ? c->infer.stride_h : wh,
            c->infer.stride_w > ww ? c->infer.stride_w : ww);
    return resolve_scales(c);
}

static Err unknown(const Config *c, const char *option, const char *word, const char *const *names,
                   int n) {
    Str list = {0};
    for (int i = 0; i < n; i++) str_addf(&list, i ? ", %s" : "%s", names[i]);
    Err rc = err_set(E(2, 76), "%s: %s: there is no %s; choose of %s", where_of(c, option), option,
                     word, list.s);
    str_free(&list);
    return rc;
}

static void metric_add(Config *c, const MetricDef *m) {
    for (int k = 0; k < c->eval_out.n_metrics; k++)
        if (c->eval_out.metric[k] == m) return;
    c->eval_out.metric[c->eval_out.n_metrics++] = m;
}

/* all: those that need no further files. */
static Err resolve_metrics(Config *c) {
    YNode *list;
    const char *text = c->origin->raw.eval_out.metrics, *names[METRICS_MAX];
    int n = 0;
    for (; metric_at(n); n++) names[n] = metric_at(n)->name;
    TRY(yaml_parse(text, strlen(text), "metrics", c->arena, &list));
    if (list->kind == Y_MAP && !list->n) return OK;
    YNode *one[] = {list}, **item = list->kind == Y_SCALAR ? one : list->item;
    const int count = list->kind == Y_SCALAR ? 1 : list->n;
    if (list->kind == Y_MAP)
        return err_set(E(2, 76), "%s: metrics=%s is no list, as in [boundary, calibration]",
                       where_of(c, "metrics"), text);
    for (int i = 0; i < count; i++) {
        const char *word = item[i]->text ? item[i]->text : "list";
        const MetricDef *m = metric_find(word);
        const bool all = !strcmp(word, "all");
        if (!m && !all) return unknown(c, "metrics", word, names, n);
        if (m) metric_add(c, m);
        for (int k = 0; k < n && all; k++)
            if (!metric_at(k)->instances) metric_add(c, metric_at(k));
    }
    return OK;
}

static Err resolve_write(Config *c) {
    static const char *const names[PREDICT_OUTPUTS] = {"label", "ids", "probs", "overlay"};
    YNode *list;
    const char *text = c->origin->raw.predict.write;
    TRY(yaml_parse(text, strlen(text), "write", c->arena, &list));
    YNode *one[] = {list}, **item = list->kind == Y_SCALAR ? one : list->item;
    for (int i = 0; i < (list->kind == Y_SCALAR ? 1 : list->n); i++) {
        const char *word = item[i]->kind == Y_SCALAR ? item[i]->text : "list";
        int k = 0;
        while (k < PREDICT_OUTPUTS && strcmp(names[k], word)) k++;
        if (k == PREDICT_OUTPUTS) return unknown(c, "write", word, names, PREDICT_OUTPUTS);
        c->predict.write |= 1u << k;
    }
    if (c->origin->raw.probs) c->predict.write |= PREDICT_PROBS;
    c->predict.legend = c->origin->raw.predict.legend;
    return c->predict.write
               ? OK
               : err_set(
                     E(2, 76),
                     "%s: write=%s: nothing would be written; choose of label, overlay, ids, probs",
                     where_of(c, "write"), text);
}

static Err resolve_protocol(Config *c) {
    const char *name = c->origin->raw.eval_out.protocol, *names[NUMBERS_MAX];
    int n = 0;
    for (; protocol_at(n); n++) names[n] = protocol_at(n)->name;
    if (!strcmp(name, "auto")) return OK;
    c->eval_out.protocol = protocol_find(name);
    return c->eval_out.protocol ? OK : unknown(c, "protocol", name, names, n);
}

Err config_resolve_eval(Config *c) {
    const ConfigRaw *r = &c->origin->raw;
    TRY(resolve_infer(c));
    TRY(resolve_metrics(c));
    TRY(resolve_protocol(c));
    TRY(resolve_write(c));
    c->eval_out.csv = *r->eval_out.csv ? r->eval_out.csv : NULL;
    c->eval_out.html = *r->eval_out.html ? r->eval_out.html : NULL;
    c->eval_out.worst = (int)r->eval_out.worst;
    return OK;
}
