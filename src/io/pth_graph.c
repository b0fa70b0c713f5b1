/* pth_graph.c - where in a pickled graph the tensors are, and what each of them says of itself.
 *
 * A checkpoint is whatever its author made of it: a dictionary of tensors, the same under "state_dict",
 * "model", "ema", ... beside optimisers and histories, or a whole nn.Module. All of the graph is visited,
 * breadth first, each node once; of all dictionaries with texts as keys, and of all modules (whose state_dict
 * is put together here as PyTorch would), the one with most tensors wins, the earlier of equals. Where there is
 * none, every tensor in reach is taken, named by its path. Nothing recurses, and all work is counted. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/pth_priv.h"

/* PkNode.mark; INNER: a module within a module; of a state: what module_state said of it. */
enum { SEEN = 1, INNER = 2, MODULE = 4, NO_MODULE = 8 };
enum { WORK_MAX = 10 * 1000 * 1000, NAME_BYTES_MAX = 16 << 20, WRAPPED_MAX = 4 };
enum { BESIDE_NAME = 32, KEY_MAX = 255 };                /* bytes kept with every name; of a storage's key */

/* ---- tensors ------------------------------------------------------------------------------------- */
typedef enum { BUILDS, BUILDS_TYPED, WRAPS, CALLS } Role; /* what the first arguments of a callee are */
static const struct { const char *name; Role role; } CALLEES[] = {
    {"torch._utils\n_rebuild_tensor", BUILDS},            /* storage, offset, size, stride ... */
    {"torch._utils\n_rebuild_tensor_v2", BUILDS},
    {"torch._utils\n_rebuild_tensor_v3", BUILDS_TYPED},   /* ..., requires_grad, hooks, dtype */
    {"torch._utils\n_rebuild_parameter", WRAPS},          /* tensor ... */
    {"torch._utils\n_rebuild_parameter_with_state", WRAPS},
    {"torch.nn.parameter\nParameter", WRAPS},
    {"torch.nn.parameter\nBuffer", WRAPS},
    {"torch._tensor\n_rebuild_from_type_v2", CALLS},      /* callee, type, arguments, state */
};
static const struct { const char *name, *dtype; Dtype is; size_t element;
} STORAGES[] = {
    {"FloatStorage", "float32", DT_F32, 4},
    {"DoubleStorage", "float64", DT_F64, 8},
    {"HalfStorage", "float16", DT_F16, 2},
    {"BFloat16Storage", "bfloat16", DT_BF16, 2},
    {"LongStorage", "int64", DT_I64, 8},
    {"IntStorage", "int32", DT_I32, 4},
    {"CharStorage", "int8", DT_I8, 1},
    {"ByteStorage", "uint8", DT_U8, 1},
    {"BoolStorage", "bool", DT_BOOL, 1},
    {"ShortStorage", "int16", DT_COUNT, 2},
    {"ComplexFloatStorage", "complex64", DT_COUNT, 8},
    {"ComplexDoubleStorage", "complex128", DT_COUNT, 16},
    {"QInt8Storage", "qint8", DT_COUNT, 1},
    {"QUInt8Storage", "quint8", DT_COUNT, 1},
    {"QInt32Storage", "qint32", DT_COUNT, 4},
    {"UntypedStorage", "untyped", DT_COUNT, 1},
};

static int callee_row(const PkNode *of) {
    for (int k = 0; k < (int)(sizeof CALLEES / sizeof *CALLEES); k++)
        if (pickle_is(of, PK_GLOBAL, CALLEES[k].name)) return k;
    return -1;
}
/* The arguments of the innermost call, out of its wrappers; NULL when x is no tensor. */
static const PkNode *rebuild_args(const PkNode *x, Role *role) {
    const PkNode *of = NULL, *args = NULL;
    for (int depth = 0; depth < WRAPPED_MAX; depth++) {
        if (depth == 0 || *role == WRAPS) {
            if (!x || x->kind != PK_OBJECT) return NULL;
            of = x->object->of, args = x->object->args;
        } else {
            if (args->n < 3) return NULL;
            of = args->item[0], args = args->item[2];
        }
        const int row = callee_row(of);
        if (row < 0 || !args || args->kind != PK_TUPLE || !args->n) return NULL;
        *role = CALLEES[row].role;
        if (*role == BUILDS || *role == BUILDS_TYPED) return args;
        x = args->item[0];
    }
    return NULL;
}
bool pth_is_tensor(const PkNode *x) {
    Role role = BUILDS;
    return rebuild_args(x, &role) != NULL;
}

static bool is_count(const PkNode *x) { return x->kind == PK_INT && x->i >= 0; }

bool pth_storage(const PkNode *persistent, PthStorage *out) {
    const PkNode *id = persistent->kind == PK_PERSISTENT ? persistent->item[0] : NULL;
    if (!id || id->kind != PK_TUPLE || id->n < 5 || !pickle_is(id->item[0], PK_TEXT, "storage"))
        return false;
    const PkNode *type = id->item[1], *key = id->item[2], *numel = id->item[4],
                 *part = id->n > 5 ? id->item[5] : NULL;
    const char *name = type->kind == PK_GLOBAL ? memchr(type->text, '\n', type->n) : NULL;
    if (!name || strncmp(type->text, "torch", 5) || key->kind != PK_TEXT || key->n > KEY_MAX || !is_count(numel))
        return false;
    const size_t n = type->n - (size_t)(++name - type->text);
    *out = (PthStorage){.key = key->text, .n_key = key->n, .type = "unknown", .dtype = DT_COUNT, .numel = numel->i, .view_numel = numel->i};
    for (size_t i = 0; i < sizeof STORAGES / sizeof *STORAGES; i++)
        if (n == strlen(STORAGES[i].name) && !memcmp(name, STORAGES[i].name, n))
            out->type = STORAGES[i].dtype, out->dtype = STORAGES[i].is,
            out->element = STORAGES[i].element;
    if (part && part->kind != PK_NONE) {                 /* (key of the view, its offset, its length) */
        if (part->kind != PK_TUPLE || part->n != 3 || !is_count(part->item[1]) ||
            !is_count(part->item[2]))
            return false;
        out->view_at = part->item[1]->i, out->view_numel = part->item[2]->i;
        if (out->view_at > out->numel || out->view_numel > out->numel - out->view_at) return false;
    }
    return true;
}

/* A tuple of counts, or a torch.Size around one. */
static const PkNode *counts(const PkNode *x) {
    if (x->kind == PK_OBJECT && pickle_is(x->object->of, PK_GLOBAL, "torch\nSize") &&
        x->object->args && x->object->args->n == 1)
        x = x->object->args->item[0];
    if (x->kind != PK_TUPLE) return NULL;
    for (uint32_t i = 0; i < x->n; i++)
        if (!is_count(x->item[i])) return NULL;
    return x;
}
/* torch.float32 and its like, as rebuild_tensor_v3 has it. */
static void set_dtype(PthView *v, const PkNode *global) {
    v->dtype = DT_COUNT, v->type = "an element type that is not known here";
    for (int t = 0; t < DT_COUNT; t++) {
        const char *name = dtype_name((Dtype)t);
        if (global->kind != PK_GLOBAL || global->n != 6 + strlen(name) ||
            memcmp(global->text, "torch\n", 6) || memcmp(global->text + 6, name, global->n - 6))
            continue;
        v->dtype = (Dtype)t, v->type = name;
    }
}
/* No element lies outside the storage's part that the view may see. */
static bool is_inside(const PthView *v) {
    int64_t last = v->at, reach, elements;
    const PthStorage *s = &v->storage;
    if (__builtin_mul_overflow(s->view_numel, (int64_t)s->element, &elements)) return false;
    elements /= (int64_t)dtype_bytes(v->dtype);
    for (int i = 0; i < v->rank; i++) {
        if (v->shape.d[i] == 0) return v->at <= elements;
        if (__builtin_mul_overflow(v->shape.d[i] - 1, v->stride[i], &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return false;
    }
    return last < elements;
}
bool pth_view(const PkNode *tensor, PthView *out, const char **why) {
    Role role = BUILDS;
    const PkNode *args = rebuild_args(tensor, &role), *size, *stride;
    size_t bytes;
    *out = (PthView){0};
    *why = "its description is not complete";
    if (!args || args->n < (role == BUILDS_TYPED ? 7u : 4u) ||
        args->item[0]->kind != PK_PERSISTENT || !is_count(args->item[1]))
        return false;
    if (!pth_storage(args->item[0], &out->storage) || !(size = counts(args->item[2])) ||
        !(stride = counts(args->item[3])) || size->n != stride->n)
        return false;
    out->dtype = out->storage.dtype, out->type = out->storage.type;
    if (role == BUILDS_TYPED) set_dtype(out, args->item[6]);
    out->at = args->item[1]->i, out->rank = size->n > RANK_MAX ? RANK_MAX + 1 : (int)size->n;
    if (out->rank > RANK_MAX || out->dtype == DT_COUNT) return true;
    out->shape.rank = out->rank;
    for (int i = 0; i < out->rank; i++)
        out->shape.d[i] = size->item[i]->i,
        out->stride[i] = size->item[i]->i == 1 ? 0 : stride->item[i]->i;         /* may be anything there */
    *why = "its shape, strides or offset reach beyond its storage";
    return shape_bytes(out->shape, out->dtype, &bytes) && is_inside(out);
}

/* ---- the search ---------------------------------------------------------------------------------- */
typedef struct Spot { PkNode *x; const PkNode *key; int parent, index; } Spot;   /* index: -1 for an unnamed part */
typedef struct Search {
    const char *file;
    Arena   *arena;
    Spot    *spot; int n, cap;
    int64_t  work;
    size_t   name_bytes;
    PthFound best;                       /* of a module: filled; of a dictionary: filled at the end */
    int      best_spot, best_count;
    const PkNode *best_dict;
} Search;

static Err too_big(const Search *s) {
    return err_set(
        E(EXIT_LIMIT, 57),
        "%s: its objects are nested or named beyond all measure; no file of weights needs that, use another",
        s->file);
}
static Err work(Search *s, int64_t units) {
    return (s->work += units) > WORK_MAX ? too_big(s) : OK;
}

/* prefix + key as a C string in the arena. */
static Err make_name(Search *s, const char *prefix, const PkNode *key, const char *suffix,
                     const char **out) {
    if (memchr(key->n ? key->text : "", 0, key->n))
        return err_set(E(EXIT_MODEL, 56),
                       "%s: a name holds a NUL byte; the file is damaged or made to do harm",
                       s->file);
    const size_t n = strlen(prefix) + key->n + strlen(suffix);
    if ((s->name_bytes += n + BESIDE_NAME) > NAME_BYTES_MAX) return too_big(s);
    *out = arena_printf(s->arena, "%s%.*s%s", prefix, (int)key->n, key->n ? key->text : "", suffix);
    return OK;
}
static void add_named(PthFound *l, const char *name, const PkNode *tensor) {
    GROW(l->v, l->n, l->cap);
    l->v[l->n++] = (PthNamed){name, tensor};
}
static bool is_named_tensor(const PkNode *dict, uint32_t i) {
    return dict->item[i]->kind == PK_TEXT && pth_is_tensor(dict->item[i + 1]);
}

/* ---- modules: what their state_dict() would be ---------------------------------------------------- */
static const PkNode *module_state(const PkNode *x) {
    PkNode *state = x->kind == PK_OBJECT ? x->object->state : NULL;
    if (!state || state->kind != PK_DICT) return NULL;
    if (!(state->mark & (MODULE | NO_MODULE)))           /* many objects may share a long one */
        state->mark |= pickle_dict(pickle_get(state, "_modules")) ||
                               pickle_dict(pickle_get(state, "_parameters"))
                           ? MODULE
                           : NO_MODULE;
    return state->mark & MODULE ? state : NULL;
}
/* A set is written as a set or, before protocol 4, as a call of set with a list. */
static Err is_member(Search *s, const PkNode *set, const PkNode *key, bool *out) {
    if (set && set->kind == PK_OBJECT && set->object->args && set->object->args->n == 1)
        set = set->object->args->item[0];
    *out = false;
    if (!set || (set->kind != PK_SET && set->kind != PK_LIST)) return OK;
    TRY(work(s, set->n));
    for (uint32_t i = 0; i < set->n; i++)
        *out |= set->item[i]->kind == PK_TEXT && set->item[i]->n == key->n && (!key->n || !memcmp(set->item[i]->text, key->text, key->n));
    return OK;
}
static Err add_module_tensors(Search *s, const char *prefix, const PkNode *dict,
                              const PkNode *except, PthFound *l) {
    TRY(work(s, dict ? dict->n : 0));
    for (uint32_t i = 0; dict && i < dict->n; i += 2) {
        bool skip;
        const char *name;
        if (!is_named_tensor(dict, i)) continue;
        TRY(is_member(s, except, dict->item[i], &skip));
        if (skip) continue;
        TRY(make_name(s, prefix, dict->item[i], "", &name));
        add_named(l, name, dict->item[i + 1]);
    }
    return OK;
}
typedef struct Frame { PkNode *module; const char *prefix; } Frame;
typedef struct Frames { Frame *v; int n, cap; } Frames;

/* Children go onto the stack in reverse, so that the first is walked first. */
static Err push_children(Search *s, Frames *f, const PkNode *dict, const char *prefix) {
    TRY(work(s, dict ? dict->n : 0));
    for (uint32_t i = dict ? dict->n : 0; i >= 2; i -= 2) {
        PkNode *key = dict->item[i - 2], *child = dict->item[i - 1];
        const char *name;
        if (key->kind != PK_TEXT || !module_state(child)) continue;
        TRY(make_name(s, prefix, key, ".", &name));
        child->mark |= INNER;
        GROW(f->v, f->n, f->cap);
        f->v[f->n++] = (Frame){child, name};
    }
    return OK;
}
static Err flatten(Search *s, PkNode *module, PthFound *l) {
    Frames f = {0};
    Err rc = OK;
    GROW(f.v, f.n, f.cap);
    f.v[f.n++] = (Frame){module, ""};
    while (f.n && !rc) {
        const Frame at = f.v[--f.n];
        const PkNode *state = module_state(at.module);
        if ((rc = work(s, state->n))) break;
        rc = add_module_tensors(s, at.prefix, pickle_dict(pickle_get(state, "_parameters")), NULL,
                                l);
        if (!rc)
            rc = add_module_tensors(s, at.prefix, pickle_dict(pickle_get(state, "_buffers")),
                                    pickle_get(state, "_non_persistent_buffers_set"), l);
        if (!rc) rc = push_children(s, &f, pickle_dict(pickle_get(state, "_modules")), at.prefix);
    }
    free(f.v);
    return rc;
}

/* ---- candidates ---------------------------------------------------------------------------------- */
static Err consider_module(Search *s, int spot) {
    PthFound l = {0};
    Err rc = flatten(s, s->spot[spot].x, &l);
    if (!rc && l.n > s->best_count) {
        free(s->best.v);
        s->best = l, s->best_count = l.n, s->best_spot = spot, s->best_dict = NULL;
    } else free(l.v);
    return rc;
}
static void consider_dict(Search *s, int spot, const PkNode *dict) {
    int count = 0;
    for (uint32_t i = 0; i < dict->n; i += 2) count += is_named_tensor(dict, i);
    if (count > s->best_count) s->best_count = count, s->best_spot = spot, s->best_dict = dict;
}
/* Into the queue, unless it is there or has nothing within. */
static void visit(Search *s, PkNode *x, int parent, const PkNode *key, int index) {
    const bool holds = x && (x->kind == PK_OBJECT || ((x->kind == PK_TUPLE || x->kind == PK_LIST ||
                                                       x->kind == PK_SET || x->kind == PK_DICT) &&
                                                      x->n));
    if (!holds || x->mark & SEEN) return;
    x->mark |= SEEN;
    GROW(s->spot, s->n, s->cap);
    s->spot[s->n++] = (Spot){x, key, parent, index};
}
static Err expand(Search *s, int at) {
    PkNode *x = s->spot[at].x;
    if (pth_is_tensor(x)) return OK;
    if (x->kind == PK_OBJECT) {
        const PkObject *o = x->object;
        if (module_state(x) && !(x->mark & INNER)) TRY(consider_module(s, at));
        PkNode *part[] = {o->dict, o->list, o->state, o->args, o->of};
        for (int i = 0; i < 5; i++) visit(s, part[i], at, NULL, -1);
        return OK;
    }
    if (x->kind == PK_DICT) consider_dict(s, at, x);
    const uint32_t step = x->kind == PK_DICT ? 2 : 1;
    for (uint32_t i = 0; i < x->n; i += step)
        visit(s, x->item[i + step - 1], at, step == 2 ? x->item[i] : NULL, (int)(i / step));
    return OK;
}

/* ---- the result ---------------------------------------------------------------------------------- */
/* "optimizer.state.0" for the spot; "" for the top. */
static Err path_of(Search *s, int at, const char **out) {
    char number[24];
    *out = "";
    for (; at > 0; at = s->spot[at].parent) {
        const Spot *p = &s->spot[at];
        PkNode label = {.kind = PK_TEXT};
        TRY(work(s, 1));
        if (p->key && p->key->kind == PK_TEXT) label.text = p->key->text, label.n = p->key->n;
        else if (p->index >= 0) {
            label.n = (uint32_t)snprintf(
                number, sizeof number, "%" PRId64,
                p->key && p->key->kind == PK_INT ? p->key->i : (int64_t)p->index);
            label.text = number;
        } else continue;                                 /* a part of an object has no name */
        const char *behind = **out ? arena_printf(s->arena, ".%s", *out) : "";
        TRY(make_name(s, "", &label, behind, out));
    }
    return OK;
}
static Err add_dict_tensors(Search *s, PthFound *l) {
    const PkNode *d = s->best_dict;
    l->n = 0;
    for (uint32_t i = 0; i < d->n; i += 2) {
        const char *name;
        if (!is_named_tensor(d, i)) continue;
        TRY(make_name(s, "", d->item[i], "", &name));
        add_named(l, name, d->item[i + 1]);
    }
    return OK;
}
static Err add_loose_tensors(Search *s, PthFound *l) {
    for (int i = 0; i < s->n; i++) {
        const char *name;
        if (!pth_is_tensor(s->spot[i].x)) continue;
        TRY(path_of(s, i, &name));
        add_named(l, *name ? name : "tensor", s->spot[i].x);
    }
    if (l->n) return OK;
    return err_set(E(EXIT_MODEL, 56),
                   "%s: holds no tensors; save the network's state_dict with torch.save", s->file);
}
static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}
static Err check_duplicates(const Search *s, const PthFound *l) {
    const char **names = xcalloc((size_t)l->n, sizeof *names);
    Err rc = OK;
    for (int i = 0; i < l->n; i++) names[i] = l->v[i].name;
    qsort(names, (size_t)l->n, sizeof *names, compare_names);
    for (int i = 1; i < l->n && !rc; i++)
        if (!strcmp(names[i - 1], names[i]))
            rc = err_set(E(EXIT_MODEL, 56),
                         "%s: tensor %s stands twice; the file is damaged or made to do harm",
                         s->file, names[i]);
    free(names);
    return rc;
}
Err pth_search(const char *file, PkNode *root, Arena *a, PthFound *out) {
    Search s = {.file = file, .arena = a, .best = {.path = ""}};
    Err rc = OK;
    visit(&s, root, -1, NULL, -1);
    for (int i = 0; i < s.n && !rc; i++) rc = expand(&s, i);
    PthFound l = s.best;
    if (!rc && s.best_count) rc = path_of(&s, s.best_spot, &l.path);
    if (!rc && s.best_dict) rc = add_dict_tensors(&s, &l);
    if (!rc && !s.best_count) rc = add_loose_tensors(&s, &l);
    if (!rc) rc = check_duplicates(&s, &l);
    free(s.spot);
    if (rc) free(l.v), l = (PthFound){0};
    *out = l;
    return rc;
}
