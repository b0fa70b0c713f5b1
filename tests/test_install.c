/* test_install.c - what `./run install` leaves is enough for a program of one's own:
 * examples/train.c is compiled against the installation, shared and static, and trains. */
#include "small_camvid.h"
#include "test.h"

/* Runs a shell line in the test's folder; its output goes to the file `log` there. */
static int shell(const char *log, const char *line) {
    char *all = xprintf("cd '%s' && { %s ; } >%s 2>&1", temp_path(""), line, log);
    int status = system(all);
    free(all);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
static const char *text_of(const char *file) {
    static char text[1 << 16];
    Bytes b;
    if (sys_read_file(temp_path(file), sizeof text - 1, EXIT_DATA, &b)) return err_text();
    memcpy(text, b.data, b.bytes + 1);
    free(b.data);
    return text;
}
#define EXPECT_SHELL(line)                                                                         \
    do {                                                                                           \
        if (shell("log", line)) FAIL("%s: %s", line, text_of("log"));                              \
    } while (0)

/* Installs, then moves the installation: retort.pc must not know where it was. */
static void install(void) {
    if (SANITIZED) SKIP("a sanitized library needs a sanitized program");
    if (shell("log", "command -v cmake && command -v cc && command -v pkg-config"))
        SKIP("no cmake, cc or pkg-config in PATH");
    EXPECT_SHELL("cmake --install " BUILD_DIR " --prefix first && mv first prefix");
    EXPECT_OK(put_text(
        "yard.yaml", "data: {kind: scenes, crop: 32x40, scenes: {size: 32x40, train: 4, val: 2}}\n"
                     "student: {model: deeplabv3_mobilenetv2, width: 0.1}\n"
                     "train: {steps: 2, batch: 2}\n"));
}
#define PKG "PKG_CONFIG_PATH=prefix/lib/pkgconfig pkg-config"

/* Compiled by `compile`, the example trains two steps, evaluates, and ends with its one line. */
static void expect_training(const char *compile) {
    EXPECT_SHELL(compile);
    EXPECT_SHELL(
        "OMP_NUM_THREADS=1 LD_LIBRARY_PATH=prefix/lib ./train yard.yaml out=runs/yard seed=2");
    EXPECT_HAS(text_of("log"), "retort " RETORT_VERSION ": mIoU ");
    EXPECT_HAS(text_of("log"), "over 2 images");
    EXPECT(sys_exists(temp_path("runs/yard/last.safetensors")));
}
TEST(an_installation_is_complete) {
    static const char *const files[] = {"bin/retort", "include/retort.h", "lib/libretort.a",
                                        "lib/libretort.so", "lib/pkgconfig/retort.pc"};
    install();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "prefix/%s", files[i]);
        if (!sys_exists(temp_path(path))) FAIL("%s is not there", path);
    }
    EXPECT_SHELL("prefix/bin/retort --version && " PKG " --modversion retort");
    EXPECT_STR(text_of("log"), "retort " RETORT_VERSION "\n" RETORT_VERSION "\n");
    EXPECT_SHELL("nm -D --defined-only prefix/lib/libretort.so | awk '{print $3}' | grep -v "
                 "'^retort_' | wc -l");
    EXPECT_STR(text_of("log"), "0\n"); /* the shared library exports its header and nothing else */
}
TEST(the_example_trains_with_the_shared_library) {
    install();
    expect_training("cc -std=c11 -Wall -Wextra -Werror " SOURCE_DIR
                    "/examples/train.c -o train $(" PKG " --cflags --libs retort)");
    EXPECT_SHELL("LD_LIBRARY_PATH=prefix/lib ldd train | grep -q 'prefix/lib/libretort.so.0'");
}
TEST(the_example_trains_with_the_static_library) {
    install();
    EXPECT_SHELL("rm prefix/lib/libretort.so*");
    expect_training("cc -std=c11 " SOURCE_DIR "/examples/train.c -o train $(" PKG
                    " --static --cflags --libs retort)");
}
TEST(the_example_ends_with_the_error_of_the_library) {
    install();
    EXPECT_SHELL("cc -std=c11 " SOURCE_DIR "/examples/train.c -o train $(" PKG
                 " --cflags --libs retort)");
    EXPECT_INT(shell("log", "LD_LIBRARY_PATH=prefix/lib ./train yard.yaml out=r train.lrr=1"), 2);
    EXPECT_STR(text_of("log"),
               "E2076 command line: unknown option train.lrr; did you mean train.lr?\n");
    EXPECT_INT(shell("log", "LD_LIBRARY_PATH=prefix/lib ./train yard.yaml out=yard.yaml"), 6);
}
TEST_MAIN(T(an_installation_is_complete), T(the_example_trains_with_the_shared_library),
          T(the_example_trains_with_the_static_library),
          T(the_example_ends_with_the_error_of_the_library))
