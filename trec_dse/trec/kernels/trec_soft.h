/* Soft memberships and their gradient, for the vectors of one group of one image.
 *
 * Slots are the clusters in their order and then, as ghosts, the signatures that nobody has. A vector's
 * membership p is a softmax over slots; its gradient runs back to the projections through the bits of the slots.
 */
#ifndef TREC_SOFT_H
#define TREC_SOFT_H

#include "trec_shared.h"

typedef struct {
    float *bits;        /* (hash_bits, slots_p): the signature of each slot */
    float *bits_t;      /* (slots_p, hash_bits_p): the same times the steepness */
    float *valid;       /* (slots_p): 1 for slots, 0 for what pads them */
    float *memberships; /* (n_vectors, slots_p) */
    float *totals;      /* (slots_p): memberships summed over the vectors */
    float *gradient;    /* (n_vectors, slots_p): of the memberships, then of their logits */
    float *use_part;    /* (n_outputs, slots_p), or length_p numbers each */
    float *pulls;       /* (n_vectors, length_p): gradient of what stands in for a vector; NULL where slots are as few */
    float *means_t;     /* (length, slots_p) */
    float *products_t;  /* (out_c, slots_p): kernel slice times means */
    float *constants;   /* (slots_p) */
} soft_space;

static inline int32_t soft_slots(const job *j)
{
    return (int32_t)1 << j->hash_bits;
}

/* Whether it is less work to gather the gradient of every vector's stand-in over the parts, and to multiply it by the
 * means of the slots once, than to multiply the outputs by the products of all slots in each part. */
static inline int gathers_pulls(const job *j)
{
    const int64_t saved = round_up(soft_slots(j)) - round_up(j->length);
    const int64_t once = (int64_t)j->n_vectors * j->length * round_up(soft_slots(j));
    return saved > 0 && (int64_t)j->n_outputs * j->n_parts * j->out_c * saved > once;
}

static inline soft_space cut_soft(const job *j, scratch_space *scratch)
{
    const int64_t slots_p = round_up(soft_slots(j));
    soft_space s;
    s.bits = take(scratch, j->hash_bits * slots_p);
    s.bits_t = take(scratch, slots_p * round_up(j->hash_bits));
    s.valid = take(scratch, slots_p);
    s.memberships = take(scratch, j->n_vectors * slots_p);
    s.totals = take(scratch, slots_p);
    s.gradient = take(scratch, j->n_vectors * slots_p);
    s.use_part = take(scratch, j->uses_in_order ? 0 : j->n_outputs * slots_p);
    s.pulls = gathers_pulls(j) ? take(scratch, (int64_t)j->n_vectors * round_up(j->length)) : NULL;
    s.means_t = take(scratch, j->length * slots_p);
    s.products_t = take(scratch, j->out_c * slots_p);
    s.constants = take(scratch, slots_p);
    return s;
}

/* Fills bits, bits_t and valid. codes: (n_clusters); taken: room for one mark per signature. */
static inline void lay_out_slots(const job *j, const soft_space *s, const uint16_t *codes, int32_t n_clusters,
                                 const float *steepness, float *taken)
{
    const int32_t bits_p = round_up(j->hash_bits);
    const int32_t slots_p = round_up(soft_slots(j));
    clear(s->bits, (int64_t)j->hash_bits * slots_p);
    clear(s->bits_t, (int64_t)slots_p * bits_p);
    clear(s->valid, slots_p);
    clear(taken, soft_slots(j));
    for (int32_t c = 0; c < n_clusters; c++) {
        taken[codes[c]] = 1;
    }
    int32_t ghost = 0;
    for (int32_t slot = 0; slot < soft_slots(j); slot++) {
        while (slot >= n_clusters && taken[ghost] != 0) {
            ghost++;
        }
        const int32_t code = slot < n_clusters ? codes[slot] : ghost++;
        s->valid[slot] = 1;
        for (int32_t h = 0; h < j->hash_bits; h++) {
            const float bit = (float)(code >> (j->hash_bits - 1 - h) & 1);
            s->bits[h * slots_p + slot] = bit;
            s->bits_t[slot * bits_p + h] = bit * steepness[h];
        }
    }
}

/* Fills memberships and totals. projections: steepness times distance from the threshold, (n_vectors, hash_bits_p) */
static inline void find_memberships(const job *j, const soft_space *s, const float *projections)
{
    const int32_t bits_p = round_up(j->hash_bits);
    const int32_t slots_p = round_up(soft_slots(j));
    multiply(j->n_vectors, slots_p, j->hash_bits, by_rows(projections, bits_p), s->bits, slots_p, s->memberships,
             slots_p, 0);
    clear(s->totals, slots_p);
    for (int32_t t = 0; t < j->n_vectors; t++) {
        float *row = s->memberships + (int64_t)t * slots_p;
        lanes sum = {0};
        for (int32_t h = 0; h < bits_p; h += LANES) {
            sum += at_least_zero(load(projections + (int64_t)t * bits_p + h));
        }
        const float largest = sum_of_lanes(sum); /* all bits with a positive distance set, all others not */
        sum = (lanes){0};
        for (int32_t k = 0; k < slots_p; k += LANES) {
            const lanes value = exp_lanes(load(row + k) - largest) * load(s->valid + k);
            store(row + k, value);
            sum += value;
        }
        const float factor = 1 / sum_of_lanes(sum);
        for (int32_t k = 0; k < slots_p; k += LANES) {
            const lanes value = load(row + k) * factor;
            store(row + k, value);
            store(s->totals + k, load(s->totals + k) + value);
        }
    }
}

/* Adds the soft means of the ghosts to the means of the clusters: (slots, length_p). */
static inline void average_ghosts(const job *j, const soft_space *s, const float *rows, int32_t n_clusters,
                                  float *means)
{
    const int32_t length_p = round_up(j->length);
    const int32_t slots_p = round_up(soft_slots(j));
    multiply(soft_slots(j) - n_clusters, length_p, j->n_vectors, by_columns(s->memberships + n_clusters, slots_p), rows,
             length_p, means + (int64_t)n_clusters * length_p, length_p, 0);
    for (int32_t slot = n_clusters; slot < soft_slots(j); slot++) {
        const float total = s->totals[slot] > 1e-12f ? s->totals[slot] : 1e-12f;
        for (int32_t i = 0; i < length_p; i++) {
            means[(int64_t)slot * length_p + i] /= total;
        }
    }
}

/* to (n_columns, slots_p) = the transpose of from (n_rows, row), 0 where there is no row. */
static inline void transpose(const job *j, const float *from, int32_t n_rows, int32_t n_columns, int32_t row, float *to)
{
    const int32_t slots_p = round_up(soft_slots(j));
    for (int32_t i = 0; i < n_columns; i++) {
        clear(to + (int64_t)i * slots_p + n_rows, slots_p - n_rows);
    }
    flip(n_rows, n_columns, from, row, to, slots_p);
}

static inline void clear_gradient(const job *j, const soft_space *s)
{
    if (j->uses_in_order) {
        return; /* the only part writes it whole */
    }
    if (s->pulls != NULL) {
        clear(s->pulls, (int64_t)j->n_vectors * round_up(j->length));
    } else {
        clear(s->gradient, (int64_t)j->n_vectors * round_up(soft_slots(j)));
    }
}

/* Adds the rows of outputs times a matrix (out_c, row) to those of the vectors that they use. sums: (n_vectors, row) */
static inline void add_used(const job *j, const soft_space *s, const int32_t *uses, const float *outputs,
                            const float *matrix, int32_t row, float *sums)
{
    const reader from = by_rows(outputs, round_up(j->out_c));
    multiply(j->n_outputs, row, j->out_c, from, matrix, row, j->uses_in_order ? sums : s->use_part, row, 0);
    for (int32_t i = 0; i < j->n_outputs && !j->uses_in_order; i++) {
        if (uses[i] >= 0) {
            add_row(sums + (int64_t)uses[i] * row, s->use_part + (int64_t)i * row, row);
        }
    }
}

/* Adds what one part gives: the gradient of an output times the products of all slots, or times the kernels.
 *
 * weights: (length, out_c_p), weights_t: (out_c, length_p), of this part. */
static inline void add_part(const job *j, const soft_space *s, const float *weights, const float *weights_t,
                            const int32_t *uses, const float *outputs)
{
    const int32_t slots_p = round_up(soft_slots(j));
    if (s->pulls != NULL) {
        add_used(j, s, uses, outputs, weights_t, round_up(j->length), s->pulls);
        return;
    }
    multiply(j->out_c, slots_p, j->length, by_columns(weights, round_up(j->out_c)), s->means_t, slots_p, s->products_t,
             slots_p, 0);
    add_used(j, s, uses, outputs, s->products_t, slots_p, s->gradient);
}

/* From the gradient of the memberships to that of the projections (n_vectors, hash_bits_p), which it overwrites.
 *
 * per_member (n_clusters, length_p): the gradient of a mean over the size of its cluster. */
static inline void finish_soft(const job *j, const soft_space *s, const float *rows, const float *means,
                               const float *per_member, int32_t n_clusters, float *projections)
{
    const int32_t length_p = round_up(j->length);
    const int32_t slots_p = round_up(soft_slots(j));
    if (s->pulls != NULL) {
        multiply(j->n_vectors, slots_p, j->length, by_rows(s->pulls, length_p), s->means_t, slots_p, s->gradient,
                 slots_p, 0);
    }
    transpose(j, per_member, n_clusters, j->length, length_p, s->means_t);
    multiply(j->n_vectors, slots_p, j->length, by_rows(rows, length_p), s->means_t, slots_p, s->gradient, slots_p, 1);
    clear(s->constants, slots_p);
    for (int32_t c = 0; c < n_clusters; c++) {
        lanes sum = {0};
        for (int32_t i = 0; i < length_p; i += LANES) { /* per_member is padded by zeros */
            sum += load(means + (int64_t)c * length_p + i) * load(per_member + (int64_t)c * length_p + i);
        }
        s->constants[c] = sum_of_lanes(sum);
    }
    for (int32_t t = 0; t < j->n_vectors; t++) {
        const float *p = s->memberships + (int64_t)t * slots_p;
        float *row = s->gradient + (int64_t)t * slots_p;
        lanes sum = {0};
        for (int32_t k = 0; k < slots_p; k += LANES) {
            const lanes value = load(p + k) * (load(row + k) - load(s->constants + k));
            store(row + k, value);
            sum += value;
        }
        const float mean = sum_of_lanes(sum);
        for (int32_t k = 0; k < slots_p; k += LANES) {
            store(row + k, load(row + k) - load(p + k) * mean);
        }
    }
    multiply(j->n_vectors, round_up(j->hash_bits), soft_slots(j), by_rows(s->gradient, slots_p), s->bits_t,
             round_up(j->hash_bits), projections, round_up(j->hash_bits), 0);
}

#endif
