/* net.c - building a Net: scopes, names, nodes, parameters and their two blocks.
 *
 * Names are found by an open-addressed table from their hash to number, rebuilt at twice its size when
 * half full; a later entry of the same name replaces the earlier, so net_find gives the last. */
#include "graph/net.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "graph/op.h"

/* ---- names ------------------------------------------------------------------------------------- */

typedef struct { const char *name; int value; } NameSlot;
struct NameIndex { NameSlot *slot; size_t n, cap; };     /* cap: a power of two; name NULL: free */

static NameSlot *slot_of(const struct NameIndex *x, const char *name) {
    size_t i = (size_t)hash_name(name) & (x->cap - 1);
    while (x->slot[i].name && strcmp(x->slot[i].name, name)) i = (i + 1) & (x->cap - 1);
    return &x->slot[i];
}
static struct NameIndex *index_open(size_t cap) {
    struct NameIndex *x = xcalloc(1, sizeof *x);
    x->slot = xcalloc(cap, sizeof *x->slot);
    x->cap = cap;
    return x;
}
static void index_close(struct NameIndex *x) {
    free(x->slot);
    free(x);
}
/* Borrows name. */
static void index_set(struct NameIndex *x, const char *name, int value) {
    if (2 * x->n >= x->cap) {
        struct NameIndex old = *x;
        x->cap *= 2;
        x->slot = xcalloc(x->cap, sizeof *x->slot);
        for (size_t i = 0; i < old.cap; i++)
            if (old.slot[i].name) *slot_of(x, old.slot[i].name) = old.slot[i];
        free(old.slot);
    }
    NameSlot *s = slot_of(x, name);
    x->n += !s->name;
    *s = (NameSlot){name, value};
}
static int index_get(const struct NameIndex *x, const char *name, int absent) {
    const NameSlot *s = slot_of(x, name);
    return s->name ? s->value : absent;
}

/* ---- opening, scopes, failure ------------------------------------------------------------------ */

Net *net_open(const char *name) {
    Net *n = xcalloc(1, sizeof *n);
    n->arena = arena_open();
    n->name = arena_strdup(n->arena, name);
    n->node_names = index_open(256), n->param_names = index_open(256);
    GROW(n->nodes, n->n_nodes, n->cap_nodes);
    n->nodes[n->n_nodes++] = (NetNode){.name = ""};      /* id 0: no node */
    return n;
}
void net_close(Net *n) {
    if (!n) return;
    if (n->close_origin) n->close_origin(n->origin);
    index_close(n->node_names);
    index_close(n->param_names);
    block_free(n->values);
    block_free(n->grads);
    for (int i = 0; i < n->n_states; i++) block_free(n->states[i]->data);
    free(n->states);
    free(n->nodes);
    free(n->params);
    arena_close(n->arena);
    free(n);
}
void net_enter(Net *n, const char *scope) {
    CHECK(*scope && !strchr(scope, '.'));
    const size_t used = strlen(n->scope), more = strlen(scope);
    CHECK(used + more + 2 <= sizeof n->scope);
    snprintf(n->scope + used, sizeof n->scope - used, "%s%s", used ? "." : "", scope);
}
void net_leave(Net *n) {
    CHECK(*n->scope);
    char *dot = strrchr(n->scope, '.');
    *(dot ? dot : n->scope) = 0;
}
/* The path of a name under the present scope, in the net's arena; "" is the scope itself. */
static const char *scoped(Net *n, const char *name) {
    if (!*name) return arena_strdup(n->arena, n->scope);
    return arena_printf(n->arena, "%s%s%s", n->scope, *n->scope ? "." : "", name);
}
void net_fail(Net *n, Err rc, const char *fmt, ...) {
    if (n->err) return;
    va_list ap;
    va_start(ap, fmt);
    char text[512];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    n->err = rc;
    n->err_msg =
        arena_printf(n->arena, "%s%s%s: %s", n->name, *n->scope ? ": " : "", n->scope, text);
}

/* ---- nodes and parameters ---------------------------------------------------------------------- */

static Node push_node(Net *n, NetNode node) {
    GROW(n->nodes, n->n_nodes, n->cap_nodes);
    n->nodes[n->n_nodes] = node;
    index_set(n->node_names, node.name, n->n_nodes);
    return (Node){n->n_nodes++};
}
Node net_input(Net *n, const char *name, Dtype t, Shape nominal) {
    if (n->err) return NO_NODE;
    return push_node(
        n, (NetNode){.op = &op_input, .name = scoped(n, name), .shape = nominal, .dtype = t});
}
/* Fill the node's shape by the op's rule. */
static Err infer_node(const Net *n, NetNode *node) {
    Shape src[NODE_SRC_MAX], param[NODE_PARAM_MAX];
    Dtype type[NODE_SRC_MAX];
    for (int i = 0; i < node->n_src; i++)
        src[i] = n->nodes[node->src[i]].shape, type[i] = n->nodes[node->src[i]].dtype;
    for (int i = 0; i < node->n_param; i++) param[i] = n->params[node->param[i]].shape;
    const OpSite site = {.attr = node->attr, .n_src = node->n_src, .src = src, .src_dtype = type,
                         .n_param = node->n_param, .param = param};
    return node->op->infer(&site, &node->shape);
}
static bool node_needs_grad(const Net *n, const NetNode *node) {
    if (!node->op->backward) return false;
    for (int i = 0; i < node->n_src; i++)
        if (n->nodes[node->src[i]].needs_grad && !(node->op->shape_only >> i & 1)) return true;
    for (int i = 0; i < node->n_param; i++)
        if (n->params[node->param[i]].trainable) return true;
    return false;
}
Node net_add(Net *n, const OpDef *op, const char *name, const void *attr, size_t attr_bytes,
             const Node *src, int n_src, const int *param, int n_param) {
    if (n->err) return NO_NODE;
    CHECK(n_src <= NODE_SRC_MAX && n_param <= NODE_PARAM_MAX && op->infer);
    NetNode node = {
        .op = op, .name = scoped(n, name), .n_src = n_src, .n_param = n_param, .dtype = DT_F32};
    if (attr_bytes) node.attr = memcpy(arena_alloc(n->arena, attr_bytes), attr, attr_bytes);
    for (int i = 0; i < n_src; i++) {
        CHECK(src[i].id > 0 && src[i].id < n->n_nodes);
        node.src[i] = src[i].id;
    }
    for (int i = 0; i < n_param; i++) {
        CHECK(param[i] >= 0 && param[i] < n->n_params);
        node.param[i] = param[i];
    }
    Err rc = infer_node(n, &node);
    if (rc) {
        net_fail(n, rc, "%s%s%s", name, *name ? ": " : "", err_text());
        return NO_NODE;
    }
    node.needs_grad = node_needs_grad(n, &node);
    return push_node(n, node);
}
int net_param(Net *n, const char *name, ParamKind kind, Shape shape, int fan_in, int fan_out) {
    GROW(n->params, n->n_params, n->cap_params);
    NetParam *p = &n->params[n->n_params];
    *p = (NetParam){.name = scoped(n, name),
                    .shape = shape,
                    .kind = kind,
                    .fan_in = fan_in,
                    .fan_out = fan_out,
                    .fan_out_init = n->fan_out_init,
                    .trainable = !n->frozen && kind <= PARAM_BN_BIAS};
    if (!n->err && index_get(n->param_names, p->name, -1) >= 0)
        net_fail(n, E(EXIT_MODEL, 0), "parameter %s is declared twice", p->name);
    index_set(n->param_names, p->name, n->n_params);
    return n->n_params++;
}
Tensor *net_state(Net *n, const char *name, Dtype t, Shape shape) {
    size_t bytes;
    if (n->err) return NULL;
    Tensor *x = arena_alloc(n->arena, sizeof *x);
    *x = (Tensor){.name = scoped(n, name), .dtype = t, .shape = shape};
    CHECK(shape_bytes(shape, t, &bytes));
    Err rc = block_alloc(&x->data, bytes ? bytes : 1, x->name);
    if (rc) return net_fail(n, rc, "%s", err_text()), NULL;
    GROW(n->states, n->n_states, n->cap_states);
    return n->states[n->n_states++] = x;
}
void net_init_rule(Net *n, bool fan_out) { n->fan_out_init = fan_out; }
void net_alias(Net *n, Node x, const char *name) {
    if (!n->err) index_set(n->node_names, scoped(n, name), x.id);
}

/* ---- the blocks -------------------------------------------------------------------------------- */

/* Give offsets to the parameters for which trainable == pick; returns the end. PARAM_COUNT has none. */
static int64_t lay_out(Net *n, bool pick, int64_t at) {
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        if (p->trainable != pick || p->kind == PARAM_COUNT) continue;
        p->offset = at;
        at = (at + shape_count(p->shape) + 15) / 16 * 16;
    }
    return at;
}
Err net_finish(Net *n) {
    if (n->err) return err_set(n->err, "%s", n->err_msg);
    float *values = NULL, *grads = NULL;
    const int64_t n_trainable = lay_out(n, true, 0), n_values = lay_out(n, false, n_trainable);
    TRY(block_alloc((void **)&values, (size_t)(n_values ? n_values : 16) * sizeof(float),
                    "parameters"));
    Err rc = n_trainable
                 ? block_alloc((void **)&grads, (size_t)n_trainable * sizeof(float), "gradients")
                 : OK;
    if (rc) {
        block_free(values);
        return rc;
    }
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        if (p->kind == PARAM_COUNT) continue;
        float *data = values + p->offset;
        if (p->data) memcpy(data, p->data, (size_t)shape_count(p->shape) * sizeof(float));
        p->data = data, p->grad = p->trainable ? grads + p->offset : NULL;
    }
    block_free(n->values);
    block_free(n->grads);
    n->values = values, n->grads = grads, n->n_values = n_values, n->n_trainable = n_trainable;
    n->version++;
    return OK;
}

/* ---- looking -------------------------------------------------------------------------------------- */

Node net_find(const Net *n, const char *name) { return (Node){index_get(n->node_names, name, 0)}; }
int  net_find_param(const Net *n, const char *name) { return index_get(n->param_names, name, -1); }
const NetNode *net_node(const Net *n, Node x) {
    CHECK(x.id >= 0 && x.id < n->n_nodes);
    return &n->nodes[x.id];
}
Shape net_shape(const Net *n, Node x) { return net_node(n, x)->shape; }
int64_t net_count_params(const Net *n) {
    int64_t count = 0;
    for (int i = 0; i < n->n_params; i++)
        if (n->params[i].kind <= PARAM_BN_BIAS) count += shape_count(n->params[i].shape);
    return count;
}
