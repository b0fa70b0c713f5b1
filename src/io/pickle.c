/* pickle.c - a closed virtual machine for pickle streams (protocols 0 to 5); see pickle.h.
 *
 * One row of OPS per opcode: how its argument is written, what runs, and a number for handlers that
 * serve several rows. A byte without a row is refused with its place. The loop is iterative and every
 * count has a limit: opcodes, stack, width of integers, memo, memory. Memory is charged as it is taken and
 * checked after each opcode; one opcode can take no more than the stack holds or a list already has.
 *
 * Not done, on purpose: the extension registry and out-of-band buffers, which mean something only inside
 * the process that wrote the stream; texts are kept as bytes, whatever their encoding. */
#include "io/pickle.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { PERSISTENT_COST = 128 };                          /* of its place in tables here and of the reader's */
typedef enum {
    ARG_NONE, ARG_U1, ARG_U2, ARG_I4, ARG_U4, ARG_U8,
    ARG_F8,                             /* big-endian double */
    ARG_LINE, ARG_TWO_LINES,            /* up to the newline; two lines with the newline between them */
    ARG_BYTES1, ARG_BYTES4, ARG_BYTES8, /* a length of so many bytes, then the bytes */
    ARG_LONG1, ARG_LONG4                /* the same, of an integer */
} ArgKind;
typedef struct Arg { uint64_t u; double f; const char *text; size_t n; } Arg;

typedef struct Vm Vm;
typedef struct Op {
    const char *name;
    ArgKind arg;
    Err (*run)(Vm *v, int param, const Arg *a);
    int param;
} Op;
struct Vm {
    const PkStream *src;
    const uint8_t *p, *end, *at;        /* at: the opcode that is being run */
    const Op *op;
    Arena   *arena;
    size_t   memory;                    /* taken so far */
    int64_t  n_ops;
    PkNode **stack;      int n_stack, cap_stack;
    PkNode **memo;       int64_t n_memo, cap_memo;        /* NULL where nothing was put */
    PkNode **persistent; int n_persistent, cap_persistent;
    PkNode  *root;                      /* set by STOP */
};

/* ---- refusing ------------------------------------------------------------------------------------ */
static Err bad(const Vm *v, const char *what) {
    return err_set(E(EXIT_MODEL, 56),
                   "%s: byte %" PRIu64
                   ": opcode 0x%02x%s%s %s; the file is damaged or made to do harm",
                   v->src->file, v->src->at + (uint64_t)(v->at - v->src->data), *v->at,
                   v->op ? " " : "", v->op ? v->op->name : "", what);
}
static Err too_much(const Vm *v, const char *what) {
    return err_set(E(EXIT_LIMIT, 57),
                   "%s: byte %" PRIu64
                   ": opcode %s: %s; no file of weights needs that, use another",
                   v->src->file, v->src->at + (uint64_t)(v->at - v->src->data), v->op->name, what);
}

/* ---- nodes --------------------------------------------------------------------------------------- */
static void *take(Vm *v, size_t bytes) {
    v->memory += (bytes + 15) / 16 * 16;                 /* the arena's grain */
    return arena_alloc(v->arena, bytes);
}
static PkNode *node(Vm *v, PkKind kind) {
    PkNode *x = take(v, sizeof *x);
    x->kind = (uint8_t)kind;
    return x;
}
static PkNode *node_text(Vm *v, PkKind kind, const char *text, size_t n) {
    PkNode *x = node(v, kind);
    x->text = text, x->n = (uint32_t)n;
    return x;
}
/* The items are copied. */
static PkNode *node_items(Vm *v, PkKind kind, PkNode *const *item, uint32_t n) {
    PkNode *x = node(v, kind);
    if (!n) return x;
    size_t room = 4;                                     /* item_add's rule: full at 4, 8, 16, ... */
    while (room < n) room *= 2;
    x->item = take(v, (kind == PK_TUPLE || kind == PK_PERSISTENT ? n : room) * sizeof(PkNode *));
    memcpy(x->item, item, n * sizeof(PkNode *));
    x->n = n;
    return x;
}
static PkNode *node_object(Vm *v, PkNode *of, PkNode *args) {
    PkNode *x = node(v, PK_OBJECT);
    x->object = take(v, sizeof *x->object);
    x->object->of = of, x->object->args = args;
    return x;
}
static void item_add(Vm *v, PkNode *x, PkNode *item) {
    if (x->n == 0 || (x->n >= 4 && (x->n & (x->n - 1)) == 0)) {
        PkNode **more = take(v, (x->n ? 2 * (size_t)x->n : 4) * sizeof(PkNode *));
        if (x->n) memcpy(more, x->item, x->n * sizeof(PkNode *));
        x->item = more;
    }
    x->item[x->n++] = item;
}

/* ---- the stack ----------------------------------------------------------------------------------- */
static Err push(Vm *v, PkNode *x) {
    if (v->n_stack == PK_STACK_MAX) return too_much(v, "more than 10,000 values on the stack");
    GROW(v->stack, v->n_stack, v->cap_stack);
    v->stack[v->n_stack++] = x;
    return OK;
}
static Err pop(Vm *v, PkNode **out) {
    if (!v->n_stack || v->stack[v->n_stack - 1]->kind == PK_MARK)
        return bad(v, "needs a value that is not on the stack");
    *out = v->stack[--v->n_stack];
    return OK;
}
/* All above the last mark, which goes too. The items stay valid until the next push. */
static Err pop_mark(Vm *v, PkNode *const **items, uint32_t *n) {
    int i = v->n_stack;
    while (i > 0 && v->stack[i - 1]->kind != PK_MARK) i--;
    if (i == 0) return bad(v, "needs a mark that is not on the stack");
    *items = v->stack + i, *n = (uint32_t)(v->n_stack - i);
    v->n_stack = i - 1;
    return OK;
}
static Err top(Vm *v, PkNode **out) {
    TRY(pop(v, out));
    v->n_stack++;
    return OK;
}

/* ---- opcodes: constants -------------------------------------------------------------------------- */
static Err op_none(Vm *v, int param, const Arg *a) { return push(v, node(v, PK_NONE)); }
static Err push_int(Vm *v, PkKind kind, int64_t i) {
    PkNode *x = node(v, kind);
    x->i = i;
    return push(v, x);
}
static Err op_bool(Vm *v, int value, const Arg *a) { return push_int(v, PK_BOOL, value); }
static Err op_int(Vm *v, int param, const Arg *a) { return push_int(v, PK_INT, (int64_t)a->u); }
static Err op_float(Vm *v, int param, const Arg *a) {
    PkNode *x = node(v, PK_FLOAT);
    x->f = a->f;
    return push(v, x);
}
static Err op_long(Vm *v, int param, const Arg *a) {
    if (a->n > sizeof(int64_t)) return push(v, node_text(v, PK_LONG, a->text, a->n));
    uint64_t u = a->n && (uint8_t)a->text[a->n - 1] >> 7 ? UINT64_MAX : 0;       /* the sign, extended */
    memcpy(&u, a->text, a->n);
    return push_int(v, PK_INT, (int64_t)u);
}
static Err op_text(Vm *v, int kind, const Arg *a) {
    return push(v, node_text(v, (PkKind)kind, a->text, a->n));
}

/* The line as a C string, "" when it is no number's: too long, or with a NUL inside. */
typedef struct { char s[41]; } Digits;
static Digits digits_of(const Arg *a, size_t n) {
    Digits d = {""};
    if (n < sizeof d.s && !memchr(a->text, 0, n)) memcpy(d.s, a->text, n);
    return d;
}
/* Numbers in decimal: INT, LONG (an L may follow) and FLOAT. 00 and 01 are the booleans of protocol 1. */
static Err op_decimal(Vm *v, int letter, const Arg *a) {
    static const struct {
        const char *text;
        double f;
    } NAMED[] = {{"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}};
    int64_t i;
    Arg number = {0};
    const Digits d = digits_of(a, a->n - (letter == 'L' && a->n && a->text[a->n - 1] == 'L'));
    if (letter == 'I' && (!strcmp(d.s, "00") || !strcmp(d.s, "01")))
        return op_bool(v, d.s[1] - '0', a);
    if (letter != 'F')
        return parse_i64(d.s, &i) ? push_int(v, PK_INT, i)
                                  : bad(v, "has a number that is none, or has more than 64 bits");
    bool ok = parse_f64(d.s, &number.f);
    for (int k = 0; k < 3; k++)
        if (!strcmp(d.s, NAMED[k].text)) number.f = NAMED[k].f, ok = true;
    return ok ? op_float(v, 0, &number) : bad(v, "has a number that is none");
}

static int hex_digit(char c) {
    const char *all = "0123456789abcdef",
               *at = c ? strchr(all, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
    return at ? (int)(at - all) : -1;
}
/* STRING: Python's repr in quotes. Escapes of one letter and \xNN; the rest of the grammar is not met in files. */
static Err op_quoted(Vm *v, int param, const Arg *a) {
    static const char from[] = "\\'\"nrtabfv0", to[] = "\\'\"\n\r\t\a\b\f\v";
    size_t n = a->n, used = 0;
    if (n < 2 || (*a->text != '\'' && *a->text != '"') || a->text[n - 1] != *a->text)
        return bad(v, "has a string without quotes");
    char *s = take(v, n);
    for (size_t i = 1; i + 1 < n; i++) {
        char c = a->text[i];
        if (c == '\\') {
            const char *at = i + 2 < n && a->text[i + 1] ? strchr(from, a->text[i + 1]) : NULL;
            const bool hex = i + 4 < n && a->text[i + 1] == 'x' && hex_digit(a->text[i + 2]) >= 0 &&
                             hex_digit(a->text[i + 3]) >= 0;
            if (!at && !hex) return bad(v, "has an escape that is not known");
            c = at ? to[at - from]
                   : (char)(hex_digit(a->text[i + 2]) << 4 | hex_digit(a->text[i + 3]));
            i += hex ? 3 : 1;
        }
        s[used++] = c;
    }
    return push(v, node_text(v, PK_TEXT, s, used));
}

/* ---- opcodes: containers ------------------------------------------------------------------------- */
static Err op_empty(Vm *v, int kind, const Arg *a) { return push(v, node(v, (PkKind)kind)); }
static Err op_tuple(Vm *v, int n, const Arg *a) {
    PkNode *item[3];
    for (int i = n; i-- > 0;) TRY(pop(v, &item[i]));
    return push(v, node_items(v, PK_TUPLE, item, (uint32_t)n));
}
static Err op_collect(Vm *v, int kind, const Arg *a) {
    PkNode *const *item;
    uint32_t n;
    TRY(pop_mark(v, &item, &n));
    if (kind == PK_DICT && n % 2) return bad(v, "has a key without a value");
    return push(v, node_items(v, (PkKind)kind, item, n));
}
/* Where elements (kind PK_LIST, PK_SET) or pairs (PK_DICT) of x go: x itself, or a part of an object. */
static Err container(Vm *v, PkNode *x, PkKind kind, PkNode **out) {
    if (x->kind == kind || (x->kind == PK_SET && kind == PK_LIST)) {
        *out = x;
        return OK;
    }
    if (x->kind != PK_OBJECT) return bad(v, "adds to something that holds no items");
    PkNode **part = kind == PK_DICT ? &x->object->dict : &x->object->list;
    if (!*part) *part = node(v, kind);
    *out = *part;
    return OK;
}
/* APPEND and SETITEM: `count` values are added to what lies below them. */
static Err op_add(Vm *v, int count, const Arg *a) {
    PkNode *item[2], *x, *into;
    for (int i = count; i-- > 0;) TRY(pop(v, &item[i]));
    TRY(top(v, &x));
    TRY(container(v, x, count == 2 ? PK_DICT : PK_LIST, &into));
    for (int i = 0; i < count; i++) item_add(v, into, item[i]);
    return OK;
}
static Err op_add_many(Vm *v, int kind, const Arg *a) {
    PkNode *const *item;
    PkNode *x, *into;
    uint32_t n;
    TRY(pop_mark(v, &item, &n));
    TRY(top(v, &x));
    if (kind == PK_DICT && n % 2) return bad(v, "has a key without a value");
    TRY(container(v, x, (PkKind)kind, &into));
    for (uint32_t i = 0; i < n; i++) item_add(v, into, item[i]);
    return OK;
}

/* ---- opcodes: globals and calls, all inert ------------------------------------------------------- */
static bool is_callable(const PkNode *x) {
    return x->kind == PK_GLOBAL || x->kind == PK_OBJECT || x->kind == PK_PERSISTENT;
}

static Err push_call(Vm *v, PkNode *of, PkNode *args) {
    if (!is_callable(of)) return bad(v, "calls a plain value");
    return push(v, node_object(v, of, args));
}
static Err op_stack_global(Vm *v, int param, const Arg *a) {
    PkNode *module, *name;
    TRY(pop(v, &name));
    TRY(pop(v, &module));
    if (module->kind != PK_TEXT || name->kind != PK_TEXT)
        return bad(v, "names a global by something that is no text");
    size_t n = module->n + (size_t)name->n + 1;
    if (n > INT32_MAX) return too_much(v, "a name of 2 GB");
    char *text = take(v, n);
    if (module->n) memcpy(text, module->text, module->n);
    text[module->n] = '\n';
    if (name->n) memcpy(text + module->n + 1, name->text, name->n);
    return push(v, node_text(v, PK_GLOBAL, text, n));
}
/* REDUCE, NEWOBJ (2: callee, arguments) and NEWOBJ_EX (3: with keyword arguments). */
static Err op_call(Vm *v, int count, const Arg *a) {
    PkNode *of, *args[2] = {0};
    for (int i = count - 1; i-- > 0;) TRY(pop(v, &args[i]));
    TRY(pop(v, &of));
    if (args[0]->kind != PK_TUPLE) return bad(v, "calls with arguments that are no tuple");
    return push_call(v, of, count == 3 ? node_items(v, PK_TUPLE, args, 2) : args[0]);
}
/* INST: the callee is in the stream; OBJ: it is the first value above the mark. */
static Err op_inst(Vm *v, int from_stack, const Arg *a) {
    PkNode *const *item;
    uint32_t n;
    TRY(pop_mark(v, &item, &n));
    if (from_stack && !n) return bad(v, "has nothing to call");
    PkNode *of = from_stack ? item[0] : node_text(v, PK_GLOBAL, a->text, a->n);
    return push_call(v, of, node_items(v, PK_TUPLE, item + from_stack, n - (uint32_t)from_stack));
}
/* An object keeps the state in place, since the memo may already know it; a class gets it on a new object. */
static Err op_build(Vm *v, int param, const Arg *a) {
    PkNode *state, *x;
    TRY(pop(v, &state));
    TRY(pop(v, &x));
    if (!is_callable(x)) return bad(v, "sets the state of a plain value");
    if (x->kind != PK_OBJECT) x = node_object(v, x, NULL);
    x->object->state = state;
    return push(v, x);
}
static Err push_persistent(Vm *v, PkNode *id) {
    PkNode *x = node_items(v, PK_PERSISTENT, &id, 1);
    GROW(v->persistent, v->n_persistent, v->cap_persistent);
    v->persistent[v->n_persistent++] = x;
    v->memory += PERSISTENT_COST;
    return push(v, x);
}
static Err op_persistent(Vm *v, int from_stack, const Arg *a) {
    PkNode *id = NULL;
    if (from_stack) TRY(pop(v, &id));
    return push_persistent(v, from_stack ? id : node_text(v, PK_TEXT, a->text, a->n));
}

/* ---- opcodes: stack, memo, frame ----------------------------------------------------------------- */
static Err op_pop(Vm *v, int param, const Arg *a) {
    if (!v->n_stack) return bad(v, "needs a value that is not on the stack");
    v->n_stack--;
    return OK;
}
static Err op_pop_mark(Vm *v, int param, const Arg *a) {
    PkNode *const *item;
    uint32_t n;
    return pop_mark(v, &item, &n);
}
static Err op_dup(Vm *v, int param, const Arg *a) {
    PkNode *x = NULL;
    TRY(top(v, &x));
    return push(v, x);
}
/* Picklers number the memo 0, 1, 2, ..., so a number far beyond the opcodes run so far only wastes memory. */
static Err put(Vm *v, uint64_t index) {
    PkNode *x;
    TRY(top(v, &x));
    if (index > (uint64_t)v->n_ops + 255)
        return too_much(v, "a memo number far beyond what was put there");
    int64_t cap = v->cap_memo ? v->cap_memo : 256;
    while (cap <= (int64_t)index) cap *= 2;
    if (cap > v->cap_memo) {
        v->memo = xrealloc(v->memo, (size_t)cap * sizeof *v->memo);
        memset(v->memo + v->cap_memo, 0, (size_t)(cap - v->cap_memo) * sizeof *v->memo);
        v->memory += (size_t)(cap - v->cap_memo) * sizeof *v->memo;
        v->cap_memo = cap;
    }
    if (!v->memo[index]) v->n_memo++;
    v->memo[index] = x;
    return OK;
}
static Err get(Vm *v, uint64_t index) {
    if (index >= (uint64_t)v->cap_memo || !v->memo[index])
        return bad(v, "reads a memo number that was never put");
    return push(v, v->memo[index]);
}
static Err op_put(Vm *v, int param, const Arg *a) { return put(v, a->u); }
static Err op_get(Vm *v, int param, const Arg *a) { return get(v, a->u); }
static Err op_memo_line(Vm *v, int letter, const Arg *a) {
    int64_t i = -1;
    if (!parse_i64(digits_of(a, a->n).s, &i) || i < 0)
        return bad(v, "has a memo number that is none");
    return letter == 'p' ? put(v, (uint64_t)i) : get(v, (uint64_t)i);
}
static Err op_memoize(Vm *v, int param, const Arg *a) { return put(v, (uint64_t)v->n_memo); }
static Err op_proto(Vm *v, int param, const Arg *a) {
    return a->u <= 5 ? OK : bad(v, "is of a protocol newer than 5");
}
static Err op_frame(Vm *v, int param, const Arg *a) {
    return a->u <= (uint64_t)(v->end - v->p)
               ? OK
               : bad(v, "is a frame longer than the file: it is cut short");
}
static Err op_stop(Vm *v, int param, const Arg *a) { return pop(v, &v->root); }
static Err op_refused(Vm *v, int param, const Arg *a) {
    return bad(v, "means something only inside the program that wrote it");
}

static const Op OPS[256] = {
    ['('] = {"MARK", ARG_NONE, op_empty, PK_MARK},
    ['.'] = {"STOP", ARG_NONE, op_stop, 0},
    ['0'] = {"POP", ARG_NONE, op_pop, 0},
    ['1'] = {"POP_MARK", ARG_NONE, op_pop_mark, 0},
    ['2'] = {"DUP", ARG_NONE, op_dup, 0},
    ['F'] = {"FLOAT", ARG_LINE, op_decimal, 'F'},
    ['I'] = {"INT", ARG_LINE, op_decimal, 'I'},
    ['J'] = {"BININT", ARG_I4, op_int, 0},
    ['K'] = {"BININT1", ARG_U1, op_int, 0},
    ['L'] = {"LONG", ARG_LINE, op_decimal, 'L'},
    ['M'] = {"BININT2", ARG_U2, op_int, 0},
    ['N'] = {"NONE", ARG_NONE, op_none, 0},
    ['P'] = {"PERSID", ARG_LINE, op_persistent, false},
    ['Q'] = {"BINPERSID", ARG_NONE, op_persistent, true},
    ['R'] = {"REDUCE", ARG_NONE, op_call, 2},
    ['S'] = {"STRING", ARG_LINE, op_quoted, 0},
    ['T'] = {"BINSTRING", ARG_BYTES4, op_text, PK_TEXT},
    ['U'] = {"SHORT_BINSTRING", ARG_BYTES1, op_text, PK_TEXT},
    ['V'] = {"UNICODE", ARG_LINE, op_text, PK_TEXT},
    ['X'] = {"BINUNICODE", ARG_BYTES4, op_text, PK_TEXT},
    ['a'] = {"APPEND", ARG_NONE, op_add, 1},
    ['b'] = {"BUILD", ARG_NONE, op_build, 0},
    ['c'] = {"GLOBAL", ARG_TWO_LINES, op_text, PK_GLOBAL},
    ['d'] = {"DICT", ARG_NONE, op_collect, PK_DICT},
    ['}'] = {"EMPTY_DICT", ARG_NONE, op_empty, PK_DICT},
    ['e'] = {"APPENDS", ARG_NONE, op_add_many, PK_LIST},
    ['g'] = {"GET", ARG_LINE, op_memo_line, 'g'},
    ['h'] = {"BINGET", ARG_U1, op_get, 0},
    ['i'] = {"INST", ARG_TWO_LINES, op_inst, false},
    ['j'] = {"LONG_BINGET", ARG_U4, op_get, 0},
    ['l'] = {"LIST", ARG_NONE, op_collect, PK_LIST},
    [']'] = {"EMPTY_LIST", ARG_NONE, op_empty, PK_LIST},
    ['o'] = {"OBJ", ARG_NONE, op_inst, true},
    ['p'] = {"PUT", ARG_LINE, op_memo_line, 'p'},
    ['q'] = {"BINPUT", ARG_U1, op_put, 0},
    ['r'] = {"LONG_BINPUT", ARG_U4, op_put, 0},
    ['s'] = {"SETITEM", ARG_NONE, op_add, 2},
    ['t'] = {"TUPLE", ARG_NONE, op_collect, PK_TUPLE},
    [')'] = {"EMPTY_TUPLE", ARG_NONE, op_empty, PK_TUPLE},
    ['u'] = {"SETITEMS", ARG_NONE, op_add_many, PK_DICT},
    ['G'] = {"BINFLOAT", ARG_F8, op_float, 0},
    ['B'] = {"BINBYTES", ARG_BYTES4, op_text, PK_BYTES},
    ['C'] = {"SHORT_BINBYTES", ARG_BYTES1, op_text, PK_BYTES},
    [0x80] = {"PROTO", ARG_U1, op_proto, 0},
    [0x81] = {"NEWOBJ", ARG_NONE, op_call, 2},
    [0x82] = {"EXT1", ARG_U1, op_refused, 0},
    [0x83] = {"EXT2", ARG_U2, op_refused, 0},
    [0x84] = {"EXT4", ARG_U4, op_refused, 0},
    [0x85] = {"TUPLE1", ARG_NONE, op_tuple, 1},
    [0x86] = {"TUPLE2", ARG_NONE, op_tuple, 2},
    [0x87] = {"TUPLE3", ARG_NONE, op_tuple, 3},
    [0x88] = {"NEWTRUE", ARG_NONE, op_bool, true},
    [0x89] = {"NEWFALSE", ARG_NONE, op_bool, false},
    [0x8a] = {"LONG1", ARG_LONG1, op_long, 0},
    [0x8b] = {"LONG4", ARG_LONG4, op_long, 0},
    [0x8c] = {"SHORT_BINUNICODE", ARG_BYTES1, op_text, PK_TEXT},
    [0x8d] = {"BINUNICODE8", ARG_BYTES8, op_text, PK_TEXT},
    [0x8e] = {"BINBYTES8", ARG_BYTES8, op_text, PK_BYTES},
    [0x8f] = {"EMPTY_SET", ARG_NONE, op_empty, PK_SET},
    [0x90] = {"ADDITEMS", ARG_NONE, op_add_many, PK_LIST},
    [0x91] = {"FROZENSET", ARG_NONE, op_collect, PK_SET},
    [0x92] = {"NEWOBJ_EX", ARG_NONE, op_call, 3},
    [0x93] = {"STACK_GLOBAL", ARG_NONE, op_stack_global, 0},
    [0x94] = {"MEMOIZE", ARG_NONE, op_memoize, 0},
    [0x95] = {"FRAME", ARG_U8, op_frame, 0},
    [0x96] = {"BYTEARRAY8", ARG_BYTES8, op_text, PK_BYTES},
    [0x97] = {"NEXT_BUFFER", ARG_NONE, op_refused, 0},
    [0x98] = {"READONLY_BUFFER", ARG_NONE, op_refused, 0},
};

/* ---- arguments and the loop ---------------------------------------------------------------------- */
static Err read_number(Vm *v, size_t n, uint64_t *out) {
    if ((size_t)(v->end - v->p) < n) return bad(v, "lacks its argument: the file is cut short");
    *out = 0;
    memcpy(out, v->p, n);                                /* little-endian, as the machine is */
    v->p += n;
    return OK;
}
static Err read_bytes(Vm *v, uint64_t n, Arg *a) {
    if (n > (uint64_t)(v->end - v->p)) return bad(v, "is longer than the file: it is cut short");
    if (n > INT32_MAX) return too_much(v, "a text of 2 GB");
    a->text = (const char *)v->p, a->n = (size_t)n;
    v->p += n;
    return OK;
}
static Err read_line(Vm *v, Arg *a) {
    const uint8_t *newline = v->p < v->end ? memchr(v->p, '\n', (size_t)(v->end - v->p)) : NULL;
    if (!newline) return bad(v, "lacks the end of its line: the file is cut short");
    TRY(read_bytes(v, (uint64_t)(newline - v->p), a));
    v->p++;
    return OK;
}
static Err read_arg(Vm *v, Arg *a) {
    static const uint8_t WIDTH[] = {
        [ARG_U1] = 1,     [ARG_U2] = 2,    [ARG_I4] = 4,     [ARG_U4] = 4,
        [ARG_U8] = 8,     [ARG_F8] = 8,    [ARG_BYTES1] = 1, [ARG_BYTES4] = 4,
        [ARG_BYTES8] = 8, [ARG_LONG1] = 1, [ARG_LONG4] = 4,
    };
    const ArgKind kind = v->op->arg;
    Arg second;
    *a = (Arg){0};
    if (kind == ARG_LINE || kind == ARG_TWO_LINES) {
        TRY(read_line(v, a));
        if (kind == ARG_LINE) return OK;
        TRY(read_line(v, &second));
        a->n += 1 + second.n;
        return OK;
    }
    TRY(read_number(v, WIDTH[kind], &a->u));
    if (kind == ARG_I4) a->u = (uint64_t)(int64_t)(int32_t)a->u;
    if (kind == ARG_F8) {
        uint64_t swapped = __builtin_bswap64(a->u);
        memcpy(&a->f, &swapped, sizeof a->f);
    }
    if (kind == ARG_LONG4 && a->u > PK_LONG_MAX)
        return too_much(v, "an integer of more than 64 KB");
    return kind >= ARG_BYTES1 ? read_bytes(v, a->u, a) : OK;
}
static Err step(Vm *v) {
    Arg a;
    v->at = v->p, v->op = NULL;
    if (v->p == v->end)
        return err_set(E(EXIT_MODEL, 56),
                       "%s: the pickle ends at byte %" PRIu64
                       " without STOP; the file is cut short, take another copy",
                       v->src->file, v->src->at + v->src->bytes);
    const Op *op = &OPS[*v->p++];
    if (!op->run) return bad(v, "is not known");
    v->op = op;
    if (++v->n_ops > PK_OPS_MAX) return too_much(v, "more than 10 million opcodes");
    TRY(read_arg(v, &a));
    TRY(op->run(v, op->param, &a));
    return v->memory > PK_MEMORY_MAX + (size_t)(v->p - v->src->data)
               ? too_much(v, "the objects take more memory than any checkpoint's")
               : OK;
}
Err pickle_run(const PkStream *s, Arena *arena, Pickle *out) {
    Vm v = {.src = s, .p = s->data, .end = s->data + s->bytes, .arena = arena};
    Err rc = OK;
    *out = (Pickle){0};
    while (!rc && !v.root) rc = step(&v);
    if (!rc) {
        *out = (Pickle){.root = v.root, .n_persistent = v.n_persistent, .bytes = (size_t)(v.p - s->data)};
        out->persistent = arena_alloc(arena, (size_t)v.n_persistent * sizeof *v.persistent);
        if (v.n_persistent)
            memcpy(out->persistent, v.persistent, (size_t)v.n_persistent * sizeof *v.persistent);
    }
    free(v.stack), free(v.memo), free(v.persistent);
    return rc;
}

/* ---- looking at the result ----------------------------------------------------------------------- */
bool pickle_is(const PkNode *x, PkKind kind, const char *text) {
    return x && x->kind == kind && x->n == strlen(text) && (!x->n || !memcmp(x->text, text, x->n));
}
const PkNode *pickle_dict(const PkNode *x) {
    if (!x) return NULL;
    return x->kind == PK_DICT ? x : x->kind == PK_OBJECT ? x->object->dict : NULL;
}
const PkNode *pickle_get(const PkNode *dict, const char *key) {
    for (uint32_t i = dict ? dict->n : 0; i >= 2; i -= 2)        /* the last of equal keys is the one that counts */
        if (pickle_is(dict->item[i - 2], PK_TEXT, key)) return dict->item[i - 1];
    return NULL;
}
