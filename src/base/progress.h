/* progress.h - how far a loop of more than two seconds is, and how long it will still take.
 *
 *   Progress p = progress_start("images", d->n, "evaluating %s", split);
 *   for (int i = 0; i < d->n; i++) { ...; progress_to(&p, i + 1); }
 *   progress_end(&p);
 *
 * On a terminal a bar, redrawn in place; elsewhere one plain line every 30 s (log.h). Nothing is said of
 * a loop that ends within two seconds. The clock is monotonic. */
#ifndef RETORT_BASE_PROGRESS_H
#define RETORT_BASE_PROGRESS_H
#include "base/err.h"

typedef struct Progress {
    char what[64];
    const char *unit;                /* borrowed: "images" */
    int64_t total, done;             /* total 0: not known */
    double start;                    /* sys_now() */
    double until;                    /* sys_now() at which the loop ends anyway; 0: no such limit */
    struct { double time; int64_t done; } mark[2];   /* the pace is measured from mark[0] */
    bool shown;
} Progress;
/* fmt says what is being done: "evaluating %s". */
Progress progress_start(const char *unit, int64_t total, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void progress_to(Progress *p, int64_t done);
void progress_end(Progress *p);              /* also after a failure: says how far it came */

/* Their pure parts. */
void   progress_note(Progress *p, int64_t done, double now);
double progress_left(const Progress *p, double now);         /* seconds; NaN: cannot be told yet */
char  *progress_line(const Progress *p, double now, bool bar);   /* caller frees */
typedef struct { char s[24]; } DurationText;
DurationText duration_text(double seconds);  /* "1:02:03", "-" when not finite or negative */
#endif
