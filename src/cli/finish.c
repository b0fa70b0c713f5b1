/* finish.c - see finish.h. */
#include "cli/finish.h"

#include <stdlib.h>

#include "base/str.h"
#include "base/sys.h"
#include "cli/maps.h"
#include "cli/open_model.h"
#include "report/report.h"

/* The student: of the run directory when it has weights yet, otherwise absent. */
static Err open_student(const Config *c, int h, int w, OpenModel *out) {
    CliArgs none = {0};
    *out = (OpenModel){0};
    char *weights = c->out && *c->out && sys_is_dir(c->out) ? run_weights_file(c->out) : NULL;
    if (!weights) return OK;
    free(weights);
    return open_model("eval", c->out, &none, 0, h, w, out);
}

Err finish_maps(const Config *c, const char *dir, const char *split, int images) {
    Dataset *d = NULL;
    OpenModel student = {0}, teacher = {0};
    TRY(dataset_open(&c->data, split, &d));
    Err rc = open_student(c, 65, 65, &student);
    if (!rc) rc = open_teacher(c, d->n_classes, 65, 65, &teacher);
    if (!rc) rc = maps_write(dir, d, images, (MapNet){student.net, &student.nodes}, (MapNet){teacher.net, &teacher.nodes});
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
