/* charts.c - lines, bars and dots as inline SVG.
 *
 * Marks take their colours from the page's classes s1..s6, so that one picture serves the light and
 * the dark page. Every value can be read without a script: points carry a <title>, bars their
 * number. */
#include "report/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 500,
    HEIGHT = 220,
    LEFT = 48,
    RIGHT = 14,
    TOP = 10,
    BOTTOM = 30,
    TICKS = 5,
    COLOURS = 6
};

void series_add(Series *s, double x, double y) {
    GROW(s->x, s->n, s->cap_x);
    GROW(s->y, s->n, s->cap_y);
    s->x[s->n] = x;
    s->y[s->n++] = y;
}

void series_free(Series *s) {
    free(s->x);
    free(s->y);
    *s = (Series){0};
}

/* Gaps inside a bucket are left out of its mean; a bucket of gaps alone stays a gap. */
void series_thin(const Series *s, int max, Series *out) {
    *out = (Series){.name = s->name};
    int buckets = s->n < max ? s->n : max;
    for (int b = 0; b < buckets; b++) {
        int64_t lo = (int64_t)s->n * b / buckets, hi = (int64_t)s->n * (b + 1) / buckets;
        double x = 0, y = 0;
        int n = 0;
        for (int64_t i = lo; i < hi; i++) {
            x += s->x[i];
            if (isfinite(s->y[i])) y += s->y[i], n++;
        }
        series_add(out, x / (double)(hi - lo), n ? y / n : NAN);
    }
}

typedef struct {
    double lo, hi, step;
} Axis;

/* Round limits and about TICKS steps of 1, 2 or 5 times a power of ten. */
static Axis axis_make(double lo, double hi) {
    if (!(hi > lo)) hi = lo + (lo != 0 ? fabs(lo) : 1);
    double raw = (hi - lo) / TICKS, power = pow(10, floor(log10(raw))), part = raw / power;
    double step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
    return (Axis){floor(lo / step + 1e-9) * step, ceil(hi / step - 1e-9) * step, step};
}

static double axis_x(Axis a, double v) {
    return LEFT + (v - a.lo) / (a.hi - a.lo) * (WIDTH - LEFT - RIGHT);
}
static double axis_y(Axis a, double v) {
    return HEIGHT - BOTTOM - (v - a.lo) / (a.hi - a.lo) * (HEIGHT - TOP - BOTTOM);
}

static bool chart_limits(const Series *s, int n, bool from_zero, Axis *x, Axis *y) {
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < s[i].n; j++) {
            if (!isfinite(s[i].y[j]) || !isfinite(s[i].x[j])) continue;
            x0 = fmin(x0, s[i].x[j]), x1 = fmax(x1, s[i].x[j]);
            y0 = fmin(y0, s[i].y[j]), y1 = fmax(y1, s[i].y[j]);
        }
    if (!isfinite(x0)) return false;
    if (from_zero) y0 = fmin(y0, 0);
    *x = axis_make(x0, x1), *y = axis_make(y0, y1);
    x->lo = x0, x->hi = x1 > x0 ? x1 : x0 + 1; /* the curve ends at the frame */
    return true;
}

static void chart_axes(Str *out, Axis x, Axis y) {
    for (int i = 0; i <= 2 * TICKS + 2; i++) {
        double v = y.lo + i * y.step;
        if (v > y.hi + y.step * 1e-6) break;
        double py = axis_y(y, v);
        str_addf(out, "<line class=g x1=%d x2=%d y1=%.1f y2=%.1f />", LEFT, WIDTH - RIGHT, py, py);
        str_addf(out, "<text class=t x=%d y=%.1f text-anchor=end>%.4g</text>", LEFT - 6, py + 4,
                 fabs(v) < y.step * 1e-6 ? 0 : v);
    }
    for (int i = 0; i <= 2 * TICKS + 2; i++) {
        double v = ceil(x.lo / x.step - 1e-9) * x.step + i * x.step;
        if (v > x.hi + x.step * 1e-6) break;
        str_addf(out, "<text class=t x=%.1f y=%d text-anchor=middle>%.6g</text>", axis_x(x, v),
                 HEIGHT - 10, v);
    }
}

static void chart_point(Str *out, const char *name, double x, double y, const char *at) {
    str_addf(out, "cx=%.1f cy=%.1f r=4><title>", x, y);
    str_escape_html(out, name);
    str_addf(out, " %s</title></circle>", at);
}

static void chart_curve(Str *out, const Series *s, int colour, Axis x, Axis y) {
    bool pen = false;
    str_addf(out, "<path class='c s%d' d='", colour % COLOURS + 1);
    for (int j = 0; j < s->n; j++) {
        if (!isfinite(s->y[j])) {
            pen = false;
            continue;
        }
        str_addf(out, "%c%.1f %.1f", pen ? 'L' : 'M', axis_x(x, s->x[j]), axis_y(y, s->y[j]));
        pen = true;
    }
    str_add(out, "'/>");
    for (int j = 0; j < s->n; j++) {
        if (!isfinite(s->y[j])) continue;
        char at[64];
        snprintf(at, sizeof at, "%.5g at %.6g", s->y[j], s->x[j]);
        str_addf(out, "<circle class='p s%d%s' ", colour % COLOURS + 1, s->n > 30 ? " h" : "");
        chart_point(out, s->name, axis_x(x, s->x[j]), axis_y(y, s->y[j]), at);
    }
}

static void chart_head(Str *out, const char *title, const char *unit) {
    str_add(out, "<figure class=chart><figcaption>");
    str_escape_html(out, title);
    if (unit && *unit) {
        str_add(out, " <small>");
        str_escape_html(out, unit);
        str_add(out, "</small>");
    }
    str_add(out, "</figcaption>");
}

static void chart_legend(Str *out, const char *name, int colour) {
    str_addf(out, "<span class=k><i class=s%d></i>", colour % COLOURS + 1);
    str_escape_html(out, name);
    str_add(out, "</span>");
}

/* Neighbours of one name (the runs of one arm) share a colour and an entry of the legend. */
static int chart_colour(const Series *s, int i) {
    int colour = 0;
    for (int j = 1; j <= i; j++) colour += strcmp(s[j].name, s[j - 1].name) != 0;
    return colour;
}

void chart_lines(Str *out, const Chart *c) {
    Axis x, y;
    chart_head(out, c->title, c->unit);
    if (!chart_limits(c->series, c->n_series, c->from_zero, &x, &y)) {
        str_add(out, "<p class=none>nothing was recorded</p></figure>");
        return;
    }
    str_addf(out, "<svg viewBox='0 0 %d %d' role=img>", WIDTH, HEIGHT);
    chart_axes(out, x, y);
    if (c->mark && c->mark_x >= x.lo && c->mark_x <= x.hi) {
        double px = axis_x(x, c->mark_x);
        str_addf(out, "<line class=m x1=%.1f x2=%.1f y1=%d y2=%d />", px, px, TOP, HEIGHT - BOTTOM);
        str_addf(out, "<text class=t x=%.1f y=%d text-anchor=%s>", px + (px > WIDTH * 0.7 ? -5 : 5),
                 TOP + 10, px > WIDTH * 0.7 ? "end" : "start");
        str_escape_html(out, c->mark);
        str_add(out, "</text>");
    }
    for (int i = 0; i < c->n_series; i++) {
        Series thin;
        series_thin(&c->series[i], CHART_POINTS_MAX, &thin);
        chart_curve(out, &thin, chart_colour(c->series, i), x, y);
        series_free(&thin);
    }
    str_add(out, "</svg>");
    if (c->n_series > 1) {
        str_add(out, "<div class=keys>");
        for (int i = 0; i < c->n_series; i++)
            if (!i || chart_colour(c->series, i) != chart_colour(c->series, i - 1))
                chart_legend(out, c->series[i].name, chart_colour(c->series, i));
        str_add(out, "</div>");
    }
    str_add(out, "</figure>");
}

enum { NAME = 116 }; /* width of the column of names */

static double dot_x(Axis a, double v) {
    return NAME + RIGHT + (v - a.lo) / (a.hi - a.lo) * (WIDTH - NAME - 2 * RIGHT);
}

static void dot_row(Str *out, const Series *s, int colour, Axis a, int mid) {
    double sum = 0;
    int n = 0;
    str_addf(out, "<text x=%d y=%d text-anchor=end>", NAME - 8, mid + 4);
    str_escape_html(out, s->name);
    str_add(out, "</text>");
    for (int j = 0; j < s->n; j++)
        if (isfinite(s->y[j])) sum += s->y[j], n++;
    if (n > 1)
        str_addf(out, "<path class='c s%d' d='M%.1f %dv22'/>", colour, dot_x(a, sum / n), mid - 11);
    for (int j = 0; j < s->n; j++) {
        if (!isfinite(s->y[j])) continue;
        char at[32];
        snprintf(at, sizeof at, "%.2f", s->y[j]);
        str_addf(out, "<circle class='p s%d' ", colour);
        chart_point(out, s->name, dot_x(a, s->y[j]), mid, at);
    }
}

void chart_dots(Str *out, const char *title, const char *unit, const Series *s, int n) {
    enum { ROW = 30 };
    const int bottom = n * ROW + 4;
    Axis x, y;
    chart_head(out, title, unit);
    if (!chart_limits(s, n, false, &x, &y)) {
        str_add(out, "<p class=none>nothing was recorded</p></figure>");
        return;
    }
    str_addf(out, "<svg viewBox='0 0 %d %d' role=img>", WIDTH, bottom + 22);
    for (int i = 0; y.lo + i * y.step <= y.hi + y.step * 1e-6; i++) {
        double v = y.lo + i * y.step, px = dot_x(y, v);
        str_addf(out, "<line class=g x1=%.1f x2=%.1f y1=0 y2=%d />", px, px, bottom);
        str_addf(out, "<text class=t x=%.1f y=%d text-anchor=middle>%.4g</text>", px, bottom + 16,
                 fabs(v) < y.step * 1e-6 ? 0 : v);
    }
    for (int i = 0; i < n; i++) dot_row(out, &s[i], i % COLOURS + 1, y, i * ROW + ROW / 2 + 2);
    str_add(out, "</svg></figure>");
}

void chart_bars(Str *out, const char *title, const char *const *groups, int n_groups,
                const BarRow *rows, int n) {
    enum { NUMBER = 44, BAR = 11, GAP = 8 };
    int height = n * (n_groups * (BAR + 2) + GAP) + GAP, y = GAP;
    chart_head(out, title, "%");
    if (!n) {
        str_add(out, "<p class=none>nothing was recorded</p></figure>");
        return;
    }
    str_addf(out, "<svg viewBox='0 0 %d %d' role=img>", WIDTH, height);
    for (int i = 0; i < n; i++) {
        int mid = y + n_groups * (BAR + 2) / 2;
        if (rows[i].rgb)
            str_addf(out, "<rect x=0 y=%d width=10 height=10 rx=2 fill='rgb(%d,%d,%d)'/>", mid - 6,
                     rows[i].rgb[0], rows[i].rgb[1], rows[i].rgb[2]);
        str_addf(out, "<text x=%d y=%d text-anchor=end>", NAME - 8, mid + 3);
        str_escape_html(out, rows[i].name);
        str_add(out, "</text>");
        for (int g = 0; g < n_groups; g++, y += BAR + 2) {
            double v = rows[i].value[g];
            if (!isfinite(v)) {
                str_addf(out, "<text class=t x=%d y=%d>absent</text>", NAME + 4, y + BAR - 1);
                continue;
            }
            double length = fmax(0, fmin(1, v)) * (WIDTH - NAME - NUMBER);
            str_addf(out, "<rect class='b s%d' x=%d y=%d width=%.1f height=%d rx=2><title>",
                     g % COLOURS + 1, NAME, y, length, BAR);
            str_escape_html(out, groups[g]);
            str_addf(out, "</title></rect><text class=t x=%.1f y=%d>%.1f</text>", NAME + length + 5,
                     y + BAR - 1, 100 * v);
        }
        y += GAP;
    }
    str_add(out, "</svg>");
    if (n_groups > 1) {
        str_add(out, "<div class=keys>");
        for (int g = 0; g < n_groups; g++) chart_legend(out, groups[g], g);
        str_add(out, "</div>");
    }
    str_add(out, "</figure>");
}
