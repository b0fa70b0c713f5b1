/* metrics.c - lines of metrics.jsonl, and run.status.json. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer_priv.h"

static void add_f64(Str *s, const char *key, double v) {
    str_addf(s, ", \"%s\": ", key);
    str_json_number(s, v);
}

static void add_loss(Str *s, const Config *c, const StepResult *r) {
    str_add(s, "\"loss\": {\"total\": ");
    str_json_number(s, r->total);
    add_f64(s, "task", r->task);
    if (!isnan(r->aux)) add_f64(s, "aux", r->aux);
    for (int i = 0; i < c->n_losses; i++) add_f64(s, c->losses[i].label, r->terms[i]);
    str_add(s, "}");
}

char *metrics_train_line(const Config *c, int64_t step, double epoch, double lr,
                         const StepResult *r, const float stage[2], double images_per_s,
                         double stall, const Dataset *d) {
    char now[32];
    Str s = {0};
    str_addf(&s, "{\"step\": %" PRId64, step);
    add_f64(&s, "epoch", epoch);
    add_f64(&s, "lr", lr);
    str_add(&s, ", ");
    add_loss(&s, c, r);
    add_f64(&s, "grad_norm", r->grad_norm);
    add_f64(&s, "images_per_s", images_per_s);
    add_f64(&s, "stall", stall);
    if (r->staged) str_addf(&s, ", \"stage\": \"%s\"", stage[0] >= stage[1] ? "tfe" : "tse");
    if (!isnan(r->kept_main)) {
        str_add(&s, ", \"kept\": {\"main\": ");
        str_json_number(&s, r->kept_main);
        if (!isnan(r->kept_aux)) add_f64(&s, "aux", r->kept_aux);
        str_add(&s, "}");
    }
    for (int k = 0; k < r->n_kept && k < d->n_classes; k++) {
        str_add(&s, k ? ", " : ", \"kept_class\": {");
        str_json(&s, d->class_names[k]);
        str_add(&s, ": ");
        str_json_number(&s, r->kept_class[k]);
    }
    if (r->n_kept) str_add(&s, "}");
    sys_wall_time(now);
    str_addf(&s, ", \"time\": \"%s\"}", now);
    return s.s;
}

char *metrics_conflict_line(const Config *c, int64_t step, const Conflict *x) {
    char now[32];
    Str s = {0};
    str_addf(&s, "{\"step\": %" PRId64 ", \"gradients\": {\"norm\": {\"task\": ", step);
    str_json_number(&s, x->norm[0]);
    for (int i = 0; i < c->n_losses; i++) add_f64(&s, c->losses[i].label, x->norm[1 + i]);
    str_add(&s, "}, \"cosine\": {");
    for (int i = 0; i < c->n_losses; i++) {
        str_addf(&s, "%s\"%s\": ", i ? ", " : "", c->losses[i].label);
        str_json_number(&s, x->cosine[1 + i]);
    }
    str_add(&s, "}");
    add_f64(&s, "seconds", x->seconds);
    sys_wall_time(now);
    str_addf(&s, "}, \"time\": \"%s\"}", now);
    return s.s;
}

static void add_scores(Str *s, const Dataset *d, const Confusion *m) {
    Scores sc;
    confusion_scores(m, &sc);
    str_add(s, "{\"miou\": ");
    str_json_number(s, sc.miou);
    add_f64(s, "miou_present", sc.miou_present);
    add_f64(s, "pixel_accuracy", sc.pixel_accuracy);
    add_f64(s, "mean_accuracy", sc.mean_accuracy);
    str_addf(s, ", \"images\": %" PRId64 ", \"classes\": ", m->images);
    scores_json_classes(s, &sc, d);
    str_add(s, ", \"confusion\": ");
    confusion_json(s, m);
    scores_free(&sc);
}

char *metrics_eval_line(int64_t step, const Dataset *d, const Confusion *m, const Confusion *ema,
                        double seconds) {
    char now[32];
    Str s = {0};
    str_addf(&s, "{\"step\": %" PRId64 ", \"eval\": ", step);
    add_scores(&s, d, m);
    if (ema) {
        str_add(&s, ", \"ema\": ");
        add_scores(&s, d, ema);
        str_add(&s, "}");
    }
    add_f64(&s, "seconds", seconds);
    sys_wall_time(now);
    str_addf(&s, "}, \"time\": \"%s\"}", now);
    return s.s;
}

Err status_write(const Config *c, const RunStatus *r) {
    char now[32];
    Str s = {0};
    sys_wall_time(now);
    str_addf(&s,
             "{\"state\": \"%s\", \"step\": %" PRId64 ", \"steps\": %" PRId64 ", \"exit_code\": %d",
             r->state, r->step, r->steps, r->exit_code);
    if (r->last) {
        str_add(&s, ", ");
        add_loss(&s, c, r->last);
    }
    add_f64(&s, "eta_s", r->eta_s);
    str_add(&s, ", \"eval\": {\"step\": ");
    str_json_number(&s, r->eval_step < 0 ? NAN : (double)r->eval_step);
    add_f64(&s, "miou", r->miou);
    add_f64(&s, "best", r->best);
    str_addf(&s, "}, \"pid\": %d, \"host\": ", sys_pid());
    str_json(&s, sys_hostname());
    str_addf(&s, ", \"log\": \"%s\", \"time\": \"%s\"}\n",
             r->log_incomplete ? "incomplete" : "complete", now);
    char *path = path_join(c->out, "run.status.json");
    Err rc = durable_write_all(path, s.s, s.n);
    free(path);
    str_free(&s);
    return rc;
}
