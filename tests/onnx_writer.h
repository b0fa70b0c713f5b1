/* onnx_writer.h - ONNX files for tests: protobuf fields written one by one, right or wrong. */
#ifndef RETORT_TESTS_ONNX_WRITER_H
#define RETORT_TESTS_ONNX_WRITER_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef struct Proto { uint8_t *data; size_t n, cap; } Proto;      /* one message */

static inline void pb_bytes(Proto *p, const void *data, size_t n) {
    if (p->n + n > p->cap) p->data = xrealloc(p->data, p->cap = 2 * (p->n + n) + 64);
    if (n) memcpy(p->data + p->n, data, n);
    p->n += n;
}
static inline void pb_varint(Proto *p, uint64_t v) {
    do {
        const uint8_t byte = (uint8_t)(v & 127) | (v > 127 ? 128 : 0);
        pb_bytes(p, &byte, 1);
        v >>= 7;
    } while (v);
}
static inline void pb_int(Proto *p, unsigned field, int64_t v) { pb_varint(p, field << 3), pb_varint(p, (uint64_t)v); }
static inline void pb_block(Proto *p, unsigned field, const void *data, size_t n) { pb_varint(p, field << 3 | 2), pb_varint(p, n), pb_bytes(p, data, n); }
static inline void pb_text(Proto *p, unsigned field, const char *s) { pb_block(p, field, s, strlen(s)); }
/* Takes m, which is empty afterwards. */
static inline void pb_message(Proto *p, unsigned field, Proto *m) {
    pb_block(p, field, m->data, m->n);
    free(m->data);
    *m = (Proto){0};
}

/* ---- parts of a model; field numbers are those of onnx.proto ------------------------------------------ */

/* TensorProto without data: dims, type (1 float32, 7 int64), name. */
static inline Proto onnx_tensor_of(const char *name, int type, const int64_t *dims, int rank) {
    Proto t = {0};
    for (int i = 0; i < rank; i++) pb_int(&t, 1, dims[i]);
    pb_int(&t, 2, type);
    pb_text(&t, 8, name);
    return t;
}
/* NodeProto; in and out: names with spaces between. */
static inline Proto onnx_node_of(const char *op, const char *in, const char *out) {
    Proto n = {0};
    const char *const list[] = {in, out};
    for (unsigned i = 0; i < 2; i++)
        for (const char *s = list[i]; *s;) {
            const size_t len = strcspn(s, " ");
            pb_block(&n, 1 + i, s, len);
            s += len + (s[len] == ' ');
        }
    pb_text(&n, 4, op);
    return n;
}
static inline void onnx_attr_int(Proto *node, const char *name, int64_t v) {
    Proto a = {0};
    pb_text(&a, 1, name), pb_int(&a, 3, v), pb_int(&a, 20, 2);
    pb_message(node, 5, &a);
}
static inline void onnx_attr_ints(Proto *node, const char *name, const int64_t *v, int n) {
    Proto a = {0};
    pb_text(&a, 1, name);
    for (int i = 0; i < n; i++) pb_int(&a, 8, v[i]);
    pb_int(&a, 20, 7);
    pb_message(node, 5, &a);
}
/* ValueInfoProto; a dimension of -1 is free. */
static inline Proto onnx_value_of(const char *name, int type, const int64_t *dims, int rank) {
    Proto shape = {0}, tensor = {0}, kind = {0}, value = {0};
    for (int i = 0; i < rank; i++) {
        Proto d = {0};
        if (dims[i] >= 0) pb_int(&d, 1, dims[i]);
        else pb_text(&d, 2, "free");
        pb_message(&shape, 1, &d);
    }
    pb_int(&tensor, 1, type), pb_message(&tensor, 2, &shape);
    pb_message(&kind, 1, &tensor);
    pb_text(&value, 1, name), pb_message(&value, 2, &kind);
    return value;
}
/* ModelProto of a graph's fields; takes graph. */
static inline Proto onnx_model_of(Proto *graph, int opset) {
    Proto m = {0}, set = {0};
    pb_int(&m, 1, 8);
    pb_int(&set, 2, opset);
    pb_message(&m, 8, &set);
    pb_message(&m, 7, graph);
    return m;
}
#endif
