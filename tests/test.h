/* test.h - a test program: one function per fact, each run in a process of its own by name.
 *
 *   TEST(pixel_kl_ignores_void) { EXPECT_NEAR(loss, 0.0, 1e-6); }
 *   TEST_MAIN(pixel_kl_ignores_void, other_fact)
 *
 * The program with a name runs that test (exit 0 pass, 1 fail, 77 skip); with --list prints names;
 * without arguments execs itself once per test and ends with "N passed, N failed, N skipped". */
#ifndef RETORT_TEST_H
#define RETORT_TEST_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };              /* memory and time are not what they are */
#else
enum { SANITIZED = 0 };
#endif
typedef struct { const char *name; void (*fn)(void); } TestRow;
static int test_failures;
#define TEST(name) static void test_##name(void)
#define T(name) {#name, test_##name}
#define FAIL(...) (test_failures++, fprintf(stderr, "  %s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define SKIP(...) do { printf("skip: "); printf(__VA_ARGS__); printf("\n"); exit(77); } while (0)
#define EXPECT(cond) do { if (!(cond)) FAIL("%s is false", #cond); } while (0)
#define EXPECT_INT(a, b) do { long long a_ = (long long)(a), b_ = (long long)(b); \
    if (a_ != b_) FAIL("%s = %lld, expected %lld", #a, a_, b_); } while (0)
#define EXPECT_STR(a, b) do { const char *a_ = (a), *b_ = (b); \
    if (!a_ || strcmp(a_, b_)) FAIL("%s = \"%s\", expected \"%s\"", #a, a_ ? a_ : "(null)", b_); } while (0)
#define EXPECT_HAS(a, b) do { const char *a_ = (a), *b_ = (b); \
    if (!a_ || !strstr(a_, b_)) FAIL("%s = \"%s\" does not contain \"%s\"", #a, a_ ? a_ : "(null)", b_); } while (0)
/* |a - b| <= tol * max(1, |b|) */
#define EXPECT_NEAR(a, b, tol) do { double a_ = (a), b_ = (b), t_ = (tol); \
    if (!(fabs(a_ - b_) <= t_ * fmax(1.0, fabs(b_)))) \
        FAIL("%s = %.9g, expected %.9g, difference %.3g, tolerance %.3g", #a, a_, b_, a_ - b_, t_); } while (0)
#define EXPECT_OK(call) do { Err rc_ = (call); if (rc_) { FAIL("%s: E%d %s", #call, rc_, err_text()); return; } } while (0)
#define EXPECT_ERR(call, code) do { Err rc_ = (call); \
    if (rc_ != (code)) FAIL("%s returned %d (%s), expected %d", #call, rc_, rc_ ? err_text() : "ok", (code)); } while (0)

/* Processor time of this process: limits on it hold on a busy machine too. */
static inline double test_cpu_s(void) { return (double)clock() / CLOCKS_PER_SEC; }

static inline int test_run_child(const char *self, const char *name) {
    pid_t pid = fork();              /* before any OpenMP: the parent only lists and execs */
    if (pid == 0) { execl(self, self, name, (char *)NULL); _exit(127); }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static inline int test_main(const TestRow *rows, int n, int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0;
#ifdef BUILD_DIR
    setenv("RETORT_CACHE", BUILD_DIR "/cache", 0);       /* not the user's */
#endif
    for (int i = 0; argc > 1 && i < n; i++) {
        if (!strcmp(argv[1], "--list")) puts(rows[i].name);
        if (!strcmp(argv[1], rows[i].name)) return rows[i].fn(), test_failures ? 1 : 0;
    }
    if (argc > 1) return strcmp(argv[1], "--list") ? 2 : 0;
    for (int i = 0; i < n; i++) {
        fflush(stdout);
        int rc = test_run_child("/proc/self/exe", rows[i].name);
        printf("%-6s %s\n", rc == 0 ? "ok" : rc == 77 ? "skip" : "FAIL", rows[i].name);
        passed += rc == 0, skipped += rc == 77, failed += rc != 0 && rc != 77;
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
#define TEST_MAIN(...) int main(int argc, char **argv) { \
    static const TestRow rows[] = {__VA_ARGS__}; \
    return test_main(rows, (int)(sizeof rows / sizeof *rows), argc, argv); }
#endif
