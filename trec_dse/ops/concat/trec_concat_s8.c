/* One input of a concatenation: its channels are rescaled into their place in every output pixel.
 *
 * A level has one image, whatever its channel, so all 256 are computed once and looked up afterwards.
 */
#include "trec_concat_s8.h"

enum { LEVELS = 256 };

/* The image of every level, found by its bits. */
static void fill(const trec_concat *p, int8_t *table)
{
    const int32_t half = (int32_t)1 << (p->shift - 1);
    for (int32_t level = INT8_MIN; level <= INT8_MAX; level++) {
        const int32_t scaled = ((level - p->in_zero) * p->multiplier + half) >> p->shift;
        table[(uint8_t)level] = (int8_t)trec_clamp(scaled + p->zero, INT8_MIN, INT8_MAX);
    }
}

/* The images of n values, four at a time: a word is read and written faster than four bytes are. */
static void look_up(const int8_t *table, const int8_t *values, int32_t n, int8_t *images)
{
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t word;
        __builtin_memcpy(&word, values + i, sizeof word);
        images[i] = table[word & 0xFF];
        images[i + 1] = table[word >> 8 & 0xFF];
        images[i + 2] = table[word >> 16 & 0xFF];
        images[i + 3] = table[word >> 24];
    }
    for (; i < n; i++) {
        images[i] = table[(uint8_t)values[i]];
    }
}

void trec_concat_s8(const trec_concat *p, const int8_t *input, int8_t *output)
{
    int8_t table[LEVELS];
    fill(p, table);
    for (int32_t i = 0; i < p->positions; i++) {
        look_up(table, input + i * p->in_c, p->in_c, output + i * p->out_c + p->first);
    }
}
