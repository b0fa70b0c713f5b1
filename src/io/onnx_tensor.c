/* onnx_tensor.c - one tensor of an ONNX file: raw bytes, typed lists, or a file beside the model.
 *
 * Row 46: a data file is named relative to the model's folder, without "..", and no link of either kind
 * leads to it. Row 60: shapes are checked before anything is sized by them. */
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "io/onnx_priv.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files are little-endian and read as they are");

/* How each ONNX type is stored and what it becomes. Width 0: not read. */
typedef struct { int width; bool is_signed; Dtype dtype; } Stored;
static const Stored STORED[] = {
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT] = {4, true, DT_F32},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT8] = {1, false, DT_U8},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT8] = {1, true, DT_I8},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT16] = {2, false, DT_I32},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT16] = {2, true, DT_I32},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT32] = {4, true, DT_I32},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT64] = {8, true, DT_I64},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BOOL] = {1, false, DT_BOOL},
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16] = {2, true, DT_F16},
    [ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE] = {8, true, DT_F64},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT32] = {4, false, DT_I64},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT64] = {8, false, DT_I64},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16] = {2, true, DT_BF16},
};
enum { N_STORED = sizeof STORED / sizeof *STORED };

bool onnx_dtype(int32_t type, Dtype *out) {
    if (type < 0 || type >= N_STORED || !STORED[type].width) return false;
    *out = STORED[type].dtype;
    return true;
}

static Err bad(const OnnxModel *m, const Tensor *t, const char *what) {
    return err_set(E(EXIT_MODEL, 60), "%s: tensor %s: %s; export the model again", m->name, t->name,
                   what);
}

static Err read_shape(const OnnxModel *m, const Onnx__TensorProto *from, Tensor *t) {
    size_t bytes;
    if (from->n_dims > RANK_MAX) return bad(m, t, "more than 6 dimensions");
    t->shape.rank = (int)from->n_dims;
    for (size_t i = 0; i < from->n_dims; i++) {
        t->shape.d[i] = from->dims[i];
        if (from->dims[i] < 0) return bad(m, t, "negative dimension");
    }
    if (!shape_bytes(t->shape, DT_F64, &bytes))
        return bad(m, t, "more elements than memory can hold");
    return OK;
}

/* Element i of stored integers as a 64-bit one. */
static int64_t stored_integer(const uint8_t *raw, Stored s, int64_t i) {
    uint64_t v = 0;
    memcpy(&v, raw + i * s.width, (size_t)s.width);
    const int unused = 64 - 8 * s.width;
    return s.is_signed ? (int64_t)(v << unused) >> unused : (int64_t)v;
}
/* Raw bytes in the file's type -> t->data. Same widths are borrowed, if aligned for their type. */
static Err take_raw(OnnxModel *m, const uint8_t *raw, Stored s, Tensor *t) {
    const int64_t n = shape_count(t->shape);
    const size_t width = dtype_bytes(t->dtype);
    if ((size_t)s.width == width) {
        t->data = (void *)(uintptr_t)raw;
        if ((uintptr_t)raw % width)
            t->data = memcpy(arena_alloc(m->arena, (size_t)n * width), raw, (size_t)n * width);
        if (s.width == 8 && !s.is_signed)
            for (int64_t i = 0; i < n; i++)
                if (((const int64_t *)t->data)[i] < 0)
                    return bad(m, t, "unsigned number above 2^63");
        return OK;
    }
    t->data = arena_alloc(m->arena, (size_t)n * width);
    for (int64_t i = 0; i < n; i++) {
        const int64_t v = stored_integer(raw, s, i);
        if (t->dtype == DT_I32) ((int32_t *)t->data)[i] = (int32_t)v;
        else ((int64_t *)t->data)[i] = v;
    }
    return OK;
}

/* The typed list of a message: its length and, where it holds t's own type, its data. */
static size_t list_of(const Onnx__TensorProto *from, Dtype t, void **data) {
    switch (t) {
    case DT_F32: return *data = from->float_data, from->n_float_data;
    case DT_F64: return *data = from->double_data, from->n_double_data;
    case DT_I64: return *data = from->n_uint64_data ? (void *)from->uint64_data : from->int64_data,
                        from->n_uint64_data ? from->n_uint64_data : from->n_int64_data;
    default: return *data = from->int32_data, from->n_int32_data;
    }
}
/* 8 and 16 bit types, bool and the half floats' bits come as int32. */
static void narrow(const int32_t *from, int64_t n, Tensor *t) {
    const size_t width = dtype_bytes(t->dtype);
    for (int64_t i = 0; i < n; i++) memcpy((uint8_t *)t->data + (size_t)i * width, &from[i], width);     /* little-endian */
}
static Err take_list(OnnxModel *m, const Onnx__TensorProto *from, Tensor *t) {
    const int64_t n = shape_count(t->shape);
    void *data;
    if (list_of(from, t->dtype, &data) != (size_t)n)
        return bad(m, t, "its data do not fill its shape");
    t->data = data;
    if (dtype_bytes(t->dtype) >= 4) return OK;
    t->data = arena_alloc(m->arena, (size_t)n * dtype_bytes(t->dtype) + 1);
    narrow(data, n, t);
    return OK;
}

static const char *external_key(const Onnx__TensorProto *from, const char *key) {
    for (size_t i = 0; i < from->n_external_data; i++) {
        const Onnx__StringStringEntryProto *e = from->external_data[i];
        if (e->key && !strcmp(e->key, key)) return e->value;
    }
    return NULL;
}
static Err read_external(OnnxModel *m, const char *folder, const Onnx__TensorProto *from,
                         size_t bytes, Tensor *t, uint8_t **raw) {
    const char *file = external_key(from, "location"), *at = external_key(from, "offset"),
               *size = external_key(from, "length");
    int64_t offset = 0, length = (int64_t)bytes;
    if (!file || !*file) return bad(m, t, "names no data file");
    if (!folder)
        return err_set(E(EXIT_MODEL, 46),
                       "%s: tensor %s lies in another file; give the model with its data inside",
                       m->name, t->name);
    if ((at && !parse_i64(at, &offset)) || (size && !parse_i64(size, &length)) || offset < 0 ||
        length != (int64_t)bytes)
        return bad(m, t, "the place of its data does not fit its shape");
    GROW(m->block, m->n_block, m->cap_block);
    Err rc =
        sys_read_beneath(folder, file, (uint64_t)offset, bytes, EXIT_MODEL, &m->block[m->n_block]);
    if (rc) return err_wrap(rc, "%s: tensor %s", m->name, t->name);
    *raw = m->block[m->n_block++];
    return OK;
}

Err onnx_tensor(OnnxModel *m, const char *folder, const Onnx__TensorProto *from, Tensor *out) {
    Tensor t = {.name = from->name ? from->name : ""};
    if (!from->has_data_type || !onnx_dtype(from->data_type, &t.dtype))
        return err_set(E(EXIT_MODEL, 60),
                       "%s: tensor %s: element type %d is not read; export the model in float32",
                       m->name, t.name, from->data_type);
    const Stored s = STORED[from->data_type];
    TRY(read_shape(m, from, &t));
    const size_t bytes = (size_t)shape_count(t.shape) * (size_t)s.width;
    if (from->segment) return bad(m, &t, "comes in segments, which are not read");
    if (from->has_data_location &&
        from->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        uint8_t *raw = NULL;
        TRY(read_external(m, folder, from, bytes, &t, &raw));
        TRY(take_raw(m, raw, s, &t));
    } else if (from->has_raw_data) {
        if (from->raw_data.len != bytes) return bad(m, &t, "its raw data do not fill its shape");
        TRY(take_raw(m, from->raw_data.data, s, &t));
    } else TRY(take_list(m, from, &t));
    *out = t;
    return OK;
}
