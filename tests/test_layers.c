/* tools/layers.sh itself: a guard that cannot fail guards nothing. */
#include "test.h"

#include <sys/stat.h>

/* A checkout with one file src/FROM/x.c that holds `line`; returns the script's exit code. */
static int layers_exit(const char *from, const char *line) {
    char root[] = "/tmp/retort-layers-XXXXXX", path[256], cmd[512];
    if (!mkdtemp(root)) return -1;
    snprintf(path, sizeof path, "%s/src", root), mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/src/%s", root, from), mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/src/%s/x.c", root, from);
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    fprintf(f, "%s\n", line), fclose(f);
    snprintf(cmd, sizeof cmd, "%s/tools/layers.sh %s >/dev/null 2>&1", SOURCE_DIR, root);
    int status = system(cmd);
    snprintf(cmd, sizeof cmd, "rm -rf %s", root);
    if (system(cmd)) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(layers_allow_downward_includes) {
    EXPECT_INT(layers_exit("graph", "#include \"tensor/tensor.h\""), 0);
    EXPECT_INT(layers_exit("cli", "#include \"report/report.h\""), 0);
}
TEST(layers_refuse_upward_includes) {
    EXPECT_INT(layers_exit("graph", "#include \"io/safetensors.h\""), 1);
    EXPECT_INT(layers_exit("base", "  # include \"graph/net.h\""), 1);
    EXPECT_INT(layers_exit("train", "#include \"report/report.h\""), 1);
}
TEST(layers_refuse_unknown_folders_and_exits) {
    EXPECT_INT(layers_exit("misc", ""), 1);
    EXPECT_INT(layers_exit("train", "void f(void) { exit(1); }"), 1);
}
TEST_MAIN(T(layers_allow_downward_includes), T(layers_refuse_upward_includes),
          T(layers_refuse_unknown_folders_and_exits))
