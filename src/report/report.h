/* report.h - pictures, charts and one self-contained HTML page about a run or a set of runs.
 *
 * The page is made from the run directory alone (config.yaml, metrics.jsonl, run.status.json and the
 * pictures in maps/): a report can be rewritten at any time, also for a run that failed. Every name is
 * escaped, nothing is fetched, pictures are embedded. Its size is bounded: series are thinned to
 * CHART_POINTS_MAX means, pictures to REPORT_PICTURES_MAX. */
#ifndef RETORT_REPORT_H
#define RETORT_REPORT_H
#include "base/mem.h"
#include "base/str.h"

enum { CHART_POINTS_MAX = 240, REPORT_PICTURES_MAX = 12 };

/* charts.c: curves whose colours are the page's (light and dark). Neighbouring series of one name share
 * a colour and a label. */
typedef struct Series { const char *name; int n, cap_x, cap_y; double *x, *y; } Series;  /* x ascending; y NaN: a gap */
typedef struct Chart {
    const char   *title, *unit;      /* unit of y, "" when none */
    const Series *series; int n_series;
    double        mark_x; const char *mark;      /* a vertical line with its text; mark NULL: none */
    bool          from_zero;         /* y starts at 0 */
    bool          log;               /* y is logarithmic when all values are positive and far apart */
} Chart;
void series_add(Series *s, double x, double y);
void series_free(Series *s);
void series_thin(const Series *s, int max, Series *out);     /* means over equal runs of points; caller frees */
void series_envelope(const Series *s, int max, Series *mean, Series *least, Series *most);   /* and their extremes */
void chart_head(Str *out, const char *title, const char *unit);              /* opens a <figure> */
void chart_lines(Str *out, const Chart *c);                  /* one <figure>; says so when there is no point */
/* bars.c. Dots: one row per series: its y as dots over one axis, their mean as a bar. */
void chart_dots(Str *out, const char *title, const char *unit, const Series *s, int n);
typedef struct BarRow { const char *name; const double *value; const uint8_t *rgb; } BarRow;  /* value[n_groups], NaN: absent */
void chart_bars(Str *out, const char *title, const char *const *groups, int n_groups, const BarRow *rows, int n);  /* 0..1 as % */
/* count: n x n pixels, rows labels, columns predictions; and the pairs that are confused most. */
void chart_confusion(Str *out, const char *title, const char *const *names, const double *count, int n);

/* overlays.c: pictures as RGB bytes, H x W x 3; dst is overwritten. */
void overlay_labels(uint8_t *dst, const uint8_t *label, int64_t pixels, const uint8_t (*palette)[3], int n);
void overlay_blend(uint8_t *dst, const uint8_t *rgb, const uint8_t *over, double alpha, int64_t pixels);
void overlay_heat(uint8_t *dst, const float *v, double lo, double hi, int64_t pixels);   /* dark violet .. yellow */
typedef enum { PART_NONE, PART_EASY, PART_STUDENT, PART_TEACHER, PART_BOTH, PART_COUNT } TsePart;   /* hard for whom */
extern const uint8_t overlay_part_rgb[PART_COUNT][3];
void overlay_parts(uint8_t *dst, const uint8_t *part, int64_t pixels);
/* legend.c: the picture with boxes and names of the classes seen to its right; *out: caller frees. names
 * may be NULL. Letters without accents are drawn as capitals, others as '?'. */
void overlay_legend(const uint8_t *rgb, int h, int w, const char *const *names, const uint8_t (*palette)[3],
                    const bool *seen, int n, uint8_t **out, int *out_h, int *out_w);
void base64_add(Str *out, const uint8_t *data, size_t bytes);

/* maps.c: what RDD sees on one image. Logits are K x h x w on the low-resolution grid; label is H x W
 * with ids >= K for void. */
typedef struct Grid { int k, h, w; const float *logits; } Grid;
/* exp(-KL(other || main)), or turned round, on main's grid, upsampled; other.logits NULL: 1 - entropy / log K of main. */
void map_tfe(float *weight, Grid t_main, Grid t_other, bool turned, int H, int W);
/* Parts of the TSE mask by student and teacher logits; k-th smallest over this image alone. */
void map_tse(uint8_t *part, Grid student, Grid teacher, const uint8_t *label, int H, int W, double fraction, double theta);
void map_classes(uint8_t *label, Grid g, int H, int W);                       /* most probable class at full resolution */

/* run_data.c: what a run directory says. */
enum { RUN_SERIES_MAX = 600, RUN_CLASSES_MAX = 256 };
typedef struct RunClass { const char *name; double iou; int64_t pixels; } RunClass;
typedef struct RunColour { const char *name; uint8_t rgb[3]; } RunColour;
typedef struct RunData {
    Arena      *arena;               /* holds all texts */
    const char *dir, *config;        /* config: text of config.yaml, "" when missing */
    const char *state, *time;        /* of run.status.json: running, done, ...; "unknown", "" when missing; "killed":
                                      * it says running, and on this machine nobody is */
    double      step, steps, eta_s, exit_code;   /* NaN when not told */
    Series      series[RUN_SERIES_MAX]; int n_series, next_series;      /* "loss.total", "lr", "kept.main", "eval.miou", ... */
    double      switch_step;         /* first step of stage tse; NaN: none seen */
    double      miou, best_miou, pixel_accuracy;        /* last and best evaluation; NaN: none */
    double      eval_step;                              /* of the last evaluation; NaN: none */
    RunClass   *classes; int n_classes;                 /* of the last evaluation that has them */
    double     *confusion;                              /* n_classes x n_classes pixels, rows labels; NULL: not told */
    const char **pictures; int n_pictures;              /* file names in maps/, sorted */
    RunColour  *colours; int n_colours;                 /* of label maps, from maps/classes.json */
    int         bad_lines;           /* lines of metrics.jsonl that are not JSON */
} RunData;
Err  run_data_open(const char *dir, RunData **out);          /* fails only when dir is no folder */
void run_data_close(RunData *r);
const Series *run_data_series(const RunData *r, const char *name);           /* NULL when absent */

/* html.c */
Err  report_write(const char *run_dir);                      /* run_dir/report.html */

/* tensorboard.c: RUN/events.out.tfevents.*, of all that metrics.jsonl holds, then of what comes. */
typedef struct Tensorboard Tensorboard;
Err  tensorboard_open(const char *run_dir, Tensorboard **out);       /* takes the place of an earlier file */
Err  tensorboard_follow(Tensorboard *t);                     /* lines since the last call */
void tensorboard_close(Tensorboard *t);                      /* NULL is fine */

/* pictures.c: maps/ as it was at a step; caller frees. */
char *maps_step_dir(const char *maps, int64_t step);
#endif
