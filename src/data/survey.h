/* survey.h - a look at the samples of a data set within a time: what they hold, and every fault. */
#ifndef RETORT_DATA_SURVEY_H
#define RETORT_DATA_SURVEY_H
#include "data/data.h"

/* Faults that are alike: the same words but for path and numbers. Of more than FAULT_KINDS with one code and remedy (what
 * stands behind the last "; ") the last ones are counted together. */
enum { FAULT_EXAMPLES = 3, FAULT_KINDS = 3, FAULTS_MAX = 32 };
typedef struct Fault {
    Err   code;
    char *text[FAULT_EXAMPLES];      /* the first ones; those behind [0] without the remedy */
    int   count;
} Fault;
typedef struct FaultList { Fault v[FAULTS_MAX]; int n, more; } FaultList;   /* more: of further kinds */
void faults_add(FaultList *l, Err code, const char *text);   /* one text counts once */
void faults_join(FaultList *l, const FaultList *other);
void faults_free(FaultList *l);
typedef struct Survey {
    int      scanned, total, bad;    /* bad: samples that cannot be used */
    int64_t  pixels[256];            /* by class; [IGNORE_U8]: void */
    int      images[256];            /* that show the class */
    int      h[2], w[2];             /* smallest and largest sides */
    int      empty, turned;          /* labels void all over; EXIF rotations not made */
    int      first_empty, first_turned;      /* sample numbers; meaningless where there is none */
    uint64_t *picture;               /* [total] hash of the pixels; 0: not looked at, or not usable */
    FaultList faults;                /* caller's survey_free */
} Survey;
/* Reads samples in an order drawn from the seed until all are seen or the seconds are over (0: all).
 * Only a signal makes it fail. */
Err  survey_run(Dataset *d, double seconds, uint64_t seed, Survey *out);
void survey_free(Survey *s);
/* How many pictures of a split, by file name (paths) or else by pixels, are in another one too; the first of them: sample
 * numbers in at[2]. Paths are compared whole, pixels as far as both were looked at. */
int  survey_shared_files(const Dataset *a, const Dataset *b, int at[2]);
int  survey_shared_pictures(const Survey *a, const Survey *b, int at[2]);
#endif
