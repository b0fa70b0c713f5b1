/* sys_priv.h - shared by the files of sys. */
#ifndef RETORT_BASE_SYS_PRIV_H
#define RETORT_BASE_SYS_PRIV_H
#include "base/err.h"
Err sys_output_error(const char *path, int error);   /* E(6, row) of an errno met while writing path */
/* Exactly so many bytes of an open file. */
Err sys_read_fd(int fd, const char *path, uint64_t offset, void *dst, size_t bytes, int exit_code);
bool sys_any_stop_asked(void);                       /* has a .stop come to one of this process' locks? Cheap. */
#endif
