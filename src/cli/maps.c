/* maps.c - pictures of what RDD sees: both networks on whole images, through report/maps.c. */
#include "cli/maps.h"

#include <math.h>
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
    MapNet net;
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
    v->net = m;
    v->main = grid_of(v->plan, n->logits);
    if (n->aux.id) v->aux = grid_of(v->plan, n->aux);
    return OK;
}

/* The teacher's logits of the mirrored image, mirrored back; caller frees. Overwrites what the plan gave before. */
static Err view_mirrored(MapNet m, const Sample *s, NetView *v, float **out) {
    Sample turned = *s;
    turned.rgb = xcalloc((size_t)s->h * (size_t)s->w, 3);
    for (int64_t i = 0; i < (int64_t)s->h * s->w; i++)
        memcpy(turned.rgb + 3 * i, s->rgb + 3 * (i - i % s->w + s->w - 1 - i % s->w), 3);
    Err rc = view_run(m, &turned, v);
    free(turned.rgb);
    if (rc) return rc;
    const Grid g = v->main;
    const int64_t n = (int64_t)g.k * g.h * g.w;
    *out = xcalloc((size_t)n, sizeof **out);
    for (int64_t i = 0; i < n; i++) (*out)[i] = g.logits[i - i % g.w + g.w - 1 - i % g.w];
    return OK;
}

/* ---- a set of images ------------------------------------------------------------------------- */
typedef struct MapImage {
    float *logits;                  /* the teacher's, on its grid; NULL: no teacher */
    Grid   teacher;
} MapImage;
struct Maps {
    char    *dir;
    Dataset *d;                     /* borrowed */
    int      n;
    TseRule  rule;
    MapImage *image;                /* [n] */
};

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

/* The first stage's weight; g: the teacher's logits, kept. */
static Err picture_weight(const PictureOut *p, const Sample *s, Grid g, NetView *teacher,
                          TseRule rule) {
    const int64_t pixels = (int64_t)s->h * s->w;
    float *mirrored = NULL, *weight;
    Grid other = {0};
    if (rule.tfe == EASE_FLIP) TRY(view_mirrored(teacher->net, s, teacher, &mirrored));
    if (rule.tfe == EASE_FLIP) other = (Grid){g.k, g.h, g.w, mirrored};
    if (rule.tfe == EASE_AUX) other = teacher->aux;
    if (rule.tfe != EASE_ENTROPY && !other.logits) return OK;
    weight = xcalloc((size_t)pixels, sizeof *weight);
    map_tfe(weight, g, other, rule.turned, s->h, s->w);
    overlay_heat(p->rgb, weight, 0, 1, pixels);
    free(weight), free(mirrored);
    return picture_write(p, "tfe");
}

/* What does not change while a student learns; keeps of the teacher what its masks need. */
static Err still_of_image(MapImage *m, const PictureOut *p, const Dataset *d, const Sample *s,
                          NetView *teacher, TseRule rule) {
    const int64_t pixels = (int64_t)s->h * s->w;
    memcpy(p->rgb, s->rgb, (size_t)(3 * pixels));
    TRY(picture_write(p, "image"));
    TRY(picture_labels(p, "label", s->label, d));
    if (!teacher->plan) return OK;
    const Grid *g = &teacher->main;
    const size_t n = (size_t)g->k * (size_t)g->h * (size_t)g->w;
    float *logits = xcalloc(n, sizeof *logits);
    uint8_t *label = xcalloc((size_t)pixels, 1);
    memcpy(logits, g->logits, n * sizeof *logits);
    m->logits = logits, m->teacher = (Grid){g->k, g->h, g->w, logits};
    map_classes(label, *g, s->h, s->w);
    Err rc = picture_labels(p, "teacher", label, d);
    free(label);
    return rc ? rc : picture_weight(p, s, m->teacher, teacher, rule);
}

static Err moving_of_image(const MapImage *m, const PictureOut *p, const Dataset *d,
                           const Sample *s, const NetView *student, TseRule rule) {
    if (!student->plan) return OK;
    uint8_t *part = xcalloc((size_t)s->h * (size_t)s->w, 1);
    map_classes(part, student->main, s->h, s->w);
    Err rc = picture_labels(p, "student", part, d);
    if (!rc && m->teacher.logits && m->teacher.k == student->main.k) {
        map_tse(part, student->main, m->teacher, s->label, s->h, s->w, rule.fraction, rule.theta);
        overlay_parts(p->rgb, part, (int64_t)s->h * s->w);
        rc = picture_write(p, "tse");
    }
    free(part);
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

/* Spread over the split: neighbours look alike. */
static int image_at(const Maps *m, int i) { return (int)((int64_t)i * m->d->n / m->n); }

/* Both kinds of pictures of image i; m keeps what the next time needs. */
static Err image_pictures(Maps *m, int i, bool still, MapNet net, NetView *view) {
    const int at = image_at(m, i);
    Sample s = {0};
    TRY(dataset_read(m->d, at, &s));
    char *name = picture_name(m->d->names[at]);
    PictureOut p = {m->dir, name, s.h, s.w, xcalloc((size_t)s.h * (size_t)s.w, 3)};
    Err rc = view_run(net, &s, view);
    if (!rc) rc = still ? still_of_image(&m->image[i], &p, m->d, &s, view, m->rule)
                        : moving_of_image(&m->image[i], &p, m->d, &s, view, m->rule);
    free(name);
    free(p.rgb);
    sample_free(&s);
    return rc;
}

static Err all_pictures(Maps *m, bool still, MapNet net) {
    NetView view = {0};
    Progress progress = progress_start("images", m->n, "drawing maps");
    Err rc = sys_mkdirs(m->dir);
    for (int i = 0; i < m->n && !rc; i++) {
        rc = image_pictures(m, i, still, net, &view);
        progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    plan_close(view.plan);
    return rc;
}

Err maps_open(const char *dir, Dataset *d, int n, MapNet teacher, TseRule rule, Maps **out) {
    Maps *m = xcalloc(1, sizeof *m);
    *m = (Maps){.dir = xstrdup(dir), .d = d, .n = n < d->n ? n : d->n, .rule = rule};
    m->image = xcalloc((size_t)m->n + 1, sizeof *m->image);
    Err rc = all_pictures(m, true, teacher);
    if (!rc) rc = classes_write(dir, d);
    if (rc) maps_close(m);
    else *out = m;
    return rc;
}

void maps_close(Maps *m) {
    if (!m) return;
    for (int i = 0; i < m->n; i++) free(m->image[i].logits);
    free(m->image);
    free(m->dir);
    free(m);
}

Err maps_student(Maps *m, MapNet student) { return all_pictures(m, false, student); }

/* Of about HISTORY evaluations, spread over the run, pictures are kept; which ones depends on nothing
 * but the steps, so that a resumed run keeps the same. */
static bool history_due(const char *dir, int64_t step, int64_t steps) {
    enum { HISTORY = 8 };
    char **names;
    int n;
    int64_t last = -1, at;
    if (!sys_is_dir(dir) || sys_list(dir, EXIT_OUTPUT, &names, &n)) return true;
    for (int i = 0; i < n; i++)
        if (str_starts(names[i], "step-") && parse_i64(names[i] + 5, &at) && at < step && at > last)
            last = at;
    sys_free_names(names, n);
    return last < 0 || step == steps ||
           (double)step * HISTORY / (double)steps >=
               floor((double)last * HISTORY / (double)steps) + 1;
}

enum { PICTURE_BYTES_MAX = 1 << 28 };

/* One of the pictures of image i as it is now, if it was made. */
static Err keep_picture(const Maps *m, int i, const char *kind, const char *dir) {
    char *name = picture_name(m->d->names[image_at(m, i)]),
         *from = xprintf("%s/%s.%s.png", m->dir, name, kind),
         *to = xprintf("%s/%s.%s.png", dir, name, kind);
    Bytes b = {0};
    Err rc = sys_exists(from) ? sys_read_file(from, PICTURE_BYTES_MAX, EXIT_OUTPUT, &b) : OK;
    if (!rc && b.data) rc = durable_write_all(to, b.data, b.bytes);
    free(b.data), free(name), free(from), free(to);
    return rc;
}

Err maps_remember(const Maps *m, int64_t step, int64_t steps) {
    enum { IMAGES = 3 };
    if (!history_due(m->dir, step, steps)) return OK;
    char *dir = maps_step_dir(m->dir, step);
    Err rc = sys_mkdirs(dir);
    for (int i = 0; i < m->n && i < IMAGES && !rc; i++) {
        rc = keep_picture(m, i, "student", dir);
        if (!rc) rc = keep_picture(m, i, "tse", dir);
    }
    free(dir);
    return rc;
}
