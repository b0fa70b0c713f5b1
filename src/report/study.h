/* study.h - matched arms, run with the same seeds: what each reached, what their differences are worth,
 * and what was not shown. The caller fills in what it measured; study_compare does the statistics,
 * study_write the page and study.json. */
#ifndef RETORT_REPORT_STUDY_H
#define RETORT_REPORT_STUDY_H
#include "base/stats.h"
#include "report/report.h"

enum { STUDY_ARMS_MAX = 16, STUDY_SEEDS_MAX = 64 };
typedef struct StudyArm {
    const char *name, *note;         /* note: its network, and the options that make it this arm */
    const char *changes;             /* its configuration against the base arm's; "" for that one */
    const char *const *dirs; int n;  /* one run per seed */
    const char *const *failed;       /* [n] what stopped a run; NULL: it did not fail, or (the array) none did */
    const char *shown;               /* the run whose pictures stand for it; NULL: none */
    const double *score;             /* [n] mIoU on Study.split, 0..1; NaN: not known */
    const double *class_iou;         /* [n_classes] there, mean over seeds; NULL: not known */
    Interval images, gain_images;    /* 95 % over units drawn anew, of the mean and the difference; NaN: none */
    /* by the clock; NaN: not known */
    double step_s;                   /* seconds a step, median */
    double then_step;                /* the step it had reached when the fastest arm had ended */
    const double *then;              /* [n] mIoU on Study.val_split at that time */
    /* study_compare */
    Moments  level, gain;            /* of score; of its differences to the base arm's, seed by seed */
    Interval gain_all;               /* as gain.ci, but all arms' intervals cover together (Bonferroni) */
    double   detectable;             /* smallest gain that so many seeds show 4 times in 5 (paired t test, 5 %) */
    Moments  then_level, then_gain;
} StudyArm;
typedef struct Study {
    const char *title, *intro;       /* intro: what was done, in sentences */
    StudyArm   *arm; int n;          /* at most STUDY_ARMS_MAX */
    int         base;                /* the arm others are compared with; those before it (a teacher) only shown */
    int         n_seeds; int64_t steps;
    int         runs, runs_done;
    bool        complete;            /* split has been read; otherwise scores are val_split's last evaluations */
    const char *split, *val_split;   /* split: of score */
    int         n_images, n_units, draws; const char *unit;          /* of the intervals over units */
    const char *const *class_names; int n_classes;
    const char *const *remark; int n_remarks;
    const char *detail;              /* a run shown in detail; NULL: none */
} Study;

void study_compare(Study *s);
/* +1 shown to be ahead of the base arm, -1 behind, 0 not shown: an interval includes 0, or is not known. */
int  study_shown(const StudyArm *a);
void study_verdict(Str *out, const Study *s);                /* one sentence */
void study_table(Str *out, const Study *s);                  /* arms, differences and failed runs, for a terminal */
Err  study_write(const char *dir, const Study *s);           /* DIR/study.html, DIR/study.json */
void study_json(Str *out, const Study *s);                   /* everything a clock decides is under "time" */
#endif
