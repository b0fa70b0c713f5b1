/* progress.c - see progress.h.
 *
 * Honest: the pace is that of the last half to three quarters of the time so far, so that a slow start
 * (a plan made, a cold cache) is forgotten and a change of pace is seen, while single slow items do not
 * make the figure jump. Two marks do it: whenever the time since the start has doubled since the newer
 * one, that becomes the older one. */
#include "base/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"

enum { BAR_WIDTH = 20 };
static const double QUIET_S = 2.0;

DurationText duration_text(double seconds) {
    DurationText t = {"-"};
    if (!(seconds >= 0 && seconds < 1e9)) return t;
    const int64_t s = (int64_t)(seconds + 0.5);
    snprintf(t.s, sizeof t.s, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    return t;
}

Progress progress_start(const char *unit, int64_t total, const char *fmt, ...) {
    Progress p = {.unit = unit, .total = total, .start = sys_now()};
    va_list ap;
    va_start(ap, fmt);
    str_vformat(p.what, sizeof p.what, fmt, ap);
    va_end(ap);
    p.mark[0].time = p.mark[1].time = p.start;
    return p;
}

void progress_note(Progress *p, int64_t done, double now) {
    p->done = done;
    if (now - p->start < 2 * (p->mark[1].time - p->start)) return;
    p->mark[0] = p->mark[1];
    p->mark[1].time = now, p->mark[1].done = done;
}

double progress_left(const Progress *p, double now) {
    const int64_t done = p->done - p->mark[0].done;
    double left = NAN;
    if (done > 0 && p->total > 0)
        left = (now - p->mark[0].time) / (double)done * (double)(p->total - p->done);
    const double limit = p->until > 0 ? fmax(0, p->until - now) : NAN;
    return fmin(left, limit);        /* of NaN and a number, fmin is the number */
}

static void add_bar(Str *s, const Progress *p) {
    const int full = (int)((double)BAR_WIDTH * (double)p->done / (double)p->total);
    str_add(s, " [");
    for (int i = 0; i < BAR_WIDTH; i++) str_add(s, i < full ? "=" : " ");
    str_add(s, "]");
}

char *progress_line(const Progress *p, double now, bool bar) {
    Str s = {0};
    const double left = progress_left(p, now), spent = now - p->mark[0].time;
    str_add(&s, p->what);
    if (bar && p->total > 0) add_bar(&s, p);
    str_addf(&s, " %" PRId64, p->done);
    if (p->total > 0) str_addf(&s, "/%" PRId64, p->total);
    str_addf(&s, " %s", p->unit);
    if (p->done > p->mark[0].done && spent > 0)
        str_addf(&s, ", %.3g/s", (double)(p->done - p->mark[0].done) / spent);
    if (p->total > 0 && p->done >= p->total)
        str_addf(&s, ", took %s", duration_text(now - p->start).s);
    else if (isfinite(left)) str_addf(&s, ", %s left", duration_text(left).s);
    return s.s;
}

static void show(Progress *p, double now) {
    char *line = progress_line(p, now, sys_isatty(STDERR_FILENO));
    log_progress("%s", line);
    free(line);
    p->shown = true;
}

void progress_to(Progress *p, int64_t done) {
    const double now = sys_now();
    progress_note(p, done, now);
    if (now - p->start >= QUIET_S) show(p, now);
}

void progress_end(Progress *p) {
    if (p->shown) log_progress_end();    /* what was not shown of the last line is now */
}
