/* pickle.h - a pickle stream read into a graph of inert values.
 *
 * Nothing named in the stream is ever imported, called or executed. A global is a node that holds its
 * name; calling it (REDUCE, NEWOBJ, INST, OBJ) or setting its state (BUILD) makes a PK_OBJECT that holds
 * callee, arguments and state, so whoever knows a name (io/pth_graph.c knows PyTorch's) reads them there.
 * The graph may share nodes and may contain cycles: walk it with `mark`, never by plain recursion. */
#ifndef RETORT_IO_PICKLE_H
#define RETORT_IO_PICKLE_H
#include "base/mem.h"

typedef enum {
    PK_MARK,                            /* on the stack only */
    PK_NONE, PK_BOOL, PK_INT, PK_FLOAT,
    PK_LONG,                            /* too wide for PK_INT: text = little-endian two's complement */
    PK_TEXT, PK_BYTES,                  /* text, n bytes, no NUL behind them */
    PK_GLOBAL,                          /* text = "module\nname" */
    PK_TUPLE, PK_LIST, PK_SET,          /* n items */
    PK_DICT,                            /* n items: key, value, key, value ... */
    PK_OBJECT,                          /* the result of a call that never happened */
    PK_PERSISTENT                       /* one item: the id */
} PkKind;
typedef struct PkNode PkNode;
typedef struct PkObject {
    PkNode *of, *args;                  /* callee; what it was called with (any of these may be NULL) */
    PkNode *state, *list, *dict;        /* of BUILD; of APPEND(S): a PK_LIST; of SETITEM(S): a PK_DICT */
} PkObject;
struct PkNode {
    uint8_t  kind;                      /* PkKind */
    uint8_t  mark;                      /* free for the walker; 0 after pickle_run */
    uint32_t n;
    union {
        int64_t     i;                  /* PK_INT, PK_BOOL */
        double      f;
        const char *text;               /* borrows the stream's bytes, or lives in the arena */
        PkNode    **item;
        PkObject   *object;
    };
};

typedef struct PkStream {
    const uint8_t *data;
    size_t      bytes;                  /* at most these; the pickle ends by itself */
    const char *file;                   /* for errors */
    uint64_t    at;                     /* where data lie within the file, for errors */
} PkStream;
typedef struct Pickle {
    PkNode  *root;
    PkNode **persistent; int n_persistent;   /* every PK_PERSISTENT in the order of the stream */
    size_t   bytes;                     /* length of the pickle */
} Pickle;
enum { PK_OPS_MAX = 10 * 1000 * 1000, PK_STACK_MAX = 10 * 1000, PK_LONG_MAX = 64 * 1024, PK_MEMORY_MAX = 32 << 20 };
/* Run one pickle of protocol 0 to 5. Everything lives in arena, at most PK_MEMORY_MAX + the pickle's bytes.
 * E4056 names the byte and opcode that cannot be; E7057 the limit that was met. */
Err  pickle_run(const PkStream *s, Arena *arena, Pickle *out);
bool pickle_is(const PkNode *x, PkKind kind, const char *text);   /* kind and text are these; x may be NULL */
const PkNode *pickle_dict(const PkNode *x);    /* the PK_DICT of a dict or of an OrderedDict and its like, or NULL */
const PkNode *pickle_get(const PkNode *dict, const char *key);    /* value, or NULL; dict may be NULL */
#endif
