/* weights.h - the one front for files of weights: safetensors and both of PyTorch's formats, told by content. */
#ifndef RETORT_IO_WEIGHTS_H
#define RETORT_IO_WEIGHTS_H
#include "io/pth.h"

/* Tensors as the file has them: its names, order and element types. Other formats are refused by name
 * (E4059). Caller closes with st_close. */
Err  weights_read(const char *path, SafeFile *out);
Err  weights_parse(const IoBytes *src, SafeFile *out);   /* the same over bytes, or over the file when data is NULL */
/* The metadata alone, without the tensors; none of a PyTorch file. */
Err  weights_read_meta(const char *path, SafeFile *out);
/* Cut what wraps a network in other programs (module., model., net., ...) where all names begin with it. */
void weights_unwrap(SafeFile *f);
#endif
