/* test_fuzz.c - every reader of hostile bytes over its corpus (tests/fuzz/corpus/NAME), whole and cut
 * off at every byte. What a fuzzer once found is a file there. */
#include "base/err.h"
#include "base/sys.h"
#include "test.h"

enum { FILE_MAX_BYTES = 1 << 20, CUT_MAX_BYTES = 16 * 1024 };

#define READER(name, strict) Err fuzz_##name(const uint8_t *data, size_t n);
#include "fuzz/readers.def"
#undef READER

typedef Err (*Reader)(const uint8_t *data, size_t n);

/* In memory of exactly n bytes, so that a sanitizer sees the first byte beyond. */
static Err read_cut(Reader reader, const uint8_t *data, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    memcpy(copy, data, n);
    Err rc = reader(copy, n);
    free(copy);
    return rc;
}
static void replay(const char *name, Reader reader, bool strict, const char *file,
                   const uint8_t *data, size_t n) {
    const bool seed = !strncmp(file, "seed", 4);
    Err rc = read_cut(reader, data, n);
    if (seed && rc) FAIL("%s/%s: E%d %s", name, file, rc, err_text());
    if (rc && err_exit_code(rc) < EXIT_USAGE)
        FAIL("%s/%s: exit code %d", name, file, err_exit_code(rc));
    for (size_t k = 0; k < n && n <= CUT_MAX_BYTES && test_failures < 5; k++)
        if (!read_cut(reader, data, k) && seed && strict)
            FAIL("%s/%s: its first %zu bytes are taken for the whole", name, file, k);
}
static void replay_all(const char *name, Reader reader, bool strict) {
    char dir[512], path[1024], **files;
    int n, seeds = 0;
    snprintf(dir, sizeof dir, SOURCE_DIR "/tests/fuzz/corpus/%s", name);
    EXPECT_OK(sys_list(dir, EXIT_DATA, &files, &n));
    for (int i = 0; i < n; i++) {
        Bytes b;
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        EXPECT_OK(sys_read_file(path, FILE_MAX_BYTES, EXIT_DATA, &b));
        replay(name, reader, strict, files[i], b.data, b.bytes);
        free(b.data);
        seeds += !strncmp(files[i], "seed", 4);
    }
    EXPECT(seeds > 0);
    sys_free_names(files, n);
}
#define READER(name, strict) TEST(name) { replay_all(#name, fuzz_##name, strict); }
#include "fuzz/readers.def"
#undef READER

int main(int argc, char **argv) {
    static const TestRow rows[] = {
#define READER(name, strict) T(name),
#include "fuzz/readers.def"
#undef READER
    };
    return test_main(rows, (int)(sizeof rows / sizeof *rows), argc, argv);
}
