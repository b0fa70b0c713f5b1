/* maps.c - pictures of what RDD sees: both networks on whole images, through report/maps.c. */
#include "cli/maps.h"

#include <stdlib.h>
#include <string.h>

#include "backend/plan.h"
#include "base/progress.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/args.h"
#include "io/image.h"
#include "report/report.h"

/* ---- a network on one image ------------------------------------------------------------------ */
typedef struct {
    Plan *plan;
    int h, w;       /* that the plan is for */
    Grid main, aux; /* borrow from the plan */
} NetView;

static Err view_plan(MapNet m, NetView *v, int h, int w) {
    const ModelNodes *n = m.nodes;
    Node inputs[2] = {n->image, n->rects}, outputs[2] = {n->logits, n->aux};
    Shape shapes[2] = {SHAPE(1, h, w, 3), SHAPE(1, 4)};
    PlanSpec spec = {.outputs = outputs,
                     .n_outputs = n->aux.id ? 2 : 1,
                     .inputs = inputs,
                     .input_shapes = shapes,
                     .n_inputs = 2};
    plan_close(v->plan);
    *v = (NetView){0};
    TRY(plan_make(m.net, &spec, &v->plan));
    v->h = h, v->w = w;
    return OK;
}

static Grid grid_of(const Plan *p, Node x) {
    const Shape d = plan_shape(p, x);
    return (Grid){(int)d.d[1], (int)d.d[2], (int)d.d[3], plan_value(p, x)};
}
/* Run the network, where there is one, on the image; plans are kept while the size stays. */
static Err view_run(MapNet m, const Sample *s, NetView *v) {
    if (!m.net) return OK;
    if (v->h != s->h || v->w != s->w) TRY(view_plan(m, v, s->h, s->w));
    const ModelNodes *n = m.nodes;
    int32_t rect[4] = {0, 0, s->w, s->h};
    plan_bind(v->plan, n->image, s->rgb);
    plan_bind(v->plan, n->rects, rect);
    plan_run(v->plan, &(OpRun){0}, false);
    v->main = grid_of(v->plan, n->logits);
    if (n->aux.id) v->aux = grid_of(v->plan, n->aux);
    return OK;
}

/* ---- its pictures ---------------------------------------------------------------------------- */
typedef struct {
    const char *dir, *name;
    int h, w;
    uint8_t *rgb;
} PictureOut;

static Err picture_write(const PictureOut *p, const char *kind) {
    char *file = xprintf("%s/%s.%s.png", p->dir, p->name, kind);
    Err rc = image_write_png_rgb(file, p->rgb, p->h, p->w);
    free(file);
    return rc;
}

static Err picture_labels(const PictureOut *p, const char *kind, const uint8_t *label,
                          const Dataset *d) {
    overlay_labels(p->rgb, label, (int64_t)p->h * p->w, d->palette, d->n_classes);
    return picture_write(p, kind);
}

static Err maps_of_image(const PictureOut *p, const Dataset *d, const Sample *s,
                         const NetView *student, const NetView *teacher, TseRule rule) {
    int64_t pixels = (int64_t)s->h * s->w;
    uint8_t *part = xcalloc((size_t)pixels, 1);
    float *weight = xcalloc((size_t)pixels, sizeof *weight);
    Err rc = OK;
    memcpy(p->rgb, s->rgb, (size_t)(3 * pixels));
    if ((rc = picture_write(p, "image"))) goto done;
    if ((rc = picture_labels(p, "label", s->label, d))) goto done;
    if (student->plan) {
        map_classes(part, student->main, s->h, s->w);
        if ((rc = picture_labels(p, "student", part, d))) goto done;
    }
    if (teacher->plan) {
        map_classes(part, teacher->main, s->h, s->w);
        if ((rc = picture_labels(p, "teacher", part, d))) goto done;
    }
    if (teacher->plan && teacher->aux.logits && teacher->aux.h == teacher->main.h && teacher->aux.w == teacher->main.w) {
        map_tfe(weight, teacher->main, teacher->aux, s->h, s->w);
        overlay_heat(p->rgb, weight, 0, 1, pixels);
        if ((rc = picture_write(p, "tfe"))) goto done;
    }
    if (teacher->plan && student->plan && teacher->main.k == student->main.k) {
        map_tse(part, student->main, teacher->main, s->label, s->h, s->w, rule.fraction,
                rule.theta);
        overlay_parts(p->rgb, part, pixels);
        rc = picture_write(p, "tse");
    }
done:
    free(part);
    free(weight);
    return rc;
}

static char *picture_name(const char *name) {
    char *s = cli_output_name(name);
    for (char *c = s; *c; c++)
        if (*c == '/') *c = '_';
    return s;
}

/* Names and colours of the label maps, for legends: [{"name", "rgb"}]. */
static Err classes_write(const char *dir, const Dataset *d) {
    Str s = {0};
    char *file = path_join(dir, "classes.json");
    for (int k = 0; k < d->n_classes; k++) {
        str_add(&s, k ? ", {\"name\": " : "[{\"name\": ");
        str_json(&s, d->class_names[k]);
        str_addf(&s, ", \"rgb\": [%d, %d, %d]}", d->palette[k][0], d->palette[k][1],
                 d->palette[k][2]);
    }
    str_add(&s, "]\n");
    Err rc = durable_write_all(file, s.s, s.n);
    str_free(&s);
    free(file);
    return rc;
}

Err maps_write(const char *dir, Dataset *d, int n, MapNet student, MapNet teacher, TseRule rule) {
    NetView vs = {0}, vt = {0};
    Err rc = sys_mkdirs(dir);
    if (!rc) rc = classes_write(dir, d);
    if (n > d->n) n = d->n;
    Progress progress = progress_start("images", n, "drawing maps");
    for (int i = 0; i < n && !rc; i++) {
        int at = (int)((int64_t)i * d->n / n); /* spread over the split: neighbours look alike */
        Sample s = {0};
        if ((rc = dataset_read(d, at, &s))) break;
        char *name = picture_name(d->names[at]);
        PictureOut p = {dir, name, s.h, s.w, xcalloc((size_t)s.h * (size_t)s.w, 3)};
        rc = view_run(student, &s, &vs);
        if (!rc) rc = view_run(teacher, &s, &vt);
        if (!rc) rc = maps_of_image(&p, d, &s, &vs, &vt, rule);
        free(name);
        free(p.rgb);
        sample_free(&s);
        progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    plan_close(vs.plan);
    plan_close(vt.plan);
    return rc;
}
