/* test_base.c - errors, strings, arenas, random numbers, options, tensors. */
#include "base/cpu.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "base/spark.h"
#include "base/str.h"
#include "tensor/tensor.h"
#include "test.h"

#include <locale.h>
#include <stdatomic.h>

/* AddressSanitizer asks this: too big an allocation is to return NULL, as malloc does. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

/* ---- errors and strings ------------------------------------------------------------------------ */
TEST(err_escapes_hostile_bytes) {
    EXPECT_INT(err_set(E(3, 34), "%s: bad", "a\x1b[31m\n\xff<\xc3\xa9"), 3034);
    EXPECT_STR(err_text(), "a\\x1b[31m\\x0a\\xff<\xc3\xa9: bad");
    EXPECT_INT(err_wrap(3034, "file %d", 7), 3034);
    EXPECT_STR(err_text(), "file 7: a\\x1b[31m\\x0a\\xff<\xc3\xa9: bad");
    EXPECT_INT(err_set(E(4, 1), "again: %s", err_text()), 4001);
    EXPECT_HAS(err_text(), "again: file 7: a");
}
TEST(err_exit_codes) {
    EXPECT_INT(err_exit_code(OK), 0);
    EXPECT_INT(err_exit_code(E(5, 12)), 5);
    EXPECT_INT(err_exit_code(143), 143);
}
TEST(err_long_text_is_cut) {
    char *text = xcalloc(10001, 1);
    memset(text, 'x', 10000);
    err_set(E(2, 1), "%s", text);
    EXPECT(strlen(err_text()) > 1000 && strlen(err_text()) < 4096);
    free(text);
}
TEST(utf8_rejects_overlong_and_surrogates) {
    uint32_t c;
    EXPECT_INT(str_utf8_next("\xc0\x80", &c), 0);
    EXPECT_INT(str_utf8_next("\xe0\x80\x80", &c), 0);
    EXPECT_INT(str_utf8_next("\xed\xa0\x80", &c), 0);
    EXPECT_INT(str_utf8_next("\xf4\x90\x80\x80", &c), 0);
    EXPECT_INT(str_utf8_next("\xe2\x82", &c), 0);
    EXPECT_INT(str_utf8_next("\xe2\x82\xac", &c), 3);
    EXPECT_INT(c, 0x20ac);
    EXPECT_INT(str_utf8_next("\xf0\x9f\x98\x80", &c), 4);
    EXPECT_INT(c, 0x1f600);
}
TEST(html_and_json_cannot_be_broken_out_of) {
    Str s = {0};
    str_escape_html(&s, "<script>\"&'\x1b</script>");
    EXPECT_STR(s.s, "&lt;script&gt;&quot;&amp;&#39;\\x1b&lt;/script&gt;");
    str_free(&s);
    str_json(&s, "a\"b\\c\n\xff</script>");
    EXPECT_STR(s.s, "\"a\\\"b\\\\c\\u000a\\u00ff\\u003c/script>\"");
    str_free(&s);
}
TEST(numbers_ignore_the_locale) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "tr_TR.UTF-8"};
    bool set = false;
    for (int i = 0; i < 4 && !set; i++) set = setlocale(LC_ALL, names[i]) != NULL;
    if (!set) SKIP("no locale with a decimal comma is installed");
    Str s = {0};
    str_addf(&s, "%.2f ", 1.5);
    str_json_number(&s, 0.1);
    EXPECT_STR(s.s, "1.50 0.1");
    double v = 0;
    EXPECT(parse_f64("2.5", &v) && v == 2.5);
    EXPECT(!parse_f64("2,5", &v));
    str_free(&s);
}
TEST(json_numbers_round_trip) {
    static const double values[] = {
        0, 1, -1, 0.1, 1.0 / 3, 1e300, 5e-324, 123456789, 0x1.fffffffffffffp1023};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        Str s = {0};
        double back = -7;
        str_json_number(&s, values[i]);
        EXPECT(parse_f64(s.s, &back));
        EXPECT(back == values[i]);
        str_free(&s);
    }
    Str s = {0};
    str_json_number(&s, NAN);
    str_json_number(&s, 0.1);
    EXPECT_STR(s.s, "null0.1");
    str_free(&s);
}
TEST(parsing_takes_whole_strings_only) {
    int64_t i;
    double d;
    EXPECT(parse_i64("-42", &i) && i == -42);
    EXPECT(parse_i64("9223372036854775807", &i) && i == INT64_MAX);
    static const char *const bad[] = {"",   "-", " 1", "1 ", "0x10", "1.5", "9223372036854775808",
                                      "1e3"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) EXPECT(!parse_i64(bad[k], &i));
    EXPECT(parse_f64("1e-3", &d) && d == 1e-3);
    static const char *const bad_f[] = {"", "nan", "inf", "0x1p3", "e5", "1e999", "--1", "1 "};
    for (size_t k = 0; k < sizeof bad_f / sizeof *bad_f; k++)
        EXPECT(!parse_f64(bad_f[k], &d));
}
TEST(long_lines_are_broken_at_blanks_and_bars) {
    static const struct { const char *text, *want; int at; } cases[] = {
        {"one two three", "one two\n  three", 0},
        {"one two three", "one\n  two\n  three", 6},
        {"a|bb|cccccc|d e", "a|bb|\n  cccccc|d\n  e", 0},
        {"  in  further down", "  in\n  further\n  down", 0},
        {"longer-than-a-line x", "longer-than-a-line\n  x", 0},
        {"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
         "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Str s = {0};
        str_wrap(&s, cases[i].text, cases[i].at, 2, 10);
        EXPECT_STR(s.s, cases[i].want);
        str_free(&s);
    }
}
TEST(nearest_name_is_suggested) {
    static const char *const names[] = {"train.lr", "train.steps", "data.kind"};
    EXPECT_STR(str_nearest("train.lrr", names, 3), "train.lr");
    EXPECT_STR(str_nearest("tarin.steps", names, 3), "train.steps");
    EXPECT(str_nearest("completely-else", names, 3) == NULL);
}
TEST(path_pieces) {
    char *a = path_join("a/", "b"), *b = path_join("a", "/b"), *c = path_stem("x/y.tar.gz"),
         *d = path_stem(".hidden");
    EXPECT_STR(a, "a/b");
    EXPECT_STR(b, "/b");
    EXPECT_STR(c, "y.tar");
    EXPECT_STR(d, ".hidden");
    EXPECT_STR(path_base("a/b/c"), "c");
    free(a), free(b), free(c), free(d);
}

/* ---- memory ------------------------------------------------------------------------------------ */
TEST(arena_hands_out_zeroed_aligned_memory) {
    Arena *a = arena_open();
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 200000; n = n * 3 + 1) {
            unsigned char *p = arena_alloc(a, n);
            EXPECT_INT((uintptr_t)p % 16, 0);
            unsigned sum = 0;
            for (size_t i = 0; i < n; i++) sum |= p[i];
            EXPECT_INT(sum, 0);
            memset(p, 0x5a, n);
        }
        arena_reset(a);
    }
    EXPECT_STR(arena_printf(a, "%d-%s", 7, "x"), "7-x");
    arena_close(a);
}
TEST(arena_reuses_chunks_after_reset) {
    Arena *a = arena_open();
    arena_alloc(a, 100000), arena_alloc(a, 10), arena_alloc(a, 300000);
    arena_reset(a);
    uint64_t before = mem_alloc_count();
    for (int i = 0; i < 100; i++) arena_alloc(a, 100000), arena_reset(a);
    EXPECT_INT(mem_alloc_count(), before);
    arena_close(a);
}
TEST(block_too_big_is_an_error_with_purpose) {
    void *p;
    EXPECT_ERR(block_alloc(&p, SIZE_MAX - 5, "activations"), E(7, 23));
    EXPECT_HAS(err_text(), "activations");
    EXPECT_ERR(block_alloc(&p, (size_t)1 << 60, "activations"), E(7, 23));
    EXPECT(p == NULL);
    EXPECT_OK(block_alloc(&p, 100, "x"));
    EXPECT_INT((uintptr_t)p % 64, 0);
    block_free(p);
}

/* ---- random numbers ---------------------------------------------------------------------------- */
/* Known-answer vectors published with Random123 (kat_vectors, philox4x32 10). */
TEST(philox_known_answers) {
    uint32_t out[4];
    rng_block(&(Rng){{0, 0}, {0, 0}}, 0, out);
    EXPECT_INT(out[0], 0x6627e8d5u);
    EXPECT_INT(out[1], 0xe169c58du);
    EXPECT_INT(out[2], 0xbc57ac4cu);
    EXPECT_INT(out[3], 0x9b00dbd8u);
    rng_block(&(Rng){{~0u, ~0u}, {~0u, ~0u}}, UINT64_MAX, out);
    EXPECT_INT(out[0], 0x408f276du);
    EXPECT_INT(out[1], 0x41c83b0eu);
    EXPECT_INT(out[2], 0xa20bc7c6u);
    EXPECT_INT(out[3], 0x6d5451fdu);
    rng_block(&(Rng){{0xa4093822u, 0x299f31d0u}, {0x13198a2eu, 0x03707344u}}, 0x85a308d3243f6a88u,
              out);
    EXPECT_INT(out[0], 0xd16cfe09u);
    EXPECT_INT(out[1], 0x94fdccebu);
    EXPECT_INT(out[2], 0x5001e420u);
    EXPECT_INT(out[3], 0x24126ea1u);
}
TEST(streams_differ_in_every_part_of_the_key) {
    Rng base = rng_stream(1, RNG_DROPOUT, 2, 3);
    Rng other[] = {rng_stream(2, RNG_DROPOUT, 2, 3), rng_stream(1, RNG_AUGMENT, 2, 3),
                   rng_stream(1, RNG_DROPOUT, 3, 3), rng_stream(1, RNG_DROPOUT, 2, 4),
                   rng_stream(1, RNG_DROPOUT, 3, 2)};
    for (int i = 0; i < 5; i++) {
        int same = 0;
        for (uint64_t k = 0; k < 64; k++) same += rng_u32(&base, k) == rng_u32(&other[i], k);
        EXPECT_INT(same, 0);
    }
    EXPECT_INT(rng_u32(&base, 5),
               rng_u32(&(Rng){{base.key[0], base.key[1]}, {base.hi[0], base.hi[1]}}, 5));
}
TEST(distributions_have_their_moments) {
    Rng r = rng_stream(42, RNG_INIT, 0, 0);
    enum { N = 200000 };
    double su = 0, sn = 0, sn2 = 0, lo = 1, hi = 0;
    int counts[7] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double u = rng_uniform(&r, i), g = rng_normal(&r, i);
        su += u, sn += g, sn2 += g * g;
        lo = fmin(lo, u), hi = fmax(hi, u);
        counts[rng_below(&r, i, 7)]++;
    }
    EXPECT(lo >= 0 && hi < 1);
    EXPECT_NEAR(su / N, 0.5, 5 * 0.2887 / sqrt(N));     /* five standard errors */
    EXPECT_NEAR(sn / N, 0.0, 5 / sqrt(N));
    EXPECT_NEAR(sn2 / N, 1.0, 5 * 1.414 / sqrt(N));
    for (int i = 0; i < 7; i++) EXPECT_NEAR(counts[i] * 7.0 / N, 1.0, 5 * sqrt(6.0 / N));
}
TEST(permutation_is_one) {
    enum { N = 1000 };
    uint32_t p[N];
    int seen[N] = {0}, fixed = 0;
    Rng r = rng_stream(1, RNG_SHUFFLE, 0, 0);
    rng_permutation(&r, p, N);
    for (int i = 0; i < N; i++) seen[p[i]]++, fixed += p[i] == (uint32_t)i;
    for (int i = 0; i < N; i++) EXPECT_INT(seen[i], 1);
    EXPECT(fixed < 10);
}

/* ---- hash, threads, processor ------------------------------------------------------------------ */
TEST(hash_known_values) {
    EXPECT(hash_fnv1a("") == 0xcbf29ce484222325u);
    EXPECT(hash_fnv1a("foobar") == 0x85944171f73967e8u);        /* published FNV-1a vector */
    EXPECT_STR(hash_digest("", 0).hex, "99aa06d3014798d86001c324468d497f");   /* XXH3-128 of nothing, seed 0 */
}
static void add_square(void *arg, int64_t i) { ((int64_t *)arg)[i] += i * i; }
TEST(parallel_for_visits_each_index_once) {
    enum { N = 1001 };
    static int64_t v[N];
    for (int threads = 1; threads <= 3; threads++) {
        parallel_set_threads(threads);
        EXPECT_INT(parallel_threads(), threads);
        memset(v, 0, sizeof v);
        parallel_for(N, add_square, v);
        for (int64_t i = 0; i < N; i++) EXPECT_INT(v[i], i * i);
    }
    parallel_for(0, add_square, NULL);
}
TEST(cpu_level_is_never_above_the_processor) {
    cpu_force(CPU_AVX512);
    EXPECT(cpu_level() <= cpu_best());
    cpu_force(CPU_PLAIN);
    EXPECT_INT(cpu_level(), CPU_PLAIN);
    EXPECT_STR(cpu_level_name(CPU_AVX2), "avx2");
}

/* ---- options ----------------------------------------------------------------------------------- */
typedef struct {
    bool b;
    int64_t i;
    double f, range[2], time;
    const char *s;
    int e, i32, size32[2];
    int64_t size[2];
    OptEvery every;
} Opts;
#define AT(field) offsetof(Opts, field)
static const Option table[] = {
    {"mirror", OPT_BOOL, AT(b), "true", "", "a bool", 0, NULL, 0, 0},
    {"steps", OPT_INT, AT(i), "40000", "steps", "an int", 0, NULL, 1, 1e12},
    {"workers", OPT_I32, AT(i32), "auto", "", "small int", OPT_AUTO, NULL, 0, 64},
    {"tau", OPT_F64, AT(f), "4", "", "a double", 0, NULL, 1e-6, 1000},
    {"out", OPT_STR, AT(s), NULL, "", "a string", 0, NULL, 0, 0},
    {"rule", OPT_ENUM, AT(e), "or", "", "an enum", 0, "xor|or|and", 0, 0},
    {"crop", OPT_SIZE, AT(size), "360x480", "px", "a size", OPT_AUTO, NULL, 0, 0},
    {"crop32", OPT_SIZE32, AT(size32), "none", "px", "a size", OPT_AUTO, NULL, 0, 0},
    {"scale", OPT_RANGE, AT(range), "[0.5, 2]", "", "a range", 0, NULL, 0, 0},
    {"report", OPT_TIME, AT(time), "60s", "", "a time", 0, NULL, 0, 0},
    {"every", OPT_EVERY, AT(every), "10min", "", "when", 0, NULL, 0, 0},
    {0},
};
TEST(option_defaults_and_text_round_trip) {
    Arena *a = arena_open();
    Opts o = {0}, p = {0};
    option_defaults(table, &o, a);
    EXPECT(o.b && o.i == 40000 && o.f == 4 && !o.s && o.e == 1 && o.range[1] == 2 && o.time == 60);
    EXPECT(o.every.seconds == 600 && o.size[0] == 360 && o.size[1] == 480 && o.i32 == 0);
    EXPECT_OK(option_set(table, &o, a, "", "out", "runs/x", "command line"));
    EXPECT_OK(option_set(table, &o, a, "", "crop32", "24x32", "command line"));
    for (const Option *r = table; r->name; r++) {
        char *text = option_text(r, &o), *again;
        EXPECT_OK(option_set(table, &p, a, "", r->name, text, "test"));
        again = option_text(r, &p);
        EXPECT_STR(again, text);
        free(text), free(again);
    }
    EXPECT_INT(p.size32[1], 32);
    EXPECT_INT(option_count(table), 11);
    arena_close(a);
}
TEST(option_errors_name_place_and_remedy) {
    Arena *a = arena_open();
    Opts o = {0};
    EXPECT_ERR(option_set(table, &o, a, "distill.cwd", "tua", "1", "a.yaml:12"), E(2, 76));
    EXPECT_STR(err_text(),
               "a.yaml:12: distill.cwd.tua is not an option; did you mean distill.cwd.tau?");
    EXPECT_ERR(option_set(table, &o, a, "", "rule", "nor", "command line"), E(2, 76));
    EXPECT_HAS(err_text(), "xor|or|and");
    static const char *const bad[][2] = {{"steps", "0"},
                                         {"steps", "9223372036854775808"},
                                         {"steps", "4e4"},
                                         {"steps", "auto"},
                                         {"tau", "nan"},
                                         {"tau", "-1"},
                                         {"mirror", "1"},
                                         {"workers", "65"},
                                         {"workers", "4294967297"},
                                         {"crop", "360"},
                                         {"crop", "0x5"},
                                         {"crop", "5x-5"},
                                         {"scale", "[2, 1]"},
                                         {"scale", "[1"},
                                         {"report", "10 parsecs"},
                                         {"report", "min"},
                                         {"every", "1.5"},
                                         {"every", "-3"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (option_set(table, &o, a, "", bad[i][0], bad[i][1], "x") != E(2, 76))
            FAIL("%s=%s was accepted", bad[i][0], bad[i][1]);
    }
    arena_close(a);
}

/* ---- tensors ----------------------------------------------------------------------------------- */
TEST(shapes_count_and_refuse_overflow) {
    size_t bytes;
    EXPECT_INT(shape_count(SHAPE(2, 3, 4)), 24);
    EXPECT_INT(shape_count((Shape){0}), 1);
    EXPECT(shape_bytes(SHAPE(0, INT64_MAX, INT64_MAX), DT_F32, &bytes) && bytes == 0);
    EXPECT(!shape_bytes(SHAPE(INT64_MAX, 2), DT_U8, &bytes));
    EXPECT(!shape_bytes(SHAPE(INT64_MAX / 2), DT_F32, &bytes));
    EXPECT(!shape_bytes(SHAPE(-1, 2), DT_F32, &bytes));
    EXPECT_STR(shape_text(SHAPE(4, 3, 360, 480)).s, "4x3x360x480");
    EXPECT_STR(shape_text((Shape){0}).s, "scalar");
    EXPECT(shape_equal(SHAPE(1, 2), SHAPE(1, 2)) && !shape_equal(SHAPE(1, 2), SHAPE(1, 2, 1)));
}
TEST(layouts_round_trip_and_pad_with_zeros) {
    enum { N = 2, C = 11, HW = 12 };
    Shape s = SHAPE(N, C, 3, 4);
    float src[N * C * HW], back[N * C * HW];
    for (int i = 0; i < N * C * HW; i++) src[i] = (float)i + 1;
    static const Layout all[] = {LAYOUT_PLAIN, LAYOUT_LAST, LAYOUT_C8, LAYOUT_C16};
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            float *x = xcalloc(1, layout_bytes(all[a], s, DT_F32)),
                  *y = xcalloc(1, layout_bytes(all[b], s, DT_F32));
            memset(y, 0x7f, layout_bytes(all[b], s, DT_F32));
            layout_copy_f32(x, all[a], src, LAYOUT_PLAIN, s);
            layout_copy_f32(y, all[b], x, all[a], s);
            layout_copy_f32(back, LAYOUT_PLAIN, y, all[b], s);
            EXPECT(!memcmp(src, back, sizeof src));
            double sum = 0;
            for (size_t i = 0; i < layout_bytes(all[b], s, DT_F32) / 4; i++) sum += y[i];
            EXPECT_NEAR(sum, (N * C * HW) * (N * C * HW + 1) / 2.0, 0);
            free(x), free(y);
        }
    float last[N * C * HW];
    layout_copy_f32(last, LAYOUT_LAST, src, LAYOUT_PLAIN, s);
    EXPECT(last[1] == src[HW] && last[C] == src[1]);
}
TEST(tensor_list_finds_by_name) {
    TensorList *l = tensor_list_open();
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        ((int64_t *)tensor_add(l, name, DT_I64, SHAPE(2))->data)[1] = i;
    }
    EXPECT_INT(((int64_t *)tensor_find(l, "t13")->data)[1], 13);
    EXPECT(tensor_find(l, "t20") == NULL);
    tensor_list_close(l);
}

TEST(spark_goes_from_lowest_to_highest) {
    const double v[] = {0, 1, NAN, 7, 8, INFINITY};
    Str s = {0};
    spark_text(&s, v, 6);
    EXPECT_STR(s.s, "\xe2\x96\x81\xe2\x96\x82 \xe2\x96\x88\xe2\x96\x88 ");
    str_free(&s);
    spark_text(&s, (double[]){3, 3}, 2);     /* no range */
    EXPECT_STR(s.s, "\xe2\x96\x81\xe2\x96\x81");
    str_free(&s);
    spark_text(&s, (double[]){-1e308, 1e308}, 2);
    EXPECT_STR(s.s, "\xe2\x96\x81\xe2\x96\x88");
    str_free(&s);
}

TEST(spark_keeps_the_mean_of_any_number) {
    Spark s = {0};
    for (int i = 0; i < 100000; i++) spark_add(&s, i), spark_add(&s, NAN);
    double sum = 0;
    EXPECT(s.n >= SPARK_WIDTH / 2 && s.n <= SPARK_WIDTH);
    for (int i = 0; i < s.n; i++) {
        EXPECT(i == 0 || s.mean[i] > s.mean[i - 1]);
        sum += s.mean[i] * (double)s.per;
    }
    EXPECT_NEAR(sum + s.sum, 99999.0 * 100000 / 2, 1);
}

TEST_MAIN(T(spark_goes_from_lowest_to_highest), T(spark_keeps_the_mean_of_any_number),
          T(err_escapes_hostile_bytes), T(err_exit_codes), T(err_long_text_is_cut),
          T(utf8_rejects_overlong_and_surrogates), T(html_and_json_cannot_be_broken_out_of),
          T(numbers_ignore_the_locale), T(json_numbers_round_trip),
          T(parsing_takes_whole_strings_only), T(nearest_name_is_suggested), T(path_pieces),
          T(long_lines_are_broken_at_blanks_and_bars),
          T(arena_hands_out_zeroed_aligned_memory), T(arena_reuses_chunks_after_reset),
          T(block_too_big_is_an_error_with_purpose), T(philox_known_answers),
          T(streams_differ_in_every_part_of_the_key), T(distributions_have_their_moments),
          T(permutation_is_one), T(hash_known_values), T(parallel_for_visits_each_index_once),
          T(cpu_level_is_never_above_the_processor), T(option_defaults_and_text_round_trip),
          T(option_errors_name_place_and_remedy), T(shapes_count_and_refuse_overflow),
          T(layouts_round_trip_and_pad_with_zeros), T(tensor_list_finds_by_name))
