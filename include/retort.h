/* retort.h - the library behind the program: open a configuration, train it, evaluate the result.
 *
 *   Retort *run;
 *   const char *set[] = {"out=runs/yard", "train.steps=2000"};
 *   if (retort_open("yard.yaml", set, 2, &run) || retort_train(run)) puts(retort_error());
 *   retort_close(run);
 *
 * Every function that can fail returns 0, or exit code * 1000 + row of docs/errors.md (E3034), and
 * leaves one line in retort_error(). Nothing here prints, exits or touches signals, except that
 * training writes progress to stderr and its files to the run directory. One thread may use a
 * Retort at a time; several Retorts may coexist. Link with `pkg-config --cflags --libs retort`. */
#ifndef RETORT_H
#define RETORT_H
#ifdef __cplusplus
extern "C" {
#endif
#include <stdint.h>

#define RETORT_API __attribute__((visibility("default")))

typedef struct Retort Retort;           /* a configuration, ready to train or evaluate */

typedef struct RetortScores {
    int64_t images;
    double  miou;                       /* mean over classes that occur or were predicted */
    double  miou_present;               /* mean over classes that occur in the labels */
    double  pixel_accuracy, mean_accuracy;
} RetortScores;

RETORT_API const char *retort_version(void);    /* "0.1.0" */
RETORT_API const char *retort_error(void);      /* text of this thread's last failure; "" before any */

/* Read a YAML configuration (NULL: defaults alone) with n_set overrides "key=value", as on the
 * command line of `retort train`. On failure *out is NULL. The caller closes. */
RETORT_API int  retort_open(const char *config, const char *const *set, int n_set, Retort **out);
RETORT_API void retort_close(Retort *r);        /* NULL is fine */

/* Train or distil into the run directory; goes on by itself where a checkpoint lies there. */
RETORT_API int retort_train(Retort *r);

/* Evaluate the run directory's best weights on a split ("val", "test") of its data set. */
RETORT_API int retort_evaluate(Retort *r, const char *split, RetortScores *out);

#ifdef __cplusplus
}
#endif
#endif
