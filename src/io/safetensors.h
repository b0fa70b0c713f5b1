/* safetensors.h - the safetensors format, in and out. Every limit of the format is checked (rows 50-53). */
#ifndef RETORT_IO_SAFETENSORS_H
#define RETORT_IO_SAFETENSORS_H
#include "tensor/tensor.h"
typedef struct { const char *key, *value; } MetaPair;           /* __metadata__ entries */
typedef struct SafeFile { TensorList *tensors; MetaPair *meta; int n_meta; } SafeFile;
/* exit_code: EXIT_MODEL or EXIT_CHECKPOINT. Converts nothing. Caller closes with st_close. */
Err  st_read(const char *path, int exit_code, SafeFile *out);
Err  st_parse(const uint8_t *data, size_t bytes, const char *name, int exit_code, SafeFile *out);   /* pure */
/* Durable write. With digests: an XXH3-128 per tensor is stored under "xxh3.NAME" inside the one metadata
 * entry "digests" and verified by st_verify and st_read. */
Err  st_write(const char *path, const Tensor *t, int n, const MetaPair *meta, int n_meta);
Err  st_verify(const char *path);
const char *st_meta(const SafeFile *f, const char *key);        /* NULL when absent */
void st_close(SafeFile *f);
#endif
