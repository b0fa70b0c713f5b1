/* survey.h - a look at the samples of a data set within a time: what they hold, and every fault. */
#ifndef RETORT_DATA_SURVEY_H
#define RETORT_DATA_SURVEY_H
#include "data/data.h"

typedef struct Fault {
    Err   code;
    char *text;
} Fault;
typedef struct Survey {
    int      scanned, total, bad;    /* bad: samples that cannot be used */
    int64_t  pixels[256];            /* by class; [IGNORE_U8]: void */
    int      images[256];            /* that show the class */
    int      h[2], w[2];             /* smallest and largest sides */
    int      turned;                 /* EXIF rotations not made */
    Fault   *fault; int n_faults;    /* the first ones; caller's survey_free */
} Survey;
/* Reads samples in an order drawn from the seed until all are seen or the seconds are over (0: all).
 * Only a signal makes it fail. */
Err  survey_run(Dataset *d, double seconds, uint64_t seed, Survey *out);
void survey_free(Survey *s);
#endif
