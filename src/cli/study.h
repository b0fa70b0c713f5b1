/* study.h - matched arms times seeds under one schedule, as `retort study` and `retort demo` run them.
 *
 * OUT/ARM/seed-N is an ordinary run directory. Runs go seed by seed, so that whatever is done when a
 * study is cut short is balanced. Killed at any point, the same study goes on, and ends with the same
 * report. While it runs only eval.split is looked at; the split of the verdict is read once, at the end,
 * with the last weights of every run. */
#ifndef RETORT_CLI_STUDY_H
#define RETORT_CLI_STUDY_H
#include "report/study.h"
#include "train/config.h"

typedef struct StudySpec {
    const char *command;             /* "study": for messages */
    const char *out, *file;          /* file: the configuration all arms share; NULL: none */
    const char *title, *intro;       /* intro NULL: written from the configuration */
    struct { const char *name; ArgList args; } arm[STUDY_ARMS_MAX];
    int         n, base;             /* arms; the one others are compared with */
    bool        has_teacher;         /* a run OUT/teacher comes first; teacher.model=study is its last weights */
    ArgList     teacher, common;     /* its options; those of all runs */
    int64_t     seeds;
    double      time_s;              /* > 0: train.steps is chosen so that all of it takes about that long */
    const char *split, *group;       /* group: "auto", "none", or a regular expression over image names */
} StudySpec;
Err study_run(const StudySpec *spec);
#endif
