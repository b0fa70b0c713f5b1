/* pth.h - PyTorch's files of weights, in: the zip format of torch 1.6 and later, and the pickle stream before it.
 *
 * The tensors are those of the dictionary (or pickled nn.Module) that holds most of them, in its order, under
 * its own names, converted in nothing but layout: strided views become contiguous. Metadata: "format",
 * and "path", where in the file they were found, when that is not the top ("state_dict").
 * Errors are of exit 4; exit 7 where a limit is met (rows 54 to 59 of docs/errors.md). */
#ifndef RETORT_IO_PTH_H
#define RETORT_IO_PTH_H
#include "io/safetensors.h"
#include "io/zip.h"

Err pth_read(const IoBytes *src, SafeFile *out);         /* caller closes with st_close */
bool pth_is(const uint8_t *head, size_t n);              /* by the first bytes of a file */
#endif
