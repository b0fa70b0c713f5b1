/* test_allocations.c - after the first step nothing of ours allocates, counted at the source.
 *
 * This program defines the allocator's entry points itself, so every malloc, calloc, realloc, aligned
 * allocation and mmap of the process passes through here: ours, libgomp's, oneDNN's. oneDNN does
 * allocate inside dnnl_primitive_execute, which no setting of its interface avoids: it copies the
 * arguments into a hash table (some hundred bytes), and its gemm convolutions make packing buffers. So
 * that function is wrapped as well, and what happens inside is held to its own three facts. The heap's
 * size (mallinfo) would prove less: freed pieces in a thread's cache count there as used. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "backend/plan_priv.h"
#include "base/parallel.h"
#include "distill/parts.h"
#include "test.h"
#include "train/trainer.h"

enum { BOOKKEEPING = 4096 };                 /* bytes: more in one piece is a buffer */
typedef struct Tally { atomic_llong count, bytes, live, largest; } Tally;
static Tally ours, theirs;                   /* theirs: between entry and return of dnnl_primitive_execute */
static atomic_bool counting, inside;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool can_count = false;         /* the sanitizer has the allocator */
#else
static const bool can_count = true;
#define EXPORT __attribute__((visibility("default")))
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
extern void  __libc_free(void *);

static void note(long long bytes, long long live) {
    Tally *t = inside ? &theirs : &ours;
    if (!counting) return;
    atomic_fetch_add(&t->live, live);
    if (bytes < 0) return;
    atomic_fetch_add(&t->count, 1), atomic_fetch_add(&t->bytes, bytes);
    long long seen = t->largest;
    while (bytes > seen && !atomic_compare_exchange_weak(&t->largest, &seen, bytes)) continue;
}
static void *noted(void *p, size_t bytes) {
    note((long long)bytes, p ? (long long)malloc_usable_size(p) : 0);
    return p;
}
EXPORT void *malloc(size_t n) { return noted(__libc_malloc(n), n); }
EXPORT void *calloc(size_t n, size_t m) { return noted(__libc_calloc(n, m), n * m); }
EXPORT void *memalign(size_t a, size_t n) { return noted(__libc_memalign(a, n), n); }
EXPORT void *aligned_alloc(size_t a, size_t n) { return noted(__libc_memalign(a, n), n); }
EXPORT int posix_memalign(void **out, size_t a, size_t n) {
    return (*out = noted(__libc_memalign(a, n), n)) ? 0 : 12;
}
EXPORT void free(void *p) {
    if (p) note(-1, -(long long)malloc_usable_size(p));
    __libc_free(p);
}
EXPORT void *realloc(void *p, size_t n) {
    if (p) note(-1, -(long long)malloc_usable_size(p));
    return noted(__libc_realloc(p, n), n);
}
EXPORT void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    note((long long)n, (long long)n);
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}
EXPORT int munmap(void *at, size_t n) {
    note(-1, -(long long)n);
    return (int)syscall(SYS_munmap, at, n);
}
/* The same in every version of oneDNN; a status, handles and an array. */
extern int dnnl_primitive_execute(const void *primitive, void *stream, int n, const void *args);
EXPORT int dnnl_primitive_execute(const void *primitive, void *stream, int n, const void *args) {
    static int (*real)(const void *, void *, int, const void *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "dnnl_primitive_execute");
    inside = true;
    int status = real(primitive, stream, n, args);
    inside = false;
    return status;
}
#endif

static void count_from_here(void) {
    ours = (Tally){0}, theirs = (Tally){0};
    counting = true;
}

/* ---- a student, its teacher, RDD and KD ------------------------------------------------------------- */

enum { N = 2, H = 65, W = 49, CLASSES = 11 };
typedef struct Training { Config *c; Job *job; Optimizer *opt; Batch batch; } Training;

/* more: one option besides, or NULL; choices: of PlanSpec. */
static Training open_training(const char *more, Choices *choices) {
    static uint8_t images[N * H * W * 3];
    static int32_t labels[N * H * W], rects[N * 4] = {0, 0, W, H, 0, 0, W, H};
    char *args[] = {"student.model=deeplabv3_mobilenetv2",
                    "student.aux=true",
                    "teacher.model=deeplabv3_resnet18",
                    "teacher.aux=true",
                    "teacher.weights=formula:1",
                    "student.classes=11",
                    "distill.task=rdd",
                    "distill.losses=[kd]",
                    "train.clip=1",
                    "train.precision=f32",
                    (char *)(uintptr_t)(more ? more : "train.memory=normal")};
    Training t = {
        .batch = {.n = N, .h = H, .w = W, .images = images, .labels = labels, .rects = rects}};
    for (int i = 0; i < N * H * W * 3; i++) images[i] = (uint8_t)(i * 37 % 251);
    for (int i = 0; i < N * H * W; i++) labels[i] = i % 29 ? i / 13 % CLASSES : -1;
    Err rc = config_read("train", NULL, args, sizeof args / sizeof *args, &t.c);
    if (!rc) rc = job_open(t.c, N, H, W, NULL, choices, &t.job);
    if (!rc) rc = optimizer_open(t.c, job_student(t.job), &t.opt);
    if (rc) { FAIL("%s", err_text()); exit(1); }
    return t;
}
static void step(Training *t, int64_t number) {
    const float stage[2] = {number % 2 == 0, number % 2};     /* TFE and TSE in turn */
    StepResult r;
    Err rc = job_step(t->job, &t->batch, 1, stage, false, &r);
    EXPECT_INT(rc, OK);
    optimizer_step(t->opt, number);
}

static void count_three_steps(const char *more, Choices *choices) {
    if (!can_count) SKIP("the sanitizer has the allocator");
    Training t = open_training(more, choices);
    step(&t, 0);
    count_from_here();
    for (int i = 1; i < 4; i++) step(&t, i);
    counting = false;
    EXPECT_INT(ours.count, 0);
    EXPECT(theirs.count > 0);                /* the counter does count */
    EXPECT_INT(theirs.live, 0);
}
TEST(no_step_after_the_first_allocates) { count_three_steps(NULL, NULL); }
TEST(nor_with_one_thread) {                  /* libgomp makes a team per region then, if it is asked */
    parallel_set_threads(1);
    count_three_steps(NULL, NULL);
}
TEST(nor_a_lean_one) { count_three_steps("train.memory=lean", NULL); }
static void count_three_steps_in_way(const char *way) {
    if (!can_count) SKIP("the sanitizer has the allocator");
    Choices *choices = choices_replay(way);
    count_three_steps(NULL, choices);
    choices_close(choices);
}
TEST(nor_in_channels_last) { count_three_steps_in_way("*\tlast\n"); }
TEST(nor_one_with_kernels_of_our_own) { count_three_steps_in_way("*\town\n"); }
TEST(nor_one_in_bfloat16) {
    if (!backend_has(DT_BF16)) SKIP("this processor (%s) has no bfloat16", backend_isa());
    count_three_steps("train.precision=bf16", NULL);
}
TEST(nor_one_with_a_teacher_in_8_bit_integers) {
    if (!backend_has(DT_I8))
        SKIP("this processor (%s) has no products of 8-bit integers", backend_isa());
    count_three_steps("teacher.precision=int8", NULL);
}

/* Of two parts, whose thresholds are gathered first. */
static void update_in_parts(Training *t, int64_t number) {
    const float stage[2] = {0, 1};
    const int32_t *labels[] = {t->batch.labels, t->batch.labels};
    Parts p = {.parts = 2, .labels = labels, .gather = true};
    StepResult r;
    job_parts(t->job, &p);
    EXPECT(job_gathers(t->job, stage));
    for (p.part = 0; p.part < 2; p.part++) job_gather(t->job, &t->batch, 1, stage);
    p.gather = false;
    for (p.part = 0; p.part < 2; p.part++)
        EXPECT_OK(job_step(t->job, &t->batch, 1, stage, p.part > 0, &r));
    job_parts(t->job, NULL);
    optimizer_step(t->opt, number);
}
TEST(nor_an_update_in_parts) {
    if (!can_count) SKIP("the sanitizer has the allocator");
    Training t = open_training("train.accumulate=2", NULL);
    update_in_parts(&t, 0);
    count_from_here();
    for (int i = 1; i < 4; i++) update_in_parts(&t, i);
    counting = false;
    EXPECT_INT(ours.count, 0);
    EXPECT(theirs.count > 0);
}

/* Returns how many primitives ran. */
static int run_singly(const Plan *p, const Step *steps, int n) {
    int primitives = 0;
    for (int i = 0; i < n; i++) {
        const Step *s = &steps[i];
        count_from_here();
        s->fn(s);
        counting = false;
        primitives += theirs.count > 0;
        const char *name = p->net->nodes[s->node].name;
        if (ours.count)
            FAIL("%s, %s (%s): %lld allocations of ours", name, s->what, s->impl, ours.count);
        if (theirs.live)
            FAIL("%s, %s (%s): oneDNN keeps %lld bytes", name, s->what, s->impl, theirs.live);
        if (theirs.largest > BOOKKEEPING && !strstr(s->impl, "gemm"))
            FAIL("%s, %s (%s): oneDNN allocates a buffer of %lld bytes", name, s->what, s->impl,
                 theirs.largest);
    }
    return primitives;
}
TEST(onednn_frees_what_it_takes_and_only_its_gemm_takes_buffers) {
    if (!can_count) SKIP("the sanitizer has the allocator");
    Training t = open_training(NULL, NULL);
    step(&t, 0);
    Plan *plans[] = {job_student_plan(t.job), job_teacher_plan(t.job)};
    int primitives = 0;
    for (int i = 0; i < 2; i++) {
        primitives += run_singly(plans[i], plans[i]->param_steps, plans[i]->n_param_steps);
        primitives += run_singly(plans[i], plans[i]->steps, plans[i]->n_steps);
    }
    EXPECT(primitives > 100);
}

TEST_MAIN(T(no_step_after_the_first_allocates), T(nor_with_one_thread), T(nor_a_lean_one), T(nor_an_update_in_parts),
          T(nor_in_channels_last), T(nor_one_with_kernels_of_our_own), T(nor_one_in_bfloat16),
          T(nor_one_with_a_teacher_in_8_bit_integers),
          T(onednn_frees_what_it_takes_and_only_its_gemm_takes_buffers))
