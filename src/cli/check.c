/* check.c - see check.h: the order of the parts, and what is said at the end. */
#include "cli/check_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/parallel.h"

static char *format(const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    const int n = str_vformat(NULL, 0, fmt, ap);
    char *text = xcalloc((size_t)n + 1, 1);
    str_vformat(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

void check_say(const Check *k, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *text = format(fmt, ap);
    va_end(ap);
    if (k->into_log) log_info("%s", text);
    else {
        Str s = {0};
        str_add(&s, "");
        str_escape_lines(&s, text);
        puts(s.s);
        str_free(&s);
    }
    free(text);
}

static void add(Check *k, Err code, char *text) { /* takes text; once is enough */
    for (int i = 0; i < k->n; i++)
        if (k->found[i].code == code && !strcmp(k->found[i].text, text)) {
            free(text);
            return;
        }
    GROW(k->found, k->n, k->cap);
    k->found[k->n++] = (Fault){code, text};
}

void check_note(Check *k, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    add(k, OK, format(fmt, ap));
    va_end(ap);
}

Err check_problem(Check *k, Err rc) {
    if (rc < 1000) return rc;
    add(k, rc, xstrdup(err_text()));
    return OK;
}

void check_unreached(Check *k, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *text = format(fmt, ap);
    va_end(ap);
    str_addf(&k->unreached, "%s%s", k->unreached.n ? ", " : "", text);
    free(text);
}

double check_time_until(const Check *k, double share) {
    if (k->seconds <= 0) return 0;
    return fmax(0.5, share * k->seconds - (sys_now() - k->start));
}

/* Notes, then what was not looked at, then problems: what counts stands last. */
static Err verdict(const Check *k) {
    const Fault *first = NULL;
    int n = 0;
    for (int i = 0; i < k->n; i++)
        if (!k->found[i].code) check_say(k, "note: %s", k->found[i].text);
    if (k->unreached.n)
        check_say(k, "not reached within check.seconds=%g: %s; check=full looks at everything",
                  k->c->check.seconds, k->unreached.s);
    for (int i = 0; i < k->n; i++) {
        const Fault *f = &k->found[i];
        if (!f->code) continue;
        if (!first) first = f;
        check_say(k, "problem %d: E%04d %s", ++n, f->code, f->text);
    }
    check_say(k, "check: %d problem%s, %.1f s", n, n == 1 ? "" : "s", sys_now() - k->start);
    if (!n) return OK;
    return err_set(first->code, "%d problem%s; the first: %s%s", n, n == 1 ? "" : "s", first->text,
                   k->into_log ? "; check=off trains all the same" : "");
}

Err check_training(const Config *c, bool into_log) {
    static Err (*const parts[])(Check *) = {check_data, check_networks, check_steps, check_teacher};
    Check k = {.c = c,
               .into_log = into_log,
               .start = sys_now(),
               .seconds = c->check.kind == CHECK_FULL ? 0 : c->check.seconds,
               .free_bytes = sys_mem_available(),
               .expected_s = NAN};
    Err rc = OK;
    parallel_set_threads((int)c->threads);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !rc; i++) rc = parts[i](&k);
    if (!rc) rc = verdict(&k);
    for (int i = 0; i < k.n; i++) free(k.found[i].text);
    free(k.found);
    str_free(&k.unreached);
    open_model_close(&k.teacher);
    for (int i = 0; i < CHECK_SPLITS; i++) survey_free(&k.seen[i]), dataset_close(k.split[i]);
    return rc;
}
