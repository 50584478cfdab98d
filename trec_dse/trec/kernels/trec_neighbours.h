/* Soft memberships of the own cluster and its one-bit neighbours, for hashes of many bits.
 *
 * Column h of a vector's gradient stands for the signature that differs in bit h, the last column for its own cluster.
 * Where nobody has a signature the vector would be alone there, and so its own mean.
 */
#ifndef TREC_NEIGHBOURS_H
#define TREC_NEIGHBOURS_H

#include "trec_shared.h"

enum { NOBODY = 0xFFFF, COLUMNS = 16, OWN = COLUMNS - 1 }; /* whole vectors of floats that hold 12 bits and OWN */

typedef struct {
    int32_t n;                  /* with OWN, which comes first */
    uint8_t columns[COLUMNS];
    uint16_t clusters[COLUMNS];
} places;                       /* the columns of a cluster's members where somebody is */

typedef struct {
    float *gradient;            /* (n_vectors, COLUMNS): of the memberships */
    float *products;            /* (max_clusters, out_c_p): means times a kernel slice */
    float *alone_rows;          /* (n_alone, length_p): vectors that are not their cluster's mean and could be alone */
    float *alone;               /* (n_alone, out_c_p): the same times a kernel slice */
    float *constants;           /* (max_clusters) */
    places *places;             /* (max_clusters) */
    uint16_t *alone_row;        /* (n_vectors): its row of alone, or NOBODY */
    uint16_t *reverse;          /* (2^hash_bits): signature -> cluster */
    const uint16_t *codes;      /* (n_clusters) */
    const uint16_t *clusters;   /* (n_vectors) */
    int32_t n_alone;
} neighbour_space;

static inline neighbour_space cut_neighbours(const job *j, scratch_space *scratch)
{
    const int64_t out_p = round_up(j->out_c);
    neighbour_space s = {0};
    s.gradient = take(scratch, (int64_t)j->n_vectors * COLUMNS);
    s.products = take(scratch, j->max_clusters * out_p);
    s.alone_rows = take(scratch, (int64_t)j->n_vectors * round_up(j->length));
    s.alone = take(scratch, j->n_vectors * out_p);
    s.constants = take(scratch, j->max_clusters);
    s.places = (places *)take(scratch, j->max_clusters * (int64_t)(sizeof(places) / sizeof(float)));
    s.alone_row = (uint16_t *)take(scratch, j->n_vectors / 2 + 1);
    s.reverse = (uint16_t *)take(scratch, ((int64_t)1 << j->hash_bits) / 2 + 1);
    return s;
}

INLINE float dot(const float *a, const float *b, int32_t n)
{
    lanes sum = {0};
    for (int32_t i = 0; i < n; i += LANES) {
        sum += load(a + i) * load(b + i);
    }
    return sum_of_lanes(sum);
}

/* gradient[column] += a times the row of its cluster - less, or - less[cluster] where there are several; two rows at a
 * time share what is loaded of a. */
INLINE void add_dots(const places *p, const float *a, const float *rows, int32_t n, const float *less, int32_t step,
                     float *gradient)
{
    int32_t k = 0;
    for (; k + 2 <= p->n; k += 2) {
        const float *first = rows + (int64_t)p->clusters[k] * n;
        const float *second = rows + (int64_t)p->clusters[k + 1] * n;
        lanes sums[2] = {{0}, {0}};
        for (int32_t i = 0; i < n; i += LANES) {
            const lanes value = load(a + i);
            sums[0] += value * load(first + i);
            sums[1] += value * load(second + i);
        }
        gradient[p->columns[k]] += sum_of_lanes(sums[0]) - less[p->clusters[k] * step];
        gradient[p->columns[k + 1]] += sum_of_lanes(sums[1]) - less[p->clusters[k + 1] * step];
    }
    if (k < p->n) {
        gradient[p->columns[k]] += dot(a, rows + (int64_t)p->clusters[k] * n, n) - less[p->clusters[k] * step];
    }
}

/* Finds where the members of every cluster could move. */
static inline void find_places(const job *j, const neighbour_space *s, int32_t n_clusters)
{
    for (int32_t code = 0; code < (int32_t)1 << j->hash_bits; code++) {
        s->reverse[code] = NOBODY;
    }
    for (int32_t c = 0; c < n_clusters; c++) {
        s->reverse[s->codes[c]] = (uint16_t)c;
    }
    for (int32_t c = 0; c < n_clusters; c++) {
        places *p = s->places + c;
        p->n = 1;
        p->columns[0] = OWN;
        p->clusters[0] = (uint16_t)c;
        for (int32_t h = 0; h < j->hash_bits; h++) {
            p->columns[p->n] = (uint8_t)h;
            p->clusters[p->n] = s->reverse[s->codes[c] ^ 1 << (j->hash_bits - 1 - h)];
            p->n += p->clusters[p->n] != NOBODY;
        }
    }
}

/* Finds the neighbours of every vector and clears the gradient. shares: 1 / size of every cluster. */
static inline void find_neighbours(const job *j, neighbour_space *s, const float *rows, const uint16_t *clusters,
                                   const uint16_t *codes, int32_t n_clusters, const float *shares)
{
    const int32_t length_p = round_up(j->length);
    s->codes = codes;
    s->clusters = clusters;
    s->n_alone = 0;
    find_places(j, s, n_clusters);
    for (int32_t t = 0; t < j->n_vectors; t++) {
        s->alone_row[t] = NOBODY;
        if (s->places[clusters[t]].n <= j->hash_bits && shares[clusters[t]] < 1) {
            __builtin_memcpy(s->alone_rows + (int64_t)s->n_alone * length_p, rows + (int64_t)t * length_p,
                             sizeof(float) * (size_t)length_p);
            s->alone_row[t] = (uint16_t)s->n_alone++;
        }
    }
    clear(s->gradient, (int64_t)j->n_vectors * COLUMNS);
}

/* Adds to the gradient what one part gives: the gradient of an output times the products of each column. */
static inline void add_neighbour_part(const job *j, const neighbour_space *s, const float *means, int32_t n_clusters,
                                      const float *weights, const int32_t *uses, const float *outputs)
{
    const int32_t out_p = round_up(j->out_c);
    const int32_t length_p = round_up(j->length);
    multiply(n_clusters, out_p, j->length, by_rows(means, length_p), weights, out_p, s->products, out_p, 0);
    multiply(s->n_alone, out_p, j->length, by_rows(s->alone_rows, length_p), weights, out_p, s->alone, out_p, 0);
    for (int32_t i = 0; i < j->n_outputs; i++) {
        if (uses[i] < 0) {
            continue;
        }
        const float *output = outputs + (int64_t)i * out_p;
        const uint16_t own = s->clusters[uses[i]];
        const uint16_t row = s->alone_row[uses[i]];
        const places *p = s->places + own;
        const float *itself = row == NOBODY ? s->products + (int64_t)own * out_p : s->alone + (int64_t)row * out_p;
        const float alone = dot(output, itself, out_p); /* unused where every column has somebody */
        float *gradient = s->gradient + (int64_t)uses[i] * COLUMNS;
        for (int32_t h = 0; h < COLUMNS; h += LANES) {
            store(gradient + h, load(gradient + h) + alone);
        }
        add_dots(p, output, s->products, out_p, &alone, 0, gradient);
    }
}

/* The gradient of one vector's projections; it overwrites distances (hash_bits_p), which hold steepness times distance.
 * The logit of flipping a bit is that distance with a sign, that of the own cluster is 0. */
INLINE void pass_to_projections(const job *j, const float *gradient, uint32_t code, const float *steepness,
                                float *distances)
{
    enum { CHUNKS = COLUMNS / LANES };
    lanes p[CHUNKS];
    lanes factor[CHUNKS];
    lanes highest = {0};
    for (int32_t c = 0; c < CHUNKS; c++) {
        const whole_lanes h = counting() + c * LANES;
        const whole_lanes is_set = (((int32_t)code << h) >> (j->hash_bits - 1) & 1) != 0;
        const whole_lanes is_bit = h < j->hash_bits;
        const whole_lanes is_own = h == OWN;
        const lanes sign = (lanes)((whole_lanes)all(1.0f) | (is_set & INT32_MIN)); /* -1 where the bit is set */
        const int32_t at = c * LANES < round_up(j->hash_bits) ? c * LANES : 0;
        const lanes logits = (lanes)((whole_lanes)(load(distances + at) * sign) & is_bit);
        p[c] = (lanes)((whole_lanes)logits | (~(is_bit | is_own) & (whole_lanes)all(-1e4f)));
        factor[c] = sign * load(steepness + at);
        highest += at_least_zero(p[c] - highest);
    }
    /* Only a vector that joined another signature's cluster can be on the wrong side of a threshold. */
    const int may_join = j->max_clusters < (int32_t)1 << j->hash_bits && j->max_clusters < j->n_vectors;
    const float largest = may_join ? largest_of_lanes(highest) : 0;
    lanes total = {0};
    lanes mean = {0};
    for (int32_t c = 0; c < CHUNKS; c++) {
        p[c] = exp_lanes(p[c] - largest);
        total += p[c];
        mean += p[c] * load(gradient + c * LANES);
    }
    const float share_of_one = 1 / sum_of_lanes(total);
    const float mean_slope = sum_of_lanes(mean) * share_of_one;
    for (int32_t c = 0; c * LANES < round_up(j->hash_bits); c++) {
        const lanes slope = load(gradient + c * LANES) - mean_slope;
        store(distances + c * LANES, factor[c] * p[c] * share_of_one * slope);
    }
}

/* From the gradient of the memberships to that of the projections, which hold steepness times distance and are
 * overwritten. per_member (n_clusters, length_p): the gradient of a mean over the size of its cluster. */
static inline void finish_neighbours(const job *j, const neighbour_space *s, const float *rows, const float *means,
                                     const float *per_member, int32_t n_clusters, const float *steepness,
                                     float *projections)
{
    const int32_t length_p = round_up(j->length);
    for (int32_t c = 0; c < n_clusters; c++) {
        s->constants[c] = dot(means + (int64_t)c * length_p, per_member + (int64_t)c * length_p, length_p);
    }
    for (int32_t t = 0; t < j->n_vectors; t++) {
        const places *p = s->places + s->clusters[t];
        float *gradient = s->gradient + (int64_t)t * COLUMNS;
        add_dots(p, rows + (int64_t)t * length_p, per_member, length_p, s->constants, 1, gradient);
        float *distances = projections + (int64_t)t * round_up(j->hash_bits);
        pass_to_projections(j, gradient, s->codes[s->clusters[t]], steepness, distances);
    }
}

#endif
