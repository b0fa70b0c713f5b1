/* sys.h - the only place that calls the operating system: files, folders, clocks, locks, signals.
 *
 * Everything loops over EINTR and short reads and writes. Paths are bytes. Errors name the path. */
#ifndef RETORT_BASE_SYS_H
#define RETORT_BASE_SYS_H
#include "base/err.h"

/* Whole files. `exit_code` picks the family of the error (EXIT_DATA, EXIT_MODEL, ...). */
typedef struct { uint8_t *data; size_t bytes; } Bytes;        /* data: caller frees with free() */
Err  sys_read_file(const char *path, size_t max_bytes, int exit_code, Bytes *out); /* regular files only */
Err  sys_read_at(const char *path, uint64_t offset, void *dst, size_t bytes, int exit_code);
/* Bytes of a file that another file names: `name` stays beneath dir, and neither symbolic links nor a
 * second hard link lead to it, otherwise E(exit, 46). *out: caller frees with free(). */
Err  sys_read_beneath(const char *dir, const char *name, uint64_t offset, size_t bytes, int exit_code, void **out);
Err  sys_file_size(const char *path, int exit_code, uint64_t *out);
bool sys_exists(const char *path);
bool sys_is_dir(const char *path);
bool sys_is_link(const char *path);                           /* itself, wherever it leads */
/* Links followed, does path lie beneath root? E(exit, 45) when it does not, or when links go round in
 * a circle; a path that leads nowhere is left to whoever opens it. */
Err  sys_check_beneath(const char *root, const char *path, int exit_code);
Err  sys_mkdirs(const char *path);                            /* like mkdir -p; E(6,7) */
Err  sys_remove(const char *path);
Err  sys_rename(const char *from, const char *to);            /* replaces `to` */
Err  sys_truncate(const char *path, uint64_t bytes);
Err  sys_probe_writable(const char *dir);                     /* E6007 / E6009 before any work */
/* Names in a folder, sorted by bytes, without . and ..; caller frees with sys_free_names. */
Err  sys_list(const char *dir, int exit_code, char ***names, int *n);
/* Paths that a shell pattern fits, sorted by bytes; none is no failure. Caller frees with sys_free_names. */
Err  sys_glob(const char *pattern, int exit_code, char ***paths, int *n);
void sys_free_names(char **names, int n);

/* The one writer of durable files: path.tmp-HOST-PID, (fallocate), write, fsync, verify, rename,
 * fsync of the folder. Nothing appears at `path` unless commit succeeded. */
typedef struct DurableFile DurableFile;
Err  durable_open(const char *path, uint64_t expected_bytes, DurableFile **out);  /* 0: unknown size */
Err  durable_write(DurableFile *f, const void *data, size_t bytes);
/* Anywhere in the file, in any order; what durable_write adds lies behind all that was written. */
Err  durable_write_at(DurableFile *f, uint64_t offset, const void *data, size_t bytes);
Err  durable_read_at(DurableFile *f, uint64_t offset, void *data, size_t bytes);
Err  durable_commit(DurableFile *f, Err (*verify)(const char *tmp_path));  /* closes f; verify may be NULL */
void durable_abort(DurableFile *f);                           /* closes and unlinks; NULL is fine */
Err  durable_write_all(const char *path, const void *data, size_t bytes);
void durable_sweep(const char *dir);                          /* removes stale *.tmp-* of dead processes */

/* Append-only text (log, metrics): opened O_APPEND, one write per line, failures remembered. */
typedef struct Appender Appender;
Err  append_open(const char *path, Appender **out);
Err  append_line(Appender *a, const char *line);              /* adds the newline; Err only reported once */
Err  append_data(Appender *a, const void *data, size_t bytes);       /* bytes as they are */
uint64_t append_bytes(const Appender *a);                     /* length of the file now */
Err  append_sync(Appender *a);
void append_close(Appender *a);

/* One run per folder: flock on DIR/.lock; a second run gets E2010 naming pid and host. A file DIR/.stop
 * asks whoever holds the lock to save and end: to its polls for signals it is a SIGUSR1. */
typedef struct DirLock DirLock;
Err  lock_open(const char *dir, DirLock **out);
void lock_close(DirLock *l);
typedef struct { bool held; int pid; char host[256]; } LockHolder;
Err  lock_look(const char *dir, LockHolder *out);             /* is it held, by whom; a folder without .lock: no */
Err  lock_ask_stop(const char *dir);                          /* writes DIR/.stop; the next holder removes it */

double   sys_now(void);                 /* seconds, monotonic */
uint64_t sys_now_ns(void);              /* nanoseconds, monotonic */
void     sys_wall_time(char out[32]);   /* 2026-01-31T12:00:00Z */
double   sys_wall_age(const char *time);        /* seconds since such a text; NaN when it is none */
void     sys_sleep(double seconds);     /* a signal may end it early */
int      sys_cpus(void);                /* processors this process may use */
uint64_t sys_mem_available(void);       /* bytes */
uint64_t sys_peak_rss(void);            /* bytes */
uint64_t sys_rss(void);                 /* bytes resident now; 0: the system does not tell */
bool     sys_isatty(int fd);
int      sys_columns(int fd);           /* of the terminal; 0: not known */
bool     sys_utf8(void);                /* the user's locale shows UTF-8 */
const char *sys_hostname(void);
const char *sys_cpu_name(void);         /* as the system calls it: "Intel(R) Xeon(R) ..." */
int      sys_pid(void);
const char *sys_cache_dir(void);        /* RETORT_CACHE or the user's cache folder + /retort */
const char *sys_test_data(void);        /* RETORT_TEST_DATA or ../shared beside the checkout */

/* Signals: handlers set a flag; loops poll it. Returns 0 or the signal number. A second one exits. */
void sys_catch_signals(void);           /* INT, TERM, USR1 -> flag; PIPE, XFSZ, HUP ignored; SEGV -> 139 with a line */
int  sys_signal_pending(void);
Err  sys_poll(void);                    /* OK, or E 128 + N when a signal is pending */
/* A time (sys_now) by which this thread's work is to end, 0: none. Past it SIGALRM is pending, plans are not made, and leave
 * their run unfinished: what they give then is to be thrown away, so whoever sets one asks sys_late afterwards. */
void sys_set_deadline(double until);
bool sys_late(void);
enum { LATE = 128 + 14 };               /* what sys_poll returns then */
bool sys_stop_asked(void);              /* the pending one is no signal but a .stop, see lock_open */

/* Another program, talked to through its standard input and output; its standard error is dropped. */
typedef struct Child Child;
Err  child_open(char *const argv[], Child **out);   /* looked up on the PATH; E2000 when it cannot be started */
bool child_write(Child *c, const void *data, size_t bytes);      /* false: it is gone */
bool child_read(Child *c, void *data, size_t bytes);
void child_close(Child *c);             /* closes its input and waits for its end; NULL is fine */

/* Threads (pthreads), for the loader. */
typedef struct Thread Thread;
Err  thread_open(Thread **out, void (*fn)(void *), void *arg);   /* E7075 when none can be made */
void thread_join(Thread *t);                                     /* joins and frees */
typedef struct Gate Gate;               /* mutex + condition variable in one */
Gate *gate_open(void);
void  gate_close(Gate *g);
void  gate_lock(Gate *g);
void  gate_unlock(Gate *g);
void  gate_wait(Gate *g);               /* releases, sleeps, relocks */
void  gate_wake(Gate *g);               /* wakes all */
#endif
