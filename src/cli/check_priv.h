/* check_priv.h - what the parts of the check share. */
#ifndef RETORT_CLI_CHECK_PRIV_H
#define RETORT_CLI_CHECK_PRIV_H
#include "base/str.h"
#include "base/sys.h"
#include "cli/check.h"
#include "cli/open_model.h"
#include "data/survey.h"
#include "train/trainer.h"

enum { TRAIN, VAL, CHECK_SPLITS };
typedef struct Check {
    const Config *c;
    bool into_log;
    double start, seconds;           /* sys_now(); all parts together, 0: no limit */
    uint64_t free_bytes;             /* memory that was free at the start */
    Dataset *split[CHECK_SPLITS];    /* train, eval.split; NULL: cannot be opened */
    Survey seen[CHECK_SPLITS];
    OpenModel teacher;               /* net NULL: there is none, or it cannot be used */
    bool student_fits;
    double open_s;                   /* what opening the networks took */
    double expected_s;               /* of the whole training; NAN: not known */
    FaultList found;                 /* problems, and notes: those of code OK */
    Str unreached;                   /* what time did not allow */
} Check;

/* check.c */
void check_say(const Check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void check_note(Check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Remember a failure (err_text) as a problem. A signal is none: it is passed up, as is OK. */
Err  check_problem(Check *k, Err rc);
void check_unreached(Check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Seconds that a part may take up to this share of the whole time, at least a half; 0: no limit. */
double check_time_until(const Check *k, double share);
/* From here on sys_late() when that share is over, which plans and loops end by. */
void check_deadline(const Check *k, double share);
/* Would what takes so many seconds, and cannot be left in the middle, end behind that share? */
bool check_over(const Check *k, double share, double seconds);

/* The parts; they fail on a signal alone, or with LATE. */
Err check_data(Check *k);            /* check_data.c */
Err check_networks(Check *k);        /* check_networks.c */
Err check_steps(Check *k);           /* check_steps.c */
Err check_teacher(Check *k);         /* check_teacher.c */
#endif
