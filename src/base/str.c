/* str.c - growing strings, escaping, numbers as text.
 *
 * All numbers go through the C locale, set for the calling thread only while formatting or parsing:
 * a program that embeds the library may have set any other. */
#include "base/str.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static locale_t       c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static void c_locale_make(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static locale_t c_locale_enter(void) {
    pthread_once(&c_locale_once, c_locale_make);
    return uselocale(c_locale);
}

int str_vformat(char *dst, size_t n, const char *fmt, va_list ap) {
    locale_t before = c_locale_enter();
    int len = vsnprintf(dst, n, fmt, ap);
    uselocale(before);
    if (len < 0 && n) dst[0] = 0;
    return len;
}

/* ---- growing --------------------------------------------------------------------------------- */
static void str_reserve(Str *s, size_t more) {
    size_t need;
    CHECK(!__builtin_add_overflow(s->n, more, &need) && need < SIZE_MAX / 2);
    if (need + 1 <= s->cap) return;
    size_t cap = s->cap ? 2 * s->cap : 64;
    while (cap < need + 1) cap *= 2;
    s->s = xrealloc(s->s, cap);
    s->cap = cap;
}

void str_addn(Str *s, const char *text, size_t n) {
    str_reserve(s, n);
    if (n) memcpy(s->s + s->n, text, n);
    s->n += n;
    s->s[s->n] = 0;
}

void str_add(Str *s, const char *text) { str_addn(s, text, strlen(text)); }

void str_addv(Str *s, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = str_vformat(NULL, 0, fmt, ap);
    CHECK(n >= 0);
    str_reserve(s, (size_t)n);
    str_vformat(s->s + s->n, (size_t)n + 1, fmt, again);
    s->n += (size_t)n;
    va_end(again);
}

void str_addf(Str *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    str_addv(s, fmt, ap);
    va_end(ap);
}

void str_free(Str *s) {
    free(s->s);
    *s = (Str){0};
}

static int columns_of(const char *text, size_t n) {
    int columns = 0;
    for (size_t i = 0; i < n; i++) columns += ((unsigned char)text[i] & 0xc0) != 0x80;
    return columns;
}

void str_wrap(Str *s, const char *text, int at, int indent, int columns) {
    while (*text) {
        const size_t gap = strspn(text, " "), word = strcspn(text + gap, " |"),
                     n = gap + word + (text[gap + word] == '|');
        const int wide = columns_of(text, n);
        if (at + wide > columns && at > indent) {
            str_addf(s, "\n%*s", indent, "");
            str_addn(s, text + gap, n - gap);
            at = indent + wide - (int)gap;
        } else str_addn(s, text, n), at += wide;
        text += n;
    }
}

/* ---- escaping -------------------------------------------------------------------------------- */
/* Overlong forms, surrogates and code points above 10FFFF are invalid. */
int str_utf8_next(const char *text, uint32_t *code) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) return *code = p[0], 1;
    int n = p[0] >= 0xf0 && p[0] < 0xf8 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    if (!n || p[0] >= 0xf8) return 0;
    uint32_t c = p[0] & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;       /* also stops at the terminating NUL */
        c = (c << 6) | (p[i] & 0x3fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    return *code = c, n;
}

/* C0 and C1 controls, DEL, line and paragraph separators, and the marks that reorder a line. */
static bool is_printable(uint32_t c) {
    if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return false;
    return !(c >= 0x200b && c <= 0x200f) && !(c >= 0x2028 && c <= 0x202e) &&
           !(c >= 0x2066 && c <= 0x2069) && c != 0xfeff;
}

void str_escape_terminal(Str *s, const char *bytes) {
    str_add(s, "");
    while (*bytes) {
        uint32_t c = 0;
        int n = str_utf8_next(bytes, &c);
        if (n && is_printable(c)) {
            str_addn(s, bytes, (size_t)n);
        } else {
            n = n ? n : 1;
            for (int i = 0; i < n; i++) str_addf(s, "\\x%02x", (unsigned char)bytes[i]);
        }
        bytes += n;
    }
}

void str_escape_lines(Str *out, const char *text) {
    for (const char *end; *text; text = end + (*end == '\n')) {
        end = text + strcspn(text, "\n");
        char *one = xprintf("%.*s", (int)(end - text), text);
        str_escape_terminal(out, one);
        if (*end && end[1]) str_add(out, "\n");
        free(one);
    }
}

void str_escape_html(Str *s, const char *bytes) {
    str_add(s, "");
    while (*bytes) {
        uint32_t c = 0;
        int n = str_utf8_next(bytes, &c);
        if (n && (is_printable(c) || c == '\n' || c == '\t')) {
            const char *entity = c == '<'    ? "&lt;"
                                 : c == '>'  ? "&gt;"
                                 : c == '&'  ? "&amp;"
                                 : c == '"'  ? "&quot;"
                                 : c == '\'' ? "&#39;"
                                             : NULL;
            if (entity) str_add(s, entity);
            else str_addn(s, bytes, (size_t)n);
        } else {
            n = n ? n : 1;
            for (int i = 0; i < n; i++) str_addf(s, "\\x%02x", (unsigned char)bytes[i]);
        }
        bytes += n;
    }
}

void str_json(Str *s, const char *bytes) {
    str_add(s, "\"");
    while (*bytes) {
        uint32_t c = 0;
        int n = str_utf8_next(bytes, &c);
        if (c == '"' || c == '\\') str_addf(s, "\\%c", (int)c);
        else if (n && c >= 0x20 && c != 0x7f && c != '<') str_addn(s, bytes, (size_t)n);   /* '<': safe inside <script> too */
        else str_addf(s, "\\u%04x", (unsigned char)*bytes);
        bytes += n ? n : 1;
    }
    str_add(s, "\"");
}

void str_json_number(Str *s, double v) {
    if (!isfinite(v)) {
        str_add(s, "null");
        return;
    }
    if (v == floor(v) && fabs(v) < 1e15) {         /* 40000, not 4e+04 */
        str_addf(s, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        Str t = {0};
        double back;
        str_addf(&t, "%.*g", digits, v);
        bool exact = parse_f64(t.s, &back) && back == v;
        if (exact || digits == 17) str_add(s, t.s);
        str_free(&t);
        if (exact) return;
    }
}

/* ---- names and paths ------------------------------------------------------------------------- */
/* Edit distance with swaps of neighbours (optimal string alignment); words longer than the table
 * count as far away. */
static int edit_distance(const char *a, const char *b) {
    enum { WORD_MAX = 63 };
    size_t n = strlen(a), m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX) return WORD_MAX;
    int d[WORD_MAX + 1][WORD_MAX + 1];
    for (size_t i = 0; i <= n; i++) d[i][0] = (int)i;
    for (size_t j = 0; j <= m; j++) d[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *str_nearest(const char *word, const char *const *names, int n) {
    int len = (int)strlen(word), near = len < 4 ? 1 : 1 + len / 3, best = near + 1;
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        int dist = edit_distance(word, names[i]);
        if (dist < best) best = dist, found = names[i];
    }
    return found;
}

bool str_starts(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && !strcmp(s + n - m, suffix);
}

const char *path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_join(const char *a, const char *b) {
    if (!*a || *b == '/') return xstrdup(b);
    return xprintf("%s%s%s", a, str_ends(a, "/") ? "" : "/", b);
}

char *path_stem(const char *path) {
    char *s = xstrdup(path_base(path)), *dot = strrchr(s, '.');
    if (dot && dot != s) *dot = 0;
    return s;
}

/* ---- numbers --------------------------------------------------------------------------------- */
bool parse_i64(const char *s, int64_t *out) {
    const char *digits = s + (*s == '-' || *s == '+');
    if (!*digits || digits[strspn(digits, "0123456789")]) return false;
    errno = 0;
    long long v = strtoll(s, NULL, 10);
    if (errno) return false;
    *out = v;
    return true;
}

bool parse_f64(const char *s, double *out) {
    if (!*s || s[strspn(s, "0123456789+-.eE")]) return false;      /* no hex, inf, nan or blanks */
    char *end;
    locale_t before = c_locale_enter();
    double v = strtod(s, &end);
    uselocale(before);
    if (end == s || *end || !isfinite(v)) return false;
    *out = v;
    return true;
}
