/* onnx_scan.c - a look over a protobuf file before it is unpacked.
 *
 * protobuf-c recurses once per nested message and allocates whatever the bytes ask for: a few kilobytes
 * could exhaust the stack, a million two-byte nodes gigabytes. So one iterative pass follows the same
 * descriptors, checks every length, and adds up what unpacking will take. */
#include <inttypes.h>

#include "io/onnx_priv.h"

enum { DEPTH_MAX = 100, FIELD_COST = 64 };   /* bytes protobuf-c keeps per field while it reads a message */
static const uint64_t SLACK_BYTES = 60u << 20;

typedef struct { const uint8_t *end; const ProtobufCMessageDescriptor *type; } Frame;
typedef struct {
    const char    *name;
    const uint8_t *begin, *p;
    uint64_t       cost;             /* of unpacking what was seen so far, in bytes */
    Frame          stack[DEPTH_MAX];
    int            depth;
} Scan;

static Err damaged(const Scan *s, const char *what) {
    return err_set(E(EXIT_MODEL, 60), "%s: byte %td: %s; the file is damaged or no ONNX file",
                   s->name, s->p - s->begin, what);
}

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 70 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        if (shift < 64) *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

static uint64_t count_varints(const uint8_t *p, size_t n) {
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) count += p[i] < 128;
    return count;
}

/* A length-delimited field of n bytes: what it costs, and down into it when it is a message. */
static Err enter_field(Scan *s, const ProtobufCFieldDescriptor *f, size_t n) {
    const uint8_t *end = s->p + n;
    if (f && f->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (s->depth == DEPTH_MAX) return damaged(s, "messages nested more than 100 deep");
        const ProtobufCMessageDescriptor *type = f->descriptor;
        s->cost += type->sizeof_message;
        s->stack[s->depth++] = (Frame){end, type};
        return OK;
    }
    const bool text = !f || f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES;
    const bool fixed = f && (f->type == PROTOBUF_C_TYPE_FLOAT || f->type == PROTOBUF_C_TYPE_DOUBLE);
    s->cost += text || fixed ? n : 8 * count_varints(s->p, n);
    s->p = end;
    return OK;
}

static Err scan_field(Scan *s) {
    const Frame *top = &s->stack[s->depth - 1];
    uint64_t tag, n;
    if (!varint(&s->p, top->end, &tag) || tag >> 3 == 0 || tag >> 32)
        return damaged(s, "no field number");
    const size_t room = (size_t)(top->end - s->p);
    s->cost += FIELD_COST;
    switch (tag & 7) {
    case 0:
        if (!varint(&s->p, top->end, &n)) return damaged(s, "number cut short");
        break;
    case 1:
    case 5:
        n = (tag & 7) == 1 ? 8 : 4;
        if (n > room) return damaged(s, "number cut short");
        s->p += n;
        break;
    case 2:
        if (!varint(&s->p, top->end, &n) || n > (uint64_t)(top->end - s->p))
            return damaged(s, "field longer than what is left");
        TRY(enter_field(s, protobuf_c_message_descriptor_get_field(top->type, (unsigned)(tag >> 3)),
                        (size_t)n));
        break;
    default: return damaged(s, "field of unknown kind");
    }
    return OK;
}

Err onnx_scan(const uint8_t *data, size_t bytes, const char *name) {
    Scan s = {.name = name, .begin = data, .p = data, .depth = 1};
    s.stack[0] = (Frame){data + bytes, &onnx__model_proto__descriptor};
    while (s.depth) {
        if (s.p == s.stack[s.depth - 1].end) { s.depth--; continue; }
        TRY(scan_field(&s));
        if (s.cost > bytes + SLACK_BYTES)
            return err_set(E(EXIT_MODEL, 60),
                           "%s: its %zu bytes would unpack to more than %" PRIu64
                           "; split the graph or store tensors as raw data",
                           name, bytes, bytes + SLACK_BYTES);
    }
    return OK;
}
