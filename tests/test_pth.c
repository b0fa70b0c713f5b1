/* test_pth.c - PyTorch's files: equal to what PyTorch reads from them, and refused when they lie. */
#include <time.h>
#include <zlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/weights.h"
#include "tempdir.h"
#include "test.h"

#define GOLDEN SOURCE_DIR "/tests/golden/pth/"

/* Read exactly these bytes (a copy without slack, so that ASan sees reads past the end). */
static Err parse(const void *bytes, size_t n, SafeFile *f) {
    uint8_t *exact = xcalloc(n, 1);
    if (n) memcpy(exact, bytes, n);
    Err rc = weights_parse(&(IoBytes){"x.pth", exact, n}, f);
    free(exact);
    return rc;
}
static Err parse_only(const void *bytes, size_t n) {
    SafeFile f;
    Err rc = parse(bytes, n, &f);
    if (!rc) st_close(&f);
    else if (f.tensors) FAIL("a refused file left tensors");
    return rc;
}


static Bytes read_golden(const char *name) {
    Bytes b = {0};
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (sys_read_file(path, 1 << 20, EXIT_MODEL, &b)) FAIL("%s", err_text());
    return b;
}

/* ---- what PyTorch wrote ---------------------------------------------------------------------------- */
static const struct { const char *name; int n; const char *path;
} SAMPLES[] = {
    {"zip.pth", 19, NULL},
    {"stream.pth", 19, NULL},
    {"protocol5.pth", 19, "net"},
    {"stream4.pth", 19, "net"},
    {"old.pth", 3, "model"},
    {"checkpoint.pth", 4, "state_dict"},
    {"checkpoint_stream.pth", 4, "state_dict"},
    {"module.pth", 10, "model"},
    {"module_stream.pth", 10, NULL},
    {"list.pth", 2, NULL},
    {"tensor.pth", 1, NULL},
    {"left_out.pth", 1, NULL},
};
enum { N_SAMPLES = sizeof SAMPLES / sizeof *SAMPLES };

static void expect_equal(const char *file, const SafeFile *got, const SafeFile *expected) {
    for (int i = 0; i < got->tensors->n; i++) {
        const Tensor *t = &got->tensors->v[i];
        char *name = xprintf("%s/%s", file, t->name);
        const Tensor *e = tensor_find(expected->tensors, name);
        if (!e || e->dtype != t->dtype || !shape_equal(e->shape, t->shape))
            FAIL("%s: %s %s", name, dtype_name(t->dtype), shape_text(t->shape).s);
        else if (memcmp(e->data, t->data, (size_t)shape_count(t->shape) * dtype_bytes(t->dtype)))
            FAIL("%s: other values", name);
        free(name);
    }
}
TEST(samples_equal_what_pytorch_reads) {
    SafeFile expected, f;
    EXPECT_OK(st_read(GOLDEN "expected.safetensors", EXIT_MODEL, &expected));
    for (int i = 0; i < N_SAMPLES; i++) {
        char path[512];
        snprintf(path, sizeof path, GOLDEN "%s", SAMPLES[i].name);
        EXPECT_OK(weights_read(path, &f));
        EXPECT_INT(f.tensors->n, SAMPLES[i].n);
        expect_equal(SAMPLES[i].name, &f, &expected);
        if (SAMPLES[i].path) EXPECT_STR(st_meta(&f, "path"), SAMPLES[i].path);
        else EXPECT(!st_meta(&f, "path"));
        st_close(&f);
    }
    st_close(&expected);
}
TEST(memory_and_file_read_alike) {
    Bytes b = read_golden("zip.pth");
    SafeFile f, expected;
    EXPECT_OK(st_read(GOLDEN "expected.safetensors", EXIT_MODEL, &expected));
    EXPECT_OK(parse(b.data, b.bytes, &f));
    EXPECT_INT(f.tensors->n, 19);
    expect_equal("zip.pth", &f, &expected);
    EXPECT(tensor_find(f.tensors, "tied.a")->data == tensor_find(f.tensors, "tied.b")->data);      /* equal views share */
    st_close(&f), st_close(&expected);
    free(b.data);
}
/* Networks that others published: number of tensors, FNV-1a of the listing, sums of the elements and of
 * their magnitudes, all as PyTorch has them (tools/golden_pth.py FILE). */
TEST(published_files_are_listed_as_pytorch_lists_them) {
    static const struct {
        const char *name;
        int n;
        uint64_t listing;
        double sum, magnitude;
    } FILES[] = {
        {"espnet_p_2_q_8_city.pth", 189, 0x251472f6a6a5d728, 143.906535909, 5583.46377752},
        {"espnetv2_s_0.5_city_1024x512.pth", 526, 0xf1f3a726f1740ef7, 46705508.9592, 46716193.5878},
        {"espnetv2_s_2.0_city_1024x512.pth", 526, 0xde99c16fd3fac97f, 38063378.3075, 38099965.6248},
        {"espnetv2_s_2.0_pascal_384x384.pth", 526, 0xff09ebcb4968e48d, 75653295.1001,
         75693763.8542},
    };
    const char *data = sys_test_data();
    if (!data) SKIP("no test data; set RETORT_TEST_DATA");
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char *path = xprintf("%s/weights/%s", data, FILES[i].name);
        SafeFile f;
        Str listing = {0};
        double sum = 0, magnitude = 0;
        if (!sys_exists(path)) SKIP("%s is not there", path);
        EXPECT_OK(weights_read(path, &f));
        EXPECT_INT(f.tensors->n, FILES[i].n);
        for (int k = 0; k < f.tensors->n; k++) {
            const Tensor *t = &f.tensors->v[k];
            str_addf(&listing, "%s\t%s\t%s\n", t->name, dtype_name(t->dtype),
                     shape_text(t->shape).s);
            for (int64_t e = 0; e < shape_count(t->shape); e++) {
                const double x = t->dtype == DT_I64 ? (double)((int64_t *)t->data)[e]
                                                    : (double)((float *)t->data)[e];
                sum += x, magnitude += fabs(x);
            }
        }
        EXPECT(hash_fnv1a(listing.s) == FILES[i].listing);
        EXPECT_NEAR(sum, FILES[i].sum, 1e-9);            /* twelve digits are given */
        EXPECT_NEAR(magnitude, FILES[i].magnitude, 1e-9);
        str_free(&listing);
        st_close(&f);
        free(path);
    }
}
TEST(wrappers_of_names_are_cut) {
    static const struct { const char *in[3], *out[3]; } CASES[] = {
        {{"module.a", "module.b.c", "module.d"}, {"a", "b.c", "d"}},
        {{"model._orig_mod.a", "model._orig_mod.b", "model._orig_mod.c"}, {"a", "b", "c"}},
        {{"module.a", "module.b", "head.c"}, {"module.a", "module.b", "head.c"}},
        {{"net.", "net.a", "net.b"}, {"net.", "net.a", "net.b"}},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        SafeFile f = {.tensors = tensor_list_open()};
        for (int k = 0; k < 3; k++) tensor_add(f.tensors, CASES[i].in[k], DT_U8, SHAPE(1));
        weights_unwrap(&f);
        for (int k = 0; k < 3; k++) EXPECT_STR(f.tensors->v[k].name, CASES[i].out[k]);
        st_close(&f);
    }
}

/* ---- damage ---------------------------------------------------------------------------------------- */
static void expect_refusal(Err rc, const char *name, size_t at) {
    if (err_exit_code(rc) != EXIT_MODEL && err_exit_code(rc) != EXIT_LIMIT)
        FAIL("%s at %zu: %d %s", name, at, rc, rc ? err_text() : "");
}
TEST(truncation_at_every_byte_is_refused) {
    static const char *const names[] = {
        "zip.pth",    "stream.pth",          "stream4.pth", "old.pth", "checkpoint_stream.pth",
        "module.pth", "expected.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Bytes b = read_golden(names[i]);
        for (size_t n = 0; n < b.bytes; n++) expect_refusal(parse_only(b.data, n), names[i], n);
        for (size_t n = 0; n < b.bytes; n += 397) {      /* the same by file */
            SafeFile f;
            FILE *fp = fopen(temp_path("cut"), "wb");
            CHECK(fp && fwrite(b.data, 1, n, fp) == n && !fclose(fp));
            expect_refusal(weights_read(temp_path("cut"), &f), names[i], n);
        }
        free(b.data);
    }
}
TEST(every_flipped_bit_is_an_error_or_a_value) {
    static const char *const names[] = {"zip.pth", "stream4.pth", "old.pth"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Bytes b = read_golden(names[i]);
        for (size_t bit = 0; bit < 8 * b.bytes; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            Err rc = parse_only(b.data, b.bytes);
            if (rc) expect_refusal(rc, names[i], bit / 8);
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(b.data);
    }
}
TEST(other_formats_are_refused_by_name) {
    static const struct { const char *name, *text;
    } FILES[] = {{"torchscript.pth", "a TorchScript program"},
                 {"no_tensors.pth", "holds no tensors"},
                 {"values2.pkl", "a pickle, but not one of torch.save"},
                 {"values4.pkl", "a pickle, but not one of torch.save"}};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        Bytes b = read_golden(FILES[i].name);
        expect_refusal(parse_only(b.data, b.bytes), FILES[i].name, 0);
        EXPECT_HAS(err_text(), FILES[i].text);
        free(b.data);
    }
    char tar[512] = "sys_info";
    memcpy(tar + 257, "ustar", 5);
    EXPECT_ERR(parse_only(tar, sizeof tar), E(4, 59));
    EXPECT_HAS(err_text(), "a tar archive");
    EXPECT_ERR(parse_only("\x89HDF\r\n\x1a\n........", 16), E(4, 59));
    EXPECT_ERR(parse_only("<!DOCTYPE html><html>", 21), E(4, 59));
    EXPECT_ERR(parse_only("", 0), E(4, 50));
    SafeFile f;
    EXPECT_ERR(weights_read(temp_path(""), &f), E(4, 44));
}

/* ---- streams written here -------------------------------------------------------------------------- */
/* The head of a stream: magic number, protocol, machine. */
static const char HEAD[] =
    "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}U\rlittle_endian\x88s.";

static void add_storage(Str *s, const char *type, const char *key, const char *numel) {
    str_addf(s, "(S'storage'\nctorch\n%sStorage\nS'%s'\nS'cpu'\nL%sL\ntQ", type, key, numel);
}
/* 'name': a float32 tensor over storage `key`, which is said to have `numel` elements. */
static void add_item(Str *s, const char *name, const char *key, const char *numel, const char *at,
                     const char *size, const char *stride) {
    str_addf(s, "S'%s'\nctorch._utils\n_rebuild_tensor_v2\n(", name);
    add_storage(s, "Float", key, numel);
    str_addf(s, "L%sL\n(%st(%stI00\nNtRs", at, size, stride);
}
static void add_floats(Str *s, int64_t numel, int held) {
    str_addn(s, (const char *)&numel, sizeof numel);
    for (int i = 0; i < held; i++) {
        const float x = (float)i;
        str_addn(s, (const char *)&x, sizeof x);
    }
}
static void begin(Str *s) {
    *s = (Str){0};
    str_addn(s, HEAD, sizeof HEAD - 1);
    str_add(s, "}");
}
static Err finish(Str *s) {
    Err rc = parse_only(s->s, s->n);
    str_free(s);
    return rc;
}
/* The same behind the storage k of two numbers. */
static Err finish_with_k(Str *s) {
    str_add(s, ".(S'k'\nl.");
    add_floats(s, 2, 2);
    return finish(s);
}
/* One tensor over a storage of `held` elements that the pickle says has `numel`. */
static Err one_tensor(const char *numel, const char *at, const char *size, const char *stride,
                      int64_t written, int held) {
    Str s;
    begin(&s);
    add_item(&s, "w", "k", numel, at, size, stride);
    str_add(&s, ".(S'k'\nl.");
    add_floats(&s, written, held);
    return finish(&s);
}
TEST(views_beyond_their_storage_are_refused) {
    EXPECT_OK(one_tensor("6", "0", "K\2K\3", "K\3K\1", 6, 6));
    EXPECT_OK(one_tensor("6", "1", "K\2K\2", "K\3K\1", 6, 6));
    EXPECT_OK(one_tensor("6", "6", "K\3I0\n", "K\1K\1", 6, 6));
    EXPECT_OK(one_tensor("6", "0", "K\2K\1K\2", "K\1L9223372036854775807L\nK\3", 6, 6));
    static const struct {
        const char *numel, *at, *size, *stride;
        int64_t written;
        int held;
    } BAD[] = {
        {"60", "0", "K\2K\3", "K\3K\1", 60, 6}, /* declared ten times its bytes */
        {"60", "0", "K\2K\3", "K\3K\1", 6, 6}, /* in one place only */
        {"6", "0", "K\2K\3", "K\3K\1", 60, 60},
        {"6", "1", "K\2K\3", "K\3K\1", 6, 6}, /* offset */
        {"6", "7", "K\1I0\n", "K\1K\1", 6, 6},
        {"6", "0", "K\2K\3", "K\4K\1", 6, 6}, /* stride */
        {"6", "0", "K\2K\3", "K\3K\2", 6, 6},
        {"6", "0", "K\3K\3", "K\3K\1", 6, 6}, /* size */
        {"6", "-1", "K\2K\3", "K\3K\1", 6, 6},
        {"6", "0", "J\xff\xff\xff\xffK\3", "K\3K\1", 6, 6},
        {"6", "5", "K\2K\3", "J\xff\xff\xff\xffK\1", 6, 6},
        {"6", "0", "K\2K\3", "K\1", 6, 6},
        {"6", "0", "NK\3", "K\3K\1", 6, 6},
        {"-6", "0", "K\2K\3", "K\3K\1", -6, 6},
        {"9223372036854775807", "0", "K\2K\3", "K\3K\1", 9223372036854775807, 6},
        {"4611686018427387904", "0", "K\2K\3", "K\3K\1", 4611686018427387904, 6}, /* times 4 is 0 */
        {"6", "9223372036854775807", "K\2K\3", "K\3K\1", 6, 6},
        {"6", "0", "L4294967296L\nL4294967297L\n", "K\1K\1", 6, 6},
        {"6", "0", "K\2K\3", "L9223372036854775807L\nK\1", 6, 6},
        {"6", "0", "K\3K\3", "L9223372036854775807L\nL9223372036854775807L\n", 6, 6},
        {"6", "0", "L4611686018427387904L\n", "I0\n", 6, 6}, /* one element, 2^62 times */
        {"0", "0", "", "", 0, 0}, /* a scalar over nothing */
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        Err rc = one_tensor(BAD[i].numel, BAD[i].at, BAD[i].size, BAD[i].stride, BAD[i].written,
                            BAD[i].held);
        if (rc != E(4, 58)) FAIL("row %zu: %d %s", i, rc, rc ? err_text() : "");
    }
}
TEST(storages_that_disagree_are_refused) {
    static const char *const TAILS[] = {
        ".(S'k'\nS'k'\nl.", ".(l.", ".(S'other'\nl.", ".(K\1l.", ".N.", ".(S'k'\nS'z'\nl."};   /* twice, absent, unknown, no text, no list, one more */
    for (size_t i = 0; i < sizeof TAILS / sizeof *TAILS; i++) {
        Str s;
        begin(&s);
        add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
        str_add(&s, TAILS[i]);
        add_floats(&s, 2, 2);
        Err rc = finish(&s);
        if (rc != E(4, 58)) FAIL("tail %zu: %d %s", i, rc, rc ? err_text() : "");
    }
    static const char *const KINDS[] = {"Double", "Float", "Half", "Foreign"};
    for (size_t i = 0; i < 4; i++) {                     /* the key once more, as another thing */
        Str s;
        begin(&s);
        add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
        str_add(&s, "S'x'\n");
        add_storage(&s, KINDS[i], "k", i == 1 ? "3" : "2");
        str_add(&s, "s.(S'k'\nl.");
        add_floats(&s, 2, 2);
        EXPECT_ERR(finish(&s), E(4, 58));
    }
    EXPECT_ERR(one_tensor("6", "0", "K\6", "K\1", 6, 7), E(4, 58));                     /* bytes behind the last storage */
    EXPECT_HAS(err_text(), "4 bytes follow");
}
TEST(shared_storages_have_a_bound) {
    Str s;
    begin(&s);
    for (int i = 0; i < 100; i++) {                      /* shared and tied: nothing wrong with that */
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        add_item(&s, name, "k", "2", "0", i % 2 ? "K\2" : "K\1", "K\1");
    }
    str_add(&s, ".(S'k'\nl.");
    add_floats(&s, 2, 2);
    EXPECT_OK(finish(&s));
    double t = test_cpu_s();
    EXPECT_ERR(one_tensor("2", "0", "L1000000000L\n", "I0\n", 2, 2), E(4, 58));         /* four gigabytes from eight bytes */
    EXPECT_HAS(err_text(), "shared so often");
    EXPECT(test_cpu_s() - t < 0.5);
    begin(&s);                                           /* 80 megabytes, and a storage that is not there to cover them */
    add_item(&s, "w", "k", "2", "0", "L20000000L\n", "I0\n");
    add_item(&s, "z", "y", "1152921504606846976", "0", "K\1", "K\1");
    EXPECT_ERR(finish_with_k(&s), E(4, 58));
    EXPECT_HAS(err_text(), "shared so often");
}
TEST(keys_of_storages_have_a_bound) {
    for (int n = 255; n <= 256; n++) {                   /* sorting may compare each with each, whole */
        char key[512];
        Str s;
        memset(key, 'k', sizeof key), key[n] = 0;
        begin(&s);
        add_item(&s, "w", key, "2", "0", "K\2", "K\1");
        str_addf(&s, ".(S'%s'\nl.", key);
        add_floats(&s, 2, 2);
        EXPECT_INT(finish(&s), n == 255 ? OK : E(4, 58));
    }
}
TEST(names_that_cannot_be_are_refused) {
    Str s;
    begin(&s);
    add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
    add_item(&s, "w", "k", "2", "0", "K\1", "K\1");
    EXPECT_ERR(finish_with_k(&s), E(4, 56));
    EXPECT_HAS(err_text(), "stands twice");
    begin(&s);
    add_item(&s, "w\\x00x", "k", "2", "0", "K\2", "K\1");
    EXPECT_ERR(finish_with_k(&s), E(4, 56));
    EXPECT_HAS(err_text(), "NUL");
}
TEST(typed_views_of_untyped_storages_are_read) {
    for (int i = 0; i < 3; i++) {
        Str s = {0};
        SafeFile f;
        begin(&s);
        str_add(
            &s,
            "S'w'\nctorch._utils\n_rebuild_tensor_v3\n((S'storage'\nctorch.storage\nUntypedStorage\nS'k'\nS'cpu'\nK\xctQK\1(K\2t(K\1tI00\nN");
        str_addf(&s, "ctorch\n%s\ntRs.(S'k'\nl.",
                 i == 0   ? "float32"
                 : i == 1 ? "float64"
                          : "float8_e4m3fn");
        const int64_t bytes = 12;
        str_addn(&s, (const char *)&bytes, sizeof bytes);
        for (int k = 0; k < 3; k++) str_addn(&s, (const char *)&(float){(float)k}, sizeof(float));
        Err rc = parse(s.s, s.n, &f);
        EXPECT_INT(rc, i ? E(4, 58) : OK);               /* two doubles at 8 do not fit; float8 is not read */
        if (!rc) {
            EXPECT(((float *)f.tensors->v[0].data)[0] == 1 &&
                   ((float *)f.tensors->v[0].data)[1] == 2);
            st_close(&f);
        }
        str_free(&s);
    }
}
TEST(streams_of_other_machines_are_refused) {
    Str s;
    static const struct { const char *from, *to; int row;
    } CHANGES[] = {{"little_endian\x88", "little_endian\x89", 16},
                   {"little_endian\x88", "little_endianN", 16},
                   {"little_", "bigger_", 16},
                   {"M\xe9\3", "M\xe8\3", 59},
                   {"\xfc\x9c", "\xfc\x9d", 59}};
    for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++) {
        begin(&s);
        add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
        str_add(&s, ".(S'k'\nl.");
        add_floats(&s, 2, 2);
        char *at = memmem(s.s, s.n, CHANGES[i].from, strlen(CHANGES[i].from));
        CHECK(at);
        memcpy(at, CHANGES[i].to, strlen(CHANGES[i].to));
        Err rc = finish(&s);
        if (rc != E(4, CHANGES[i].row)) FAIL("change %zu: %d %s", i, rc, rc ? err_text() : "");
    }
}
/* A graph that would be 10^30 objects if it were a tree, modules that hold themselves, and a nest of 100,000. */
TEST(laughs_circles_and_nests_end) {
    Str s;
    double t = test_cpu_s();
    begin(&s);
    str_add(&s, "S'laughs'\n(lp0\n");
    for (int level = 1; level < 30; level++) {
        str_add(&s, "0(");
        for (int i = 0; i < 10; i++) str_addf(&s, "g%d\n", level - 1);
        str_addf(&s, "lp%d\n", level);
    }
    str_add(&s, "s");
    add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
    str_add(&s, ".(S'k'\nl.");
    add_floats(&s, 2, 2);
    EXPECT_OK(finish(&s));

    begin(&s);                                           /* _modules of 2 children each, 60 levels: 2^60 paths */
    str_add(&s, "S'net'\nca\nB\n)\x81}S'_parameters'\n}sS'_modules'\n}sbp0\n");
    for (int level = 1; level < 60; level++)
        str_addf(&s,
                 "0ca\nB\n)\x81}S'_parameters'\n}sS'_modules'\n}S'a'\ng%d\nsS'b'\ng%d\nssbp%d\n",
                 level - 1, level - 1, level);
    str_add(&s, "s.(l.");
    EXPECT_ERR(finish(&s), E(7, 57));

    begin(&s);
    str_add(&s, "S'net'\nca\nB\n)\x81p0\n}S'_parameters'\n}sS'_modules'\n}S'self'\ng0\nssbs.(l.");
    EXPECT_ERR(finish(&s), E(7, 57));

    begin(&s);
    str_add(&s, "S'deep'\nN");
    for (int i = 0; i < 100000; i++) str_add(&s, "\x85");
    str_add(&s, "s");
    add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
    str_add(&s, ".(S'k'\nl.");
    add_floats(&s, 2, 2);
    EXPECT_OK(finish(&s));
    EXPECT(test_cpu_s() - t < 5);
}
/* A dictionary of 200,000 pairs, memo 4, beside the keys that modules have, memos 1 to 3. */
static void add_long_dict(Str *s) {
    str_add(s, "U\v_parametersq\1U\b_modulesq\2ca\nB\nq\3}q\4");
    for (int k = 0; k < 50; k++) {
        str_add(s, "(");
        for (int i = 0; i < 4000; i++) str_add(s, "h\3h\3");
        str_add(s, "u");
    }
}
static void add_objects(Str *s, int n, const char *object) {
    str_add(s, "]");
    for (int k = 0; k < n; k += 5000) {
        str_add(s, "(");
        for (int i = 0; i < 5000; i++) str_add(s, object);
        str_add(s, "e");
    }
}
/* What many objects share is looked through once, or it counts. */
TEST(work_on_shared_parts_is_counted) {
    Str s;
    double t = test_cpu_s();
    s = (Str){0};                                        /* 30,000 objects of one long state */
    str_addn(&s, HEAD, sizeof HEAD - 1);
    add_long_dict(&s);
    add_objects(&s, 30000, "h\3)\x81h\4b");
    str_add(&s, ".(l.");
    EXPECT_ERR(finish(&s), E(4, 56));
    EXPECT_HAS(err_text(), "holds no tensors");

    s = (Str){0};                                        /* a module of 30,000 modules of one long list of parameters */
    str_addn(&s, HEAD, sizeof HEAD - 1);
    add_long_dict(&s);
    str_add(&s, "h\3)\x81}h\1}sh\2}");
    for (int k = 0; k < 30000; k++) {
        char name[32];
        snprintf(name, sizeof name, "S'%d'\n", k);
        str_add(&s, name), str_add(&s, "h\3)\x81}h\1h\4sbs");
    }
    str_add(&s, "sb.(l.");
    EXPECT_ERR(finish(&s), E(7, 57));

    s = (Str){0};                                        /* 5,000 tensors without names under 100,000 objects without */
    str_addn(&s, HEAD, sizeof HEAD - 1);
    str_add(&s, "ca\nB\n(");
    for (int k = 0; k < 5000; k++) {
        str_add(&s, "ctorch._utils\n_rebuild_tensor_v2\n(");
        add_storage(&s, "Float", "k", "2");
        str_add(&s, "I0\nK\2\x85K\1\x85I00\nNtR");
    }
    str_add(&s, "l\x85\x81");
    for (int k = 0; k < 100000; k++) str_add(&s, ")\x81");
    EXPECT_ERR(finish_with_k(&s), E(7, 57));
    if (!SANITIZED) EXPECT(test_cpu_s() - t < 3);
}
TEST(gadgets_beside_weights_do_nothing) {
    static const char *const gadgets[] = {
#define CMD "touch owned"
#include "gadgets.def"
    };
    int read = 0;
    EXPECT(!chdir(temp_path("")));
    for (size_t i = 0; i < sizeof gadgets / sizeof *gadgets; i++) {
        Str s;
        begin(&s);
        add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
        str_add(&s, "S'gadget'\n");
        str_addn(&s, gadgets[i], strlen(gadgets[i]) - 1);    /* without its STOP */
        str_add(&s, "s.(S'k'\nl.");
        add_floats(&s, 2, 2);
        Err rc = finish(&s);
        if (rc) EXPECT_INT(rc, E(4, 56));
        read += !rc;
    }
    EXPECT(read >= 40);
    EXPECT(!sys_exists("owned"));
}

/* ---- archives written here -------------------------------------------------------------------------- */
typedef struct Entry { const char *name; const void *data; uint32_t n, size; uint16_t method, flags; uint32_t crc, at; } Entry;   /* size: inflated */
typedef struct Archive { Str s; Entry e[8]; int n; } Archive;

static void put16(Str *s, unsigned v) { str_addn(s, (const char[]){(char)v, (char)(v >> 8)}, 2); }
static void put32(Str *s, uint32_t v) { put16(s, v & 0xffff), put16(s, v >> 16); }
static void put_common(Str *s, const Entry *e) {
    put16(s, 20), put16(s, e->flags), put16(s, e->method), put32(s, 0), put32(s, e->crc),
        put32(s, e->n), put32(s, e->size), put16(s, (unsigned)strlen(e->name));
}
static void put_local(Archive *a, Entry *e) {
    e->at = (uint32_t)a->s.n;
    str_addn(&a->s, "PK\3\4", 4);
    put_common(&a->s, e);
    put16(&a->s, 0);
    str_add(&a->s, e->name);
    if (e->n) str_addn(&a->s, e->data, e->n);
}
static Entry *add_entry(Archive *a, const char *name, const void *data, size_t n) {
    Entry *e = &a->e[a->n++];
    *e = (Entry){.name = name, .data = data, .n = (uint32_t)n, .size = (uint32_t)n, .crc = (uint32_t)crc32(0, data, (uInt)n)};
    put_local(a, e);
    return e;
}
static void put_directory(Archive *a, unsigned disk, unsigned entries) {
    const size_t at = a->s.n;
    for (int i = 0; i < a->n; i++) {
        const Entry *e = &a->e[i];
        str_addn(&a->s, "PK\1\2", 4);
        put16(&a->s, 20), put_common(&a->s, e), put16(&a->s, 0), put16(&a->s, 0), put16(&a->s, 0),
            put16(&a->s, 0), put32(&a->s, 0), put32(&a->s, e->at);
        str_add(&a->s, e->name);
    }
    const size_t size = a->s.n - at;
    str_addn(&a->s, "PK\5\6", 4);
    put16(&a->s, disk), put16(&a->s, disk), put16(&a->s, entries), put16(&a->s, entries),
        put32(&a->s, (uint32_t)size), put32(&a->s, (uint32_t)at), put16(&a->s, 0);
}
static const float TWO[2] = {1, 2};
/* data.pkl with one tensor of two elements over storage k. */
static Str two_floats(void) {
    Str s = {0};
    str_add(&s, "}");
    add_item(&s, "w", "k", "2", "0", "K\2", "K\1");
    str_add(&s, ".");
    return s;
}
/* A good archive up to its directory; the caller may change what it likes before put_directory. */
static void open_archive(Archive *a, Str *pkl) {
    *a = (Archive){.n = 0};
    *pkl = two_floats();
    add_entry(a, "x/data.pkl", pkl->s, pkl->n);
    add_entry(a, "x/data/k", TWO, sizeof TWO);
}
static Err close_archive(Archive *a, Str *pkl) {
    Err rc = parse_only(a->s.s, a->s.n);
    str_free(&a->s), str_free(pkl);
    return rc;
}
/* An entry whose data are another entry, header and all; both stand in the directory. */
static void add_nested(Archive *a) {
    static Archive inner;
    Entry *small = add_entry(&inner, "x/small", TWO, sizeof TWO);
    Entry *big = add_entry(a, "x/big", inner.s.s, inner.s.n);
    small->at = big->at + 30 + (uint32_t)strlen(big->name);
    a->e[a->n++] = *small;
}
TEST(archives_that_lie_are_refused) {
    static const struct { const char *what; int rc;
    } CASES[] = {
        {"good", OK},
        {"encrypted", E(4, 55)},
        {"several disks", E(4, 55)},
        {"central crc", E(4, 55)},
        {"both crc", E(4, 55)},
        {"central name", E(4, 55)},
        {"central size", E(4, 55)},
        {"junk before", E(4, 55)},
        {"twice", E(4, 55)},
        {"leaves the folder", E(4, 46)},
        {"absolute", E(4, 46)},
        {"other method", E(4, 55)},
        {"two data.pkl", E(4, 59)},
        {"fewer entries", E(4, 55)},
        {"more entries", E(4, 55)},
        {"big-endian", E(4, 16)},
        {"version", E(4, 59)},
        {"storage of another size", E(4, 58)},
        {"no storage", E(4, 58)},
        {"junk behind the directory", E(4, 55)},
        {"a comment that lies", E(4, 55)},
        {"ratio", E(4, 54)},
        {"local elsewhere", E(4, 55)},
        {"overlap", E(4, 54)},
        {"stored, two sizes", E(4, 55)},
        {"good, more", OK},
    };
    enum {
        GOOD,
        ENCRYPTED,
        DISKS,
        CRC_CENTRAL,
        CRC_BOTH,
        NAME,
        SIZE,
        PREFIX,
        TWICE,
        UP,
        ABSOLUTE,
        METHOD,
        TWO_PKL,
        FEWER,
        MORE,
        BIG,
        VERSION,
        OTHER_SIZE,
        NO_STORAGE,
        BEHIND,
        COMMENT,
        RATIO,
        ELSEWHERE,
        OVERLAP,
        TWO_SIZES,
        GOOD_MORE,
        N_CASES
    };
    _Static_assert(sizeof CASES / sizeof *CASES == N_CASES, "one row per case");
    for (int c = 0; c < N_CASES; c++) {
        Archive a;
        Str pkl;
        open_archive(&a, &pkl);
        unsigned disk = 0, entries = 0;
        if (c == ENCRYPTED) a.e[1].flags = 1, a.s.n = a.e[1].at, put_local(&a, &a.e[1]);
        if (c == DISKS) disk = 1;
        if (c == CRC_CENTRAL) a.e[1].crc ^= 1;
        if (c == CRC_BOTH) a.e[1].crc ^= 1, a.s.n = a.e[1].at, put_local(&a, &a.e[1]);
        if (c == NAME) a.e[1].name = "x/data/j";
        if (c == SIZE) a.e[1].n = a.e[1].size = 4;
        if (c == TWICE) add_entry(&a, "x/data/k", TWO, sizeof TWO);
        if (c == UP) add_entry(&a, "x/../../etc", TWO, sizeof TWO);
        if (c == ABSOLUTE) add_entry(&a, "/etc/x", TWO, sizeof TWO);
        if (c == METHOD) a.e[1].method = 12, a.s.n = a.e[1].at, put_local(&a, &a.e[1]);
        if (c == TWO_PKL) add_entry(&a, "y/data.pkl", "N.", 2);
        if (c == FEWER) entries = 1;
        if (c == MORE) entries = 3;
        if (c == BIG) add_entry(&a, "x/byteorder", "big", 3);
        if (c == VERSION) add_entry(&a, "x/version", "11\n", 3);
        if (c == OTHER_SIZE) a.s.n = a.e[1].at, a.n = 1, add_entry(&a, "x/data/k", TWO, 4);
        if (c == NO_STORAGE) a.s.n = a.e[1].at, a.n = 1;
        if (c == RATIO)
            a.e[1].method = 8, a.e[1].size = 1700, a.s.n = a.e[1].at, put_local(&a, &a.e[1]);
        if (c == ELSEWHERE) a.e[1].at = a.e[0].at;
        if (c == OVERLAP) add_nested(&a);
        if (c == TWO_SIZES) a.e[1].size = 9, a.s.n = a.e[1].at, put_local(&a, &a.e[1]);
        if (c == GOOD_MORE)
            add_entry(&a, "x/version", "3\n", 2), add_entry(&a, "x/byteorder", "little", 6);
        put_directory(&a, disk, entries ? entries : (unsigned)a.n);
        if (c == PREFIX) {
            Str s = {0};
            str_add(&s, "junk");
            str_addn(&s, a.s.s, a.s.n);
            str_free(&a.s);
            a.s = s;
        }
        if (c == BEHIND) str_add(&a.s, "junk");
        if (c == COMMENT) a.s.s[a.s.n - 2] = 4;
        Err rc = close_archive(&a, &pkl);
        const bool prefix = c == PREFIX && rc / 1000 == EXIT_MODEL;      /* no zip at all: any refusal will do */
        if (rc != CASES[c].rc && !prefix)
            FAIL("%s: %d %s", CASES[c].what, rc, rc ? err_text() : "");
    }
}
/* A deflated data.pkl of 1 GB of zeros in 1 MB, and one within the ratio that is no pickle. */
TEST(zip_bombs_are_refused_before_inflating) {
    enum { PLAIN = 64 << 20 };
    static uint8_t packed[1 << 20];
    uint8_t *zeros = xcalloc(PLAIN, 1);
    z_stream z = {
        .next_in = zeros, .avail_in = PLAIN, .next_out = packed, .avail_out = sizeof packed};
    CHECK(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK &&
          deflate(&z, Z_FINISH) == Z_STREAM_END);
    deflateEnd(&z);
    free(zeros);
    const uint64_t before = sys_peak_rss();
    for (int i = 0; i < 2; i++) {
        Archive a = {.n = 0};
        Str pkl = {0};
        Entry *e = add_entry(&a, "x/data.pkl", packed, z.total_out);
        e->method = 8, e->crc = 0, e->size = i ? (uint32_t)z.total_out * 200 : PLAIN;
        a.s.n = e->at;
        put_local(&a, e);
        put_directory(&a, 0, 1);
        double t = test_cpu_s();
        EXPECT_ERR(close_archive(&a, &pkl), i ? E(4, 55) : E(4, 54));
        EXPECT(test_cpu_s() - t < 1);
    }
    EXPECT(sys_peak_rss() - before < (uint64_t)64 << 20);
}
TEST(lying_counts_of_the_large_format_are_refused) {
    static const uint64_t lies[] = {2, 1000000000, UINT64_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        Archive a;
        Str pkl, s;
        open_archive(&a, &pkl);
        put_directory(&a, 0, 2);
        s = a.s;
        const uint32_t end = (uint32_t)s.n - 22, directory = end - 46 * 2 - 18;
        char tail[22];
        memcpy(tail, s.s + end, 22);
        s.n = end;
        str_addn(&s, "PK\6\6", 4);                        /* zip64 end of directory: size, versions, disks, counts, size, offset */
        put32(&s, 44), put32(&s, 0), put16(&s, 45), put16(&s, 45), put32(&s, 0), put32(&s, 0);
        for (int k = 0; k < 2; k++) str_addn(&s, (const char *)&lies[i], 8);
        put32(&s, end - directory), put32(&s, 0), put32(&s, directory), put32(&s, 0);
        str_addn(&s, "PK\6\7", 4);
        put32(&s, 0), put32(&s, end), put32(&s, 0), put32(&s, 1);
        memset(tail + 8, 0xff, 12);                      /* everything is in the large record */
        str_addn(&s, tail, sizeof tail);
        a.s = s;
        Err rc = close_archive(&a, &pkl);
        if (i == 0) EXPECT_INT(rc, OK);
        else expect_refusal(rc, "zip64", i);
    }
}
TEST_MAIN(T(samples_equal_what_pytorch_reads), T(memory_and_file_read_alike),
          T(published_files_are_listed_as_pytorch_lists_them), T(wrappers_of_names_are_cut),
          T(truncation_at_every_byte_is_refused), T(every_flipped_bit_is_an_error_or_a_value),
          T(other_formats_are_refused_by_name), T(views_beyond_their_storage_are_refused),
          T(storages_that_disagree_are_refused), T(shared_storages_have_a_bound),
          T(keys_of_storages_have_a_bound),
          T(names_that_cannot_be_are_refused), T(typed_views_of_untyped_storages_are_read),
          T(streams_of_other_machines_are_refused), T(laughs_circles_and_nests_end),
          T(work_on_shared_parts_is_counted),
          T(gadgets_beside_weights_do_nothing), T(archives_that_lie_are_refused),
          T(zip_bombs_are_refused_before_inflating),
          T(lying_counts_of_the_large_format_are_refused))
