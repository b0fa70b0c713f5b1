/* finish.c - see finish.h. */
#include "cli/finish.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/maps.h"
#include "cli/open_model.h"
#include "report/report.h"
#include "train/trainer.h"

/* The student: of the run directory when it has weights yet, otherwise absent. */
static Err open_student(const Config *c, int h, int w, OpenModel *out) {
    CliArgs none = {0};
    char *weights;
    *out = (OpenModel){0};
    if (run_weights(c->out, &weights)) {
        log_warn("%s: no weights yet; the maps are without the student", c->out);
        return OK;
    }
    free(weights);
    return open_model("eval", c->out, &none, 0, h, w, out);
}

/* A number among the options of the task loss, or what RDD has by default when it is not RDD. */
static double task_number(const Config *c, const char *name, double otherwise) {
    const Option *o = option_find(c->task.method->options, name);
    return o && o->type == OPT_F64 ? *(const double *)((const char *)c->task.opt + o->offset)
                                   : otherwise;
}

/* A choice among the options of the task loss; its first where there is no such option. */
static int task_choice(const Config *c, const char *name) {
    const Option *o = option_find(c->task.method->options, name);
    return o && o->type == OPT_ENUM ? *(const int *)((const char *)c->task.opt + o->offset) : 0;
}

/* tfe: what the first stage weighs by; without RDD the auxiliary head, where the teacher has one. */
static TseRule rule_of(const Config *c, const OpenModel *teacher) {
    TseRule rule = {task_number(c, "min_kept_fraction", 0.0477), task_number(c, "theta", 0.7),
                    (Ease)task_choice(c, "tfe"), task_choice(c, "tfe_kl") == 1};
    if (!option_find(c->task.method->options, "tfe") && teacher->net && !teacher->nodes.aux.id)
        rule.tfe = EASE_ENTROPY;
    return rule;
}

static Err open_maps(const Config *c, const char *dir, Dataset *d, int images, Maps **out) {
    OpenModel teacher = {0};
    TRY(open_teacher(c, d->n_classes, 65, 65, &teacher));
    Err rc =
        maps_open(dir, d, images, (MapNet){teacher.net, &teacher.nodes}, rule_of(c, &teacher), out);
    open_model_close(&teacher);
    return rc;
}

Err finish_maps(const Config *c, const char *dir, const char *split, int images) {
    Dataset *d = NULL;
    OpenModel student = {0};
    Maps *m = NULL;
    TRY(dataset_open(&c->data, split, &d));
    Err rc = open_student(c, 65, 65, &student);
    if (!rc) rc = open_maps(c, dir, d, images, &m);
    if (!rc) rc = maps_student(m, (MapNet){student.net, &student.nodes});
    maps_close(m);
    open_model_close(&student);
    dataset_close(d);
    return rc;
}

Err finish_run(const Config *c) {
    char *dir = path_join(c->out, "maps");
    Err rc = c->report_images > 0 ? finish_maps(c, dir, c->eval_split, (int)c->report_images) : OK;
    free(dir);
    return rc ? rc : report_write(c->out);
}

/* ---- beside a training ----------------------------------------------------------------------- */
typedef struct Beside {
    const Config *c;
    Err         (*check)(const Config *c);
    Tensorboard  *events;
    Maps         *maps;
    bool          no_events, no_maps, drawn; /* no_*: failed once, so left alone */
} Beside;

static Err follow_events(Beside *b) {
    if (!b->c->report_tensorboard || b->no_events) return OK;
    Err rc = b->events ? tensorboard_follow(b->events) : tensorboard_open(b->c->out, &b->events);
    b->no_events = rc != OK;
    return rc ? err_wrap(rc, "the event file is left incomplete; `retort report` makes it anew")
              : OK;
}

static Err renew_page(const char *run_dir, void *arg) {
    Err rc = report_write(run_dir);
    return rc ? rc : follow_events(arg);
}

static Err draw_maps(const TrainView *v, void *arg) {
    Beside *b = arg;
    const MapNet student = {v->student, v->nodes};
    char *dir = path_join(b->c->out, "maps");
    Err rc = OK;
    if (b->c->report_images > 0 && !b->no_maps) {
        if (!b->maps) rc = open_maps(b->c, dir, v->val, (int)b->c->report_images, &b->maps);
        if (!rc) rc = maps_student(b->maps, student);
        if (!rc) rc = maps_remember(b->maps, v->step, b->c->steps);
        b->no_maps = rc != OK, b->drawn = !rc;
    }
    free(dir);
    return rc;
}

static Err check_first(const Config *c, void *arg) {
    const Beside *b = arg;
    return b->check ? b->check(c) : OK;
}

/* A run that was complete before has its pictures, unless they were not wanted then. */
static Err last_page(Beside *b) {
    char *dir = path_join(b->c->out, "maps"), *classes = path_join(dir, "classes.json");
    Err rc = OK;
    if (!b->drawn && b->c->report_images > 0 && !sys_exists(classes))
        rc = finish_maps(b->c, dir, b->c->eval_split, (int)b->c->report_images);
    free(dir), free(classes);
    return rc ? rc : renew_page(b->c->out, b);
}

Err finish_train(const Config *c, Err (*check)(const Config *c)) {
    Beside b = {.c = c, .check = check};
    Err rc = train_run_with(
        c, &(TrainHooks){
               .report = renew_page, .evaluated = draw_maps, .check = check_first, .arg = &b});
    maps_close(b.maps), b.maps = NULL;           /* its data set is closed */
    if (!rc) {
        if (last_page(&b)) log_warn("report: %s; the run itself is complete", err_text());
        else log_info("%s/report.html", c->out);
    }
    tensorboard_close(b.events);
    return rc;
}
