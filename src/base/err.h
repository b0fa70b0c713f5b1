/* err.h - the one error idiom.
 *
 * A function that can fail returns Err and sets one text with err_set(), where the failure is
 * understood; everything above passes the code up with TRY(). Bugs are CHECKs (kept in release).
 * The code is exit code * 1000 + row of the failure table in docs/errors.md (row 0: none), and is
 * what the user sees: `error E3034 data/val/7.png: label id 34 at (12,880) ...; add it to ...`. */
#ifndef RETORT_BASE_ERR_H
#define RETORT_BASE_ERR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int Err;                        /* 0 is success, otherwise E(exit, row) */
enum { OK = 0 };
enum {                                  /* exit codes of the program */
    EXIT_BUG = 1, EXIT_USAGE = 2, EXIT_DATA = 3, EXIT_MODEL = 4, EXIT_CHECKPOINT = 5,
    EXIT_OUTPUT = 6, EXIT_LIMIT = 7, EXIT_NUMERIC = 8, EXIT_PEER = 9
};
#define E(exit_code, row) ((exit_code) * 1000 + (row))

/* Set the thread's error text (printf style: "where: what; what to do") and return code.
 * Bytes outside printable UTF-8 are shown as \xNN, newlines never survive. */
Err err_set(Err code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prefix the present text with "prefix: " and return code unchanged; for adding a file or node. */
Err err_wrap(Err code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *err_text(void);             /* text of this thread's last err_set; "" before any */
int err_exit_code(Err code);            /* 0 for OK, else code / 1000; 128 + N passes through */

#define TRY(call) do { Err try_rc_ = (call); if (try_rc_) return try_rc_; } while (0)
/* A bug of ours: print expression and place, leave with exit code 1. */
#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))
_Noreturn void check_failed(const char *expr, const char *file, int line);
#endif
