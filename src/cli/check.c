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

void check_note(Check *k, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *text = format(fmt, ap);
    va_end(ap);
    faults_add(&k->found, OK, text);
    free(text);
}

Err check_problem(Check *k, Err rc) {
    if (rc < 1000) return rc;
    faults_add(&k->found, rc, err_text());
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

void check_deadline(const Check *k, double share) {
    const double left = check_time_until(k, share);
    sys_set_deadline(left > 0 ? sys_now() + left : 0);
}

bool check_over(const Check *k, double share, double seconds) {
    return k->seconds > 0 && sys_now() - k->start + seconds > fmax(1, share * k->seconds);
}

/* "problem 2: E3034 FILE: what; what to do", and how many there are like it, the next ones by name. */
static void tell_fault(const Check *k, int number, const Fault *f) {
    Str s = {0};
    if (f->code) str_addf(&s, "problem %d: E%04d ", number, f->code);
    else str_add(&s, "note: ");
    str_add(&s, f->text[0]);
    if (f->count > 1) str_addf(&s, "\n  %d of this kind in all; the next:", f->count);
    for (int i = 1; i < FAULT_EXAMPLES && f->text[i]; i++) str_addf(&s, "%s %s", i > 1 ? ";" : "", f->text[i]);
    check_say(k, "%s", s.s);
    str_free(&s);
}

/* Notes, then what was not looked at, then problems: what counts stands last. */
static Err verdict(const Check *k) {
    const Fault *first = NULL;
    int n = 0;
    for (int i = 0; i < k->found.n; i++)
        if (!k->found.v[i].code) tell_fault(k, 0, &k->found.v[i]);
    if (k->unreached.n)
        check_say(k, "not reached within check.seconds=%g: %s; check=full looks at everything",
                  k->c->check.seconds, k->unreached.s);
    for (int i = 0; i < k->found.n; i++) {
        const Fault *f = &k->found.v[i];
        if (!f->code) continue;
        if (!first) first = f;
        tell_fault(k, ++n, f);
    }
    if (k->found.more) check_say(k, "%d more problems of other kinds are not listed", k->found.more);
    check_say(k, "check: %d problem%s, %.1f s", n, n == 1 ? "" : "s", sys_now() - k->start);
    if (!n) return OK;
    return err_set(first->code, "%d problem%s; the first: %s%s", n, n == 1 ? "" : "s",
                   first->text[0], k->into_log ? "; check=off trains all the same" : "");
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
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !rc; i++) {
        rc = parts[i](&k);
        sys_set_deadline(0);
        if (rc == LATE) rc = OK;
    }
    if (!rc) rc = verdict(&k);
    faults_free(&k.found);
    str_free(&k.unreached);
    open_model_close(&k.teacher);
    for (int i = 0; i < CHECK_SPLITS; i++) survey_free(&k.seen[i]), dataset_close(k.split[i]);
    return rc;
}
