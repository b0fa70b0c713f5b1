/* fuzz_network.c - an ONNX file as a network: operators, shapes, folded constants. */
#include "fuzz.h"
#include "models/model.h"

FUZZ(network) {
    Net *net;
    ModelNodes nodes;
    fuzz_file("fuzz.onnx", data, n);
    Err rc = model_open(&(ModelOptions){.model = temp_path("fuzz.onnx"), .frozen = true}, 33, 41,
                        &net, &nodes);
    if (!rc) net_close(net);
    return rc;
}
