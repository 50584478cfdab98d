/* Signatures of the vectors in a block: one bit of each from its projection on every hash vector. */
#ifndef TREC_HASH_H
#define TREC_HASH_H

#include "trec_arch.h" /* defines: trec_multiply */

enum { TREC_MOST_BITS = 14 };

typedef struct {
    trec_kernels vectors; /* two side by side; what stands beside the last of an odd number is free */
    int32_t bits;         /* at most TREC_MOST_BITS */
    const int32_t *starts; /* (bits): -1 - threshold. A bit is 1 where a projection is larger than its threshold */
} trec_hash;

/* The first hash vector gives the most significant bit. A sum is negative where a bit is 0; ones stand for zeros here,
 * which names every cluster differently and changes none.
 * sums: (2 * vectors.count, 4), become starts + projections; signatures: (4) */
static inline void trec_hash_sign(const trec_hash *h, const int16_t *block, int32_t *sums, uint16_t *signatures)
{
    int32_t *to = sums;
    for (const int32_t *start = h->starts; start < h->starts + h->bits; start++, to += 4) {
        to[0] = to[1] = to[2] = to[3] = *start;
    }
    if (h->bits % 2 != 0) {
        to[0] = to[1] = to[2] = to[3] = 0;
    }
    trec_multiply(block, &h->vectors, sums);
    uint32_t first = 0, second = 0, third = 0, fourth = 0;
    for (const int32_t *own = sums; own < sums + 4 * h->bits; own += 4) {
        first = first << 1 | (uint32_t)own[0] >> 31;
        second = second << 1 | (uint32_t)own[1] >> 31;
        third = third << 1 | (uint32_t)own[2] >> 31;
        fourth = fourth << 1 | (uint32_t)own[3] >> 31;
    }
    signatures[0] = (uint16_t)first;
    signatures[1] = (uint16_t)second;
    signatures[2] = (uint16_t)third;
    signatures[3] = (uint16_t)fourth;
}

#endif
