/* bars.c - figures made of rows: bars, dots over one axis, and the confusion matrix.
 *
 * Bars and dots are HTML alone, so names and numbers keep their size on a phone. The matrix is an
 * SVG of one square a pair of classes, and scrolls within its card when there are many. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

enum { COLOURS = 6 };

static void row_name(Str *out, const char *name, const uint8_t *rgb) {
    str_add(out, "<div class=r><span class=nm title='");
    str_escape_html(out, name);
    str_add(out, "'>");
    if (rgb) str_addf(out, "<i style=background:rgb(%d,%d,%d)></i>", rgb[0], rgb[1], rgb[2]);
    str_escape_html(out, name);
    str_add(out, "</span>");
}

static void legend_entry(Str *out, const char *name, int colour) {
    str_addf(out, "<span class=k><i class=s%d></i>", colour % COLOURS + 1);
    str_escape_html(out, name);
    str_add(out, "</span>");
}

static void bar(Str *out, const char *group, double v, int colour) {
    if (!isfinite(v)) {
        str_add(out, "<span class=tr></span><span class='v dim'>absent</span>");
        return;
    }
    str_add(out, "<span class=tr title='");
    str_escape_html(out, group);
    str_addf(out, " %.2f'><b class=s%d style=width:%.1f%%></b></span><span class=v>%.1f</span>",
             100 * v, colour % COLOURS + 1, 100 * fmax(0, fmin(1, v)), 100 * v);
}

void chart_bars(Str *out, const char *title, const char *const *groups, int n_groups,
                const BarRow *rows, int n) {
    enum { COLUMNS_FROM = 24 };
    chart_head(out, title, "%");
    if (!n) {
        str_add(out, "<p class=none>nothing was recorded</p></figure>");
        return;
    }
    str_addf(out, "<div class='bars%s'>", n >= COLUMNS_FROM && n_groups == 1 ? " many" : "");
    for (int i = 0; i < n; i++) {
        row_name(out, rows[i].name, rows[i].rgb);
        str_add(out, "<span class=g>");
        for (int g = 0; g < n_groups; g++) bar(out, groups[g], rows[i].value[g], g);
        str_add(out, "</span></div>");
    }
    str_add(out, "</div>");
    if (n_groups > 1) {
        str_add(out, "<div class=keys>");
        for (int g = 0; g < n_groups; g++) legend_entry(out, groups[g], g);
        str_add(out, "</div>");
    }
    str_add(out, "</figure>");
}

/* ---- dots ------------------------------------------------------------------------------------ */

typedef struct Range {
    double lo, hi, step;
} Range;

static bool range_of(const Series *s, int n, Range *out) {
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < s[i].n; j++)
            if (isfinite(s[i].y[j])) lo = fmin(lo, s[i].y[j]), hi = fmax(hi, s[i].y[j]);
    if (!isfinite(lo)) return false;
    if (!(hi > lo)) hi = lo + (lo != 0 ? fabs(lo) : 1);
    const double power = pow(10, floor(log10((hi - lo) / 4))), part = (hi - lo) / 4 / power;
    const double step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
    *out = (Range){floor(lo / step + 1e-9) * step, ceil(hi / step - 1e-9) * step, step};
    return true;
}

static double percent_at(Range a, double v) {
    return 100 * (v - a.lo) / (a.hi - a.lo);
}

static void dot_row(Str *out, const Series *s, int colour, Range a) {
    double sum = 0;
    int n = 0;
    row_name(out, s->name, NULL);
    str_add(out, "<span class=dots>");
    for (int j = 0; j < s->n; j++)
        if (isfinite(s->y[j])) sum += s->y[j], n++;
    if (n > 1)
        str_addf(out, "<b class='mean s%d' style=left:%.1f%%></b>", colour, percent_at(a, sum / n));
    for (int j = 0; j < s->n; j++) {
        if (!isfinite(s->y[j])) continue;
        str_addf(out, "<b class='dot s%d' style=left:%.1f%% title='", colour,
                 percent_at(a, s->y[j]));
        str_escape_html(out, s->name);
        str_addf(out, " %.2f'></b>", s->y[j]);
    }
    str_add(out, "</span></div>");
}

void chart_dots(Str *out, const char *title, const char *unit, const Series *s, int n) {
    Range a;
    chart_head(out, title, unit);
    if (!range_of(s, n, &a)) {
        str_add(out, "<p class=none>nothing was recorded</p></figure>");
        return;
    }
    str_add(out, "<div class=bars>");
    for (int i = 0; i < n; i++) dot_row(out, &s[i], i % COLOURS + 1, a);
    str_add(out, "<div class=r><span class=nm></span><span class='dots axis'>");
    for (int i = 0; a.lo + i * a.step <= a.hi + a.step * 1e-6; i++) {
        double v = a.lo + i * a.step;
        str_addf(out, "<b class=x style=left:%.1f%%>%.4g</b>", percent_at(a, v),
                 fabs(v) < a.step * 1e-6 ? 0 : v);
    }
    str_add(out, "</span></div></div></figure>");
}

/* ---- confusion ------------------------------------------------------------------------------- */

enum {
    CELL = 24,        /* units of a square; text is of 11 */
    NUMBERS_MAX = 24, /* with more classes squares are too small for numbers */
    CELLS_MAX = 6000, /* squares drawn, those of the largest shares */
    WORST = 12
};

typedef struct Cell {
    int row, column;
    double share; /* of the row */
} Cell;

static int by_share(const void *a, const void *b) {
    const Cell *x = a, *y = b;
    if (x->share != y->share) return (x->share < y->share) - (x->share > y->share);
    return x->row != y->row ? x->row - y->row : x->column - y->column;
}

/* All pairs that occur, the largest share of the label's pixels first. */
static int cells_of(const double *count, int n, Cell **out) {
    Cell *v = xcalloc((size_t)n * (size_t)n + 1, sizeof *v);
    int found = 0;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < n; j++) sum += count[(size_t)i * (size_t)n + (size_t)j];
        for (int j = 0; j < n && sum > 0; j++)
            if (count[(size_t)i * (size_t)n + (size_t)j] > 0)
                v[found++] = (Cell){i, j, count[(size_t)i * (size_t)n + (size_t)j] / sum};
    }
    qsort(v, (size_t)found, sizeof *v, by_share);
    *out = v;
    return found;
}

static void cell_title(Str *out, const char *const *names, const Cell *c, double count) {
    str_add(out, "<title>");
    str_escape_html(out, names[c->row]);
    str_add(out, c->row == c->column ? " found: " : " taken for ");
    if (c->row != c->column) str_escape_html(out, names[c->column]), str_add(out, ": ");
    str_addf(out, "%.2f %% of its pixels, %.0f</title>", 100 * c->share, count);
}

static void draw_cells(Str *out, const char *const *names, const double *count, int n,
                       const Cell *cell, int found) {
    const int cells = found < CELLS_MAX ? found : CELLS_MAX;
    for (int i = 0; i < cells; i++) {
        const Cell *c = &cell[i];
        str_addf(out, "<g class=%s><rect x=%d y=%d width=%d height=%d fill-opacity=%.3f>",
                 c->row == c->column ? "s1" : "s2", c->column * CELL, c->row * CELL, CELL, CELL,
                 fmax(0.02, pow(c->share, 0.75)));
        cell_title(out, names, c, count[(size_t)c->row * (size_t)n + (size_t)c->column]);
        str_add(out, "</rect>");
        if (n <= NUMBERS_MAX && c->share >= 0.005)
            str_addf(out, "<text class=%s x=%d y=%d>%.0f</text>", c->share > 0.5 ? "in" : "on",
                     c->column * CELL + CELL / 2, c->row * CELL + CELL / 2 + 4, 100 * c->share);
        str_add(out, "</g>");
    }
}

static void draw_names(Str *out, const char *const *names, int n) {
    for (int i = 0; i < n; i++) {
        str_addf(out, "<text class=row x=-6 y=%d>", i * CELL + CELL / 2 + 4);
        str_escape_html(out, names[i]);
        str_addf(out, "</text><text class=col transform='translate(%d -6) rotate(-60)'>",
                 i * CELL + CELL / 2 + 4);
        str_escape_html(out, names[i]);
        str_add(out, "</text>");
    }
    str_addf(out, "<path class=g d='M0 0H%dV%dH0Z'/>", n * CELL, n * CELL);
}

static void worst_pairs(Str *out, const char *const *names, const double *count, int n,
                        const Cell *cell, int found) {
    int shown = 0;
    for (int i = 0; i < found && shown < WORST; i++) {
        if (cell[i].row == cell[i].column) continue;
        str_add(out, shown++ ? "<tr><td>"
                             : "<div class=wide><table class=worst><tr><th>label<th>taken "
                               "for<th>of its pixels<th>pixels</tr><tr><td>");
        str_escape_html(out, names[cell[i].row]);
        str_add(out, "<td>");
        str_escape_html(out, names[cell[i].column]);
        str_addf(out, "<td>%.1f %%<td>%.0f</tr>", 100 * cell[i].share,
                 count[(size_t)cell[i].row * (size_t)n + (size_t)cell[i].column]);
    }
    if (shown) str_add(out, "</table></div>");
}

void chart_confusion(Str *out, const char *title, const char *const *names, const double *count,
                     int n) {
    Cell *cell;
    size_t longest = 4;
    chart_head(out, title, "% of each label's pixels; rows: label, columns: prediction");
    const int found = cells_of(count, n, &cell);
    for (int i = 0; i < n; i++)
        if (strlen(names[i]) > longest) longest = strlen(names[i]);
    if (longest > 22) longest = 22;
    const bool many = n > NUMBERS_MAX;
    const int left = (int)longest * (many ? 10 : 7) + 12, top = (int)longest * (many ? 9 : 6) + 12,
              side = n * CELL;
    const int width = left + side + top / 2, height = top + side + 2;
    str_addf(out, "<div class='matrix%s'>", many ? " one" : "");
    if (many)
        worst_pairs(out, names, count, n, cell, found); /* first what can be read at a glance */
    str_addf(out,
             "<div class=wide><svg class='cm%s' style='width:%dpx;min-width:%dpx' viewBox='%d %d "
             "%d %d' role=img>",
             many ? " many" : "", width * (many ? 60 : 130) / 100, width * (many ? 60 : 75) / 100,
             -left, -top, width, height);
    draw_cells(out, names, count, n, cell, found);
    draw_names(out, names, n);
    str_add(out, "</svg></div>");
    if (!many) worst_pairs(out, names, count, n, cell, found);
    str_add(out, "</div>");
    if (found > CELLS_MAX)
        str_addf(out, "<p class=dim>The %d pairs of the smallest shares are not drawn.</p>",
                 found - CELLS_MAX);
    str_add(out, "</figure>");
    free(cell);
}
