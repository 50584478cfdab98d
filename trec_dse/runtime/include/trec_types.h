/* Types and arithmetic that every kernel shares: the window of a convolution, and the one rounding rule. */
#ifndef TREC_TYPES_H
#define TREC_TYPES_H

#include <stddef.h> /* defines: NULL, size_t */
#include <stdint.h> /* defines: int8_t ... int64_t */

/* A sum in a workspace that holds numbers of another type at other times: a compiler must not take the two for
 * different memory. */
typedef int32_t __attribute__((may_alias)) trec_shared_sum;

/* How a sliding window moves over an (in_h, in_w, in_c) image; out_h and out_w follow from the rest. */
typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t pad_h, pad_w;
} trec_window;

/* What turns an int32 accumulator into an int8 output: round(accumulator * factor / 2^shift) + zero, within bounds. */
typedef struct {
    const int32_t *factors; /* (out_c), none negative */
    int32_t shift;          /* of all channels: TREC_HIGH unless the factors are very large or small; 1 to 62 */
    int32_t zero;           /* zero point of the output */
    int32_t min, max;       /* the fused activation, as bounds of the output */
} trec_rescale;

enum { TREC_HIGH = 32 }; /* the shift that leaves the upper half of a product, which larger cores round at once */

/* A sum of two products: round((a * multipliers[0] + b * multipliers[1] + offset) / 2^TREC_ADD_SHIFT), but for what the
 * offset holds of zero points and the half that rounds. */
typedef struct {
    int16_t multipliers[2];
    int32_t offset;
} trec_weighted;

enum { TREC_ADD_SHIFT = 14 };

/* The taps of a depthwise window that lie in the image, for channels by four, and how their sums become outputs. */
typedef struct {
    int32_t columns, rows;    /* each at least 1 */
    int32_t x_rest, w_rest;   /* bytes from behind a row's taps to those of the next, of the image and of the weights */
    const int32_t *bias;      /* (4 n_fours) */
    const int32_t *factors;   /* (4 n_fours), of TREC_HIGH */
    int32_t zero;             /* of the outputs */
    int32_t n_fours;
    int32_t channels;         /* bytes from tap to tap */
    int32_t x_zero;
} trec_taps;

/* Some kernels, two channels each, and how they are to be multiplied with a block of rows. */
typedef struct {
    const int8_t *first; /* (n_pairs, 2 elements, 2 channels), aligned to a word; the next one lies `step` bytes on */
    int32_t step;
    int32_t count;
    int32_t n_pairs; /* pairs of elements of a row */
} trec_kernels;

/* What some sums look up: n terms, each the place of a value and what it is multiplied with. */
typedef struct {
    const uint16_t *places;
    const int8_t *weights;
    int32_t n; /* a multiple of four, at least four */
} trec_terms;

enum { TREC_PART_CHANNELS = 8, TREC_MOST_PARTS = 11 };

/* How the products of centroids with eight kernels are rounded to int16 and where they go. */
typedef struct {
    int32_t n_blocks; /* of four centroids, at least 1 */
    int32_t row_step; /* bytes from the products of a centroid to those of the next */
    int32_t halves[TREC_PART_CHANNELS]; /* 2^shift / 2 */
    int32_t shifts[TREC_PART_CHANNELS];
} trec_narrow;

/* Lines of parts: for each of them an output has the id of a cluster, and a table what that cluster contributes. */
typedef struct {
    const int16_t *table; /* (clusters, n_lines, n_parts, TREC_PART_CHANNELS), aligned to a word */
    int32_t row_step;     /* bytes from cluster to cluster */
    int32_t n_lines;      /* at least 1 */
    int32_t n_parts;      /* of a line, 1 to TREC_MOST_PARTS: their ids lie side by side */
    int32_t line_step;    /* bytes from the ids of a line to those of the next */
    int32_t out_step;     /* bytes from the ids of an output to those of the next */
} trec_parts;

/* What parts are added to, and where that goes: to sums, or rescaled by TREC_HIGH, in the whole range of int8, to
 * outputs. */
typedef struct {
    const int32_t *start;   /* element 4c + r is channel c of output r */
    int32_t start_step;     /* elements from an output's to the next one's: 1, or 0 where all outputs start alike */
    int32_t *sums;          /* as start, of four outputs at most */
    const int32_t *factors; /* (TREC_PART_CHANNELS); NULL: only sums are wanted */
    int32_t zero;           /* zero point of the outputs */
    int32_t out_c;          /* bytes from an output to the next */
    int8_t *outputs;        /* the first output's first channel */
} trec_part_sums;

static inline int32_t trec_clamp(int32_t value, int32_t min, int32_t max)
{
    return value < min ? min : value > max ? max : value;
}

/* floor(a * b / 2^32): one instruction on the larger cores */
static inline int32_t trec_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b) >> 32);
}

/* round(value * factor / 2^shift), halves towards plus infinity. This is the project's only rounding rule. */
static inline int32_t trec_scale(int32_t value, int32_t factor, int32_t shift)
{
    return (int32_t)(((int64_t)value * factor + ((int64_t)1 << (shift - 1))) >> shift);
}

/* trec_scale where shift > 32: the half that is added lies above bit 31, so the floor may be taken there first. */
static inline int32_t trec_scale_high(int32_t value, int32_t factor, int32_t shift)
{
    return (trec_high(value, factor) + ((int32_t)1 << (shift - 33))) >> (shift - 32);
}

/* trec_scale by the shorter way where there is one. */
static inline int32_t trec_scale_any(int32_t value, int32_t factor, int32_t shift)
{
    return shift > 32 ? trec_scale_high(value, factor, shift) : trec_scale(value, factor, shift);
}

/* The channels first ... first + count - 1 of n rows, n at most 4; out_c: channels of an output row. */
typedef struct {
    int32_t first, count;
    int32_t n;
    int32_t out_c;
} trec_rows;

/* round(numerator / denominator) for denominator > 0, by the same rule: floor((2n + d) / 2d). */
static inline int32_t trec_divide(int32_t numerator, int32_t denominator)
{
    const int32_t n = 2 * numerator + denominator;
    const int32_t d = 2 * denominator;
    const int32_t quotient = n / d; /* C truncates towards zero, floor differs below it */
    return quotient - (n % d < 0 ? 1 : 0);
}

#endif
