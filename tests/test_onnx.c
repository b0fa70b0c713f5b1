/* ONNX files: what the reader takes, and that damage is an error. */
#include "base/sys.h"
#include "io/onnx.h"
#include "test.h"

TEST(espnet_is_read) {
    const char *root = sys_test_data();
    if (!root) SKIP("no RETORT_TEST_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/onnx/espnetv2_city_512x1024.onnx", root);
    if (!sys_exists(path)) SKIP("%s is not there", path);
    OnnxModel *m;
    EXPECT_OK(onnx_read(path, &m));
    EXPECT_INT(m->n_node, 500);
    EXPECT_INT(m->opset, 13);
    EXPECT_INT(m->n_input, 1);
    EXPECT_STR(m->value[m->input[0]].name, "image");
    onnx_close(m);
}
TEST_MAIN(T(espnet_is_read))
