/* pictures.c - rows of panels: image, label, predictions, and what RDD sees. See page.h.
 *
 * Pictures are shrunk by a whole factor to SIDE_MAX pixels, which bounds the page: photographs by
 * averaging, label maps and masks by picking, since mixed colours would name other classes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "io/image.h"
#include "report/page.h"

enum { SIDE_MAX = 400, FILE_MAX = 64 << 20 };

char *maps_step_dir(const char *maps, int64_t step) {
    return xprintf("%s/step-%09lld", maps, (long long)step);
}

/* How many of the labelled pixels of a TSE mask lie in each part. */
static void part_shares(Str *out, const Image *mask) {
    static const char *const name[PART_COUNT] = {
        [PART_STUDENT] = "student", [PART_TEACHER] = "teacher", [PART_BOTH] = "both", [PART_EASY] = "easy"};
    static const TsePart order[] = {PART_STUDENT, PART_TEACHER, PART_BOTH, PART_EASY};
    int64_t count[PART_COUNT] = {0}, all = 0;
    for (int64_t i = 0; i < (int64_t)mask->h * mask->w; i++)
        for (int k = 1; k < PART_COUNT; k++)
            count[k] += !memcmp(mask->px + 3 * i, overlay_part_rgb[k], 3);
    for (int k = 1; k < PART_COUNT; k++) all += count[k];
    for (int i = 0; i < PART_COUNT - 1 && all; i++)
        str_addf(out, "%s%s %.1f %%", i ? ", " : ": ", name[order[i]],
                 100 * (double)count[order[i]] / (double)all);
}

/* A picture that is too wide or too high is decoded, shrunk and encoded again; note: what is told of a mask. */
static Err fit(Bytes *b, const char *path, bool average, Str *note) {
    Image big;
    TRY(image_decode_rgb(b->data, b->bytes, path, &big));
    Err rc = OK;
    if (note) part_shares(note, &big);
    if (big.h > SIDE_MAX || big.w > SIDE_MAX) {
        int h, w;
        uint8_t *small = page_shrink(big.px, big.h, big.w, SIDE_MAX, average, &h, &w);
        free(b->data);
        *b = (Bytes){0};
        rc = image_encode_png_rgb(small, h, w, &b->data, &b->bytes);
        free(small);
    }
    free(big.px);
    return rc;
}

/* below: "maps/", or "" when the panel's folder is where pictures lie. */
static void picture(Str *out, const Panel *p, const char *below, const char *stem) {
    char *path = xprintf("%s/%s%s.%s.png", p->dir, below, stem, p->kind);
    bool average = !strcmp(p->kind, "image") || !strcmp(p->kind, "tfe");
    const bool mask = !strcmp(p->kind, "tse");
    Bytes b = {0};
    Str note = {0};
    if (!sys_exists(path)) goto done; /* a run without a teacher has fewer panels */
    str_add(out, "<figure>");
    if (sys_read_file(path, FILE_MAX, EXIT_OUTPUT, &b) || fit(&b, path, average, mask ? &note : NULL))
        str_add(out, "<span class=none>unreadable</span>");
    else {
        str_add(out, "<img alt='");
        str_escape_html(out, stem);
        str_add(out, " ");
        str_escape_html(out, p->title);
        str_add(out, "' src='data:image/png;base64,");
        base64_add(out, b.data, b.bytes);
        str_add(out, "'>");
    }
    str_add(out, "<figcaption>");
    str_escape_html(out, p->title);
    if (note.n) str_add(out, note.s);
    str_add(out, "</figcaption></figure>");
done:
    str_free(&note);
    free(b.data);
    free(path);
}

static void ramp(Str *out) {
    enum { STOPS = 6 };
    float v[STOPS] = {0, 0.2f, 0.4f, 0.6f, 0.8f, 1};
    uint8_t rgb[STOPS][3];
    overlay_heat(rgb[0], v, 0, 1, STOPS);
    str_add(out, "<span>0<span class=ramp style='background:linear-gradient(90deg");
    for (int i = 0; i < STOPS; i++)
        str_addf(out, ",rgb(%d,%d,%d)", rgb[i][0], rgb[i][1], rgb[i][2]);
    str_add(out, ")'></span>1</span>");
}

static const char *easy_where(const RunData *r) {
    static const char *const where[][2] = {
        {"flip", "the teacher says the same of the mirrored image"},
        {"entropy", "the teacher is sure"},
        {"aux", "the teacher's two heads agree"}};
    char *tfe = run_setting(r, "distill.task.tfe");
    int i = 0;
    while (i < 2 && (!tfe || strcmp(tfe, where[i][0]))) i++;
    free(tfe);
    return where[i][1];
}

enum { STUDENT_BIT = 1 << PART_STUDENT, TEACHER_BIT = 1 << PART_TEACHER, BOTH_BIT = 1 << PART_BOTH, ANY_BITS = ~0 };
/* What a run's task loss keeps of the parts. */
static const struct { const char *kind, *rule, *text; int kept; } tse_rules[] = {
    {"rdd", "xor", "a pixel counts in the second stage where it is hard for one of the two alone",
     STUDENT_BIT | TEACHER_BIT},
    {"rdd", "or", "a pixel counts in the second stage where it is hard for either",
     STUDENT_BIT | TEACHER_BIT | BOTH_BIT},
    {"rdd", "and", "a pixel counts in the second stage where it is hard for both", BOTH_BIT},
    {"rdd", "student", "a pixel counts in the second stage where it is hard for the student",
     STUDENT_BIT | BOTH_BIT},
    {"rdd", "student-not-teacher",
     "a pixel counts in the second stage where it is hard for the student and easy for the teacher",
     STUDENT_BIT},
    {"rdd", "random",
     "who finds a pixel hard; as many as are hard for one of the two alone count in the second stage, "
     "drawn at random", ANY_BITS},
    {"ohem", NULL, "a pixel counts where it is hard for the student", STUDENT_BIT | BOTH_BIT},
    {NULL, NULL, "who finds a pixel hard; in this run all count", ANY_BITS}};

static void tse_legend(Str *out, const RunData *r) {
    static const struct { TsePart part; const char *name; } keys[] = {
        {PART_STUDENT, "hard for the student alone"},
        {PART_TEACHER, "hard for the teacher alone"},
        {PART_BOTH, "hard for both"},
        {PART_EASY, "easy for both"}};
    char *kind = run_setting(r, "distill.task.kind"), *rule = run_setting(r, "distill.task.rule"), text[64];
    int i = 0;
    while (tse_rules[i].kind && ((kind && strcmp(kind, tse_rules[i].kind)) ||
                                 (rule && tse_rules[i].rule && strcmp(rule, tse_rules[i].rule))))
        i++;
    str_addf(out, "<div class=keys><b>TSE mask</b><span>%s:</span>", tse_rules[i].text);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const bool kept = tse_rules[i].kept >> keys[k].part & 1;
        snprintf(text, sizeof text, "%s%s", keys[k].name, kept ? "" : ": left out");
        page_key(out, overlay_part_rgb[keys[k].part], text);
    }
    str_add(out, "</div>\n");
    free(kind), free(rule);
}

static void legends(Str *out, const RunData *r, bool tfe, bool tse) {
    if (r->n_colours) {
        str_add(out, "<div class=keys>");
        for (int i = 0; i < r->n_colours; i++) page_key(out, r->colours[i].rgb, r->colours[i].name);
        page_key(out, (const uint8_t[3]){0, 0, 0}, "void");
        str_add(out, "</div>\n");
    }
    if (tfe) {
        str_add(out, "<div class=keys><b>TFE weight</b>");
        ramp(out);
        str_addf(out, "<span>how much a pixel counts in the first stage: 1 where %s</span></div>\n",
                 easy_where(r));
    }
    if (tse) tse_legend(out, r);
}

static bool has_kind(const RunData *r, const char *suffix) {
    for (int i = 0; i < r->n_pictures; i++)
        if (str_ends(r->pictures[i], suffix)) return true;
    return false;
}

/* ---- over time ------------------------------------------------------------------------------- */
enum { STEPS_SHOWN = 6, HISTORY_IMAGES = 3 };

/* Steps that have pictures, ascending, thinned to STEPS_SHOWN with the first and the last among
 * them; those after the run's own step are of a session that was cut back. */
static int remembered_steps(const RunData *r, int64_t *out) {
    char *maps = path_join(r->dir, "maps"), **names = NULL;
    int n = 0, found = 0, cap = 0;
    int64_t *step = NULL, at;
    if (!sys_is_dir(maps) || sys_list(maps, EXIT_OUTPUT, &names, &n)) n = 0;
    for (int i = 0; i < n; i++) {
        if (!str_starts(names[i], "step-") || !parse_i64(names[i] + 5, &at) ||
            (isfinite(r->step) && at > r->step))
            continue;
        GROW(step, found, cap);
        step[found++] = at; /* names have leading zeros: sorted by bytes is sorted by step */
    }
    const int shown = found < STEPS_SHOWN ? found : STEPS_SHOWN;
    for (int i = 0; i < shown; i++)
        out[i] = step[shown > 1 ? (int64_t)i * (found - 1) / (shown - 1) : 0];
    sys_free_names(names, n);
    free(step), free(maps);
    return shown;
}

static void history_row(Str *out, const RunData *r, const char *stem, const char *kind,
                        const char *what, const int64_t *step, int n) {
    char title[STEPS_SHOWN][48];
    char *maps = path_join(r->dir, "maps"), *now = xprintf("%s.%s.png", stem, kind),
         *path = path_join(maps, now);
    const bool any = sys_exists(path); /* no teacher, no mask */
    free(now), free(path);
    if (any) str_add(out, "<div class=row>");
    for (int i = 0; i < n && any; i++) {
        char *dir = maps_step_dir(maps, step[i]);
        snprintf(title[i], sizeof title[i], "%s, step %lld", what, (long long)step[i]);
        picture(out, &(Panel){dir, kind, title[i]}, "", stem);
        free(dir);
    }
    if (any) str_add(out, "</div>\n");
    free(maps);
}

void pictures_history(Str *out, const RunData *r) {
    static const char suffix[] = ".image.png";
    int64_t step[STEPS_SHOWN];
    const int n = remembered_steps(r, step);
    if (n < 2) return;
    str_add(out, "<h2>Over time</h2>\n");
    for (int i = 0, shown = 0; i < r->n_pictures && shown < HISTORY_IMAGES; i++) {
        char *maps = path_join(r->dir, "maps"), *first = maps_step_dir(maps, step[0]);
        const size_t end = strlen(r->pictures[i]),
                     cut = str_ends(r->pictures[i], suffix) ? strlen(suffix) : end;
        char *stem = xprintf("%.*s", (int)(end - cut), r->pictures[i]);
        char *path = xprintf("%s/%s.student.png", first, stem);
        if (cut < end && sys_exists(path)) {
            str_add(out, "<h3>");
            str_escape_html(out, stem);
            str_add(out, "</h3>");
            history_row(out, r, stem, "student", "student", step, n);
            history_row(out, r, stem, "tse", "TSE mask", step, n);
            shown++;
        }
        free(maps), free(first), free(stem), free(path);
    }
}

void pictures_add(Str *out, const RunData *r, const Panel *panels, int n) {
    static const char suffix[] = ".image.png";
    if (!has_kind(r, suffix)) return;
    str_add(out, "<h2>Pictures</h2>\n");
    for (int i = 0, shown = 0; i < r->n_pictures && shown < REPORT_PICTURES_MAX; i++) {
        if (!str_ends(r->pictures[i], suffix)) continue;
        char *stem = xstrdup(r->pictures[i]);
        stem[strlen(stem) - strlen(suffix)] = 0;
        str_add(out, "<div class=row>");
        for (int k = 0; k < n; k++) picture(out, &panels[k], "maps/", stem);
        str_add(out, "</div>\n");
        free(stem);
        shown++;
    }
    legends(out, r, has_kind(r, ".tfe.png"), has_kind(r, ".tse.png"));
}
