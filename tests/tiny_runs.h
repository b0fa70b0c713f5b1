/* tiny_runs.h - three small configurations and what the tests of interrupted and refused runs
 * share. */
#ifndef RETORT_TESTS_TINY_RUNS_H
#define RETORT_TESTS_TINY_RUNS_H
#include "runs.h"
#include "tempdir.h"
#include "test.h"

#define STUDENT "student: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true}\n"
#define TEACHER                                                                                    \
    "teacher: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true, weights: \"formula:1\"}\n"
#define SCENES                                                                                     \
    "data: {kind: scenes, crop: 32x32, scale: [0.5, 1.5], scenes: {size: 32x48, train: 10, val: "  \
    "3}}\n"
#define REST                                                                                       \
    "checkpoint: {every: 2}\neval: {every: 4}\nreport: {images: 0, metrics: 1, every: 50ms}\n"
__attribute__((unused)) static const char plain[] =
    SCENES STUDENT "train: {steps: 16, batch: 2, lr: 0.02, threads: 1}\n" REST;
__attribute__((unused)) static const char all[] =
    SCENES STUDENT TEACHER "distill: {task: {kind: rdd, warmup: 0.5}, losses: [kd]}\n"
                           "train: {steps: 10, batch: 2, accumulate: 2, ema: 0.9, optimizer: "
                           "adamw, lr: 1e-3, clip: 1, threads: 1}\n" REST;
__attribute__((unused)) static const char linear[] = SCENES STUDENT TEACHER
    "distill: {task: {kind: rdd, warmup: 4, schedule: linear, tfe: entropy}}\n"
    "train: {steps: 10, batch: 2, lr: 0.02, lr_warmup: 5, lr_groups: {head: 2}, threads: 1}\n" REST;

/* Terms that remember: adapters, queues, a discriminator with Adam's moments. */
__attribute__((unused)) static const char remembering[] = SCENES STUDENT TEACHER
    "distill: {task: {kind: rdd, tfe: flip}, losses: [skd.ho, fitnet: {tap: mid, teacher_tap: features}, cirkd: {pixel_queue: 9, "
    "region_queue: 5, pixel_samples: 40, region_samples: 20}, cirkd: {memory: off}]}\n"
    "train: {steps: 6, batch: 2, accumulate: 2, lr: 0.01, threads: 1}\n" REST;

/* temp_path that stays. */
static inline const char *place(const char *name) {
    static char path[64][RUN_PATH];
    static int n;
    CHECK(n < 64);
    return strcpy(path[n++], temp_path(name));
}
static inline const char *put(const char *name, const char *text) {
    const char *path = place(name);
    CHECK(!durable_write_all(path, text, strlen(text)));
    return path;
}
static inline void expect_said(const char *run, const char *what) {
    char *text = run_text(run, ".said");
    if (!strstr(text, what)) FAIL("\"%s\" was not said, but:\n%s", what, text);
    free(text);
}
static inline void expect_same(const char *reference, const char *run) {
    char why[256];
    if (!runs_same(reference, run, why)) FAIL("%s", why);
}
/* A whole run of the configuration, to compare with. */
static inline const char *reference_run(const char *config) {
    const char *run = place("reference");
    EXPECT_INT(run_whole(config, run, ""), 0);
    return run;
}
static inline json_t *status_of(const char *run) {
    char *text = run_text(run, "/run.status.json");
    json_t *o = json_loads(text, 0, NULL);
    free(text);
    return o;
}
static inline const char *text_of(json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}
static inline double number_of(json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}
static inline void copy_run(const char *from, const char *to) {
    char *command = xprintf("rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    EXPECT_INT(system(command), 0);
    free(command);
}
static inline void expect_refused(const char *config, const char *run, const char *args, int code,
                                  const char *text) {
    char said[RUN_PATH];
    snprintf(said, sizeof said, "%s.said", run);
    remove(said); /* what earlier starts said */
    EXPECT_INT(run_whole(config, run, args), code);
    expect_said(run, text);
}
#endif
