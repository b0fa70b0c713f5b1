/* test_report - charts, pictures and pages: what they contain, and what they survive; and the demo,
 * small, from nothing to its page. */
#include "test.h"

#include "base/sys.h"
#include "io/image.h"
#include "report/page.h"
#include "report/study.h"
#include "report/tfevents.h"
#include "tempdir.h"

Err cmd_demo(int argc, char **argv); /* cli/ has no header for its commands but commands.def */

static int count_of(const char *text, const char *word) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word)) n++;
    return n;
}

static const char *fresh_dir(void) {
    return temp_path("");
}

static void put(const char *dir, const char *name, const char *text) {
    char *path = path_join(dir, name);
    if (durable_write_all(path, text, strlen(text))) FAIL("%s: %s", path, err_text());
    free(path);
}

static char *text_of(const char *dir, const char *name) {
    char *path = path_join(dir, name);
    Bytes b = {0};
    if (sys_read_file(path, 64 << 20, EXIT_OUTPUT, &b)) FAIL("%s: %s", path, err_text());
    free(path);
    b.data = xrealloc(b.data, b.bytes + 1);
    b.data[b.bytes] = 0;
    return (char *)b.data;
}

static char *page_of(const char *dir) {
    return text_of(dir, "report.html");
}

/* Nothing is fetched and nothing runs. */
static void expect_self_contained(const char *page) {
    EXPECT(!strstr(page, "http://") && !strstr(page, "https://") && !strstr(page, "url("));
    EXPECT(!strstr(page, "<script") && !strstr(page, "<link") && !strstr(page, "<iframe"));
    EXPECT_HAS(page, "default-src 'none'");
    EXPECT_HAS(page, "</html>");
}

TEST(base64_matches_rfc4648) {
    const char *in[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    const char *want[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (int i = 0; i < 7; i++) {
        Str s = {0};
        str_add(&s, "");
        base64_add(&s, (const uint8_t *)in[i], strlen(in[i]));
        EXPECT_STR(s.s ? s.s : "", want[i]);
        str_free(&s);
    }
}

TEST(thinned_series_keeps_mean_and_bound) {
    Series s = {.name = "loss"}, t;
    double sum = 0, mean = 0;
    for (int i = 0; i < 24000; i++) series_add(&s, i, i % 7), sum += i % 7;
    series_thin(&s, 240, &t);
    EXPECT_INT(t.n, 240);
    for (int i = 0; i < t.n; i++) mean += t.y[i] / t.n;
    EXPECT_NEAR(mean, sum / s.n, 1e-12);
    series_free(&s);
    series_free(&t);
}

TEST(thinned_series_skips_gaps) {
    Series s = {.name = "loss"}, t;
    series_add(&s, 0, 1);
    series_add(&s, 1, NAN);
    series_add(&s, 2, NAN);
    series_add(&s, 3, NAN);
    series_thin(&s, 2, &t);
    EXPECT_NEAR(t.y[0], 1, 0);
    EXPECT(isnan(t.y[1]));
    series_free(&s);
    series_free(&t);
}

TEST(chart_escapes_names_and_marks_the_switch) {
    Series s = {.name = "<b>&\"x"};
    for (int i = 0; i < 5; i++) series_add(&s, i, i == 2 ? NAN : i);
    Str out = {0};
    chart_lines(
        &out,
        &(Chart){.title = "<script>", .series = &s, .n_series = 1, .mark_x = 2, .mark = "a<b"});
    EXPECT_HAS(out.s, "&lt;script&gt;");
    EXPECT_HAS(out.s, "a&lt;b");
    EXPECT(!strstr(out.s, "<b>") && !strstr(out.s, "nan"));
    EXPECT_INT(count_of(out.s, "h0"), 4); /* dots */
    const char *curve = strstr(out.s, "<path class='c s1' d='");
    EXPECT(curve != NULL);
    char *one = xprintf("%.*s", (int)(strstr(curve, "/>") - curve), curve);
    EXPECT_INT(count_of(one, "M"), 2); /* the gap lifts the pen */
    free(one);
    str_free(&out);
    series_free(&s);
}

TEST(chart_of_nothing_says_so) {
    Series s = {.name = "x"};
    series_add(&s, 0, NAN);
    Str out = {0};
    chart_lines(&out, &(Chart){.title = "t", .series = &s, .n_series = 1});
    EXPECT_HAS(out.s, "nothing was recorded");
    str_free(&out);
    series_free(&s);
}

TEST(chart_of_one_constant_point_is_finite) {
    Series s = {.name = "x"};
    series_add(&s, 3, 0);
    Str out = {0};
    chart_lines(&out, &(Chart){.title = "t", .series = &s, .n_series = 1});
    EXPECT(!strstr(out.s, "nan") && !strstr(out.s, "inf"));
    EXPECT_INT(count_of(out.s, "h0"), 1);
    str_free(&out);
    series_free(&s);
}

TEST(envelope_keeps_every_extreme) {
    Series s = {.name = "loss"}, mean, least, most;
    for (int i = 0; i < 10000; i++)
        series_add(&s, i, i == 7777 ? 99 : i == 1234 ? -5 : i == 4000 ? NAN : 1);
    series_envelope(&s, 240, &mean, &least, &most);
    double lo = 0, hi = 0;
    EXPECT_INT(least.n, 240);
    for (int i = 0; i < 240; i++) lo = fmin(lo, least.y[i]), hi = fmax(hi, most.y[i]);
    EXPECT_NEAR(lo, -5, 0);
    EXPECT_NEAR(hi, 99, 0);
    series_free(&mean), series_free(&least), series_free(&most);
    Str out = {0};
    chart_lines(&out, &(Chart){.title = "t", .series = &s, .n_series = 1});
    EXPECT_HAS(out.s, "class='e s1'"); /* the band is drawn */
    str_free(&out);
    series_free(&s);
}

TEST(chart_is_logarithmic_only_where_it_can_be) {
    Series s = {.name = "x"};
    for (int i = 0; i < 5; i++) series_add(&s, i, pow(10, i));
    Str out = {0};
    chart_lines(&out, &(Chart){.title = "t", .series = &s, .n_series = 1, .log = true});
    EXPECT_HAS(out.s, ">100</b>");
    EXPECT_HAS(out.s, ">10k</b>");
    str_free(&out);
    s.y[0] = 0; /* no logarithm */
    chart_lines(&out, &(Chart){.title = "t", .series = &s, .n_series = 1, .log = true});
    EXPECT(!strstr(out.s, ">100</b>") && !strstr(out.s, "nan") && !strstr(out.s, "inf"));
    EXPECT_HAS(out.s, ">6k</b>");
    str_free(&out);
    series_free(&s);
}

TEST(notes_tell_steps_and_shares) {
    Series s = {.name = "x"};
    series_add(&s, 0.25, 1), series_add(&s, 0.75, 2);
    Str out = {0};
    chart_lines(
        &out,
        &(Chart){.title = "t", .unit = "accuracy by confidence", .series = &s, .n_series = 1});
    EXPECT_HAS(out.s, "<strong>0.25</strong><br><s class=s1></s> 1</span>");
    EXPECT_HAS(out.s, "<strong>0.75</strong><br><s class=s1></s> 2</span>");
    str_free(&out);
    s.x[0] = 100, s.x[1] = 1234567;
    chart_lines(&out, &(Chart){.title = "t", .unit = "by step", .series = &s, .n_series = 1});
    EXPECT_HAS(out.s, "<strong>step 1234567</strong>");
    str_free(&out);
    series_free(&s);
}

TEST(direct_labels_do_not_overlap) {
    Series s[8];
    char names[8][8];
    for (int i = 0; i < 8; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        s[i] = (Series){.name = names[i]};
        series_add(&s[i], 0, 1), series_add(&s[i], 1, i < 7 ? 1 : 1.0001);
    }
    Str out = {0};
    chart_lines(&out, &(Chart){.title = "t", .series = s, .n_series = 8});
    double last = -INFINITY;
    int labels = 0;
    for (const char *p = out.s; (p = strstr(p, "<b class='n s")); p++, labels++) {
        double top = strtod(strstr(p, "style=top:") + 10, NULL);
        EXPECT(top >= last + 6.9 && top <= 100.1); /* 15 of 210 pixels apart, inside the plot */
        last = top;
    }
    EXPECT_INT(labels, 8);
    str_free(&out);
    for (int i = 0; i < 8; i++) series_free(&s[i]);
}

TEST(confusion_tells_shares_counts_and_the_worst) {
    const char *const names[3] = {"<road>", "sky", "a'b"};
    const double count[9] = {75, 25, 0, 0, 0, 0, 1, 1, 2};
    Str out = {0};
    chart_confusion(&out, "t", names, count, 3);
    EXPECT_HAS(out.s, "<title>&lt;road&gt; found: 75.00 % of its pixels, 75</title>");
    EXPECT_HAS(out.s, "<title>&lt;road&gt; taken for sky: 25.00 % of its pixels, 25</title>");
    EXPECT_INT(count_of(out.s, "<rect"), 5); /* pairs that do not occur are not drawn */
    EXPECT(!strstr(out.s, "<road>") && !strstr(out.s, "nan"));
    const char *table = strstr(out.s, "<table");
    EXPECT(table && strstr(table, "&lt;road&gt;") && !strstr(table, "75.0"));
    str_free(&out);
}

TEST(confusion_of_many_classes_is_bounded) {
    enum { K = 150 };
    double *count = xcalloc(K * K, sizeof *count);
    const char *names[K];
    Str out = {0};
    for (int i = 0; i < K * K; i++) count[i] = 1 + i % 97 + (i / K == i % K ? 1000 : 0);
    for (int i = 0; i < K; i++) names[i] = "class";
    chart_confusion(&out, "t", names, count, K);
    EXPECT(out.n < 1500000);
    EXPECT_HAS(out.s, "smallest shares are not drawn");
    EXPECT_INT(count_of(out.s, "<g class=s1>"), K); /* the diagonal is */
    str_free(&out);
    free(count);
}

static void write_run(const char *dir) {
    put(dir, "config.yaml", "out: <run>&\n");
    put(dir, "run.status.json",
        "{\"state\": \"<done>\", \"step\": 30, \"steps\": 40, \"exit_code\": 0}");
    put(dir, "metrics.jsonl",
        "{\"step\": 10, \"lr\": 0.1, \"loss\": {\"total\": 2, \"<kd>\": 1}, \"stage\": \"tfe\", "
        "\"kept\": {\"main\": 1}}\n"
        "{\"step\": 20, \"lr\": 0.05, \"loss\": {\"total\": 1, \"<kd>\": null}, \"stage\": "
        "\"tse\", \"kept\": {\"main\": 0.2}}\n"
        "{\"step\": 20, \"eval\": {\"miou\": 0.5, \"pixel_accuracy\": 0.75, \"classes\": "
        "[{\"name\": \"<road>\", \"iou\": 0.5, \"pixels\": 9}, {\"name\": \"sky\", \"iou\": null, "
        "\"pixels\": 0}]}}\n"
        "{\"step\": 30, \"lo");
}

/* ---- event files ----------------------------------------------------------------------------- */

/* Bit by bit: the oracle of the table. */
static uint32_t slow_crc32c(const uint8_t *p, size_t n) {
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    }
    return ~c;
}

static uint64_t little(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static bool checks(const uint8_t *p, size_t n, const uint8_t *stored) {
    uint32_t c = slow_crc32c(p, n);
    c = (c >> 15 | c << 17) + 0xa282ead8u;
    return little(stored, 4) == c;
}

TEST(crc32c_matches_rfc3720) {
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 255, sizeof ones);
    for (int i = 0; i < 32; i++) up[i] = (uint8_t)i;
    EXPECT(tfevents_crc32c(zeros, 32) == 0x8a9136aau);
    EXPECT(tfevents_crc32c(ones, 32) == 0x62a8ab43u);
    EXPECT(tfevents_crc32c(up, 32) == 0x46dd794eu);
    EXPECT(tfevents_crc32c("123456789", 9) == 0xe3069283u);
    EXPECT(tfevents_crc32c("", 0) == 0);
}

TEST(event_is_the_protocol_buffer_of_its_schema) {
    Str summary = {0}, out = {0};
    tfevents_add_scalar(&summary, "a", 1.5);
    tfevents_summary(&out, 2.0, 300, &summary);
    static const uint8_t want[] = {9,  0, 0, 0, 0, 0, 0, 0, 0x40,         /* wall_time 1: 2.0 */
                                   16, 0xac, 2,                          /* step 2: 300 */
                                   42, 10, 10, 8, 10, 1, 'a', 21, 0, 0, 0xc0, 0x3f};     /* summary 5 {value 1 {tag 1, simple_value 2}} */
    EXPECT_INT((int)out.n, 12 + (int)sizeof want + 4);
    EXPECT(out.n == 16 + sizeof want && !memcmp(out.s + 12, want, sizeof want));
    str_free(&summary), str_free(&out);
}

/* The one event file of the run: how many records, all checksums right. */
static int event_records(const char *dir, Str *all) {
    char **names;
    int n, files = 0, records = 0;
    if (sys_list(dir, EXIT_OUTPUT, &names, &n)) FAIL("%s", err_text());
    for (int i = 0; i < n; i++) {
        if (!str_starts(names[i], "events.out.tfevents.")) continue;
        char *path = path_join(dir, names[i]);
        Bytes b;
        files++;
        if (sys_read_file(path, 1 << 24, EXIT_OUTPUT, &b)) FAIL("%s", err_text());
        for (size_t at = 0; at < b.bytes; records++) {
            const size_t bytes = (size_t)little(b.data + at, 8);
            EXPECT(at + 16 + bytes <= b.bytes);
            if (at + 16 + bytes > b.bytes) break;
            EXPECT(checks(b.data + at, 8, b.data + at + 8) &&
                   checks(b.data + at + 12, bytes, b.data + at + 12 + bytes));
            at += 16 + bytes;
        }
        for (size_t k = 0; k < b.bytes; k++)
            if (b.data[k]) str_addn(all, (const char *)&b.data[k], 1);   /* so that strstr can look */
        free(b.data), free(path);
    }
    EXPECT_INT(files, 1);
    sys_free_names(names, n);
    return records;
}

TEST(event_file_follows_the_metrics_and_is_made_anew) {
    const char *dir = fresh_dir();
    Tensorboard *t;
    Str all = {0};
    write_run(dir);                  /* three whole lines and a torn one */
    EXPECT_OK(tensorboard_open(dir, &t));
    EXPECT_INT(event_records(dir, &all), 2 + 3);
    EXPECT_HAS(all.s, "loss/total");
    EXPECT_HAS(all.s, "iou/<road>");
    EXPECT(!strstr(all.s, "iou/sky")); /* null is no number */
    char *text = text_of(dir, "metrics.jsonl"), *more = xprintf("%sss\": {\"total\": 1}}\n", text);
    put(dir, "metrics.jsonl", more); /* the torn line is completed */
    EXPECT_OK(tensorboard_follow(t));
    EXPECT_INT(event_records(dir, &all), 2 + 4);
    EXPECT_OK(tensorboard_follow(t));
    EXPECT_INT(event_records(dir, &all), 2 + 4);
    tensorboard_close(t);
    put(dir, "metrics.jsonl", "{\"step\": 10, \"loss\": {\"total\": 2}}\n"); /* cut back by a resume */
    EXPECT_OK(tensorboard_open(dir, &t));
    tensorboard_close(t);
    EXPECT_INT(event_records(dir, &all), 2 + 1);
    str_free(&all);
    free(text), free(more);
}

TEST(report_tells_a_killed_run_and_losses_that_are_not_finite) {
    const char *dir = fresh_dir();
    char *status = xprintf("{\"state\": \"running\", \"step\": 3, \"steps\": 9, \"host\": \"%s\"}",
                           sys_hostname());
    put(dir, "run.status.json", status);
    put(dir, "metrics.jsonl",
        "{\"step\": 1, \"loss\": {\"total\": 2}}\n{\"step\": 2, \"loss\": {\"total\": null}}\n");
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_HAS(page, "it was killed");
    EXPECT_HAS(page, "loss.total is not finite at 1 of 2 recorded steps, first at step 2");
    EXPECT(!strstr(page, "http-equiv=refresh"));
    free(page), free(status);
}

TEST(report_shows_what_differs_from_the_base) {
    const char *dir = fresh_dir();
    put(dir, "config.yaml",
        "# base: recipes/a.yaml\nseed: 1   # default\ntrain:\n  steps: 300  # recipes/a.yaml:8; was 40000 (default)\n"
        "  lr: 0.05   # command line; was <0.02> (recipes/a.yaml:11)\ndistill:\n  losses:   # my.yaml:5; was [] (default)\n"
        "    - kd:\n        weight: 1  # default\n    - at:\n        weight: 2  # my.yaml:6\neval:\n  every: 1  # default\n");
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_HAS(page, "Based on <b>recipes/a.yaml</b>. 2 values");
    EXPECT_HAS(
        page,
        "<tr><td>train.lr<td>0.05<td>&lt;0.02&gt;<td class=dim>command line; before: recipes/a.yaml:11</tr>");
    EXPECT_HAS(page, "<tr><td>distill.losses<td>[kd, at]<td>[]");
    EXPECT(!strstr(page, "<td>train.steps")); /* that is the base's own */
    free(page);
}

TEST(every_name_is_shown_as_text) {
    static const char evil[] = "<script>alert(1)</script>\\n\\\"' onload='x";
    const char *dir = fresh_dir();
    char *metrics = xprintf(
        "{\"step\": 1, \"loss\": {\"%s\": 1}, \"kept_class\": {\"%s\": 1}, \"gradients\": {\"norm\": {\"%s\": 1}}}\n"
        "{\"step\": 1, \"eval\": {\"miou\": 1, \"classes\": [{\"name\": \"%s\", \"iou\": 1, \"pixels\": 2}], \"confusion\": [[2]]}}\n",
        evil, evil, evil, evil);
    put(dir, "metrics.jsonl", metrics);
    put(dir, "config.yaml", "out: <script>alert(2)</script>'\"   # <script>; was <b> (<i>)\n");
    put(dir, "run.status.json", "{\"state\": \"<script>\", \"time\": \"<script>'\"}");
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    expect_self_contained(page);
    EXPECT(!strstr(page, "' onload='x") && !strstr(page, "<b> (") && !strstr(page, "<i>)"));
    EXPECT(count_of(page, "&lt;script&gt;alert(1)") >= 8); /* curve, label, bar, its title, matrix, ... */
    free(page), free(metrics);
}

TEST(bars_say_absent_for_nan) {
    double v[2] = {0.5, NAN};
    BarRow row = {"road", v, NULL};
    Str out = {0};
    chart_bars(&out, "IoU", (const char *const[]){"a", "b"}, 2, &row, 1);
    EXPECT_HAS(out.s, "50.0");
    EXPECT_HAS(out.s, "absent");
    str_free(&out);
}

TEST(tfe_map_is_one_where_heads_agree) {
    float main_logits[8] = {1, 2, 3, 4, 0, 0, 0, 0}, aux[8] = {1, 2, 3, 4, 0, 0, 0, 0}, w[16];
    Grid g = {2, 2, 2, main_logits}, a = {2, 2, 2, aux};
    map_tfe(w, g, a, false, 4, 4);
    for (int i = 0; i < 16; i++) EXPECT_NEAR(w[i], 1, 1e-6);
    /* Pixel 0: softmax(aux) = (1/2, 1/2), softmax(main) = (e, 1)/(e + 1): KL = ln((e + 1)/2) - 1/2.
     */
    aux[0] = 0;
    map_tfe(w, g, a, false, 4, 4);
    EXPECT_NEAR(w[0], exp(-(log((exp(1) + 1) / 2) - 0.5)), 1e-6);
    EXPECT_NEAR(w[15], 1, 1e-6);
    EXPECT_NEAR(w[1], w[0] + (1 - w[0]) / 3, 1e-6); /* align_corners: a third of the way */
    /* Turned round: ln 2 - the entropy of softmax(main); and another head on another grid. */
    const double q = exp(1) / (exp(1) + 1), entropy = -q * log(q) - (1 - q) * log(1 - q);
    map_tfe(w, g, a, true, 4, 4);
    EXPECT_NEAR(w[0], exp(-(log(2) - entropy)), 1e-6);
    map_tfe(w, g, (Grid){2, 1, 1, (float[]){0, 0}}, true, 4, 4);
    EXPECT_NEAR(w[0], exp(-(log(2) - entropy)), 1e-6);
    /* Of one head: 1 - entropy / ln 2. */
    const double p = exp(1) / (exp(1) + 1);
    map_tfe(w, g, (Grid){0}, false, 4, 4);
    EXPECT_NEAR(w[0], 1 + (p * log(p) + (1 - p) * log(1 - p)) / log(2), 1e-6);
    EXPECT(w[15] > 0.85 && w[15] < 1);
}

TEST(tse_parts_tell_who_finds_it_hard) {
    /* One row of five pixels; logit difference decides q of class 0: 9 -> easy, -9 -> hard. */
    float s[10] = {9, -9, 9, -9, -9}, t[10] = {9, 9, -9, -9, -9};
    uint8_t label[5] = {0, 0, 0, 0, 255}, part[5];
    map_tse(part, (Grid){2, 1, 5, s}, (Grid){2, 1, 5, t}, label, 1, 5, 0.0477, 0.7);
    const uint8_t want[5] = {PART_EASY, PART_STUDENT, PART_TEACHER, PART_BOTH, PART_NONE};
    for (int i = 0; i < 5; i++) EXPECT_INT(part[i], want[i]);
}

TEST(tse_keeps_a_share_of_easy_images) {
    float s[8] = {9, 8, 7, 6}, t[8] = {6, 7, 8, 9}; /* all above theta: the k-th smallest decides */
    uint8_t label[4] = {0}, part[4];
    map_tse(part, (Grid){2, 1, 4, s}, (Grid){2, 1, 4, t}, label, 1, 4, 0.25, 0.7);
    EXPECT_INT(part[3], PART_STUDENT);
    EXPECT_INT(part[0], PART_TEACHER);
    EXPECT_INT(part[1], PART_EASY);
}

TEST(report_needs_a_folder) {
    EXPECT_ERR(report_write("/nonexistent/run"), E(EXIT_USAGE, 76));
}

TEST(report_of_an_empty_run_is_written) {
    const char *dir = fresh_dir();
    char *slash = xprintf("%s//", dir);
    EXPECT_OK(report_write(slash));
    free(slash);
    char *page = page_of(dir);
    EXPECT_HAS(page, "unknown");
    EXPECT_HAS(page, path_base(dir)); /* its name, though a slash ended the path */
    EXPECT_HAS(page, "nothing was recorded");
    free(page);
}

TEST(report_shows_the_run_and_escapes_it) {
    const char *dir = fresh_dir();
    write_run(dir);
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_HAS(page, "&lt;done&gt;");
    EXPECT_HAS(page, "&lt;road&gt;");
    EXPECT_HAS(page, "&lt;kd&gt;");
    EXPECT_HAS(page, "out: &lt;run&gt;&amp;");
    EXPECT_HAS(page, "TFE | TSE");
    EXPECT_HAS(page, "50.00 %");
    EXPECT_HAS(page, "1 line(s) of metrics.jsonl");
    EXPECT(!strstr(page, "<kd>") && !strstr(page, "<road>") && !strstr(page, "<run>"));
    expect_self_contained(page);
    EXPECT(!strstr(page, "http-equiv=refresh")); /* it is over: nothing to wait for */
    free(page);
}

TEST(run_data_reads_numbers) {
    const char *dir = fresh_dir();
    write_run(dir);
    RunData *r;
    EXPECT_OK(run_data_open(dir, &r));
    EXPECT_NEAR(r->miou, 0.5, 0);
    EXPECT_NEAR(r->switch_step, 20, 0);
    EXPECT_INT(r->n_classes, 2);
    EXPECT(isnan(r->classes[1].iou));
    EXPECT_INT(r->bad_lines, 1);
    const Series *kd = run_data_series(r, "loss.<kd>");
    EXPECT(kd && kd->n == 2 && isnan(kd->y[1]));
    run_data_close(r);
}

TEST(report_survives_damaged_metrics) {
    const char *dir = fresh_dir();
    put(dir, "metrics.jsonl",
        "[]\n\n\x01\xff\n{\"step\": \"x\"}\n{\"step\": 1, \"loss\": [1]}\n{\"step\": 2, \"eval\": "
        "{\"classes\": [1, null, {}]}}\n{}");
    put(dir, "run.status.json", "[1, 2");
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_HAS(page, "</html>");
    free(page);
}

TEST(report_size_is_bounded) {
    const char *dir = fresh_dir();
    Str s = {0};
    for (int i = 0; i < 100000; i++)
        str_addf(&s, "{\"step\": %d, \"lr\": 0.1, \"loss\": {\"total\": %d}}\n", i, i % 13);
    put(dir, "metrics.jsonl", s.s);
    str_free(&s);
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT(strlen(page) < 300000);
    free(page);
}

TEST(report_of_a_live_run_reloads_and_tells_what_is_left) {
    const char *dir = fresh_dir();
    put(dir, "run.status.json",
        "{\"state\": \"running\", \"step\": 30, \"steps\": 40, \"exit_code\": 0, \"eta_s\": 4920, "
        "\"time\": \"2026-01-31T12:00:00Z\"}");
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_HAS(page, "http-equiv=refresh");
    EXPECT_HAS(page, "1 h 22");
    EXPECT_HAS(page, "30<small> / 40</small>");
    EXPECT_HAS(page, "2026-01-31T12:00:00Z");
    free(page);
}

/* maps/ with one image of h x w pixels, half red and half blue, and a legend of one class. */
static void write_pictures(const char *dir, int h, int w) {
    char *maps = path_join(dir, "maps"), *file = path_join(maps, "a<b.image.png");
    uint8_t *rgb = xcalloc((size_t)h * (size_t)w, 3);
    for (int i = 0; i < h * w; i++) rgb[3 * i + (i % w < w / 2 ? 0 : 2)] = (uint8_t)(i * 7);
    EXPECT_OK(sys_mkdirs(maps));
    EXPECT_OK(image_write_png_rgb(file, rgb, h, w));
    put(maps, "classes.json", "[{\"name\": \"<road>\", \"rgb\": [1, 2, 3]}, 7]");
    free(rgb);
    free(maps);
    free(file);
}

TEST(pictures_are_embedded_with_their_legend) {
    const char *dir = fresh_dir();
    write_pictures(dir, 8, 12);
    put(temp_path("maps"), "a<b.label.png", "no picture");
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_INT(count_of(page, "src='data:image/png;base64,"), 1);
    EXPECT_INT(count_of(page, "unreadable"), 1);
    EXPECT_HAS(page, "alt='a&lt;b image'");
    EXPECT_HAS(page, "background:rgb(1,2,3)'></i>&lt;road&gt;");
    EXPECT(!strstr(page, "TFE weight")); /* a run without a teacher */
    expect_self_contained(page);
    free(page);
}

/* The legend tells what the run's rule keeps, the caption how large the four parts are. */
TEST(a_mask_is_explained_by_the_rule_of_its_run) {
#define HEAD "distill:\n  task:\n"
    static const struct { const char *config, *text; int left_out; } rows[] = {
        {HEAD "    kind: rdd # default\n    rule: xor # default\n", "hard for one of the two alone:", 2},
        {HEAD "    kind: rdd # default\n    rule: student-not-teacher # default\n",
         "hard for the student and easy for the teacher:", 3},
        {HEAD "    kind: rdd # default\n    rule: random # default\n", "drawn at random:", 0},
        {HEAD "    kind: ohem # default\n", "hard for the student:", 2},
        {HEAD "    kind: ce # default\n", "in this run all count:", 0}};
#undef HEAD
    static const uint8_t part[8] = {PART_STUDENT, PART_TEACHER, PART_TEACHER, PART_BOTH,
                                    PART_EASY,    PART_EASY,    PART_EASY,    PART_EASY};
    uint8_t rgb[24];
    overlay_parts(rgb, part, 8);
    for (int i = 0; i < 5; i++) {
        const char *dir = fresh_dir();
        write_pictures(dir, 2, 4);
        put(dir, "config.yaml", rows[i].config);
        EXPECT_OK(image_write_png_rgb(temp_path("maps/a<b.tse.png"), rgb, 2, 4));
        EXPECT_OK(report_write(dir));
        char *page = page_of(dir);
        EXPECT_HAS(page, rows[i].text);
        EXPECT_INT(count_of(page, ": left out"), rows[i].left_out);
        EXPECT_HAS(page, "TSE mask: student 12.5 %, teacher 25.0 %, both 12.5 %, easy 50.0 %");
        free(page);
    }
}

TEST(big_pictures_are_shrunk) {
    const char *dir = fresh_dir();
    write_pictures(dir, 1000, 1500);
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir), *data = strstr(page, "iVBORw0KGgoAAAANSUhEUgAA");
    EXPECT(strlen(page) < 400000);
    EXPECT(data && !strncmp(data + 24, "AXcA", 4)); /* width 375 of 1500 by four */
    free(page);
}

TEST(dots_show_every_run_and_the_mean) {
    Series s[2] = {{.name = "<a>"}, {.name = "b"}};
    series_add(&s[0], 0, 10);
    series_add(&s[0], 0, 20);
    series_add(&s[0], 0, NAN);
    series_add(&s[1], 0, 12);
    Str out = {0};
    chart_dots(&out, "t", "%", s, 2);
    EXPECT_INT(count_of(out.s, "class='dot s"), 3);
    EXPECT_INT(count_of(out.s, "class='mean s"), 1); /* one run has no mean of its own */
    EXPECT_HAS(out.s, "&lt;a&gt; 20.00");
    EXPECT(!strstr(out.s, "nan"));
    str_free(&out);
    for (int i = 0; i < 2; i++) series_free(&s[i]);
}

TEST(runs_of_one_arm_share_a_colour) {
    Series s[3] = {{.name = "a"}, {.name = "a"}, {.name = "b"}};
    for (int i = 0; i < 3; i++) series_add(&s[i], 0, i), series_add(&s[i], 1, i);
    Str out = {0};
    chart_lines(&out, &(Chart){.title = "t", .series = s, .n_series = 3});
    EXPECT_INT(count_of(out.s, "class='c s1'"), 2);
    EXPECT_INT(count_of(out.s, "class='c s2'"), 1);
    EXPECT_INT(count_of(out.s, "<b class='n s"), 2);
    str_free(&out);
    for (int i = 0; i < 3; i++) series_free(&s[i]);
}

TEST(a_long_thin_picture_keeps_its_colours) {
    uint8_t rgb[3 * 1000];
    int h, w;
    memset(rgb, 90, sizeof rgb);
    for (int i = 0; i < 4; i++) {
        const bool lying = i % 2;
        uint8_t *small = page_shrink(rgb, lying ? 1 : 1000, lying ? 1000 : 1, 400, i / 2, &h, &w);
        EXPECT(lying ? h == 1 && w == 333 : h == 333 && w == 1);
        for (int k = 0; k < 3 * h * w; k++)
            if (small[k] != 90) FAIL("byte %d is %d", k, small[k]);
        free(small);
    }
}

/* ---- studies --------------------------------------------------------------------------------- */
enum { SEEDS = 3 };
typedef struct Arms {
    StudyArm arm[4];
    Study s;
} Arms;

/* A teacher and three arms; images: the interval of every difference over images. */
static void make_study(Arms *a, const double score[4][SEEDS], Interval images) {
    static const char *const names[4] = {"teacher", "<alone>", "kd", "rdd"};
    static const char *const dirs[SEEDS] = {"nowhere", "nowhere", "nowhere"};
    for (int i = 0; i < 4; i++)
        a->arm[i] = (StudyArm){.name = names[i],
                               .note = "a & b",
                               .dirs = dirs,
                               .n = SEEDS,
                               .score = score[i],
                               .images = images,
                               .gain_images = images,
                               .step_s = NAN,
                               .then_step = NAN};
    a->s = (Study){.title = "demo",
                   .intro = "<intro>",
                   .arm = a->arm,
                   .n = 4,
                   .base = 1,
                   .n_seeds = SEEDS,
                   .steps = 10,
                   .runs = 10,
                   .runs_done = 10,
                   .complete = true,
                   .split = "test",
                   .val_split = "val",
                   .n_images = 9,
                   .n_units = 9,
                   .draws = 2000,
                   .unit = "images"};
    study_compare(&a->s);
}
static const double scores[4][SEEDS] = {
    {0.8, NAN, NAN}, {0.40, 0.41, 0.42}, {0.45, 0.47, 0.46}, {0.43, 0.37, 0.41}};
static const Interval wide = {-0.1, 0.1}, above = {0.01, 0.1};

/* Differences of kd: 0.05, 0.06, 0.04. Student's t by hand: mean 0.05, sd 0.01, t(0.975, 2) = 4.30265. */
TEST(arms_are_compared_seed_by_seed) {
    Arms a;
    make_study(&a, scores, above);
    const StudyArm *kd = &a.arm[2];
    EXPECT_INT(a.arm[0].level.n, 1);
    EXPECT(isnan(a.arm[0].level.sd) && a.arm[1].gain.n == 0);
    EXPECT_NEAR(a.arm[1].level.mean, 0.41, 1e-12);
    EXPECT_NEAR(a.arm[1].level.sd, 0.01, 1e-12);
    EXPECT_NEAR(kd->gain.mean, 0.05, 1e-12);
    EXPECT_NEAR(kd->gain.sd, 0.01, 1e-12);
    EXPECT_NEAR(kd->gain.ci.lo, 0.05 - 4.302652729749462 * 0.01 / sqrt(3), 1e-9);
    EXPECT_NEAR(kd->gain_all.hi, 0.05 + 6.205346816570705 * 0.01 / sqrt(3), 1e-9);     /* t(1 - 0.05 / 4, 2) */
    EXPECT_NEAR(kd->detectable, 3.2640435496995717 * 0.01, 1e-9);
}

TEST(shown_needs_both_intervals) {
    Arms a;
    make_study(&a, scores, above);
    EXPECT_INT(study_shown(&a.arm[2]), 1);
    EXPECT_INT(study_shown(&a.arm[3]), 0);                       /* seeds disagree */
    make_study(&a, scores, wide);
    EXPECT_INT(study_shown(&a.arm[2]), 0);                       /* other images might */
    make_study(&a, scores, (Interval){-0.1, -0.01});
    EXPECT_INT(study_shown(&a.arm[2]), 0);                       /* they contradict each other */
    make_study(&a, scores, (Interval){NAN, NAN});
    EXPECT_INT(study_shown(&a.arm[2]), 0);
}

static void expect_study_verdict(const Study *s, const char *want) {
    Str text = {0};
    study_verdict(&text, s);
    EXPECT_STR(text.s, want);
    str_free(&text);
}

TEST(verdict_is_one_sentence_that_claims_only_what_is_shown) {
    Arms a;
    make_study(&a, scores, above);
    expect_study_verdict(
        &a.s,
        "In points of mIoU on test against <alone>, with 95 % intervals over 3 seeds: shown to be ahead: kd (+5.00, +2.52 to "
        "+7.48); not shown to differ: rdd (-0.67, -9.39 to +8.06).");
    a.s.complete = false, a.s.runs_done = 4;
    expect_study_verdict(
        &a.s,
        "Nothing can be said yet: 4 of 10 runs are done, and the test split has not been read.");
    make_study(&a,
               (const double[4][SEEDS]){
                   {0.8, NAN, NAN}, {0.5, NAN, NAN}, {0.7, NAN, NAN}, {0.4, NAN, NAN}},
               above);
    expect_study_verdict(
        &a.s,
        "In points of mIoU on test against <alone>, with 95 % intervals over 3 seeds: not shown to differ: kd (one seed has no "
        "spread, by the 1 of 3 seeds that both have), rdd (one seed has no spread, by the 1 of 3 seeds that both have).");
    make_study(&a, (const double[4][SEEDS]){{0.8, NAN, NAN}, {0.40, 0.41, 0.42}, {0.45, NAN, 0.46}, {NAN, NAN, NAN}}, above);
    expect_study_verdict(
        &a.s, "In points of mIoU on test against <alone>, with 95 % intervals over 3 seeds: not shown to differ: kd (+4.50, -1.85 to "
              "+10.85, by the 2 of 3 seeds that both have), rdd (no seed has a run of both).");
}

TEST(study_page_has_means_intervals_and_its_limits) {
    Arms a;
    make_study(&a, scores, above);
    a.s.remark = (const char *const[]){"<remark>"}, a.s.n_remarks = 1;
    EXPECT_OK(study_write(fresh_dir(), &a.s));
    char *page = text_of(fresh_dir(), "study.html"), *json = text_of(fresh_dir(), "study.json");
    const char *const has[] = {"<td>41.00<td>1.00<td>38.52 .. 43.48",
                               "<td>+5.00<td>1.00<td>+2.52 .. +7.48",
                               "<td>ahead",
                               "<td>not shown",
                               "<td>3.26",
                               "&lt;alone&gt;",
                               "&lt;intro&gt;",
                               "&lt;remark&gt;",
                               "a &amp; b",
                               "Bonferroni",
                               "2000 draws of 9 images"};
    for (size_t i = 0; i < sizeof has / sizeof *has; i++) EXPECT_HAS(page, has[i]);
    EXPECT_HAS(json, "\"shown\": \"ahead\"");
    EXPECT_HAS(json, "\"miou\": [0.45, 0.47, 0.46]");
    EXPECT_HAS(json, "\"failed\": [null, null, null]");
    EXPECT(!strstr(page, "Runs that failed"));
    expect_self_contained(page);
    free(page), free(json);
}

TEST(runs_that_failed_are_named_with_what_stopped_them) {
    static const char *const dirs[SEEDS] = {"kd/seed-1", "kd/seed-2", "kd/seed-3"};
    static const char *const why[SEEDS] = {NULL, "E8062 <loss> is NaN", NULL};
    Arms a;
    Str table = {0};
    make_study(&a, (const double[4][SEEDS]){{0.8, NAN, NAN}, {0.40, 0.41, 0.42}, {0.45, NAN, 0.46}, {0.4, 0.4, 0.4}}, above);
    a.arm[2].dirs = dirs, a.arm[2].failed = why;
    EXPECT_OK(study_write(fresh_dir(), &a.s));
    study_table(&table, &a.s);
    char *page = text_of(fresh_dir(), "study.html"), *json = text_of(fresh_dir(), "study.json");
    EXPECT_HAS(page, "<tr><td>kd/seed-2<td class=note>E8062 &lt;loss&gt; is NaN</tr>");
    EXPECT_HAS(page, "<td>2 of 3<td class=note>");
    EXPECT_HAS(json, "\"failed\": [null, \"E8062 \\u003closs> is NaN\", null]");
    EXPECT_HAS(table.s, "failed: kd/seed-2: E8062 <loss> is NaN\n");
    str_free(&table);
    free(page), free(json);
}

/* ---- the demo ----------------------------------------------------------------------------------
 */
static Err run_demo(const char *steps) {
    char out[600], first[64];
    snprintf(out, sizeof out, "out=%s", temp_path("demo"));
    snprintf(first, sizeof first, "steps=%s", steps);
    return cmd_demo(7, (char *[]){out, first, "teacher_steps=4", "seeds=1", "batch=2", "size=32x40",
                                  "images=16"});
}

TEST(demo_runs_end_to_end_and_once) {
    EXPECT_OK(run_demo("4"));
    const char *dir = temp_path("demo");
    char *page = text_of(dir, "study.html"), *metrics = text_of(dir, "rdd/seed-1/metrics.jsonl");
    const char *const has[] = {"<td>alone",     "<td>kd",           "<td>rdd",
                               "TFE weight",    "TSE mask",         "pedestrian",
                               "TFE | TSE",     "0.33 M parameters"};
    for (size_t i = 0; i < sizeof has / sizeof *has; i++) EXPECT_HAS(page, has[i]);
    EXPECT_INT(count_of(page, "src='data:image/png;base64,"), 4 * 8);
    EXPECT(strlen(page) < 2000000);
    expect_self_contained(page);
    EXPECT_OK(run_demo("4")); /* finished runs are found, not trained again */
    char *again = text_of(dir, "rdd/seed-1/metrics.jsonl");
    EXPECT_STR(again, metrics);
    EXPECT_INT(err_exit_code(run_demo("5")),
               EXIT_CHECKPOINT); /* other settings need another folder */
    EXPECT_HAS(err_text(), "to start the demo anew, remove");
    free(page);
    free(metrics);
    free(again);
}

TEST_MAIN(T(base64_matches_rfc4648), T(thinned_series_keeps_mean_and_bound),
          T(thinned_series_skips_gaps), T(chart_escapes_names_and_marks_the_switch),
          T(chart_of_nothing_says_so), T(chart_of_one_constant_point_is_finite),
          T(envelope_keeps_every_extreme), T(chart_is_logarithmic_only_where_it_can_be),
          T(notes_tell_steps_and_shares), T(direct_labels_do_not_overlap),
          T(confusion_tells_shares_counts_and_the_worst), T(confusion_of_many_classes_is_bounded),
          T(bars_say_absent_for_nan), T(crc32c_matches_rfc3720),
          T(event_is_the_protocol_buffer_of_its_schema),
          T(event_file_follows_the_metrics_and_is_made_anew),
          T(report_tells_a_killed_run_and_losses_that_are_not_finite),
          T(report_shows_what_differs_from_the_base), T(every_name_is_shown_as_text),
          T(tfe_map_is_one_where_heads_agree), T(tse_parts_tell_who_finds_it_hard),
          T(tse_keeps_a_share_of_easy_images), T(report_needs_a_folder),
          T(report_of_an_empty_run_is_written), T(report_shows_the_run_and_escapes_it),
          T(run_data_reads_numbers), T(report_survives_damaged_metrics), T(report_size_is_bounded),
          T(report_of_a_live_run_reloads_and_tells_what_is_left),
          T(pictures_are_embedded_with_their_legend),
          T(a_mask_is_explained_by_the_rule_of_its_run), T(big_pictures_are_shrunk),
          T(dots_show_every_run_and_the_mean), T(runs_of_one_arm_share_a_colour),
          T(arms_are_compared_seed_by_seed), T(shown_needs_both_intervals),
          T(verdict_is_one_sentence_that_claims_only_what_is_shown),
          T(a_long_thin_picture_keeps_its_colours), T(study_page_has_means_intervals_and_its_limits), T(runs_that_failed_are_named_with_what_stopped_them), T(demo_runs_end_to_end_and_once))
