/* charts.c - curves. A figure is an SVG stretched over the plot's box, with all text around it as
 * HTML: so it fills any width, and its text stays readable on a phone.
 *
 * Marks take their colours from the page's classes s1..s6 (dashed from the seventh series on), so
 * that one picture serves the light and the dark page. There is no script: values are read by
 * pointing at the plot, which lies under columns of CHART_STRIPS_MAX at most, each with its own
 * note. Long series are thinned to CHART_POINTS_MAX means; a band shows what lay between least and
 * most. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

enum {
    W = 1000, /* the SVG's own units, stretched to the box */
    HEIGHT_PX = 210,
    LABEL_PX = 15,   /* height of a direct label */
    LABELS_MAX = 24, /* more series than that are told apart by pointing */
    TICKS = 5,
    COLOURS = 6,
    STRIPS_MAX = 100,
    NOTES_MAX = 20, /* values in one note */
    DOTS_MAX = 30   /* a series of no more points shows them */
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

void series_envelope(const Series *s, int max, Series *mean, Series *least, Series *most) {
    *mean = *least = *most = (Series){.name = s->name};
    int buckets = s->n < max ? s->n : max;
    for (int b = 0; b < buckets; b++) {
        int64_t lo = (int64_t)s->n * b / buckets, hi = (int64_t)s->n * (b + 1) / buckets;
        double x = 0, y = 0, a = INFINITY, z = -INFINITY;
        int n = 0;
        for (int64_t i = lo; i < hi; i++) {
            x += s->x[i];
            if (!isfinite(s->y[i])) continue;
            y += s->y[i], n++;
            a = fmin(a, s->y[i]), z = fmax(z, s->y[i]);
        }
        x /= (double)(hi - lo);
        series_add(mean, x, n ? y / n : NAN);
        series_add(least, x, n ? a : NAN);
        series_add(most, x, n ? z : NAN);
    }
}

void series_thin(const Series *s, int max, Series *out) {
    Series least, most;
    series_envelope(s, max, out, &least, &most);
    series_free(&least);
    series_free(&most);
}

/* ---- axes ------------------------------------------------------------------------------------ */

typedef struct Axis {
    double lo, hi, step; /* step 0: logarithmic */
} Axis;

/* Round limits and about TICKS steps of 1, 2 or 5 times a power of ten. */
static Axis axis_make(double lo, double hi) {
    if (!(hi > lo)) hi = lo + (lo != 0 ? fabs(lo) : 1);
    double raw = (hi - lo) / TICKS, power = pow(10, floor(log10(raw))), part = raw / power;
    double step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
    return (Axis){floor(lo / step + 1e-9) * step, ceil(hi / step - 1e-9) * step, step};
}

/* Where v lies on the axis, 0..1. */
static double axis_at(Axis a, double v) {
    if (a.step > 0) return (v - a.lo) / (a.hi - a.lo);
    return (log(v) - log(a.lo)) / (log(a.hi) - log(a.lo));
}

/* The i-th tick, or NAN after the last. */
static double axis_tick(Axis a, int i) {
    if (a.step > 0) {
        double v = ceil(a.lo / a.step - 1e-9) * a.step + i * a.step;
        return v > a.hi + a.step * 1e-6 ? NAN : fabs(v) < a.step * 1e-6 ? 0 : v;
    }
    const double decades = log10(a.hi / a.lo);
    const int every = (int)ceil(decades / TICKS), part = decades < 2.5 ? 3 : 1;
    static const double digit[3] = {1, 2, 5};
    double first = floor(log10(a.lo) + 1e-9);
    for (int k = 0, found = 0; k < 400; k++) {
        double v = pow(10, first + (double)(k / part * (part > 1 ? 1 : every))) *
                   digit[part > 1 ? k % 3 : 0];
        if (v > a.hi * (1 + 1e-9)) return NAN;
        if (v >= a.lo * (1 - 1e-9) && found++ == i) return v;
    }
    return NAN;
}

/* 40000 as 40k: a phone has room for few digits. */
static void tick_text(char out[32], double v) {
    static const struct {
        double unit;
        const char *mark;
    } big[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    for (size_t i = 0; i < sizeof big / sizeof *big; i++)
        if (fabs(v) >= big[i].unit && fabs(v) < 1e12) {
            snprintf(out, 32, "%.4g%s", v / big[i].unit, big[i].mark);
            return;
        }
    snprintf(out, 32, "%.4g", v);
}

static bool chart_limits(const Chart *c, Axis *x, Axis *y) {
    enum { LOG_RATIO = 40 };
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    for (int i = 0; i < c->n_series; i++)
        for (int j = 0; j < c->series[i].n; j++) {
            double u = c->series[i].x[j], v = c->series[i].y[j];
            if (!isfinite(u) || !isfinite(v)) continue;
            x0 = fmin(x0, u), x1 = fmax(x1, u);
            y0 = fmin(y0, v), y1 = fmax(y1, v);
        }
    if (!isfinite(x0)) return false;
    if (c->log && y0 > 0 && y1 / y0 > LOG_RATIO) *y = (Axis){y0 * 0.9, y1 * 1.1, 0};
    else *y = axis_make(c->from_zero ? fmin(y0, 0) : y0, y1);
    *x = axis_make(x0, x1);
    x->lo = x0, x->hi = x1 > x0 ? x1 : x0 + 1; /* the curve ends at the frame */
    return true;
}

typedef struct Plot { /* one chart while it is drawn */
    const Chart *c;
    Axis x, y;
    int height;                  /* px */
    Series *mean, *least, *most; /* [n_series] */
    Str *out;
} Plot;

static double plot_x(const Plot *p, double v) {
    return W * axis_at(p->x, v);
}
static double plot_y(const Plot *p, double v) {
    return p->height * (1 - axis_at(p->y, v));
}

static void plot_grid(const Plot *p) {
    double v;
    str_add(p->out, "<path class=g d='");
    for (int i = 0; isfinite(v = axis_tick(p->y, i)); i++)
        str_addf(p->out, "M0 %.1fH%d", plot_y(p, v), W);
    str_add(p->out, "'/>");
}

static void plot_ticks(const Plot *p) {
    char text[32];
    double v;
    for (int i = 0; isfinite(v = axis_tick(p->y, i)); i++) {
        tick_text(text, v);
        str_addf(p->out, "<b class=y style=top:%.1f%%>%s</b>", 100 * (1 - axis_at(p->y, v)), text);
    }
    for (int i = 0; isfinite(v = axis_tick(p->x, i)); i++) {
        tick_text(text, v);
        str_addf(p->out, "<b class=x style=left:%.1f%%>%s</b>", 100 * axis_at(p->x, v), text);
    }
}

/* ---- curves ---------------------------------------------------------------------------------- */

/* Neighbours of one name (the runs of one arm) share a colour and a label. */
static int chart_colour(const Series *s, int i) {
    int colour = 0;
    for (int j = 1; j <= i; j++) colour += strcmp(s[j].name, s[j - 1].name) != 0;
    return colour;
}

/* "s3", and from the seventh series on dashed. */
static void add_class(Str *out, int colour) {
    str_addf(out, " s%d", colour % COLOURS + 1);
    if (colour >= COLOURS) str_addf(out, " d%d", (colour / COLOURS - 1) % 2 + 1);
}

static void plot_band(const Plot *p, int i, int colour) {
    const Series *a = &p->least[i], *z = &p->most[i];
    bool wide = false;
    for (int j = 0; j < a->n; j++) wide |= z->y[j] > a->y[j];
    if (!wide) return;
    str_addf(p->out, "<path class='e s%d' d='", colour % COLOURS + 1);
    for (int j = 0, end; j < a->n; j = end) { /* one closed shape per stretch without a gap */
        end = j + 1;
        if (!isfinite(a->y[j])) continue;
        while (end < a->n && isfinite(a->y[end])) end++;
        for (int k = j; k < end; k++)
            str_addf(p->out, "%c%.1f %.1f", k == j ? 'M' : 'L', plot_x(p, a->x[k]),
                     plot_y(p, z->y[k]));
        for (int k = end - 1; k >= j; k--)
            str_addf(p->out, "L%.1f %.1f", plot_x(p, a->x[k]), plot_y(p, a->y[k]));
        str_add(p->out, "Z");
    }
    str_add(p->out, "'/>");
}

static void plot_curve(const Plot *p, int i, int colour, bool thin) {
    const Series *s = &p->mean[i];
    bool pen = false;
    str_add(p->out, thin ? "<path class='c thin" : "<path class='c");
    add_class(p->out, colour);
    str_add(p->out, "' d='");
    for (int j = 0; j < s->n; j++) {
        if (isfinite(s->y[j]))
            str_addf(p->out, "%c%.1f %.1f", pen ? 'L' : 'M', plot_x(p, s->x[j]),
                     plot_y(p, s->y[j]));
        pen = isfinite(s->y[j]);
    }
    str_add(p->out, "'/>");
    if (s->n > DOTS_MAX) return;
    str_addf(p->out, "<path class='p s%d' d='",
             colour % COLOURS + 1); /* dots: lines of no length */
    for (int j = 0; j < s->n; j++)
        if (isfinite(s->y[j]))
            str_addf(p->out, "M%.1f %.1fh0", plot_x(p, s->x[j]), plot_y(p, s->y[j]));
    str_add(p->out, "'/>");
}

static void plot_mark(const Plot *p, bool text) {
    const Chart *c = p->c;
    if (!c->mark || !(c->mark_x >= p->x.lo && c->mark_x <= p->x.hi)) return;
    const double at = axis_at(p->x, c->mark_x);
    if (!text) {
        str_addf(p->out, "<path class=m d='M%.1f 0V%d'/>", W * at, p->height);
        return;
    }
    str_addf(p->out, "<b class='k%s' style=left:%.1f%%>", at > 0.7 ? " l" : "", 100 * at);
    str_escape_html(p->out, c->mark);
    str_add(p->out, "</b>");
}

/* ---- direct labels --------------------------------------------------------------------------- */

typedef struct Label {
    const char *name;
    int colour;
    double y; /* px from the top */
} Label;

static int by_y(const void *a, const void *b) {
    const Label *x = a, *y = b;
    return x->y != y->y ? (x->y > y->y) - (x->y < y->y) : x->colour - y->colour;
}

/* Push labels apart: down where they overlap, then up again from the bottom edge. */
static void labels_spread(Label *l, int n, double height) {
    qsort(l, (size_t)n, sizeof *l, by_y);
    for (int i = 1; i < n; i++) l[i].y = fmax(l[i].y, l[i - 1].y + LABEL_PX);
    double limit = height;
    for (int i = n - 1; i >= 0; i--, limit -= LABEL_PX) l[i].y = fmin(l[i].y, limit);
}

static double last_finite(const Series *s) {
    for (int j = s->n - 1; j >= 0; j--)
        if (isfinite(s->y[j])) return s->y[j];
    return NAN;
}

static void plot_labels(const Plot *p) {
    Label l[LABELS_MAX];
    int n = 0;
    for (int i = 0; i < p->c->n_series; i++) {
        const int colour = chart_colour(p->c->series, i);
        const double last = last_finite(&p->mean[i]);
        if ((i && colour == chart_colour(p->c->series, i - 1)) || !isfinite(last)) continue;
        l[n++] = (Label){p->c->series[i].name, colour, plot_y(p, last)};
    }
    labels_spread(l, n, p->height);
    for (int i = 0; i < n; i++) {
        str_addf(p->out, "<b class='n s%d' style=top:%.1f%%>", l[i].colour % COLOURS + 1,
                 100 * l[i].y / p->height);
        str_escape_html(p->out, l[i].name);
        str_add(p->out, "</b>");
    }
}

/* ---- notes: what is read by pointing --------------------------------------------------------- */

/* The value of s nearest to x, if it lies within reach. */
static double value_near(const Series *s, double x, double reach) {
    int lo = 0, hi = s->n;
    while (lo < hi) { /* the first point at or after x - reach */
        int mid = (lo + hi) / 2;
        if (s->x[mid] < x - reach) lo = mid + 1;
        else hi = mid;
    }
    double best = NAN, distance = INFINITY;
    for (; lo < s->n && s->x[lo] <= x + reach; lo++)
        if (fabs(s->x[lo] - x) < distance) best = s->y[lo], distance = fabs(s->x[lo] - x);
    return best;
}

static void note_values(const Plot *p, double x, double reach) {
    int shown = 0, more = 0;
    for (int i = 0; i < p->c->n_series; i++) {
        double v = value_near(&p->mean[i], x, reach);
        if (!isfinite(v)) continue;
        if (shown == NOTES_MAX) {
            more++;
            continue;
        }
        shown++;
        str_addf(p->out, "<br><s class=s%d></s>", chart_colour(p->c->series, i) % COLOURS + 1);
        if (p->c->n_series > 1) str_escape_html(p->out, p->mean[i].name);
        str_addf(p->out, " %.4g", v);
    }
    if (more) str_addf(p->out, "<br>and %d more", more);
}

/* Columns over the plot, about the points of the series that has most. */
static void plot_notes(const Plot *p) {
    const Series *s = &p->mean[0];
    for (int i = 1; i < p->c->n_series; i++)
        if (p->mean[i].n > s->n) s = &p->mean[i];
    const int n = s->n < STRIPS_MAX ? s->n : STRIPS_MAX;
    double edge = 0;
    for (int i = 0; i < n; i++) {
        const double x = s->x[(int64_t)s->n * i / n + (s->n / n - 1) / 2];
        const double after = i + 1 < n ? s->x[(int64_t)s->n * (i + 1) / n + (s->n / n - 1) / 2] : x;
        const double next = i + 1 < n ? axis_at(p->x, (x + after) / 2) : 1, at = axis_at(p->x, x);
        const double reach = fmax(fmax(next - at, at - edge) * (p->x.hi - p->x.lo), 1e-9 * fabs(x));
        if (!(next > edge)) continue;
        str_addf(p->out,
                 "<i%s style='left:%.2f%%;width:%.2f%%'><em style=left:%.0f%%></em><span><strong>",
                 at > 0.5 ? " class=l" : "", 100 * edge, 100 * (next - edge),
                 100 * (at - edge) / (next - edge));
        if (p->c->unit && str_ends(p->c->unit, "by step"))
            str_addf(p->out, "step %.10g</strong>", round(x));
        else str_addf(p->out, "%.4g</strong>", x);
        note_values(p, x, reach);
        str_add(p->out, "</span></i>");
        edge = next;
    }
}

/* ---- a figure -------------------------------------------------------------------------------- */

void chart_head(Str *out, const char *title, const char *unit) {
    str_add(out, "<figure class=chart><figcaption>");
    str_escape_html(out, title);
    if (unit && *unit) {
        str_add(out, " <small>");
        str_escape_html(out, unit);
        str_add(out, "</small>");
    }
    str_add(out, "</figcaption>");
}

static void plot_draw(const Plot *p, int distinct) {
    const Chart *c = p->c;
    const bool labelled = distinct > 1 && distinct <= LABELS_MAX;
    size_t longest = 0;
    for (int i = 0; i < c->n_series; i++)
        if (strlen(c->series[i].name) > longest) longest = strlen(c->series[i].name);
    if (longest > 16) longest = 16;
    str_addf(p->out, "<div class=plot style='height:%dpx;--r:%dpx'>", p->height,
             labelled ? 22 + 8 * (int)longest : 14);
    str_addf(p->out, "<svg viewBox='0 0 %d %d' preserveAspectRatio=none role=img aria-label='", W,
             p->height);
    str_escape_html(p->out, c->title);
    str_add(p->out, "'>");
    plot_grid(p);
    plot_mark(p, false);
    const bool thin = distinct > LABELS_MAX;
    for (int i = 0; i < c->n_series && !thin; i++) plot_band(p, i, chart_colour(c->series, i));
    for (int i = 0; i < c->n_series; i++) plot_curve(p, i, chart_colour(c->series, i), thin);
    str_add(p->out, "</svg>");
    plot_ticks(p);
    plot_mark(p, true);
    if (labelled) plot_labels(p);
    plot_notes(p);
    str_add(p->out, "</div>");
}

void chart_lines(Str *out, const Chart *c) {
    Plot p = {.c = c, .out = out, .height = HEIGHT_PX};
    chart_head(out, c->title, c->unit);
    if (!chart_limits(c, &p.x, &p.y)) {
        str_add(out, "<p class=none>nothing was recorded</p></figure>");
        return;
    }
    const int distinct = chart_colour(c->series, c->n_series - 1) + 1;
    if (distinct <= LABELS_MAX && distinct * LABEL_PX > p.height) p.height = distinct * LABEL_PX;
    Series *all = xcalloc(3 * (size_t)c->n_series, sizeof *all);
    p.mean = all, p.least = all + c->n_series, p.most = all + 2 * c->n_series;
    for (int i = 0; i < c->n_series; i++)
        series_envelope(&c->series[i], CHART_POINTS_MAX, &p.mean[i], &p.least[i], &p.most[i]);
    plot_draw(&p, distinct);
    for (int i = 0; i < 3 * c->n_series; i++) series_free(&all[i]);
    free(all);
    str_add(out, "</figure>");
}
