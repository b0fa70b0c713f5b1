/* err.c - the thread's error text. The text is escaped when it is set, so that whoever prints it
 * (terminal, log, report) never meets control bytes of a hostile file name. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

enum { TEXT_MAX = 2048 };               /* longer texts are cut; a path has at most 4096 bytes but rarely 200 */
static _Thread_local char error_text[TEXT_MAX];

/* Escape `raw` and keep it, cut at TEXT_MAX - 1 bytes. */
static void keep_text(const char *raw) {
    Str s = {0};
    str_escape_terminal(&s, raw);
    snprintf(error_text, sizeof error_text, "%s", s.s ? s.s : "");
    str_free(&s);
}

Err err_set(Err code, const char *fmt, ...) {
    char raw[TEXT_MAX];                 /* apart from error_text: an argument may be err_text() */
    va_list ap;
    va_start(ap, fmt);
    str_vformat(raw, sizeof raw, fmt, ap);
    va_end(ap);
    keep_text(raw);
    return code;
}

Err err_wrap(Err code, const char *fmt, ...) {
    char prefix[TEXT_MAX], raw[2 * TEXT_MAX + 4];
    va_list ap;
    va_start(ap, fmt);
    str_vformat(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    snprintf(raw, sizeof raw, "%s: %s", prefix, error_text);
    keep_text(raw);
    return code;
}

const char *err_text(void) { return error_text; }

int err_exit_code(Err code) {
    if (code == OK) return 0;
    return code >= 1000 ? code / 1000 : code;
}

_Noreturn void check_failed(const char *expr, const char *file, int line) {
    fprintf(stderr, "error E1000 %s:%d: internal check failed: %s; please report this\n", file,
            line, expr);
    fflush(stderr);
    _exit(EXIT_BUG);                    /* not abort(): the contract is exit code 1, never a raw signal */
}
