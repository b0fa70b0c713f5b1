/* safetensors.h - the safetensors format, in and out. Its every limit is checked (rows 50-53). */
#ifndef RETORT_IO_SAFETENSORS_H
#define RETORT_IO_SAFETENSORS_H
#include "tensor/tensor.h"
typedef struct {
    const char *key, *value;
} MetaPair; /* __metadata__ entries */
typedef struct SafeFile {
    TensorList *tensors;
    MetaPair *meta;
    int n_meta;
} SafeFile;
/* exit_code: EXIT_MODEL or EXIT_CHECKPOINT. Converts nothing. Caller closes with st_close. */
Err st_read(const char *path, int exit_code, SafeFile *out);
/* The header alone is read; no tensors. */
Err st_read_meta(const char *path, int exit_code, SafeFile *out);
/* From bytes; pure. */
Err st_parse(const uint8_t *data, size_t bytes, const char *name, int exit_code, SafeFile *out);
/* Durable write. Metadata entry "digests" is a JSON object: name -> XXH3-128 of the tensor's bytes,
 * and "__header__" -> that of the header (these 32 digits as zeros), so any flipped bit is found.
 * st_read checks digests where there are any; st_verify and EXIT_CHECKPOINT demand them:
 * E(exit, 12). An entry "digests" among meta is left out. Tensors lie by element size: aligned. */
Err st_write(const char *path, const Tensor *t, int n, const MetaPair *meta, int n_meta);
Err st_verify(const char *path);
/* A file of one tensor that comes in pieces, at any offsets in any order, until all of it is there; memory is that of a
 * piece. name: borrowed. st_finish and st_abort close f; nothing is at path before st_finish. */
typedef struct StPieces StPieces;
Err  st_create(const char *path, const char *name, Dtype dtype, Shape shape, StPieces **out);
Err  st_put(StPieces *f, uint64_t offset, const void *data, size_t bytes);
Err  st_finish(StPieces *f);
void st_abort(StPieces *f);                              /* NULL is fine */
const char *st_meta(const SafeFile *f, const char *key); /* NULL when absent */
void st_close(SafeFile *f);
#endif
