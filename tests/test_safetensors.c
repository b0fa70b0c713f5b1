/* test_safetensors.c - round trips, digests, and everything a hostile or damaged file can say. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/safetensors.h"
#include "tempdir.h"
#include "test.h"

/* A file of bytes: length, header, zeros. */
static Str make_file(const char *header, size_t data_bytes) {
    Str s = {0};
    uint64_t n = strlen(header);
    str_addn(&s, (const char *)&n, 8);
    str_add(&s, header);
    for (size_t i = 0; i < data_bytes; i++) str_addn(&s, "", 1);
    return s;
}
/* Parse exactly these bytes (a copy without slack, so that ASan sees reads past the end). */
static Err parse(const char *bytes, size_t n, int exit_code, SafeFile *f) {
    uint8_t *exact = xcalloc(n, 1);
    memcpy(exact, bytes, n);
    Err rc = st_parse(exact, n, "x.safetensors", exit_code, f);
    free(exact);
    return rc;
}
static Err parse_header(const char *header, size_t data_bytes) {
    SafeFile f;
    Str s = make_file(header, data_bytes);
    Err rc = parse(s.s, s.n, EXIT_MODEL, &f);
    if (!rc) st_close(&f);
    str_free(&s);
    return rc;
}
/* A small file of every element type, on disk. */
enum { ALL = DT_COUNT + 2 };
static void write_sample(const char *path) {
    static uint8_t data[ALL][64];
    static char names[ALL][24];
    Tensor t[ALL];
    for (int i = 0; i < ALL; i++) {
        for (int k = 0; k < 64; k++) data[i][k] = (uint8_t)(i * 64 + k);
        snprintf(names[i], sizeof names[i], "layer%d.weight\xc3\xa9\"", i);
        Dtype d = i < DT_COUNT ? (Dtype)(DT_COUNT - 1 - i) : DT_F32;        /* narrow ones first */
        Shape s = i == DT_COUNT ? (Shape){0} : i == DT_COUNT + 1 ? SHAPE(3, 0) : SHAPE(1, 3, 2);
        t[i] = (Tensor){names[i], d, s, data[i]};
    }
    MetaPair meta[] = {{"step", "100"}, {"digests", "stale"}, {"note", "a\"\\\n\t\xe2\x82\xac"}};
    EXPECT_OK(st_write(path, t, ALL, meta, 3));
}

TEST(round_trip_of_every_type) {
    const char *path = temp_path("a.safetensors");
    write_sample(path);
    SafeFile f;
    EXPECT_OK(st_read(path, EXIT_CHECKPOINT, &f));
    EXPECT_INT(f.tensors->n, ALL);
    for (int i = 0; i < ALL; i++) {
        char name[24];
        snprintf(name, sizeof name, "layer%d.weight\xc3\xa9\"", i);
        Tensor *t = tensor_find(f.tensors, name);
        if (!t) { FAIL("%s is missing", name); continue; }
        EXPECT_INT(t - f.tensors->v, i);         /* the order given */
        EXPECT_INT(t->dtype, i < DT_COUNT ? DT_COUNT - 1 - i : DT_F32);
        size_t bytes = 0;
        EXPECT(shape_bytes(t->shape, t->dtype, &bytes));
        for (size_t k = 0; k < bytes; k++) EXPECT_INT(((uint8_t *)t->data)[k], (uint8_t)(i * 64 + (int)k));
    }
    EXPECT_STR(st_meta(&f, "step"), "100");
    EXPECT_STR(st_meta(&f, "note"), "a\"\\\n\t\xe2\x82\xac");
    EXPECT_HAS(st_meta(&f, "digests"), "__header__");
    EXPECT(st_meta(&f, "absent") == NULL);
    st_close(&f);
    EXPECT_OK(st_verify(path));
}
/* More than is read at a time, so that its digest is put together from parts too. */
TEST(pieces_in_any_order_are_the_same_file) {
    enum { N = 300001, STEP = 9973 };
    static float v[N];
    Bytes whole, pieces;
    StPieces *f;
    for (int i = 0; i < N; i++) v[i] = (float)i;
    EXPECT_OK(st_write(temp_path("a.safetensors"), &(Tensor){"t", DT_F32, SHAPE(N), v}, 1, NULL, 0));
    EXPECT_OK(st_create(temp_path("b.safetensors"), "t", DT_F32, SHAPE(N), &f));
    for (int i = N / STEP; i >= 0; i--) {
        const int n = N - i * STEP < STEP ? N - i * STEP : STEP;
        EXPECT_OK(st_put(f, (uint64_t)i * STEP * sizeof *v, v + i * STEP, (size_t)n * sizeof *v));
    }
    EXPECT(!sys_exists(temp_path("b.safetensors")));
    EXPECT_OK(st_finish(f));
    EXPECT_OK(sys_read_file(temp_path("a.safetensors"), 1 << 22, EXIT_DATA, &whole));
    EXPECT_OK(sys_read_file(temp_path("b.safetensors"), 1 << 22, EXIT_DATA, &pieces));
    EXPECT(whole.bytes == pieces.bytes && !memcmp(whole.data, pieces.data, whole.bytes));
    free(whole.data), free(pieces.data);
}
TEST(pieces_that_are_given_up_leave_nothing) {
    StPieces *f;
    char **names;
    int n;
    EXPECT_OK(sys_mkdirs(temp_path("d")));
    EXPECT_OK(st_create(temp_path("d/b.safetensors"), "t", DT_F32, SHAPE(4), &f));
    EXPECT_OK(st_put(f, 4, "1234", 4));
    st_abort(f);
    EXPECT_OK(sys_list(temp_path("d"), EXIT_DATA, &names, &n));
    EXPECT_INT(n, 0);
    sys_free_names(names, n);
    EXPECT_ERR(st_create(temp_path("no/b.safetensors"), "t", DT_F32, SHAPE(4), &f), E(6, 9));
}
TEST(data_are_aligned) {
    const char *path = temp_path("a.safetensors");
    write_sample(path);
    Bytes b;
    EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
    uint64_t n;
    memcpy(&n, b.data, 8);
    EXPECT_INT(n % 8, 0);
    EXPECT_INT(b.data[8], '{');
    static const char *const wide_first[] = {"I64\",\"shape\":[1,3,2],\"data_offsets\":[0,48]", "F64\",\"shape\":[1,3,2],\"data_offsets\":[48,96]",
                                             "I32\",\"shape\":[1,3,2],\"data_offsets\":[96,120]", "U8\",\"shape\":[1,3,2],\"data_offsets\":[184,190]"};
    for (int i = 0; i < 4; i++) EXPECT_HAS((char *)b.data + 8, wide_first[i]);
    free(b.data);
}
TEST(empty_list_is_a_file) {
    const char *path = temp_path("e.safetensors");
    SafeFile f;
    EXPECT_OK(st_write(path, NULL, 0, NULL, 0));
    EXPECT_OK(st_read(path, EXIT_CHECKPOINT, &f));
    EXPECT_INT(f.tensors->n, 0);
    st_close(&f);
}
TEST(truncation_at_every_byte_is_refused) {
    const char *path = temp_path("a.safetensors");
    write_sample(path);
    Bytes b;
    EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
    for (size_t n = 0; n < b.bytes; n++) {
        SafeFile f;
        Err rc = parse((char *)b.data, n, EXIT_CHECKPOINT, &f);
        if (err_exit_code(rc) != EXIT_CHECKPOINT) FAIL("cut at %zu of %zu: %d", n, b.bytes, rc);
        if (f.tensors) FAIL("cut at %zu left tensors", n);
    }
    for (size_t n = 0; n < b.bytes; n += 97) {   /* the same by file */
        EXPECT_OK(durable_write_all(temp_path("cut"), b.data, n));
        EXPECT_INT(err_exit_code(st_verify(temp_path("cut"))), EXIT_CHECKPOINT);
    }
    free(b.data);
}
TEST(every_flipped_bit_is_detected) {
    const char *path = temp_path("a.safetensors");
    write_sample(path);
    Bytes b;
    EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
    for (int exit_code = EXIT_MODEL; exit_code <= EXIT_CHECKPOINT; exit_code++)
        for (size_t bit = 0; bit < 8 * b.bytes; bit++) {
            SafeFile f;
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            Err rc = parse((char *)b.data, b.bytes, exit_code, &f);
            if (err_exit_code(rc) != exit_code) FAIL("exit code %d, byte %zu bit %zu: %d", exit_code, bit / 8, bit % 8, rc);
            if (!rc) st_close(&f);
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    free(b.data);
}
TEST(damaged_tensor_is_named) {
    const char *path = temp_path("a.safetensors");
    write_sample(path);
    Bytes b;
    EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
    b.data[b.bytes - 1] ^= 1;                    /* the last bytes: the last one-byte type written, I8 or BOOL or U8 */
    EXPECT_OK(durable_write_all(path, b.data, b.bytes));
    EXPECT_ERR(st_verify(path), E(5, 12));
    EXPECT_HAS(err_text(), "tensor layer2.weight");
    free(b.data);
}
TEST(foreign_files_without_digests_are_models_not_checkpoints) {
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ";
    Str s = make_file(header, 8);
    SafeFile f;
    EXPECT_OK(parse(s.s, s.n, EXIT_MODEL, &f));
    EXPECT_STR(st_meta(&f, "format"), "pt");
    st_close(&f);
    EXPECT_ERR(parse(s.s, s.n, EXIT_CHECKPOINT, &f), E(5, 12));
    str_free(&s);
}

/* ---- rows 50 to 53 ----------------------------------------------------------------------------- */
TEST(absurd_header_lengths_are_refused) {
    static const struct { uint64_t n; int row; } lengths[] = {{UINT64_MAX, 50}, {0, 50}, {1, 50}, {1000, 50}, {100000001, 50}, {(uint64_t)1 << 63, 50}, {(uint64_t)20 << 56, 16}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char bytes[64] = "";
        memcpy(bytes, &lengths[i].n, 8);
        SafeFile f;
        EXPECT_ERR(parse(bytes, sizeof bytes, EXIT_MODEL, &f), E(4, lengths[i].row));
    }
    SafeFile f;
    EXPECT_ERR(parse("1234567", 7, EXIT_MODEL, &f), E(4, 50));
    EXPECT_ERR(parse("", 0, EXIT_MODEL, &f), E(4, 50));
}
#define ENTRY(shape, offsets) "{\"t.w\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
TEST(hostile_shapes_and_offsets_are_refused_by_name) {
    static const char *const headers[] = {
        ENTRY("[4294967296,4294967296]", "[0,8]"), ENTRY("[4611686018427387904]", "[0,8]"), ENTRY("[-1]", "[0,8]"),
        ENTRY("[1e30]", "[0,8]"), ENTRY("[2.0]", "[0,8]"), ENTRY("[9223372036854775808]", "[0,8]"), ENTRY("[02]", "[0,8]"),
        ENTRY("[\"2\"]", "[0,8]"), ENTRY("[1,1,1,1,1,1,2]", "[0,8]"), ENTRY("[2]", "[0,9]"), ENTRY("[2]", "[8,0]"),
        ENTRY("[2]", "[0,8,8]"), ENTRY("[2]", "[0]"), ENTRY("[3]", "[0,12]"), ENTRY("[1]", "[4,8]"),
        ENTRY("[2]", "[18446744073709551608,18446744073709551616]"),
        "{\"t.w\":{\"dtype\":\"F8\",\"shape\":[8],\"data_offsets\":[0,8]}}", "{\"t.w\":{\"dtype\":\"F32\",\"shape\":[2]}}",
        "{\"t.v\":{\"dtype\":\"U8\",\"shape\":[6],\"data_offsets\":[0,6]},\"t.w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
        "{\"t.v\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"t.w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}"};
    EXPECT_OK(parse_header(ENTRY("[2]", "[0,8]"), 8));
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        Err rc = parse_header(headers[i], 8);
        if (rc != E(4, 51)) FAIL("%s: %d", headers[i], rc);
        EXPECT_HAS(err_text(), "tensor t.w");
    }
}
TEST(hostile_json_is_refused) {
    static const char *const headers[] = {
        "{\"a\":{},\"a\":{}}", "{\"a\" {}}", "[]  ", "{\"a\":[[[[[[[[]]]]]]]]}", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
        "{\"__metadata__\":{\"a\":1}}", "{\"__metadata__\":{\"a\":{}}}", "{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", "{\"__metadata__\":{},\"__metadata__\":{}}",
        "{\"a\xff\":{}}", "{\"a\\ud800\":{}}", "{\"a\\u0000\":{}}", "{\"a\\x\":{}}", "{\"a\n\":{}}", "{\"a", "{\"a\\", "{\"a\\u12", "{} x", "{}}", "{,}", "   "};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        Err rc = parse_header(headers[i], 0);
        if (rc != E(4, 52) && !(i == 0 && rc == E(4, 51))) FAIL("%s: %d %s", headers[i], rc, rc ? err_text() : "");
    }
    EXPECT_ERR(parse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,2]}}", 2), E(4, 52));
    EXPECT_HAS(err_text(), "tensor a stands twice");
    EXPECT_ERR(parse_header("{}", 5), E(4, 52));                 /* trailing bytes */
    EXPECT_HAS(err_text(), "5 bytes follow");
    EXPECT_OK(parse_header(" { } ", 0));
}
TEST(escapes_are_decoded) {
    SafeFile f;
    Str s = make_file("{\"__metadata__\":{\"\\u0061\\n\\/\\u20ac\\ud83d\\ude00\\u00E9\":\"\"}}", 0);
    EXPECT_OK(parse(s.s, s.n, EXIT_MODEL, &f));
    EXPECT_STR(f.meta[0].key, "a\n/\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9");
    st_close(&f);
    str_free(&s);
}
TEST(random_damage_never_crashes) {
    const char *path = temp_path("a.safetensors");
    write_sample(path);
    Bytes b;
    EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
    static const char spice[] = "{}[]\",:\\0123456789-eu \n";
    uint32_t seed = 1;
    uint64_t n;
    memcpy(&n, b.data, 8);
    for (int round = 0; round < 20000; round++) {
        char *copy = xcalloc(b.bytes, 1);
        memcpy(copy, b.data, b.bytes);
        for (int k = 0; k < 1 + round % 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t at = (uint32_t)(8 + (seed >> 8) % n);
            seed = seed * 1664525u + 1013904223u;
            copy[at] = spice[(seed >> 16) % (sizeof spice - 1)];
        }
        memcpy(copy + 8, "{\"__metadata__\":{\"unsigned\"", 27);      /* not ours: the grammar is what is tested */
        SafeFile f;
        Err rc = parse(copy, b.bytes, EXIT_MODEL, &f);
        if (rc && err_exit_code(rc) != EXIT_MODEL) FAIL("round %d: %d", round, rc);
        if (!rc) st_close(&f);
        free(copy);
    }
    free(b.data);
}
TEST(huge_headers_take_seconds_not_hours) {
    Str h = {0};
    enum { N = 1 << 18 };                        /* 17 MB: a sixth of the limit, so a sixth of row 53's two seconds, trebled for slow machines */
    str_add(&h, "{");
    for (int i = 0; i < N; i++) str_addf(&h, "%s\"layer.%07d.w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, i, i + 1);
    str_add(&h, "}");
    double t = test_cpu_s();
    EXPECT_OK(parse_header(h.s, N));
    if (!SANITIZED) EXPECT(test_cpu_s() - t < 1.0);
    h.n--;                                       /* one more than are read */
    str_add(&h, ",\"last\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    EXPECT_ERR(parse_header(h.s, N), E(7, 53));
    str_free(&h);
}
/* The low 20 bits of FNV-1a before character c, from those behind it. */
static uint32_t fnv_before(uint32_t h, char c) {
    uint32_t inverse = 0x1b3;                            /* of the prime modulo 2^20, by Newton's steps */
    for (int i = 0; i < 5; i++) inverse *= 2 - 0x1b3 * inverse;
    return (h * inverse ^ (uint8_t)c) & 0xfffff;
}
/* 30,000 names that FNV-1a puts into one slot: eight digits, and two pairs of letters that meet in the middle. */
TEST(names_made_to_collide_take_no_longer) {
    enum { NAMES = 30000, LETTERS = 64, FIRST = '0' };
    uint16_t *pair = xcalloc(1 << 20, sizeof *pair);     /* behind which state which last two letters give 0 */
    for (int i = 0; i < LETTERS * LETTERS; i++) {
        const char a = (char)(FIRST + i / LETTERS), b = (char)(FIRST + i % LETTERS);
        if (a != '\\' && b != '\\') pair[fnv_before(fnv_before(0, b), a)] = (uint16_t)(i + 1);
    }
    Str s = {0};
    str_add(&s, "{");
    for (int k = 0, found = 0; found < NAMES; k++) {
        for (int i = 0; i < LETTERS * LETTERS; i++) {
            char name[16];
            const char a = (char)(FIRST + i / LETTERS), b = (char)(FIRST + i % LETTERS);
            snprintf(name, sizeof name, "%08d%c%c", k, a, b);
            const int last = pair[hash_fnv1a(name) & 0xfffff] - 1;
            if (last < 0 || a == '\\' || b == '\\') continue;
            str_addf(&s, "%s\"%s%c%c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                     found++ ? "," : "", name, FIRST + last / LETTERS, FIRST + last % LETTERS);
            break;
        }
    }
    str_add(&s, "}");
    free(pair);
    const double t = test_cpu_s();
    EXPECT_OK(parse_header(s.s, 0));
    if (!SANITIZED) EXPECT(test_cpu_s() - t < 1);
    str_free(&s);
}
TEST(write_to_a_bad_place_is_an_output_error) {
    EXPECT_ERR(st_write(temp_path("absent/x"), NULL, 0, NULL, 0), E(6, 9));
}

TEST_MAIN(T(round_trip_of_every_type), T(pieces_in_any_order_are_the_same_file), T(pieces_that_are_given_up_leave_nothing), T(data_are_aligned), T(empty_list_is_a_file), T(truncation_at_every_byte_is_refused),
          T(every_flipped_bit_is_detected), T(damaged_tensor_is_named), T(foreign_files_without_digests_are_models_not_checkpoints),
          T(absurd_header_lengths_are_refused), T(hostile_shapes_and_offsets_are_refused_by_name), T(hostile_json_is_refused),
          T(escapes_are_decoded), T(random_damage_never_crashes), T(huge_headers_take_seconds_not_hours),
          T(names_made_to_collide_take_no_longer), T(write_to_a_bad_place_is_an_output_error))
