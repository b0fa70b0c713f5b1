/* onnx_write.c - see onnx_write.h. Messages are protobuf-c's, filled in and packed once. */
#include "io/onnx_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/onnx_priv.h"

struct OnnxWriter {
    Arena              *arena;
    Onnx__ModelProto    model;
    Onnx__GraphProto    graph;
    Onnx__OperatorSetIdProto opset;
    size_t cap_node, cap_tensor, cap_input, cap_output, cap_meta, cap_name;
    const char        **name;        /* of every value, for uniqueness */
    const char         *kept;        /* for the output; NULL: it has it */
    size_t              n_name;
};

/* The oldest version of the format that knows each opset: readers refuse what is newer than they are. */
static int64_t ir_version(int opset) {
    static const struct {
        int opset, ir;
    } SINCE[] = {{23, 11}, {21, 10}, {19, 9}, {15, 8}, {12, 7}};
    for (size_t i = 0; i < sizeof SINCE / sizeof *SINCE; i++)
        if (opset >= SINCE[i].opset) return SINCE[i].ir;
    return 6;
}

OnnxWriter *onnx_write_open(const char *graph, int opset, const char *output) {
    CHECK(opset >= ONNX_WRITE_MIN && opset <= ONNX_WRITE_MAX);
    OnnxWriter *w = xcalloc(1, sizeof *w);
    w->arena = arena_open();
    onnx__model_proto__init(&w->model);
    onnx__graph_proto__init(&w->graph);
    onnx__operator_set_id_proto__init(&w->opset);
    w->opset.domain = arena_strdup(w->arena, ""), w->opset.has_version = true,
    w->opset.version = opset;
    w->model.n_opset_import = 1, w->model.opset_import = arena_alloc(w->arena, sizeof(void *));
    w->model.opset_import[0] = &w->opset;
    w->model.has_ir_version = true, w->model.ir_version = ir_version(opset);
    w->model.producer_name = arena_strdup(w->arena, "retort");
    w->model.producer_version = arena_strdup(w->arena, RETORT_VERSION);
    w->model.graph = &w->graph;
    w->graph.name = arena_strdup(w->arena, graph), w->kept = arena_strdup(w->arena, output);
    return w;
}
void onnx_write_close(OnnxWriter *w) {
    if (!w) return;
    free(w->graph.node), free(w->graph.initializer), free(w->graph.input), free(w->graph.output);
    free(w->model.metadata_props), free(w->name);
    arena_close(w->arena);
    free(w);
}
int onnx_write_opset(const OnnxWriter *w) { return (int)w->opset.version; }

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_taken(const OnnxWriter *w, const char *name) {
    for (size_t i = 0; i < w->n_name; i++)
        if (!strcmp(w->name[i], name)) return true;
    return w->kept && !strcmp(w->kept, name);
}
static char *new_name(OnnxWriter *w, const char *wish) {
    char *name = arena_strdup(w->arena, wish);
    for (int i = 2; is_taken(w, name); i++) name = arena_printf(w->arena, "%s_%d", wish, i);
    GROW(w->name, w->n_name, w->cap_name);
    return w->name[w->n_name++] = name, name;
}

/* ---- values ---------------------------------------------------------------------------------- */

static int32_t type_of(Dtype t) {
    switch (t) {
    case DT_F32: return ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    case DT_U8: return ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
    case DT_I8: return ONNX__TENSOR_PROTO__DATA_TYPE__INT8;
    case DT_I32: return ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    default: CHECK(t == DT_I64); return ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    }
}
static Onnx__TensorShapeProto *shape_message(OnnxWriter *w, const OnnxDim *dim, int rank) {
    Onnx__TensorShapeProto *s = arena_alloc(w->arena, sizeof *s);
    onnx__tensor_shape_proto__init(s);
    s->dim = arena_alloc(w->arena, (size_t)(rank + 1) * sizeof *s->dim);
    for (; s->n_dim < (size_t)rank; s->n_dim++) {
        Onnx__TensorShapeProto__Dimension *d = s->dim[s->n_dim] = arena_alloc(w->arena, sizeof *d);
        onnx__tensor_shape_proto__dimension__init(d);
        const OnnxDim from = dim[s->n_dim];
        d->value_case = from.name ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                                  : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (from.name) d->dim_param = arena_strdup(w->arena, from.name);
        else d->dim_value = from.size;
    }
    return s;
}
static Onnx__ValueInfoProto *value_message(OnnxWriter *w, char *name, Dtype t, const OnnxDim *dim,
                                           int rank) {
    Onnx__ValueInfoProto *v = arena_alloc(w->arena, sizeof *v);
    onnx__value_info_proto__init(v);
    v->name = name;
    v->type = arena_alloc(w->arena, sizeof *v->type);
    onnx__type_proto__init(v->type);
    Onnx__TypeProto__Tensor *type = arena_alloc(w->arena, sizeof *type);
    onnx__type_proto__tensor__init(type);
    type->has_elem_type = true, type->elem_type = type_of(t),
    type->shape = shape_message(w, dim, rank);
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE, v->type->tensor_type = type;
    return v;
}
const char *onnx_write_input(OnnxWriter *w, const char *name, Dtype t, const OnnxDim *dim,
                             int rank) {
    char *own = new_name(w, name);
    GROW(w->graph.input, w->graph.n_input, w->cap_input);
    w->graph.input[w->graph.n_input++] = value_message(w, own, t, dim, rank);
    return own;
}
const char *onnx_write_tensor(OnnxWriter *w, const char *name, Dtype t, Shape s, const void *data) {
    size_t bytes;
    CHECK(shape_bytes(s, t, &bytes));
    Onnx__TensorProto *m = arena_alloc(w->arena, sizeof *m);
    onnx__tensor_proto__init(m);
    m->name = new_name(w, name);
    m->has_data_type = true, m->data_type = type_of(t);
    m->n_dims = (size_t)s.rank,
    m->dims = arena_alloc(w->arena, (size_t)(s.rank + 1) * sizeof *m->dims);
    for (int i = 0; i < s.rank; i++) m->dims[i] = s.d[i];
    m->has_raw_data = true, m->raw_data.len = bytes,
    m->raw_data.data = arena_alloc(w->arena, bytes + 1);
    if (bytes) memcpy(m->raw_data.data, data, bytes);
    GROW(w->graph.initializer, w->graph.n_initializer, w->cap_tensor);
    w->graph.initializer[w->graph.n_initializer++] = m;
    return m->name;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static Onnx__AttributeProto *attr_message(OnnxWriter *w, const OnnxAttr *a) {
    Onnx__AttributeProto *m = arena_alloc(w->arena, sizeof *m);
    onnx__attribute_proto__init(m);
    m->name = arena_strdup(w->arena, a->name), m->has_type = true;
    switch (a->kind) {
    case ONNX_INT:
        m->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, m->has_i = true, m->i = a->i;
        break;
    case ONNX_FLOAT:
        m->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, m->has_f = true, m->f = a->f;
        break;
    case ONNX_STRING:
        m->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, m->has_s = true;
        m->s.len = strlen(a->s), m->s.data = (uint8_t *)arena_strdup(w->arena, a->s);
        break;
    default:
        CHECK(a->kind == ONNX_INTS);
        m->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, m->n_ints = (size_t)a->n;
        m->ints = arena_alloc(w->arena, (size_t)(a->n + 1) * sizeof *m->ints);
        memcpy(m->ints, a->ints, (size_t)a->n * sizeof *m->ints);
    }
    return m;
}
const char *onnx_write_node(OnnxWriter *w, const char *op, const char *name, const char *const *in,
                            int n_in, const OnnxAttr *attr, int n_attr) {
    Onnx__NodeProto *m = arena_alloc(w->arena, sizeof *m);
    onnx__node_proto__init(m);
    m->op_type = arena_strdup(w->arena, op);
    m->output = arena_alloc(w->arena, sizeof *m->output), m->n_output = 1;
    m->output[0] = m->name = new_name(w, name);
    m->input = arena_alloc(w->arena, (size_t)(n_in + 1) * sizeof *m->input),
    m->n_input = (size_t)n_in;
    for (int i = 0; i < n_in; i++) m->input[i] = arena_strdup(w->arena, in[i]);
    m->attribute = arena_alloc(w->arena, (size_t)(n_attr + 1) * sizeof *m->attribute);
    for (int i = 0; i < n_attr; i++) m->attribute[m->n_attribute++] = attr_message(w, &attr[i]);
    GROW(w->graph.node, w->graph.n_node, w->cap_node);
    w->graph.node[w->graph.n_node++] = m;
    return m->output[0];
}
void onnx_write_output(OnnxWriter *w, const char *value, Dtype t, const OnnxDim *dim, int rank) {
    const char *name = w->kept;
    CHECK(name);
    w->kept = NULL;
    const char *own = onnx_write_node(w, "Identity", name, &value, 1, NULL, 0);
    GROW(w->graph.output, w->graph.n_output, w->cap_output);
    w->graph.output[w->graph.n_output++] =
        value_message(w, arena_strdup(w->arena, own), t, dim, rank);
}

/* ---- the whole ------------------------------------------------------------------------------- */

void onnx_write_meta(OnnxWriter *w, const char *key, const char *value) {
    Onnx__StringStringEntryProto *m = arena_alloc(w->arena, sizeof *m);
    onnx__string_string_entry_proto__init(m);
    m->key = arena_strdup(w->arena, key), m->value = arena_strdup(w->arena, value);
    GROW(w->model.metadata_props, w->model.n_metadata_props, w->cap_meta);
    w->model.metadata_props[w->model.n_metadata_props++] = m;
}
Err onnx_write_pack(const OnnxWriter *w, uint8_t **data, size_t *bytes) {
    *bytes = onnx__model_proto__get_packed_size(&w->model);
    if (*bytes > INT32_MAX)
        return err_set(
            E(EXIT_LIMIT, 60),
            "the model takes %zu bytes; an ONNX file holds at most 2 GiB, so choose a smaller network",
            *bytes);
    *data = xcalloc(*bytes + 1, 1);
    CHECK(onnx__model_proto__pack(&w->model, *data) == *bytes);
    return OK;
}
