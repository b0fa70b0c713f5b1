/* log.c - one writer for everything people read while a command runs. A line is written whole, so
 * lines of several threads never mix; control bytes are escaped. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"

static const double REDRAW_S = 0.1, PLAIN_EVERY_S = 30.0;

/* The log level and its sinks are the one global state the house style allows. */
static struct {
    pthread_mutex_t  mutex;
    LogLevel         level;
    struct Appender *file;
    char             progress[512];     /* last text given, already escaped */
    bool             drawn;             /* a progress line stands unfinished on the terminal */
    bool             pending;           /* progress holds a text that was not shown yet */
    double           shown_at;          /* 0: never */
    uint64_t         last;              /* hash of the last line: a warning that would repeat it is left out */
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO};

/* stderr may be closed or full: nothing to be done about it, training goes on. */
static void put_stderr(const char *text, size_t n) {
    while (n) {
        ssize_t k = write(STDERR_FILENO, text, n);
        if (k <= 0) return;
        text += k, n -= (size_t)k;
    }
}

static void clear_progress(void) {
    if (state.drawn) put_stderr("\r\033[K", 4);
    state.drawn = false;
}

void log_set_level(LogLevel level) { state.level = level; }

void log_attach(struct Appender *file) {
    pthread_mutex_lock(&state.mutex);
    state.file = file;
    state.last = 0;
    pthread_mutex_unlock(&state.mutex);
}

/* Whether text is the line that stands there last; from now on it is. Called with the mutex held. */
static bool repeats(const char *text) {
    const uint64_t hash = hash_fnv1a(text);
    const bool same = hash == state.last;
    state.last = hash;
    return same;
}

/* One line to stderr and to the attached file; text is escaped already. A data set that is opened for
 * several purposes in a row warns once. */
static void emit(LogLevel level, const char *text) {
    Str line = {0};
    pthread_mutex_lock(&state.mutex);
    if (repeats(text) && level == LOG_WARN) {
        pthread_mutex_unlock(&state.mutex);
        return;
    }
    str_addf(&line, "%s\n", text);
    clear_progress();
    put_stderr(line.s, line.n);
    if (state.file && append_line(state.file, text)) {
        Str warning = {0};              /* reported once by the appender; training goes on */
        str_addf(&warning, "warning: log incomplete: %s\n", err_text());
        put_stderr(warning.s, warning.n);
        str_free(&warning);
    }
    pthread_mutex_unlock(&state.mutex);
    str_free(&line);
}

void log_line(LogLevel level, const char *fmt, ...) {
    if (level < state.level) return;
    Str text = {0};
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = str_vformat(NULL, 0, fmt, ap);
    char *raw = xcalloc((size_t)(n > 0 ? n : 0) + 1, 1);
    str_vformat(raw, (size_t)(n > 0 ? n : 0) + 1, fmt, again);
    va_end(again);
    va_end(ap);
    str_add(&text, level == LOG_WARN ? "warning: " : "");
    str_escape_lines(&text, raw);
    emit(level, text.s);
    free(raw);
    str_free(&text);
}

void log_error_line(Err code, const char *text) {
    Str line = {0};
    str_addf(&line, "error E%04d ", code);
    str_escape_terminal(&line, text);
    emit(LOG_ERROR, line.s);
    str_free(&line);
}

/* Bytes of text that fit into a line of the terminal; a longer one would wrap and stay. */
static size_t fitting(const char *text) {
    const int columns = sys_columns(STDERR_FILENO);
    const char *p = text;
    uint32_t code;
    for (int at = 1, n; *p && (columns <= 0 || at < columns); at++, p += n)
        if (!(n = str_utf8_next(p, &code))) n = 1;
    return (size_t)(p - text);
}

/* Show state.progress: in place on a terminal, as a line elsewhere. */
static void show_progress(bool terminal) {
    Str s = {0};
    if (terminal) str_addf(&s, "\r\033[K%.*s", (int)fitting(state.progress), state.progress);
    else str_addf(&s, "%s\n", state.progress);
    put_stderr(s.s, s.n);
    str_free(&s);
    state.drawn = terminal, state.pending = false, state.shown_at = sys_now();
}

void log_progress(const char *fmt, ...) {
    if (state.level > LOG_INFO) return;
    bool terminal = sys_isatty(STDERR_FILENO);
    char raw[sizeof state.progress / 2];
    va_list ap;
    va_start(ap, fmt);
    str_vformat(raw, sizeof raw, fmt, ap);
    va_end(ap);
    Str text = {0};
    str_escape_terminal(&text, raw);
    pthread_mutex_lock(&state.mutex);
    snprintf(state.progress, sizeof state.progress, "%s", text.s);
    state.pending = true;
    double wait = terminal ? REDRAW_S : PLAIN_EVERY_S;
    if (state.shown_at <= 0 || sys_now() - state.shown_at >= wait) show_progress(terminal);
    pthread_mutex_unlock(&state.mutex);
    str_free(&text);
}

void log_progress_end(void) {
    bool terminal = sys_isatty(STDERR_FILENO);
    pthread_mutex_lock(&state.mutex);
    if (state.pending) show_progress(terminal);
    if (state.drawn) put_stderr("\n", 1);
    state.drawn = false, state.shown_at = 0;
    pthread_mutex_unlock(&state.mutex);
}
