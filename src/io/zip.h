/* zip.h - reading a zip archive that may be hostile. All of the directory is checked when it is opened,
 * before anything is inflated (rows 46, 54, 55 of docs/errors.md); checksums are checked on reading. */
#ifndef RETORT_IO_ZIP_H
#define RETORT_IO_ZIP_H
#include "base/err.h"

/* Bytes in memory, or of the file `name` when data is NULL. */
typedef struct IoBytes { const char *name; const uint8_t *data; uint64_t bytes; } IoBytes;

typedef struct IoZip IoZip;
Err  io_zip_open(const IoBytes *src, IoZip **out);        /* borrows src and its name; caller closes */
void io_zip_close(IoZip *z);                              /* NULL is fine */
int  io_zip_count(const IoZip *z);
const char *io_zip_name(const IoZip *z, int entry);
uint64_t    io_zip_bytes(const IoZip *z, int entry);      /* uncompressed */
int  io_zip_find(const IoZip *z, const char *name);       /* -1 when absent */
Err  io_zip_read(IoZip *z, int entry, void *dst);         /* all io_zip_bytes of it */
#endif
