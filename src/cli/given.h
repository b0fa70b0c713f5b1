/* given.h - tensors that a user gives to `retort run` and `retort loss`, checked before any use. */
#ifndef RETORT_CLI_GIVEN_H
#define RETORT_CLI_GIVEN_H
#include "io/safetensors.h"

/* float32 of rank 4 without an empty side; *out stays NULL when it is absent and not needed. E4051.
 */
Err given_map(const SafeFile *in, const char *path, const char *name, bool needed,
              const Tensor **out);
/* int32 N x H x W with every value in -1 (ignore) .. classes - 1; E4051, E3034. n, h, w: 0 for any.
 */
Err given_labels(const SafeFile *in, const char *path, int64_t n, int64_t h, int64_t w,
                 int64_t classes, const Tensor **out);
#endif
