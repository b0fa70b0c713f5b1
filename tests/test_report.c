/* test_report - charts, pictures and pages: what they contain, and what they survive. */
#include "test.h"

#include "base/sys.h"
#include "report/report.h"

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word)) n++;
    return n;
}

static const char *fresh_dir(void) {
    static char dir[] = "/tmp/retort-report-XXXXXX";
    if (!mkdtemp(dir)) abort();
    return dir;
}

static void put(const char *dir, const char *name, const char *text) {
    char *path = path_join(dir, name);
    if (durable_write_all(path, text, strlen(text))) FAIL("%s: %s", path, err_text());
    free(path);
}

static char *page_of(const char *dir) {
    char *path = path_join(dir, "report.html");
    Bytes b = {0};
    if (sys_read_file(path, 64 << 20, EXIT_OUTPUT, &b)) {
        FAIL("no report: %s", err_text());
        return xstrdup("");
    }
    free(path);
    b.data = xrealloc(b.data, b.bytes + 1);
    b.data[b.bytes] = 0;
    return (char *)b.data;
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
    EXPECT_INT(count(out.s, "<circle"), 4);
    EXPECT_INT(count(out.s, "M"), 2); /* the gap lifts the pen */
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
    EXPECT_INT(count(out.s, "<circle"), 1);
    str_free(&out);
    series_free(&s);
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
    map_tfe(w, g, a, 4, 4);
    for (int i = 0; i < 16; i++) EXPECT_NEAR(w[i], 1, 1e-6);
    /* Pixel 0: softmax(aux) = (1/2, 1/2), softmax(main) = (e, 1)/(e + 1): KL = ln((e + 1)/2) - 1/2.
     */
    aux[0] = 0;
    map_tfe(w, g, a, 4, 4);
    EXPECT_NEAR(w[0], exp(-(log((exp(1) + 1) / 2) - 0.5)), 1e-6);
    EXPECT_NEAR(w[15], 1, 1e-6);
    EXPECT_NEAR(w[1], w[0] + (1 - w[0]) / 3, 1e-6); /* align_corners: a third of the way */
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
    EXPECT_OK(report_write(dir));
    char *page = page_of(dir);
    EXPECT_HAS(page, "unknown");
    EXPECT_HAS(page, "nothing was recorded");
    free(page);
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
    EXPECT(!strstr(page, "http://") && !strstr(page, "https://") && !strstr(page, "<script"));
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

TEST(arms_page_has_mean_and_spread) {
    const char *dir = fresh_dir();
    char *a = path_join(dir, "a"), *b = path_join(dir, "b"), *page = path_join(dir, "report.html");
    EXPECT_OK(sys_mkdirs(a));
    EXPECT_OK(sys_mkdirs(b));
    put(a, "metrics.jsonl", "{\"step\": 1, \"eval\": {\"miou\": 0.4}}\n");
    put(b, "metrics.jsonl", "{\"step\": 1, \"eval\": {\"miou\": 0.5}}\n");
    const char *dirs[] = {a, b}, *gone[] = {"/nonexistent"};
    ReportArm arms[] = {{"<alone>", NULL, dirs, 2}, {"gone", "never ran", gone, 1}};
    ArmScore s = report_arm_score(&arms[0]);
    EXPECT_NEAR(s.mean, 0.45, 1e-12);
    EXPECT_NEAR(s.lo, 0.4, 0);
    EXPECT_INT(report_arm_score(&arms[1]).n, 0);
    EXPECT_OK(report_write_arms(page, "demo", arms, 2, a));
    char *text = page_of(dir);
    EXPECT_HAS(text, "45.00 %");
    EXPECT_HAS(text, "40.00 .. 50.00");
    EXPECT_HAS(text, "&lt;alone&gt;");
    free(text);
}

TEST_MAIN(T(base64_matches_rfc4648), T(thinned_series_keeps_mean_and_bound),
          T(thinned_series_skips_gaps), T(chart_escapes_names_and_marks_the_switch),
          T(chart_of_nothing_says_so), T(chart_of_one_constant_point_is_finite),
          T(bars_say_absent_for_nan), T(tfe_map_is_one_where_heads_agree),
          T(tse_parts_tell_who_finds_it_hard), T(tse_keeps_a_share_of_easy_images),
          T(report_needs_a_folder), T(report_of_an_empty_run_is_written),
          T(report_shows_the_run_and_escapes_it), T(run_data_reads_numbers),
          T(report_survives_damaged_metrics), T(report_size_is_bounded),
          T(arms_page_has_mean_and_spread))
