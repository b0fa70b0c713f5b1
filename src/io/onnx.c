/* onnx.c - an ONNX file into an OnnxModel: scan, unpack, then plain arrays with every name checked. */
#include "io/onnx.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/onnx_priv.h"

enum { OPSET_MIN = 11 };

static Err bad(const OnnxModel *m, const char *what, const char *name, const char *why) {
    return err_set(E(EXIT_MODEL, 60), "%s: %s %s: %s; export the model again", m->name, what, name,
                   why);
}

/* ---- names: each value is made once, by a node, as an input or as an initialiser --------------------- */

typedef struct { OnnxModel *m; const char *folder; int *slot; size_t cap; } Reader;      /* slot: open addressing, value or 0 */

static size_t slot_of(const Reader *r, const char *name) {
    size_t i = (size_t)hash_name(name) & (r->cap - 1);
    while (r->slot[i] && strcmp(r->m->value[r->slot[i]].name, name)) i = (i + 1) & (r->cap - 1);
    return i;
}
static int find_value(const Reader *r, const char *name) { return r->slot[slot_of(r, name)]; }
/* A new value, or 0 when the name is empty or taken. */
static int add_value(Reader *r, const char *name, int node) {
    const size_t i = slot_of(r, name);
    if (!*name || r->slot[i]) return 0;
    r->slot[i] = r->m->n_value;
    r->m->value[r->m->n_value] = (OnnxValue){.name = name, .node = node, .shape.rank = -1};
    return r->m->n_value++;
}
static void open_names(Reader *r, const Onnx__GraphProto *g) {
    size_t n = g->n_initializer + g->n_input + 1;
    for (size_t i = 0; i < g->n_node; i++) n += g->node[i]->n_output;
    r->m->value = arena_alloc(r->m->arena, n * sizeof *r->m->value);
    r->m->value[r->m->n_value++] = (OnnxValue){.name = "", .node = -1};
    for (r->cap = 64; r->cap < 2 * n;) r->cap *= 2;
    r->slot = xcalloc(r->cap, sizeof *r->slot);
}

/* ---- attributes and nodes ----------------------------------------------------------------------- */

static char *text_of(OnnxModel *m, ProtobufCBinaryData s) {
    char *out = arena_alloc(m->arena, s.len + 1);
    if (s.len) memcpy(out, s.data, s.len);
    return out;
}

static Err read_attr(OnnxModel *m, const char *folder, const OnnxNode *node,
                     const Onnx__AttributeProto *from, OnnxAttr *a) {
    *a = (OnnxAttr){.name = from->name ? from->name : "", .kind = ONNX_OTHER};
    Tensor *t;
    switch (from->type) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT: a->kind = ONNX_INT, a->i = from->i; break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT: a->kind = ONNX_FLOAT, a->f = from->f; break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        a->kind = ONNX_STRING, a->s = text_of(m, from->s);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        a->kind = ONNX_INTS, a->ints = from->ints, a->n = (int)from->n_ints;
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
        a->kind = ONNX_FLOATS, a->floats = from->floats, a->n = (int)from->n_floats;
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        if (!from->t) return bad(m, "node", node->name, "holds no tensor where it says so");
        a->kind = ONNX_TENSOR, a->tensor = t = arena_alloc(m->arena, sizeof *t);
        return onnx_tensor(m, folder, from->t, t);
    default: break;
    }
    return OK;
}

static Err read_node(Reader *r, const Onnx__NodeProto *from, OnnxNode *n, int id) {
    OnnxModel *m = r->m;
    const bool named = from->name && *from->name;
    *n = (OnnxNode){.name = named ? from->name : from->n_output ? from->output[0] : "without name", .op = from->op_type ? from->op_type : "",
                    .domain = from->domain && strcmp(from->domain, "ai.onnx") ? from->domain : "",
                    .n_in = (int)from->n_input, .n_out = (int)from->n_output};
    n->in = arena_alloc(m->arena, (from->n_input + from->n_output + 1) * sizeof *n->in),
    n->out = n->in + n->n_in;
    n->attr = arena_alloc(m->arena, (from->n_attribute + 1) * sizeof *n->attr);
    for (int i = 0; i < n->n_in; i++) {
        n->in[i] = find_value(r, from->input[i]);
        if (!n->in[i] && *from->input[i])
            return bad(m, "node", n->name, "reads a value that nothing before it makes");
    }
    for (int i = 0; i < n->n_out; i++)
        if (!(n->out[i] = add_value(r, from->output[i], id)) && *from->output[i])
            return bad(m, "node", n->name, "makes a value that exists already");
    for (size_t i = 0; i < from->n_attribute; i++)
        TRY(read_attr(m, r->folder, n, from->attribute[i], &n->attr[n->n_attr++]));
    return OK;
}

const OnnxAttr *onnx_attr(const OnnxNode *n, const char *name) {
    for (int i = 0; i < n->n_attr; i++)
        if (!strcmp(n->attr[i].name, name)) return &n->attr[i];
    return NULL;
}

/* ---- inputs and outputs --------------------------------------------------------------------------- */

/* Type and shape of a value, where the file gives them. */
static Err read_type(const OnnxModel *m, const Onnx__ValueInfoProto *from, OnnxValue *v) {
    const Onnx__TypeProto__Tensor *t =
        from->type && from->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
            ? from->type->tensor_type
            : NULL;
    if (!t) return OK;
    v->typed = t->has_elem_type && onnx_dtype(t->elem_type, &v->dtype);
    if (!t->shape) return OK;
    if (t->shape->n_dim > RANK_MAX) return bad(m, "value", v->name, "has more than 6 dimensions");
    v->shape.rank = (int)t->shape->n_dim;
    for (int i = 0; i < v->shape.rank; i++) {
        const Onnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
        v->shape.d[i] = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
                                d->dim_value > 0
                            ? d->dim_value
                            : -1;
    }
    return OK;
}
static Err read_initialisers(Reader *r, const Onnx__GraphProto *g) {
    OnnxModel *m = r->m;
    Tensor *t = arena_alloc(m->arena, (g->n_initializer + 1) * sizeof *t);
    for (size_t i = 0; i < g->n_initializer; i++) {
        TRY(onnx_tensor(m, r->folder, g->initializer[i], &t[i]));
        const int v = add_value(r, t[i].name, -1);
        if (!v) return bad(m, "initialiser", t[i].name, "has no name of its own");
        m->value[v].tensor = &t[i];
    }
    return OK;
}
/* An input of an initialiser's name only announces it (files of the first years). */
static Err read_inputs(Reader *r, const Onnx__GraphProto *g) {
    OnnxModel *m = r->m;
    m->input = arena_alloc(m->arena, (g->n_input + 1) * sizeof *m->input);
    for (size_t i = 0; i < g->n_input; i++) {
        const char *name = g->input[i]->name ? g->input[i]->name : "";
        const int known = find_value(r, name), v = known ? known : add_value(r, name, -1);
        if (m->value[v].tensor) continue;
        if (!v || known) return bad(m, "input", name, "has no name of its own");
        TRY(read_type(m, g->input[i], &m->value[v]));
        m->input[m->n_input++] = v;
    }
    return OK;
}
static Err read_outputs(Reader *r, const Onnx__GraphProto *g) {
    OnnxModel *m = r->m;
    m->output = arena_alloc(m->arena, (g->n_output + 1) * sizeof *m->output);
    for (size_t i = 0; i < g->n_output; i++) {
        const char *name = g->output[i]->name ? g->output[i]->name : "";
        const int v = find_value(r, name);
        if (!v) return bad(m, "output", name, "is made by no node");
        TRY(read_type(m, g->output[i], &m->value[v]));
        m->output[m->n_output++] = v;
    }
    return OK;
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static Err read_opset(OnnxModel *m, const Onnx__ModelProto *p) {
    for (size_t i = 0; i < p->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = p->opset_import[i];
        const bool own = !o->domain || !*o->domain || !strcmp(o->domain, "ai.onnx");
        if (own) m->opset = o->version > 1000 || o->version < 0 ? 1000 : (int)o->version;
    }
    if (m->opset >= OPSET_MIN) return OK;
    return err_set(E(EXIT_MODEL, 60),
                   "%s: opset %d; export the model with opset_version=%d or newer", m->name,
                   m->opset, OPSET_MIN);
}

static Err read_graph(Reader *r, const Onnx__ModelProto *p) {
    OnnxModel *m = r->m;
    const Onnx__GraphProto *g = p->graph;
    if (!g) return err_set(E(EXIT_MODEL, 60), "%s: holds no graph; it is no ONNX model", m->name);
    TRY(read_opset(m, p));
    m->producer = p->producer_name ? p->producer_name : "";
    if (g->n_sparse_initializer)
        return bad(m, "graph", g->name ? g->name : "", "has sparse tensors, which are not read");
    open_names(r, g);
    TRY(read_initialisers(r, g));
    TRY(read_inputs(r, g));
    m->node = arena_alloc(m->arena, (g->n_node + 1) * sizeof *m->node);
    for (; m->n_node < (int)g->n_node; m->n_node++)
        TRY(read_node(r, g->node[m->n_node], &m->node[m->n_node], m->n_node));
    return read_outputs(r, g);
}

Err onnx_parse(const uint8_t *data, size_t bytes, const char *name, const char *folder,
               OnnxModel **out) {
    TRY(onnx_scan(data, bytes, name));
    Onnx__ModelProto *p = onnx__model_proto__unpack(NULL, bytes, data);
    if (!p)
        return err_set(E(EXIT_MODEL, 60), "%s: is damaged or no ONNX file; export it again", name);
    OnnxModel *m = xcalloc(1, sizeof *m);
    m->arena = arena_open(), m->message = p;
    m->name = arena_strdup(m->arena, name);
    Reader r = {.m = m, .folder = folder};
    Err rc = read_graph(&r, p);
    free(r.slot);
    if (rc) return onnx_close(m), rc;
    *out = m;
    return OK;
}

Err onnx_read(const char *path, OnnxModel **out) {
    Bytes file;
    TRY(sys_read_file(path, INT32_MAX, EXIT_MODEL, &file));
    char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    Err rc = onnx_parse(file.data, file.bytes, path, slash ? folder : ".", out);
    free(folder);
    free(file.data);
    return rc;
}

void onnx_close(OnnxModel *m) {
    if (!m) return;
    for (int i = 0; i < m->n_block; i++) free(m->block[i]);
    free(m->block);
    onnx__model_proto__free_unpacked(m->message, NULL);
    arena_close(m->arena);
    free(m);
}
