/* log.h - lines for people: to stderr, and to a run's log.txt when one is attached. */
#ifndef RETORT_BASE_LOG_H
#define RETORT_BASE_LOG_H
#include "base/err.h"
struct Appender;
typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } LogLevel;
void log_set_level(LogLevel level);
void log_attach(struct Appender *file);         /* borrows; NULL detaches */
void log_line(LogLevel level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
/* The one line that ends a failed command: `error E3034 text`. */
void log_error_line(Err code, const char *text);
/* A progress line: redrawn in place on a terminal, one plain line every 30 s elsewhere. */
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_progress_end(void);                    /* leaves the last progress line standing */
#endif
