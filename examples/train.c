/* train.c - a distillation from a program of one's own.
 *
 *     cc train.c $(pkg-config --cflags --libs retort) -o train
 *     ./train yard.yaml out=runs/yard train.steps=2000 */
#include <stdio.h>

#include <retort.h>

static int failed(int code) {
    fprintf(stderr, "E%d %s\n", code, retort_error());
    return code / 1000; /* the program's own exit codes */
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "usage: %s CONFIG.yaml [key=value ...]\n", argv[0]), 2;
    Retort *run;
    RetortScores scores;
    int rc = retort_open(argv[1], (const char *const *)argv + 2, argc - 2, &run);
    if (rc) return failed(rc);
    rc = retort_train(run);
    if (!rc) rc = retort_evaluate(run, "val", &scores);
    if (rc) return failed(rc);
    printf("retort %s: mIoU %.2f %%, pixel accuracy %.2f %% over %lld images\n", retort_version(),
           100 * scores.miou, 100 * scores.pixel_accuracy, (long long)scores.images);
    retort_close(run);
    return 0;
}
