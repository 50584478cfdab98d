/* TREC int8 convolution with the two-step stack.
 *
 * Step one walks over the rows of a slice: a signature that was not seen yet pushes its row onto the stack, any
 * other adds its row to the entry that the reverse table names. Step two divides each entry by its count: the
 * stack then is the matrix of centroids. Signatures come from the int32 projections, never from rounded ones.
 */
#include "trec_trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_dot_s8, trec_dot_s16_s8 */
#include "trec_window.h" /* defines: trec_window_row */

enum { UNSEEN = 0xFFFF };

/* The scratch of one call, cut into its arrays: widest elements first, so that none needs padding. */
typedef struct {
    int32_t *acc;         /* accumulate: (positions, out_c); gather: (positions, exact_c) */
    int32_t *sums;        /* (max_clusters, length) */
    int32_t *values;      /* products of the centroids with one kernel; (max_clusters) or (n_slices, max_clusters) */
    int16_t *centroids;   /* (n_slices, max_clusters, length) where all slices are alive, else over sums */
    uint16_t *counts;     /* (max_clusters) */
    uint16_t *found;      /* gather: (n_slices), clusters of each slice */
    uint16_t *reverse;    /* (2^hash_bits): signature -> cluster */
    uint16_t *signatures; /* (max_clusters) */
    uint8_t *clusters;    /* (positions) or (n_slices, positions): the cluster of each row */
    int8_t *row;          /* (length) */
} workspace;

static int32_t count_positions(const trec_trec_conv2d *p)
{
    return p->window.out_h * p->window.out_w;
}

/* Bytes that both schedules need: sums, counts, reverse table, signatures, one row. */
static int32_t common_bytes(const trec_trec_conv2d *p)
{
    return p->max_clusters * (4 * p->length + 2 + 2) + 2 * ((int32_t)1 << p->hash_bits) + p->length;
}

int32_t trec_trec_conv2d_scratch_bytes(const trec_trec_conv2d *p)
{
    return common_bytes(p) + count_positions(p) * (4 * p->out_c + 1) + 4 * p->max_clusters;
}

int32_t trec_trec_conv2d_gather_scratch_bytes(const trec_trec_conv2d *p)
{
    const int32_t alive = p->max_clusters * (4 + 2 * p->length) + 2;
    return common_bytes(p) + count_positions(p) * (4 * p->exact_c + p->n_slices) + p->n_slices * alive;
}

/* acc_c: accumulators per position; n_alive: slices alive at once; n_kept: slices whose centroids are kept. */
static workspace cut(const trec_trec_conv2d *p, void *scratch, int32_t acc_c, int32_t n_alive, int32_t n_kept)
{
    workspace w;
    w.acc = scratch;
    w.sums = w.acc + count_positions(p) * acc_c;
    w.values = w.sums + p->max_clusters * p->length;
    w.centroids = (int16_t *)(w.values + n_alive * p->max_clusters);
    w.counts = (uint16_t *)(w.centroids + n_kept * p->max_clusters * p->length);
    w.found = w.counts + p->max_clusters;
    w.reverse = w.found + n_kept;
    w.signatures = w.reverse + ((int32_t)1 << p->hash_bits);
    w.clusters = (uint8_t *)(w.signatures + p->max_clusters);
    w.row = (int8_t *)(w.clusters + n_alive * count_positions(p));
    return w;
}

/* Signature of a row, first hash vector first. exact: NULL, or where kernel reuse adds its projections. */
static uint32_t sign(const trec_trec_conv2d *p, const int8_t *row, int32_t slice, int32_t *exact)
{
    const int8_t *hash = p->hash + slice * p->hash_slice;
    const int32_t *thresholds = p->thresholds + slice * p->threshold_slice;
    uint32_t signature = 0;
    for (int32_t h = 0; h < p->hash_bits; h++) {
        const int32_t projection = trec_dot_s8(row, hash + h * p->hash_step, p->length);
        signature = signature << 1 | (projection > thresholds[h] ? 1u : 0u);
        if (exact != NULL) {
            exact[h] += projection;
        }
    }
    return signature;
}

/* The existing cluster whose signature differs in the fewest bits; the oldest on ties. */
static uint16_t nearest(const uint16_t *signatures, int32_t n, uint32_t signature)
{
    int32_t best = 0;
    int32_t best_distance = INT32_MAX;
    for (int32_t c = 0; c < n; c++) {
        int32_t distance = 0;
        for (uint32_t rest = signatures[c] ^ signature; rest != 0; rest &= rest - 1) {
            distance++;
        }
        if (distance < best_distance) {
            best = c;
            best_distance = distance;
        }
    }
    return (uint16_t)best;
}

/* Step one for one slice; fills sums, counts and clusters: (positions). Returns the number of clusters. */
static int32_t cluster_rows(const trec_trec_conv2d *p, const int8_t *input, int32_t slice, const workspace *w,
                            uint8_t *clusters, int32_t exact_step)
{
    int32_t n = 0;
    for (int32_t i = 0; i < (int32_t)1 << p->hash_bits; i++) {
        w->reverse[i] = UNSEEN;
    }
    for (int32_t i = 0; i < count_positions(p); i++) {
        trec_window_row(&p->window, input, p->in_zero, i, slice * p->length, p->length, w->row);
        const uint32_t signature = sign(p, w->row, slice, p->exact_c > 0 ? w->acc + i * exact_step : NULL);
        if (w->reverse[signature] == UNSEEN && n < p->max_clusters) {
            for (int32_t k = 0; k < p->length; k++) {
                w->sums[n * p->length + k] = 0;
            }
            w->counts[n] = 0;
            w->signatures[n] = (uint16_t)signature;
            w->reverse[signature] = (uint16_t)n++;
        } else if (w->reverse[signature] == UNSEEN) {
            w->reverse[signature] = nearest(w->signatures, n, signature);
        }
        const int32_t cluster = w->reverse[signature];
        for (int32_t k = 0; k < p->length; k++) {
            w->sums[cluster * p->length + k] += w->row[k];
        }
        w->counts[cluster]++;
        clusters[i] = (uint8_t)cluster;
    }
    return n;
}

/* Step two: the mean of each cluster minus the zero point, with fraction_bits. centroids may lie over sums:
 * element j is written after element j was read, and is half as wide. centroids: (n, length) */
static void divide_sums(const trec_trec_conv2d *p, const workspace *w, int32_t n, int16_t *centroids)
{
    const int32_t one = (int32_t)1 << p->fraction_bits;
    for (int32_t c = 0; c < n; c++) {
        const int32_t count = w->counts[c];
        for (int32_t k = 0; k < p->length; k++) {
            const int32_t sum = w->sums[c * p->length + k];
            centroids[c * p->length + k] = (int16_t)trec_divide((sum - count * p->in_zero) * one, count);
        }
    }
}

/* values[c] = centroid c times the part of kernel m that belongs to the slice; centroids: (n, length) */
static void multiply(const trec_trec_conv2d *p, const int16_t *centroids, int32_t n, int32_t slice, int32_t m,
                     int32_t *values)
{
    const int8_t *kernel = p->weights + (m * p->n_slices + slice) * p->length;
    for (int32_t c = 0; c < n; c++) {
        values[c] = trec_dot_s16_s8(centroids + c * p->length, kernel, p->length);
    }
}

uint32_t trec_trec_conv2d_s8(const trec_trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const workspace w = cut(p, scratch, p->out_c, 1, 0);
    const int32_t positions = count_positions(p);
    const int32_t one = (int32_t)1 << p->fraction_bits;
    uint32_t total = 0;
    for (int32_t i = 0; i < positions * p->out_c; i++) {
        w.acc[i] = 0;
    }
    for (int32_t slice = 0; slice < p->n_slices; slice++) {
        const int32_t n = cluster_rows(p, input, slice, &w, w.clusters, p->out_c);
        int16_t *centroids = (int16_t *)w.sums;
        divide_sums(p, &w, n, centroids);
        for (int32_t m = p->exact_c; m < p->out_c; m++) {
            multiply(p, centroids, n, slice, m, w.values);
            for (int32_t i = 0; i < positions; i++) {
                w.acc[i * p->out_c + m] += w.values[w.clusters[i]];
            }
        }
        total += (uint32_t)n;
    }
    for (int32_t i = 0; i < positions; i++) {
        for (int32_t m = 0; m < p->out_c; m++) {
            const int32_t acc = w.acc[i * p->out_c + m] * (m < p->exact_c ? one : 1);
            output[i * p->out_c + m] = trec_requantize(&p->rescale, acc + p->bias[m] * one, m);
        }
    }
    return total;
}

/* One output channel of all positions, from the centroids of all slices. output: (positions, out_c) */
static void recover_channel(const trec_trec_conv2d *p, const workspace *w, int32_t m, int8_t *output)
{
    const int32_t positions = count_positions(p);
    const int32_t start = p->bias[m] * ((int32_t)1 << p->fraction_bits);
    for (int32_t slice = 0; slice < p->n_slices; slice++) {
        const int16_t *centroids = w->centroids + slice * p->max_clusters * p->length;
        multiply(p, centroids, w->found[slice], slice, m, w->values + slice * p->max_clusters);
    }
    for (int32_t i = 0; i < positions; i++) {
        int32_t acc = start;
        for (int32_t slice = 0; slice < p->n_slices; slice++) {
            acc += w->values[slice * p->max_clusters + w->clusters[slice * positions + i]];
        }
        output[i * p->out_c + m] = trec_requantize(&p->rescale, acc, m);
    }
}

uint32_t trec_trec_conv2d_gather_s8(const trec_trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const workspace w = cut(p, scratch, p->exact_c, p->n_slices, p->n_slices);
    const int32_t positions = count_positions(p);
    const int32_t one = (int32_t)1 << p->fraction_bits;
    uint32_t total = 0;
    for (int32_t i = 0; i < positions * p->exact_c; i++) {
        w.acc[i] = 0;
    }
    for (int32_t slice = 0; slice < p->n_slices; slice++) {
        const int32_t n = cluster_rows(p, input, slice, &w, w.clusters + slice * positions, p->exact_c);
        divide_sums(p, &w, n, w.centroids + slice * p->max_clusters * p->length);
        w.found[slice] = (uint16_t)n;
        total += (uint32_t)n;
    }
    for (int32_t i = 0; i < positions; i++) {
        for (int32_t m = 0; m < p->exact_c; m++) {
            const int32_t acc = (w.acc[i * p->exact_c + m] + p->bias[m]) * one;
            output[i * p->out_c + m] = trec_requantize(&p->rescale, acc, m);
        }
    }
    for (int32_t m = p->exact_c; m < p->out_c; m++) {
        recover_channel(p, &w, m, output);
    }
    return total;
}
