/* Building a net: scopes, names, sticky failure, the blocks of parameters. */
#include "nn/nn.h"
#include "test.h"

static Node one_conv(Net *n, const char *scope, int out) {
    Node x = net_input(n, "image", DT_F32, SHAPE(1, 3, 9, 9));
    net_enter(n, scope);
    x = nn_relu(n,
                nn_bn(n, nn_conv(n, x, "conv1", (Conv){.out = out, .k = 3, .bias = true}), "bn1"));
    net_leave(n);
    return x;
}
TEST(names_follow_the_scopes) {
    Net *n = net_open("t");
    net_enter(n, "outer");
    Node x = one_conv(n, "layer1", 5);
    EXPECT_INT(net_find(n, "outer.layer1").id, x.id);    /* the last node of the scope */
    EXPECT(net_find(n, "outer.layer1.conv1").id > 0);
    EXPECT_INT(net_find_param(n, "outer.layer1.conv1.weight"), 0);
    EXPECT_INT(net_find_param(n, "outer.layer1.bn1.num_batches_tracked"), 6);
    EXPECT_INT(net_find_param(n, "outer.layer1.conv1"), -1);
    nn_tap(n, x, "tap");
    EXPECT_INT(net_find(n, "outer.tap").id, x.id);
    net_leave(n);
    EXPECT_STR(n->scope, "");
    net_close(n);
}
TEST(many_names_are_all_found) {
    Net *n = net_open("t");
    char name[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "p%d", i);
        EXPECT_INT(net_param(n, name, PARAM_BIAS, SHAPE(1), 1, 0), i);
    }
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "p%d", i);
        EXPECT_INT(net_find_param(n, name), i);
    }
    EXPECT_INT(net_find_param(n, "p2000"), -1);
    net_close(n);
}
TEST(the_first_failure_stays_and_names_its_scope) {
    Net *n = net_open("small");
    Node x = net_input(n, "image", DT_F32, SHAPE(1, 3, 2, 2));
    net_enter(n, "stem");
    x = nn_conv(n, x, "conv1", (Conv){.out = 4, .k = 3});
    EXPECT_INT(x.id, 0);
    x = nn_add(n, nn_relu(n, nn_bn(n, x, "bn1")), NO_NODE);
    net_leave(n);
    EXPECT_INT(nn_max_pool(n, x, 3, 2, 1).id, 0);
    EXPECT_ERR(net_finish(n), E(4, 0));
    EXPECT_HAS(err_text(), "small: stem: conv1: conv2d: kernel larger than its input 1x3x2x2");
    net_close(n);
}
TEST(a_parameter_declared_twice_is_refused) {
    Net *n = net_open("t");
    one_conv(n, "layer1", 5);
    one_conv(n, "layer1", 5);
    EXPECT_ERR(net_finish(n), E(4, 0));
    EXPECT_HAS(err_text(), "layer1.conv1.weight is declared twice");
    net_close(n);
}
TEST(finishing_again_keeps_the_values) {
    Net *n = net_open("t");
    Node x = one_conv(n, "layer1", 5);
    EXPECT_OK(net_finish(n));
    net_init_formula(n, 1);
    n->params[3].data[2] = 42;
    const float mean = n->params[4].data[1];
    const int first = n->n_params;
    nn_conv(n, x, "adapter", (Conv){.out = 7, .k = 1});
    EXPECT_OK(net_finish(n));
    net_init_params(n, first, 1);
    EXPECT(n->params[3].data[2] == 42 && n->params[4].data[1] == mean);
    EXPECT(n->params[first].trainable && n->params[first].data[0] != 0);
    EXPECT(n->params[first].offset < n->n_trainable && n->params[4].offset >= n->n_trainable);
    net_close(n);
}
TEST(gradients_are_needed_above_trainable_parameters_only) {
    Net *n = net_open("t");
    Node image = net_input(n, "image", DT_F32, SHAPE(1, 3, 9, 9));
    Node raw = nn_relu(n, image), seen = nn_conv(n, raw, "conv", (Conv){.out = 2, .k = 1});
    EXPECT(!net_node(n, image)->needs_grad && !net_node(n, raw)->needs_grad);
    EXPECT(net_node(n, seen)->needs_grad);
    EXPECT(!net_node(n, nn_resize_like(n, raw, seen, true))->needs_grad);   /* of `like` only the shape matters */
    net_close(n);
}
TEST(random_values_depend_on_the_name_and_the_seed) {
    Net *a = net_open("a"), *b = net_open("b");
    one_conv(a, "layer1", 5);
    one_conv(b, "layer0", 5);
    one_conv(b, "layer1", 5);
    EXPECT_OK(net_finish(a));
    EXPECT_OK(net_finish(b));
    net_init_random(a, 3);
    net_init_random(b, 3);
    const float *wa = a->params[0].data,
                *wb = b->params[net_find_param(b, "layer1.conv1.weight")].data;
    EXPECT(!memcmp(wa, wb, 135 * sizeof(float)));
    EXPECT(memcmp(wa, b->params[0].data, 135 * sizeof(float)));
    const float first = wa[0];
    net_init_random(a, 4);
    EXPECT(a->params[0].data[0] != first);
    net_close(a), net_close(b);
}
TEST_MAIN(T(names_follow_the_scopes), T(many_names_are_all_found),
          T(the_first_failure_stays_and_names_its_scope), T(a_parameter_declared_twice_is_refused),
          T(finishing_again_keeps_the_values),
          T(gradients_are_needed_above_trainable_parameters_only),
          T(random_values_depend_on_the_name_and_the_seed))
