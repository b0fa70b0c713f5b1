/* hash.h - FNV-1a where the value is kept or drawn from, a seeded hash for tables of names, XXH3-128 for contents. */
#ifndef RETORT_BASE_HASH_H
#define RETORT_BASE_HASH_H
#include <stddef.h>
#include <stdint.h>
uint64_t hash_fnv1a(const char *s);
uint64_t hash_name(const char *s);                   /* another in each process: no file can choose names of one slot */
typedef struct { char hex[33]; } Digest;             /* XXH3-128 in hexadecimal */
Digest hash_digest(const void *data, size_t bytes);
/* The same of contents that come in parts. */
typedef struct Hasher Hasher;
Hasher *hasher_open(void);
void    hasher_add(Hasher *h, const void *data, size_t bytes);
Digest  hasher_close(Hasher *h);
#endif
