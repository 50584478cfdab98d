/* Soft memberships of the own cluster and its one-bit neighbours, for hashes of many bits.
 *
 * Column 0 stands for a vector's own cluster, column 1 + h for the signature that differs in bit h. Where nobody has
 * that signature the vector would be alone there, and so its own mean.
 */
#ifndef TREC_NEIGHBOURS_H
#define TREC_NEIGHBOURS_H

#include "trec_shared.h"

enum { MISSING = 0xFFFF };

typedef struct {
    float *gradient;       /* (n_vectors, 1 + hash_bits): of the memberships */
    float *products;       /* (max_clusters, out_c_p): means times a kernel slice */
    float *alone;          /* (n_vectors, out_c_p): vectors times a kernel slice */
    float *constants;      /* (max_clusters) */
    uint16_t *columns;     /* (n_vectors, 1 + hash_bits): cluster, or MISSING */
    uint16_t *reverse;     /* (2^hash_bits): signature -> cluster */
    const uint16_t *codes; /* (n_clusters) */
} neighbour_space;

static inline neighbour_space cut_neighbours(const job *j, scratch_space *scratch)
{
    const int64_t out_p = round_up(j->out_c);
    const int64_t n = (int64_t)j->n_vectors * (1 + j->hash_bits);
    neighbour_space s = {0};
    s.gradient = take(scratch, n);
    s.products = take(scratch, j->max_clusters * out_p);
    s.alone = take(scratch, j->n_vectors * out_p);
    s.constants = take(scratch, j->max_clusters);
    s.columns = (uint16_t *)take(scratch, n / 2 + 1);
    s.reverse = (uint16_t *)take(scratch, ((int64_t)1 << j->hash_bits) / 2 + 1);
    return s;
}

static inline float dot(const float *a, const float *b, int32_t n)
{
    lanes sum = {0};
    for (int32_t i = 0; i < n; i += LANES) {
        sum += load(a + i) * load(b + i);
    }
    return sum_of_lanes(sum);
}

/* Finds the neighbours of every vector and clears the gradient. */
static inline void find_neighbours(const job *j, neighbour_space *s, const uint16_t *clusters, const uint16_t *codes,
                                   int32_t n_clusters)
{
    const int32_t n_columns = 1 + j->hash_bits;
    s->codes = codes;
    for (int32_t code = 0; code < (int32_t)1 << j->hash_bits; code++) {
        s->reverse[code] = MISSING;
    }
    for (int32_t c = 0; c < n_clusters; c++) {
        s->reverse[codes[c]] = (uint16_t)c;
    }
    for (int32_t t = 0; t < j->n_vectors; t++) {
        uint16_t *columns = s->columns + (int64_t)t * n_columns;
        columns[0] = clusters[t];
        for (int32_t h = 0; h < j->hash_bits; h++) {
            columns[1 + h] = s->reverse[codes[clusters[t]] ^ 1 << (j->hash_bits - 1 - h)];
        }
    }
    clear(s->gradient, (int64_t)j->n_vectors * n_columns);
}

/* Adds to the gradient what one part gives: the gradient of an output times the products of each column. */
static inline void add_neighbour_part(const job *j, const neighbour_space *s, const float *rows, const float *means,
                                      int32_t n_clusters, const float *weights, const int32_t *uses,
                                      const float *outputs)
{
    const int32_t out_p = round_up(j->out_c);
    const int32_t length_p = round_up(j->length);
    const int32_t n_columns = 1 + j->hash_bits;
    multiply(n_clusters, out_p, j->length, by_rows(means, length_p), weights, out_p, s->products, out_p, 0);
    multiply(j->n_vectors, out_p, j->length, by_rows(rows, length_p), weights, out_p, s->alone, out_p, 0);
    for (int32_t i = 0; i < j->n_outputs; i++) {
        if (uses[i] < 0) {
            continue;
        }
        const float *output = outputs + (int64_t)i * out_p;
        const uint16_t *columns = s->columns + (int64_t)uses[i] * n_columns;
        float *gradient = s->gradient + (int64_t)uses[i] * n_columns;
        const float *alone = s->alone + (int64_t)uses[i] * out_p;
        for (int32_t k = 0; k < n_columns; k++) {
            gradient[k] += dot(output, columns[k] == MISSING ? alone : s->products + columns[k] * out_p, out_p);
        }
    }
}

/* The gradient of one vector's projections; it overwrites distances (hash_bits_p). gradient: (1 + hash_bits) */
static inline void pass_to_projections(const job *j, const float *gradient, uint32_t code, const float *steepness,
                                       float *distances)
{
    enum { MOST_COLUMNS = 16 }; /* a multiple of LANES that holds 1 + 12 hash bits */
    float p[MOST_COLUMNS];
    float slopes[MOST_COLUMNS] = {0};
    float largest = 0;
    p[0] = 0;
    slopes[0] = gradient[0];
    for (int32_t h = 0; h < j->hash_bits; h++) {
        const float sign = code >> (j->hash_bits - 1 - h) & 1 ? -1.0f : 1.0f;
        p[1 + h] = sign * distances[h]; /* the logit of flipping this bit; that of the own cluster is 0 */
        slopes[1 + h] = gradient[1 + h];
        largest = p[1 + h] > largest ? p[1 + h] : largest;
        distances[h] = sign * steepness[h];
    }
    for (int32_t k = 1 + j->hash_bits; k < MOST_COLUMNS; k++) {
        p[k] = -1e4f;
    }
    lanes total = {0};
    lanes mean = {0};
    for (int32_t k = 0; k < MOST_COLUMNS; k += LANES) {
        const lanes value = exp_lanes(load(p + k) - largest);
        store(p + k, value);
        total += value;
        mean += value * load(slopes + k);
    }
    const float share_of_one = 1 / sum_of_lanes(total);
    const float mean_slope = sum_of_lanes(mean) * share_of_one;
    for (int32_t h = 0; h < j->hash_bits; h++) {
        distances[h] *= p[1 + h] * share_of_one * (slopes[1 + h] - mean_slope);
    }
}

/* From the gradient of the memberships to that of the projections, which hold steepness times distance and are
 * overwritten. per_member (n_clusters, length_p): the gradient of a mean over the size of its cluster. */
static inline void finish_neighbours(const job *j, const neighbour_space *s, const float *rows, const float *means,
                                     const float *per_member, int32_t n_clusters, const float *steepness,
                                     float *projections)
{
    const int32_t length_p = round_up(j->length);
    const int32_t n_columns = 1 + j->hash_bits;
    for (int32_t c = 0; c < n_clusters; c++) {
        s->constants[c] = dot(means + (int64_t)c * length_p, per_member + (int64_t)c * length_p, length_p);
    }
    for (int32_t t = 0; t < j->n_vectors; t++) {
        const uint16_t *columns = s->columns + (int64_t)t * n_columns;
        float *gradient = s->gradient + (int64_t)t * n_columns;
        for (int32_t k = 0; k < n_columns; k++) {
            if (columns[k] != MISSING) {
                const float *towards = per_member + (int64_t)columns[k] * length_p;
                gradient[k] += dot(rows + (int64_t)t * length_p, towards, length_p) - s->constants[columns[k]];
            }
        }
        float *distances = projections + (int64_t)t * round_up(j->hash_bits);
        pass_to_projections(j, gradient, s->codes[columns[0]], steepness, distances);
    }
}

#endif
