/* The two-step stack of TREC: vectors with the same signature share an entry, which afterwards is divided by their
 * number. Entries stand in blocks of four (arch/portable.h), as the vectors do that are added to them.
 */
#ifndef TREC_STACK_H
#define TREC_STACK_H

#include "trec_arch.h" /* defines: trec_add_row */

enum { TREC_UNSEEN = 0xFFFF };

typedef struct {
    int32_t n_pairs; /* of elements of a vector, the last filled up by a zero */
    int32_t hash_bits, max_clusters;
    int32_t n;             /* clusters so far */
    trec_shared_sum *sums; /* (max_clusters / 4, n_pairs, 4, 2), the first rounded up */
    uint16_t *counts;      /* (max_clusters) */
    uint16_t *reverse;     /* (2^hash_bits): signature -> cluster */
    uint16_t *signatures;  /* (max_clusters) */
} trec_stack;

/* How sums become centroids. */
typedef struct {
    int32_t zero; /* of the vectors, taken off */
    int32_t fraction_bits;
    int32_t length; /* of a vector: 2 n_pairs, or one less */
} trec_means;

static inline void trec_stack_clear(trec_stack *s)
{
    s->n = 0;
    __builtin_memset(s->reverse, TREC_UNSEEN & 0xFF, (size_t)2 << s->hash_bits);
}

/* The number of ones among 16 bits, added up two, four and eight bits at a time. */
static inline uint32_t trec_count_ones(uint32_t bits)
{
    bits -= bits >> 1 & 0x5555u;
    bits = (bits & 0x3333u) + (bits >> 2 & 0x3333u);
    bits = (bits + (bits >> 4)) & 0x0F0Fu;
    return (bits + (bits >> 8)) & 0x1Fu;
}

/* The existing cluster whose signature differs in the fewest bits; the oldest on ties, which stands in the lower half of
 * what is compared. There is one at least, and no more than fit into 16 bits. */
static inline uint16_t trec_stack_nearest(const trec_stack *s, uint32_t signature)
{
    uint32_t best = UINT32_MAX;
    for (int32_t c = 0; c < s->n; c++) {
        const uint32_t found = trec_count_ones(s->signatures[c] ^ signature) << 16 | (uint32_t)c;
        best = found < best ? found : best;
    }
    return (uint16_t)best;
}

/* Where a cluster's entry stands. */
static inline trec_shared_sum *trec_stack_entry(const trec_stack *s, int32_t cluster)
{
    const uint32_t c = (uint32_t)cluster;
    return s->sums + (c >> 2) * 8u * (uint32_t)s->n_pairs + (c & 3u) * 2u;
}

/* Pushes a vector whose signature is new. */
static inline void trec_stack_push(trec_stack *s, uint32_t signature, const int16_t *row)
{
    trec_shared_sum *sums = trec_stack_entry(s, s->n);
    for (int32_t j = 8 * (s->n_pairs - 1); j >= 0; j -= 8) {
        sums[j] = row[j];
        sums[j + 1] = row[j + 1];
    }
    s->counts[s->n] = 1;
    s->signatures[s->n] = (uint16_t)signature;
    s->reverse[signature] = (uint16_t)s->n;
    s->n++;
}

/* The cluster of a vector, which opens it as long as the stack has room, else joins it; row: of a block */
static inline uint8_t trec_stack_put(trec_stack *s, uint32_t signature, const int16_t *row)
{
    if (s->reverse[signature] == TREC_UNSEEN) {
        if (s->n < s->max_clusters) {
            trec_stack_push(s, signature, row);
            return (uint8_t)(s->n - 1);
        }
        s->reverse[signature] = trec_stack_nearest(s, signature);
    }
    const int32_t cluster = s->reverse[signature];
    trec_add_row(row, s->n_pairs, trec_stack_entry(s, cluster));
    s->counts[cluster]++;
    return (uint8_t)cluster;
}

/* How the sums of one cluster become means. */
typedef struct {
    uint32_t twice_count, twice_one, start;
} trec_stack_divisor;

/* trec_divide((sum - count * zero) * one, count) is floor((2 one (sum - count zero) + count) / (2 count)). With 2^15
 * counts more above the line, where no 2 one (sum - count zero) is below -2 * 255 * 2^7 counts, nothing is negative and
 * truncation is floor; 2^15 comes off again as the sign of 16 bits. */
static inline trec_stack_divisor trec_stack_divisor_of(uint32_t count, const trec_means *means)
{
    const uint32_t twice_one = (uint32_t)2 << means->fraction_bits;
    const uint32_t start = count + (count << 16) - count * (uint32_t)means->zero * twice_one;
    return (trec_stack_divisor){2 * count, twice_one, start};
}

/* The means of a pair of sums. */
static inline void trec_stack_divide_pair(const trec_shared_sum *sums, const trec_stack_divisor *d, int16_t *centroid)
{
    const uint32_t first = ((uint32_t)sums[0] * d->twice_one + d->start) / d->twice_count;
    const uint32_t second = ((uint32_t)sums[1] * d->twice_one + d->start) / d->twice_count;
    centroid[0] = (int16_t)(first ^ 0x8000u);
    centroid[1] = (int16_t)(second ^ 0x8000u);
}

/* Writes the means, in blocks. They may lie over the sums: pairs are written in the order in which they were read, and
 * are half as wide. Places without a cluster and the one behind an odd length hold zeros. */
static inline void trec_stack_divide(const trec_stack *s, const trec_means *means, int16_t *centroids)
{
    const int32_t size = 8 * s->n_pairs;
    for (int32_t first = 0; first < s->n; first += 4) {
        const trec_shared_sum *sums = s->sums + first / 4 * size;
        int16_t *block = centroids + first / 4 * size;
        trec_stack_divisor divisors[4];
        for (int32_t c = 0; c < 4; c++) {
            divisors[c] = trec_stack_divisor_of(first + c < s->n ? s->counts[first + c] : 0, means);
        }
        for (int32_t e = 0; e < size; e += 8) {
            for (int32_t c = 0; c < 4; c++) {
                if (divisors[c].twice_count > 0) {
                    trec_stack_divide_pair(sums + e + 2 * c, &divisors[c], block + e + 2 * c);
                } else {
                    block[e + 2 * c] = block[e + 2 * c + 1] = 0;
                }
            }
        }
        for (int32_t c = 0; means->length % 2 != 0 && c < 4; c++) {
            block[size - 7 + 2 * c] = 0;
        }
    }
}

#endif
