/* str.h - growing strings, escaping, nearest names, path pieces. Numbers always use '.'. */
#ifndef RETORT_BASE_STR_H
#define RETORT_BASE_STR_H
#include <stdarg.h>

#include "base/err.h"
/* vsnprintf in the C locale, whatever the program around us has set; always terminates dst. */
int str_vformat(char *dst, size_t n, const char *fmt, va_list ap);
typedef struct { char *s; size_t n, cap; } Str;       /* s is NUL-terminated once anything was added */
void str_add(Str *s, const char *text);
void str_addn(Str *s, const char *text, size_t n);
void str_addv(Str *s, const char *fmt, va_list ap);
void str_addf(Str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_free(Str *s);
/* Bytes (1..4) of the valid UTF-8 sequence at text and its code point, or 0. NUL counts as one byte. */
int  str_utf8_next(const char *text, uint32_t *code);
/* The words of one line of text, from column `at` on; a line longer than `columns` is broken at blanks, or behind a |, and goes
 * on at column indent. */
void str_wrap(Str *s, const char *text, int at, int indent, int columns);
void str_escape_terminal(Str *s, const char *bytes);  /* \xNN for all but printable UTF-8 */
void str_escape_lines(Str *s, const char *bytes);     /* the same, newlines kept but for a last one */
void str_escape_html(Str *s, const char *bytes);
void str_json(Str *s, const char *bytes);             /* with the quotes; invalid UTF-8 as \u00NN */
void str_json_number(Str *s, double v);               /* shortest round trip; null when not finite */
/* Nearest of n names by edit distance, or NULL when none is near (did you mean). */
const char *str_nearest(const char *word, const char *const *names, int n);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
const char *path_base(const char *path);              /* after the last '/' */
char *path_join(const char *a, const char *b);        /* caller frees */
char *path_stem(const char *path);                    /* base without its last suffix; caller frees */
bool parse_i64(const char *s, int64_t *out);          /* whole string, decimal, locale-free */
bool parse_f64(const char *s, double *out);
#endif
