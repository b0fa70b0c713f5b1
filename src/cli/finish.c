/* finish.c - see finish.h. */
#include "cli/finish.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
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

Err finish_maps(const Config *c, const char *dir, const char *split, int images) {
    Dataset *d = NULL;
    OpenModel student = {0}, teacher = {0};
    TRY(dataset_open(&c->data, split, &d));
    Err rc = open_student(c, 65, 65, &student);
    if (!rc) rc = open_teacher(c, d->n_classes, 65, 65, &teacher);
    TseRule rule = {task_number(c, "min_kept_fraction", 0.0477), task_number(c, "theta", 0.7)};
    if (!rc)
        rc = maps_write(dir, d, images, (MapNet){student.net, &student.nodes},
                        (MapNet){teacher.net, &teacher.nodes}, rule);
    open_model_close(&student);
    open_model_close(&teacher);
    dataset_close(d);
    return rc;
}

Err finish_run(const Config *c) {
    char *dir = path_join(c->out, "maps");
    Err rc = c->report_images > 0 ? finish_maps(c, dir, c->eval_split, (int)c->report_images) : OK;
    free(dir);
    return rc ? rc : report_write(c->out);
}
