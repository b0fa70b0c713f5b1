/* safetensors_priv.h - the parsed header, shared by reader and writer.
 *
 * File: u64 little-endian length of the header, the header (JSON, padded with blanks), the data. */
#ifndef RETORT_IO_SAFETENSORS_PRIV_H
#define RETORT_IO_SAFETENSORS_PRIV_H
#include "base/hash.h"
#include "io/safetensors.h"

/* Headers of our own files begin with this and 32 digits: the digest of the header. */
#define ST_SIGNATURE "{\"__metadata__\":{\"digests\":\"{\\\"__header__\\\":\\\""
enum {
    ST_HEADER_MAX = 100 * 1000 * 1000,
    ST_LENGTH_BYTES = 8,
    ST_DIGEST_AT = sizeof ST_SIGNATURE - 1,
    ST_DIGEST_CHARS = 32
};

typedef struct StEntry {
    const char *name, *digest; /* digest: NULL when the file has none for it */
    Dtype dtype;
    Shape shape;
    uint64_t begin, end; /* within the data */
} StEntry;
typedef struct StHeader {
    StEntry *entries;
    int n, cap; /* in the order of the header; caller frees */
    MetaPair *meta;
    int n_meta; /* lives in the arena given to st_header_parse */
    bool has_digests;
} StHeader;
/* Parse and check everything that can be told without the data. text: n bytes, NUL after them.
 * Strings live in arena. On failure *out is freed and zero. */
Err st_header_parse(const char *text, size_t n, uint64_t data_bytes, const char *file,
                    int exit_code, Arena *arena, StHeader *out);
void st_header_free(StHeader *h);
Digest st_header_digest(const char *text,
                        size_t n);  /* with its own digits as zeros; n > signature */
const char *st_dtype_name(Dtype t); /* "F32" */
#endif
