/* The firmware's memcpy, memmove and memset under other names, beside those of this machine's C library. */
#define memcpy trec_memcpy
#define memmove trec_memmove
#define memset trec_memset
#include "memory.c"
