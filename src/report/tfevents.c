/* tfevents.c - see tfevents.h. Field numbers are those of tensorflow/core/util/event.proto and
 * tensorflow/core/framework/summary.proto. */
#include "report/tfevents.h"

#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum {
    EVENT_WALL_TIME = 1,
    EVENT_STEP = 2,
    EVENT_VERSION = 3,
    EVENT_SUMMARY = 5,
    EVENT_SESSION = 7
};
enum { SESSION_STATUS = 1, SESSION_START = 1 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_IMAGE = 4 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLOURS = 3, IMAGE_DATA = 4 };

/* ---- framing --------------------------------------------------------------------------------- */

/* Castagnoli's polynomial, reflected; four bits at a time keep the table in sight. */
uint32_t tfevents_crc32c(const void *data, size_t bytes) {
    static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                       0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                       0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    const uint8_t *p = data;
    uint32_t c = ~0u;
    for (size_t i = 0; i < bytes; i++) {
        c ^= p[i];
        c = table[c & 15] ^ c >> 4;
        c = table[c & 15] ^ c >> 4;
    }
    return ~c;
}

static void add_le(Str *out, uint64_t v, int bytes) {
    char b[8];
    for (int i = 0; i < bytes; i++) b[i] = (char)(v >> (8 * i));
    str_addn(out, b, (size_t)bytes);
}

/* A checksum of data that holds checksums is weak: they are stored rotated and shifted. */
static uint32_t masked(const void *data, size_t bytes) {
    const uint32_t c = tfevents_crc32c(data, bytes);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

void tfevents_record(Str *out, const void *data, size_t bytes) {
    const size_t at = out->n;
    add_le(out, bytes, 8);
    add_le(out, masked(out->s + at, 8), 4);
    str_addn(out, data, bytes);
    add_le(out, masked(data, bytes), 4);
}

/* ---- protocol buffers ------------------------------------------------------------------------ */

static void add_varint(Str *out, uint64_t v) {
    char b[10];
    size_t n = 0;
    do {
        b[n++] = (char)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
    str_addn(out, b, n);
}

static void add_key(Str *out, int field, int wire) {
    add_varint(out, (uint64_t)(field << 3 | wire));
}

static void add_integer(Str *out, int field, int64_t v) {
    add_key(out, field, WIRE_VARINT);
    add_varint(out, (uint64_t)v);
}

static void add_bytes(Str *out, int field, const void *data, size_t n) {
    add_key(out, field, WIRE_BYTES);
    add_varint(out, n);
    str_addn(out, data, n);
}

static Str event_head(double wall, int64_t step) {
    Str s = {0};
    uint64_t bits;
    memcpy(&bits, &wall, sizeof bits);
    add_key(&s, EVENT_WALL_TIME, WIRE_64);
    add_le(&s, bits, 8);
    add_integer(&s, EVENT_STEP, step);
    return s;
}

static void event_add(Str *out, Str *event) { /* takes event */
    tfevents_record(out, event->s, event->n);
    str_free(event);
}

void tfevents_version(Str *out, double wall) {
    static const char version[] = "brain.Event:2";
    Str e = event_head(wall, 0);
    add_bytes(&e, EVENT_VERSION, version, sizeof version - 1);
    event_add(out, &e);
}

void tfevents_start(Str *out, double wall, int64_t step) {
    Str e = event_head(wall, step), session = {0};
    add_integer(&session, SESSION_STATUS, SESSION_START);
    add_bytes(&e, EVENT_SESSION, session.s, session.n);
    str_free(&session);
    event_add(out, &e);
}

void tfevents_summary(Str *out, double wall, int64_t step, const Str *summary) {
    if (!summary->n) return;
    Str e = event_head(wall, step);
    add_bytes(&e, EVENT_SUMMARY, summary->s, summary->n);
    event_add(out, &e);
}

static void value_add(Str *summary, Str *value) { /* takes value */
    add_bytes(summary, SUMMARY_VALUE, value->s, value->n);
    str_free(value);
}

void tfevents_add_scalar(Str *summary, const char *tag, double v) {
    Str value = {0};
    const float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    add_bytes(&value, VALUE_TAG, tag, strlen(tag));
    add_key(&value, VALUE_SIMPLE, WIRE_32);
    add_le(&value, bits, 4);
    value_add(summary, &value);
}

static int64_t big_endian(const uint8_t *p) {
    return (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

void tfevents_add_png(Str *summary, const char *tag, const uint8_t *png, size_t bytes) {
    enum {
        WIDTH_AT = 16,
        HEIGHT_AT = 20,
        HEAD = 33,
        RGB = 3
    }; /* of the header chunk, always the first */
    Str value = {0}, image = {0};
    if (bytes < HEAD || memcmp(png, "\x89PNG\r\n\x1a\n", 8)) return;
    add_integer(&image, IMAGE_HEIGHT, big_endian(png + HEIGHT_AT));
    add_integer(&image, IMAGE_WIDTH, big_endian(png + WIDTH_AT));
    add_integer(&image, IMAGE_COLOURS, RGB);
    add_bytes(&image, IMAGE_DATA, png, bytes);
    add_bytes(&value, VALUE_TAG, tag, strlen(tag));
    add_bytes(&value, VALUE_IMAGE, image.s, image.n);
    str_free(&image);
    value_add(summary, &value);
}
