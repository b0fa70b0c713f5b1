/* run_config.c - the configuration of a run on its page: what differs from its base, and the whole.
 *
 * config.yaml says where each value comes from: `key: VALUE   # WHERE` with, after it, `; was VALUE
 * (WHERE)` when it took the place of another; the files of its base stand in its first lines as
 * `# base: FILE`. So a difference is a value with a former one that no base file has set. */
#include <stdlib.h>
#include <string.h>

#include "report/page.h"

enum { DEPTH_MAX = 8, BASES_MAX = 16, SHOWN_MAX = 200 };

typedef struct Text { /* a piece of config.yaml */
    const char *s;
    size_t n;
} Text;

static void add_text(Str *out, Text t) {
    char *copy = xprintf("%.*s", (int)t.n, t.s);
    str_escape_html(out, copy);
    free(copy);
}

static Text trimmed(const char *from, const char *to) {
    while (from < to && *from == ' ') from++;
    while (to > from && to[-1] == ' ') to--;
    return (Text){from, (size_t)(to - from)};
}

/* The last `mark` in [from, to), or NULL. */
static const char *find_last(const char *from, const char *to, const char *mark) {
    const size_t n = strlen(mark);
    for (const char *p = to - n; p >= from; p--)
        if (!memcmp(p, mark, n)) return p;
    return NULL;
}

typedef struct Setting {
    Text key, value, where, was; /* was: "VALUE (WHERE)"; n 0: none */
    int indent;
} Setting;

/* One line; false when it holds no key. */
static bool parse_line(const char *from, const char *to, Setting *out) {
    const char *p = from;
    *out = (Setting){0};
    while (p < to && (*p == ' ' || *p == '-')) p++;
    out->indent = (int)(p - from);
    const char *colon = memchr(p, ':', (size_t)(to - p)), *mark = find_last(p, to, " # ");
    if (!colon || colon == p || *p == '#') return false;
    out->key = trimmed(p, colon);
    if (!mark || mark < colon) return true; /* a group, or an entry of a list */
    const char *was = find_last(mark, to, "; was ");
    out->value = trimmed(colon + 1, mark);
    out->where = trimmed(mark + 3, was ? was : to);
    if (was) out->was = trimmed(was + 6, to);
    return true;
}

static bool same_file(Text where, Text file) {
    return where.n > file.n && !memcmp(where.s, file.s, file.n) && where.s[file.n] == ':';
}

typedef struct Reader {
    Text base[BASES_MAX];
    int n_bases;
    Text group[DEPTH_MAX]; /* keys above the present line */
    int indent[DEPTH_MAX], depth;
} Reader;

/* Stand at the line's depth; false when it is a group, which is entered. */
static bool enter(Reader *r, const Setting *s) {
    while (r->depth && r->indent[r->depth - 1] >= s->indent) r->depth--;
    if (s->where.n) return true;
    if (r->depth < DEPTH_MAX) r->indent[r->depth] = s->indent, r->group[r->depth++] = s->key;
    return false;
}

static bool differs(const Reader *r, const Setting *s) {
    if (!s->was.n) return false;
    for (int i = 0; i < r->n_bases; i++)
        if (same_file(s->where, r->base[i])) return false;
    return true;
}

/* Of a list, the names of its entries: the lines below that begin with a dash. */
static void add_entries(Str *out, const char *after) {
    int n = 0;
    for (const char *p = after; *p == '\n' && p[1]; p = strchrnul(p + 1, '\n')) {
        const char *end = strchrnul(p + 1, '\n'), *key = p + 1 + strspn(p + 1, " ");
        if (key - p <= 3) break; /* the next key of the same group */
        if (*key != '-') continue;
        str_add(out, n++ ? ", " : "[");
        const char *colon = memchr(key, ':', (size_t)(end - key));
        add_text(out, trimmed(key + 1, colon ? colon : end));
    }
    str_add(out, n ? "]" : "none");
}

static void table_row(Str *out, const Reader *r, const Setting *s) {
    const char *end = s->was.s + s->was.n, *open = find_last(s->was.s, end, " (");
    str_add(out, "<tr><td>");
    for (int i = 0; i < r->depth; i++) add_text(out, r->group[i]), str_add(out, ".");
    add_text(out, s->key);
    str_add(out, "<td>");
    if (s->value.n) add_text(out, s->value);
    else add_entries(out, end);
    str_add(out, "<td>");
    add_text(out, open ? trimmed(s->was.s, open) : s->was);
    str_add(out, "<td class=dim>");
    add_text(out, s->where);
    if (open && end > open + 3) {
        str_add(out, "; before: ");
        add_text(out, trimmed(open + 2, end - 1));
    }
    str_add(out, "</tr>");
}

static void read_line(Reader *r, Str *rows, const char *from, const char *to, int *found) {
    static const char base[] = "# base: ";
    Setting s;
    if ((size_t)(to - from) > sizeof base - 1 && !memcmp(from, base, sizeof base - 1) &&
        r->n_bases < BASES_MAX)
        r->base[r->n_bases++] = trimmed(from + sizeof base - 1, to);
    if (!parse_line(from, to, &s)) return;
    if (enter(r, &s) && differs(r, &s) && (*found)++ < SHOWN_MAX) table_row(rows, r, &s);
}

/* Does the reader stand at NAME, "train.lr"? */
static bool at_name(const Reader *r, const Setting *s, const char *name) {
    for (int i = 0; i < r->depth; i++) {
        if (strncmp(name, r->group[i].s, r->group[i].n) || name[r->group[i].n] != '.') return false;
        name += r->group[i].n + 1;
    }
    return !strncmp(name, s->key.s, s->key.n) && !name[s->key.n];
}

char *run_setting(const RunData *run, const char *name) {
    Reader r = {0};
    for (const char *p = run->config; *p;) {
        const char *end = strchrnul(p, '\n');
        Setting s;
        if (parse_line(p, end, &s) && enter(&r, &s) && at_name(&r, &s, name)) {
            Text v = s.value;
            if (v.n >= 2 && *v.s == '"') v.s++, v.n -= 2; /* escapes inside stay as they are */
            return xprintf("%.*s", (int)v.n, v.s);
        }
        p = end + (*end == '\n');
    }
    return NULL;
}

static void differences(Str *out, const RunData *r) {
    Reader reader = {0};
    Str rows = {0};
    int found = 0;
    for (const char *p = r->config; *p;) {
        const char *end = strchrnul(p, '\n');
        read_line(&reader, &rows, p, end, &found);
        p = end + (*end == '\n');
    }
    str_add(out, "<p>");
    if (reader.n_bases) {
        str_add(out, "Based on <b>");
        add_text(out, reader.base[0]);
        str_add(out, "</b>. ");
    }
    if (found) str_addf(out, "%d values are this run's own:</p>", found);
    else
        str_addf(out, "No value differs%s.</p>",
                 reader.n_bases ? " from it" : " from its file and the defaults");
    if (found) {
        str_add(out, "<div class='card wide'><table class=set><tr><th>option<th>here<th>instead "
                     "of<th>set by</tr>");
        str_add(out, rows.s);
        str_add(out, "</table></div>\n");
    }
    str_free(&rows);
}

void run_config(Str *out, const RunData *r) {
    if (!*r->config) return;
    str_add(out, "<h2>Configuration</h2>");
    differences(out, r);
    str_add(out, "<details><summary>config.yaml, whole</summary><pre>");
    str_escape_html(out, r->config);
    str_add(out, "</pre></details>\n");
}
