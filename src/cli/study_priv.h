/* study_priv.h - what the files of a study share. */
#ifndef RETORT_CLI_STUDY_PRIV_H
#define RETORT_CLI_STUDY_PRIV_H
#include "base/sys.h"
#include "cli/study.h"
#include "data/data.h"

typedef struct StudyArmJob {
    const char *name, *note, *changes;
    const char *dir[STUDY_SEEDS_MAX];
    const char *failed[STUDY_SEEDS_MAX];     /* what stopped the run, with its code; NULL: it did not fail */
    bool        checked;
    int         seeds;               /* 1 of the teacher */
    Config     *config;              /* of its first seed */
} StudyArmJob;
/* OUT/study.state.json: what a resumed study must not decide again. */
typedef struct StudyState {
    double  time_s; int64_t steps;   /* time_s 0: steps come from the configuration */
    int     reads[16], n_reads;      /* how many runs there were, each time the split was read */
    int     drawn;                   /* arms whose pictures are complete */
} StudyState;
typedef struct StudyJob {
    const StudySpec *spec;
    Arena      *arena;
    StudyArmJob arm[STUDY_ARMS_MAX];
    int         n, base;             /* with the teacher's run as arm 0, where there is one */
    StudyState  state;
    int         n_failed; Err first_failure; const char *first_failed;       /* "RUN: what stopped it" */
    DirLock    *lock;
    Appender   *log;
} StudyJob;

/* study_plan.c */
Err study_read(StudyJob *j);                         /* arms, folders and configurations; touches nothing */
void study_print(const StudyJob *j);                 /* them, for people */
Err study_plan(StudyJob *j);                         /* state, number of steps */
Err study_config(const StudyJob *j, int arm, int seed, Config **out);    /* of one run; seed from 1 */
Err study_state_write(const StudyJob *j);
/* study_speed.c: how many steps the time allows. */
Err study_choose_steps(StudyJob *j, int64_t *steps);
/* study_result.c */
const char *study_shown_run(const StudyArmJob *a);   /* the first that did not fail; NULL: none */
bool study_run_done(const char *dir, const Config *c);
Err study_read_split(StudyJob *j);                   /* counts of every run that lacks them */
Err study_report(StudyJob *j, bool complete);        /* OUT/study.html, OUT/study.json */
Err study_units(Arena *a, const Dataset *d, const char *group, int *unit_of, int *n, const char **what);
#endif
